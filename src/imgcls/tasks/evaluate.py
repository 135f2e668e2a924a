"""Score a finished run on its own test set, or on another dataset with the same number of classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgcls import manifest, summary
from imgcls.errors import ConfigError
from imgcls.runs import BEST, LAST, Run, writable
from imgcls.trust import refuse_code

# What may be said beside `run=`: everything else about the network is the run's own.
OWN = (
    "task",
    "run",
    "source",
    "fit",
    "layer",
    "dataset",
    "trainer",
    "batch_size",
    "output",
    "progress",
    "debug",
    "select",
    "tta",
    "trust",
    "score",
    "to",
    "hydra",
)
FILES = [
    "result.json",
    "report.txt",
    "predictions.npz",
    "confusion.png",
    "per_class.png",
    "right.png",
    "wrong.png",
]


def main(config: dict[str, Any], folder: Path, typed: Sequence[str] = ()) -> float:
    """Evaluate `run`; returns its accuracy. `typed` are the keys given on the command line."""
    run = Run.existing(config["run"])
    settings = settings_of(run, config, typed)
    other = config["dataset"] if "dataset" in typed else None
    room = Run(folder.with_name(f"{folder.name}-{other['name']}") if other else folder)
    result = evaluate(run, settings, room, other)
    summary.show(result["title"], result, room.path, FILES)
    return float(result["test"]["acc"])


def settings_of(run: Run, config: Mapping[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """The run's configuration, with what was typed about hardware and data folders.

    Raises:
        ConfigError: something was typed that the run has settled already.
        CheckpointError: the run asks for code of others.
    """
    own = run.config
    if not config["trust"]:
        refuse_code(run.path, own)
    saved = {**config, **own}  # what has become a setting since the run: today's default
    for key in typed:
        if key.split(".")[0].split("/")[0] not in OWN:
            old, new = _at(saved, key), _at(config, key)
            raise ConfigError(
                f"{run.path} was trained with {key}={old}, not {new}. Leave {key} out, or train a new run."
            )
    if any(key.split(".")[0] == "trainer" for key in typed):
        saved["trainer"] = config["trainer"]
    # One device is enough to use a network that took several to train.
    saved["trainer"] = {**config["trainer"], **saved["trainer"], "devices": 1, "num_nodes": 1}
    for key in (k for k in typed if k.startswith("dataset.")):
        saved["dataset"][key.split(".", 1)[1]] = _at(config, key)
    for key in ("batch_size", "select", "tta", "progress"):
        if key in typed or key == "progress":
            saved[key] = config[key]
    return saved


def _at(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value["name"] if isinstance(value, Mapping) and "name" in value else value


def weights_of(run: Run, select: str) -> Path:
    """The checkpoint to use: the best if there is one, or was, and it is wanted."""
    best = run / BEST
    there = best.exists() or BEST in manifest.known(run.path)
    return best if select == "best" and there else run / LAST


def evaluate(
    run: Run, config: dict[str, Any], room: Run, other: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Score a run's weights on a test set; writes scores and pictures into `room`."""
    from imgcls import report

    writable(room.path)
    result, kept, images = tested(run, config, other)
    report.write(room, result, kept, images.tested)
    return result


def tested(
    run: Run, config: dict[str, Any], other: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], Any, Any]:
    """(result, what was said of each image, images) of a run's weights on a test set; writes nothing."""
    from imgcls import build, checkpoints, record
    from imgcls.scores import one_class

    weights = weights_of(run, config["select"])
    classifier = build.restored(config, checkpoints.load(weights))
    images = build.data(config, other or config["dataset"])
    fits(classifier.domain, images)
    trainer = build.trainer(config)
    trainer.test(classifier, datamodule=images, verbose=False)
    test, kept, classes = classifier.scores.full(), classifier.scores.kept(), list(images.classes)
    result = {
        "title": f"{config['model']['name']} of {run.path.name} on {images.source.title}",
        "of": str(run.path),
        "weights": weights.stem,
        "tta": config["tta"],
        "test": test,
        "classes": classes,
        "data": {"digest": images.source.digest, "test": len(images.test_rows)},
        "warnings": [w for w in [one_class(kept, classes), renamed(classifier.domain, images)] if w],
        "finished": record.now(),
    }
    return result, kept, images


def renamed(domain: Any, images: Any) -> str | None:
    """What to say where classes are compared by their places, because they are called otherwise."""
    pairs = [pair for pair in zip(images.classes, domain.classes, strict=True) if len({*pair}) > 1]
    if not pairs:
        return None
    theirs, ours = pairs[0]
    return f"{len(pairs)} classes are called otherwise than the run's: {theirs} is scored as {ours}"


def fits(domain: Any, images: Any) -> None:
    """Raise ConfigError unless the network can read these images and knows as many classes."""
    channels = images.shape[2]
    title = images.source.title
    if len(images.classes) != len(domain.classes):
        raise ConfigError(
            f"{title} has {len(images.classes)} classes, the run knows {len(domain.classes)}. "
            "Evaluate on a dataset with the same classes."
        )
    ours, theirs = list(domain.classes), list(images.classes)
    if moved := [name for name in theirs if name in ours and ours.index(name) != theirs.index(name)]:
        raise ConfigError(
            f"{title} has the run's classes in another order ({moved[0]}): its labels mean something else. "
            "Name its class folders as the run's."
        )
    if channels != domain.image_channels:
        raise ConfigError(
            f"{title} has {channels} channels, the run was trained on {domain.image_channels}. "
            "Evaluate on a dataset with as many."
        )
