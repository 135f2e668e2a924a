"""What there is: networks, datasets, runs, groups and options. Reads, prints, and leaves nothing behind."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from imgcls import table
from imgcls.cli import help
from imgcls.cli.names import matches, near
from imgcls.errors import ConfigError
from imgcls.runs import CONFIG, Run

Rows = Iterator[tuple[str, Callable[[], list[str]]]]  # the name to filter by, and what makes the row
UNKNOWN = "-"
SMALL, LARGE = (10, 32), (1000, 224)  # classes and pixels of CIFAR-10 and of ImageNet


def main(config: Mapping[str, Any], config_dir: str | None = None, typed: Sequence[str] = ()) -> None:
    """Print what is asked for; ConfigError, with the nearest names, if the filter leaves nothing."""
    what, pattern = LISTS[config["what"]], config["filter"]
    names: list[str] = []

    def chosen() -> Iterator[list[str]]:
        for name, row in what.rows(config, _folders(config_dir)):
            names.append(name)
            if matches(name, pattern):
                yield row()

    if not table.show(what.columns, chosen()):
        if pattern and names:
            close = ", ".join(near(pattern, dict.fromkeys(names), 0.4)[:5])
            hint = f"The nearest are: {close}." if close else f"Leave filter out to see all {len(names):,}."
            raise ConfigError(f"filter={pattern} matches none of the {config['what']}. {hint}")
        print(f"no {config['what']} in {config['output']}/")
    elif config["what"] == "models" and not pattern:
        print(f"{UNKNOWN}: filter=NAME counts parameters and multiply-adds.", file=sys.stderr)


def _folders(config_dir: str | None) -> list[Path]:
    return [help.conf_folder(), *([Path(config_dir)] if config_dir else [])]


def _models(config: Mapping[str, Any], folders: list[Path]) -> Rows:
    """The named networks, then those of the libraries; they are counted only if there is a filter."""
    from imgcls.models import zoo

    counted = bool(config["filter"])  # 1,450 networks at 0.25 s each would take six minutes
    for name in help.options(folders)["model"]:
        if name not in ("torchvision", "timm"):
            yield name, partial(_named, name, folders[1:], counted)
    for library, name, size in zoo.known():
        yield name, partial(_of_library, library, name, size, counted)


def _of_library(library: str, name: str, size: int, counted: bool) -> list[str]:
    """A network as its library makes it."""
    from imgcls.models import zoo

    costs = [UNKNOWN, UNKNOWN]
    if counted:
        found = zoo.row(library, name, size)
        costs = _costs(found.parameters, found.multiply_adds)
    return [name, *costs, str(size), f"model={library} net={name}"]


def _named(name: str, own: list[Path], counted: bool) -> list[str]:
    """A network of conf/model, at the images that it is meant for."""
    if not counted:
        return [name, UNKNOWN, UNKNOWN, UNKNOWN, f"model={name}"]
    from imgcls import build
    from imgcls.models import zoo

    settings = _settings(name, own)
    # Those that have a stem for small images have one for large ones, which the papers used
    classes, size = LARGE if "stem" in settings else SMALL
    costs = _costs(*zoo.count(partial(build.call, settings), classes, 3, size))
    return [name, *costs, str(size), f"model={name}"]


def _settings(name: str, own: list[Path]) -> dict[str, Any]:
    """What an option of the group model composes to."""
    from hydra import initialize_config_dir

    from imgcls.cli.composing import Conf, own_place, plain

    with initialize_config_dir(str(help.conf_folder()), version_base="1.3", job_name="imgcls"):
        conf = Conf([own_place(folder) for folder in own])
        return dict(plain(conf.compose([conf.choose("model", name)]))["model"])


def _costs(parameters: int, multiply_adds: int | None) -> list[str]:
    """In millions and in 10^9; a small network keeps its digits."""
    giga = UNKNOWN if multiply_adds is None else f"{multiply_adds / 1e9:.3f}"
    return [f"{parameters / 1e6:.3f}", giga]


def _datasets(config: Mapping[str, Any], folders: list[Path]) -> Rows:
    from imgcls.data.facts import EMNIST, FACTS

    for name in help.options(folders)["dataset"]:
        if name in FACTS:
            yield name, partial(_square, name, name, f"dataset={name}")
        elif name == "emnist":
            for split in EMNIST:
                choose = f"dataset=emnist dataset.split={split}"
                yield f"emnist_{split}", partial(_square, f"emnist_{split}", name, choose)
        else:
            yield name, partial(_photos, name)


def _square(name: str, origin: str, choose: str) -> list[str]:
    """A dataset whose images are all of one size."""
    from imgcls.data.facts import FACTS

    facts = FACTS[name]
    numbers = [facts.train, facts.test, len(facts.classes), facts.image_size, facts.channels]
    return [name, *(str(number) for number in numbers), *_origin(origin), choose]


def _photos(name: str) -> list[str]:
    """A dataset of photos of all sizes, or of the user's own."""
    from imgcls.data import photos
    from imgcls.data.files import TEST
    from imgcls.data.origins import ORIGINS

    if name not in photos.KNOWN:
        return [name, *[UNKNOWN] * 7, f"dataset={name}"]
    counts = photos.KNOWN[name]().counts
    test = sum(count for part, count in counts if part == TEST)
    train = sum(count for _, count in counts) - test
    numbers = [str(train), str(test), str(ORIGINS[name].classes), UNKNOWN, "3"]
    return [name, *numbers, *_origin(name), f"dataset={name}"]


