"""The help page: tasks, groups with their choices, examples. Reads conf/ as text, so that it is instant."""

from pathlib import Path

PAGE = """\
imgcls {version}: train, test and compare image classifiers.

  python -m imgcls [task=TASK] [GROUP=CHOICE ...] [KEY=VALUE ...] [-m]
  imgcls ...                                  the same

TASKS
  train       train a network, test it once, leave a run folder (the default)
  evaluate    score a finished run on its test set, or on another dataset
  predict     label image files with a finished run

GROUPS
{groups}

KEYS people change: epochs=20  batch_size=64  optimizer.lr=0.1  seed=0  dataset.root=DIR
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


def _first_comment(path: Path) -> str:
    """What a file says of itself: its first comment that is not a Hydra header."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").strip()
    return ""


def options(folders: list[Path]) -> dict[str, dict[str, str]]:
    """{group: {choice: what it says of itself}} of all config folders."""
    groups: dict[str, dict[str, str]] = {}
    for folder in folders:
        for path in sorted(folder.glob("*/*.yaml")):
            if not path.name.startswith("_"):
                groups.setdefault(path.parent.name, {})[path.stem] = _first_comment(path)
    return groups


def _group(name: str, choices: dict[str, str]) -> str:
    rows = [f"    {choice:<14}{text}" for choice, text in choices.items()]
    return "\n".join([f"  {name}=", *rows])


def page(version: str, folders: list[Path]) -> str:
    """The whole help text."""
    groups = options(folders)
    return PAGE.format(version=version, groups="\n".join(_group(*item) for item in groups.items()))
