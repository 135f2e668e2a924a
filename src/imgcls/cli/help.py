"""The help page: tasks, groups with their choices, examples. Reads conf/ as text, so that it is instant."""

import re
from pathlib import Path

PAPERS = "papers"  # a folder of conf/ with data, no group of options
PAGE = """\
imgcls {version}: train, test and compare image classifiers.

  python -m imgcls [task=TASK] [GROUP=CHOICE ...] [KEY=VALUE ...] [-m]
  imgcls ...                                  the same

TASKS
  train       train a network, test it once, leave a run folder (the default)
  evaluate    score a finished run on its test set, or on another dataset
  predict     label image files with a finished run
  explain     what a finished run looks at: Grad-CAM, feature maps, its test images in the plane
  compare     finished runs side by side, as a page and as figures (runs='outputs/cifar10-*')
  find        try out a learning rate or a batch size (what=lr or what=batch_size)
  export      publish a finished run: weights as safetensors, a model card; to=pt2: a program too
  verify      check a finished run against what was written: digests, counts; score=true tests again
  list        what there is: what=models, datasets, runs, groups or options; filter=NAME
  doctor      check software, machine and data for a run; says what to mend
  convert     put image files into shards, for dataset=streaming
  reproduce   run a paper's table and compare: paper=ma or rows=ma.table2.*; plan=true, budget=2h
  study       try one setting after another, keep the best: axes.lr=0.1,0.01 axes.epochs=5,10

GROUPS
{groups}

KEYS people change: epochs=20  batch_size=64  lr=0.1 (optimizer.lr)  seed=0  dataset.root=DIR
All keys with their values: --cfg job, with whatever else you type.

EXAMPLES
  python -m imgcls                                          handwritten digits, offline, seconds
  python -m imgcls model=resnet18 dataset=cifar10           ResNet-18 on CIFAR-10
  python -m imgcls model=convnet dataset=mnist epochs=5     a small network on MNIST
  python -m imgcls -m optimizer.lr=0.1,0.01 batch_size=32,128   a sweep: one run folder each
  python -m imgcls task=evaluate run=outputs/NAME           test a run again
  python -m imgcls task=predict run=outputs/NAME source=photos/   label your own images

A run's folder is named by what was asked for. The same command again continues it if it was
interrupted, and shows its result if it is finished; restart=true trains anew.
Your own groups: --config-dir DIR. Completion: eval "$(imgcls -sc install=bash)".
Hydra's own options: --hydra-help.
"""


def conf_folder() -> Path:
    """The configurations: packed into the wheel, or beside src/ in a checkout."""
    packed = Path(__file__).parents[1] / "conf"
    return packed if packed.is_dir() else Path(__file__).parents[3] / "conf"


def _first_comment(path: Path) -> str:
    """What a file says of itself: its first comment that is not a Hydra header."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").strip()
    return ""


def _order(path: Path) -> list[str]:
    """resnet20 before resnet110."""
    return [part.zfill(9) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


def options(folders: list[Path]) -> dict[str, dict[str, str]]:
    """{group: {option: what it says of itself}} of all config folders."""
    groups: dict[str, dict[str, str]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*/**/*.yaml"), key=_order):
            group, *rest = path.relative_to(folder).with_suffix("").parts
            if not path.name.startswith("_") and group not in ("local", PAPERS):
                groups.setdefault(group, {})["/".join(rest)] = _first_comment(path)
    return dict(sorted(groups.items()))


def _group(name: str, choices: dict[str, str]) -> str:
    width = max(14, *(len(choice) + 1 for choice in choices))
    rows = [f"    {choice:<{width}}{text}".rstrip() for choice, text in choices.items()]
    return "\n".join([f"  {name}=", *rows])


def page(version: str, config_dir: str | None = None) -> str:
    """The whole help text, with the groups of a folder of the user's own."""
    groups = options([conf_folder(), *([Path(config_dir)] if config_dir else [])])
    return PAGE.format(version=version, groups="\n".join(_group(*item) for item in groups.items()))