def _origin(name: str) -> list[str]:
    from imgcls.data.origins import ORIGINS, size

    if name not in ORIGINS:
        return [UNKNOWN, UNKNOWN]
    origin = ORIGINS[name]
    return [size(origin.megabytes) if origin.megabytes else "none", origin.licence or "not stated"]


def _runs(config: Mapping[str, Any], folders: list[Path]) -> Rows:
    """Run folders by their names; what lies in a run (evaluate, predict, find) is none."""
    for path in sorted(Path(config["output"]).glob(f"*/{CONFIG}")):
        yield path.parent.name, partial(_run, Run(path.parent))


def _run(run: Run) -> list[str]:
    import datetime

    settings, result, history = run.config, run.result, run.history()
    changed = datetime.datetime.fromtimestamp((run / CONFIG).stat().st_mtime).isoformat(timespec="minutes")
    return [
        run.path.name,
        "diverged" if run.diverged else "finished" if result else "unfinished",
        f"{result['test']['acc']:.4f}" if result and not run.diverged else UNKNOWN,
        f"{len(history)}/{settings['epochs']}",
        (result["finished"] if result else changed)[:16].replace("T", " "),
        str(settings["dataset"]["name"]),
        str(settings["model"]["name"]),
    ]


def _groups(config: Mapping[str, Any], folders: list[Path]) -> Rows:
    for group, choices in help.options(folders).items():
        used = config.get(group)
        usual = used.get("name", UNKNOWN) if isinstance(used, Mapping) else UNKNOWN
        row = [group, usual, str(len(choices)), " ".join(choices)]
        yield group, partial(list, row)


def _options(config: Mapping[str, Any], folders: list[Path]) -> Rows:
    for group, choices in help.options(folders).items():
        for option, said in choices.items():
            yield f"{group}={option}", partial(list, [f"{group}={option}", said])


class Listing(NamedTuple):
    """One kind of things."""

    columns: list[str]
    rows: Callable[[Mapping[str, Any], list[Path]], Rows]


LISTS = {
    "models": Listing(["name", "parameters_M", "multiply_adds_G", "image_px", "choose"], _models),
    "datasets": Listing(
        ["name", "train", "test", "classes", "image_px", "channels", "download", "licence", "choose"],
        _datasets,
    ),
    "runs": Listing(
        ["run", "state", "test_accuracy", "epochs", "date", "dataset", "model"],
        _runs,
    ),
    "groups": Listing(["group", "usual", "choices", "names"], _groups),
    "options": Listing(["choose", "what"], _options),
}
