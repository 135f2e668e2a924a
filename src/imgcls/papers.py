"""Published reports as data, in conf/papers/: what each row of their tables ran here, and what it reported.

A row's overrides are a whole command: `python -m imgcls` and its words train it. conf/papers/ is no group of
options: Hydra takes every folder of conf/ for one, so it is not called like the setting that names a paper.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from imgcls.cli.help import PAPERS, conf_folder
from imgcls.cli.names import near
from imgcls.errors import ConfigError

# What a report may say of a run: shares of 1, but the mean loss, minutes of training, and the counts
METRICS = (
    *("train_acc", "test_acc", "precision", "recall", "f1"),  # the last three are means over the classes
    *("loss", "minutes", "best_epoch", "parameters"),
)


@dataclass(frozen=True)
class Row:
    """One run of a report."""

    id: str  # <paper>.<table or figure>.<number>
    title: str  # as in the report
    overrides: list[str]  # its command, with what all rows of the paper share
    reported: dict[str, float | None]  # by the names of METRICS; None: run, but no number is given
    resolves: list[str] = field(default_factory=list)  # what the report leaves open, and what was chosen
    duplicate_of: str | None = None  # a row with the same settings and the same figures
    note: str | None = None

    def named(self, pattern: str) -> bool:
        """Whether a pattern is of this row, with or without the paper's name."""
        return any(fnmatchcase(name, pattern) for name in (self.id, self.id.partition(".")[2]))


@dataclass(frozen=True)
class Study:
    """Settings that a report tried one after another, each with the best value of those before."""

    base: list[str]  # the command to begin with, with what all rows of the paper share
    axes: dict[str, list[Any]]  # setting: its values


@dataclass(frozen=True)
class Paper:
    """A report and its rows."""

    name: str
    title: str
    authors: list[str]
    year: int | None
    resolves: list[str]  # as of a row, but of all
    rows: list[Row]
    epoch: str = "last"  # or best: the epoch whose accuracies it reports
    study: Study | None = None  # one setting after another


def papers() -> list[Paper]:
    """All reports there are, by name."""
    return [paper(name) for name in _names()]


def paper(name: str) -> Paper:
    """One report; ConfigError with the nearest names if there is none of that name."""
    if name not in _names():
        raise ConfigError(f"paper={name} is not known. {_choose(name, _names())}")
    return _read(name)


def rows(pattern: str = "all", name: str | None = None) -> list[Row]:
    """The rows, of one paper or of all, that a pattern means: ma.table2.05, table2.*, all.

    Raises:
        ConfigError: it means none; the nearest that there are are named.
    """
    there = [row for each in ([paper(name)] if name else papers()) for row in each.rows]
    found = [row for row in there if pattern == "all" or row.named(pattern)]
    if not found:
        tables = [f"{table}.*" for table in dict.fromkeys(row.id.rpartition(".")[0] for row in there)]
        hint = _choose(pattern, [*(row.id for row in there), *tables], otherwise=tables)
        raise ConfigError(f"rows={pattern} is no row{f' of {name}' if name else ''}. {hint}")
    return found


def _choose(word: str, known: list[str], otherwise: list[str] | None = None) -> str:
    """The remedy for a name that is not known; names are alike with or without what stands before the dot."""
    short = {name.partition(".")[2]: name for name in known if "." in name}
    found = near(word, known) or [short[name] for name in near(word, short)]
    return f"Choose from: {', '.join(found[:3] or otherwise or known)}."


@cache
def _names() -> list[str]:
    return sorted(path.stem for path in (conf_folder() / PAPERS).glob("*.yaml"))


@cache
def _read(name: str) -> Paper:
    path: Path = conf_folder() / PAPERS / f"{name}.yaml"
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    made = [_row(row, said["defaults"]) for row in said["rows"]]
    own = said.get("study")
    study = own and Study(merged([said["defaults"], *own["base"]]), own["axes"])
    facts = {key: said[key] for key in ("title", "authors", "year", "resolves")}
    return Paper(name=name, **facts, rows=made, epoch=said.get("epoch", "last"), study=study)


def _row(said: Mapping[str, Any], defaults: str) -> Row:
    """What a row says of itself wins over what all rows share."""
    own = said["overrides"]
    return Row(**{**said, "overrides": merged([defaults, *([own] if isinstance(own, str) else own)])})


def merged(texts: Iterable[str]) -> list[str]:
    """Overrides word by word; of several for one key the last, in the place of the first."""
    words = " ".join(texts).split()
    return list({word.partition("=")[0]: word for word in words}.values())
