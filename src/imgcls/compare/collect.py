"""Which runs to compare: what a glob, a list or a folder stands for, and what of it is of use."""

import csv
import glob
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from imgcls import naming
from imgcls.errors import CheckpointError
from imgcls.runs import CONFIG, Run, near

NEEDED = ("test", "classes", "data", "parameters", "seconds", "last")  # of a training run's result
NAMED = 5  # folders in one line


@dataclass
class Entry:
    """A finished run."""

    run: Run
    config: dict[str, Any]
    result: dict[str, Any]

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """The rows of its metrics.csv."""
        return self.run.history()

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Its configuration by dotted keys."""
        return naming.flat(self.config)


@dataclass
class Found:
    """Runs that can be compared, and the folders that were left out, by the reason."""

    entries: list[Entry] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def left_out(self) -> str:
        """One line that names what was left out; empty if nothing was."""
        parts = [f"{len(names)} {reason} ({_shortened(names)})" for reason, names in self.left.items()]
        return f"left out: {'; '.join(parts)}" if parts else ""


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


def find(spec: str | Sequence[str] | None, output: str) -> list[Path]:
    """The folders that are meant; CheckpointError, with the nearest names, if one of the words fits nothing.

    Args:
        spec: a run, a sweep's folder, a folder of runs or a glob of them, or a list of these; None: `output`.
    """
    words = [spec] if isinstance(spec, str) else list(spec or [output])
    return [folder for word in words for place in _places(word, output) for folder in _runs_in(place)]


def _places(word: str, output: str) -> list[Path]:
    path = naming.home(Path(word).expanduser())
    # Path.glob would take the drive or the root for a part of the pattern
    found = [path] if path.exists() else [Path(name) for name in sorted(glob.glob(str(path)))]  # noqa: PTH207
    if not found:
        names = near(path, output)
        hint = f"Runs near: {', '.join(names)}." if names else "Name run folders, or a folder of runs."
        raise CheckpointError(f"runs={word} is not there. {hint}")
    return found


def _runs_in(place: Path) -> list[Path]:
    """The run folders that a path stands for; itself if there are none, to be named as foreign."""
    from imgcls.sweeps.results import TABLE

    if (place / CONFIG).is_file():
        return [place]
    if (place / TABLE).is_file():
        return _swept(place / TABLE)
    return list(_below(place)) or [place]


def _swept(table: Path) -> list[Path]:
    """The runs of a sweep, also if all has been moved since: they lie beside the folder of sweeps."""
    with table.open(newline="", encoding="utf-8") as file:
        named = [Path(row["run"]) for row in csv.DictReader(file) if row.get("run")]
    return [run if run.exists() else table.parents[2] / run.name for run in named]


def _below(folder: Path) -> Iterator[Path]:
    """Run folders at any depth; what lies within a run (evaluate, predict) is no run of its own."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if (path / CONFIG).is_file() and path.name != ".hydra":
            yield path
        elif path.is_dir() and not path.name.startswith("."):
            yield from _below(path)


def load(folders: Sequence[Path]) -> Found:
    """Read the runs; CheckpointError if none of them is finished."""
    found, seen = Found(), set[Path]()
    known: dict[str, str] = {}
    for folder in folders:
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        entry = _entry(folder)
        if isinstance(entry, str):
            found.left[entry].append(folder.name)
        elif (same := _identity(entry)) in known:
            found.left["duplicate"].append(f"{folder.name} of {known[same]}")
        else:
            known[same] = folder.name
            found.entries.append(entry)
    if not found.entries:
        raise CheckpointError(f"there is no finished run to compare ({found.left_out or 'no folder'}).")
    return found


def _entry(folder: Path) -> Entry | str:
    """The run in a folder, or why it cannot be compared."""
    run = Run(folder)
    if not (run / CONFIG).is_file():
        return "without a run"
    try:
        config, result = run.config, run.result
    except CheckpointError:
        return "not of imgcls"
    if config.get("debug"):
        return "of a rehearsal"
    if result is None:
        return "unfinished"
    if not isinstance(result, dict) or any(key not in result for key in NEEDED):
        return "not of imgcls"
    if run.diverged:
        return "diverged"
    return Entry(run, config, result)


def _identity(entry: Entry) -> str:
    """Two runs are the same if neither their settings nor their scores tell them apart."""
    facts: Mapping[str, Any] = {"data": entry.result["data"], "test": entry.result["test"]}
    return naming.digest(entry.config) + json.dumps(facts, sort_keys=True)


def labels(entries: Sequence[Entry]) -> list[str]:
    """What to call each run: its folder's name, with as many folders above it as tell them apart."""
    paths = [entry.run.path.resolve() for entry in entries]
    for depth in range(1, 20):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names
