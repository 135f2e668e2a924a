"""The table of runs: the settings that differ between them, and what came out. Loads no torch."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imgcls.cli.kinds import spelt
from imgcls.compare.collect import Entry
from imgcls.naming import NOT_NUMBERS

TOLD = ("augmentation", "scaling", "init")  # groups whose options are names for all of their settings
Row = dict[str, Any]  # of one run: a value, or None, for the key of each column


@dataclass(frozen=True)
class Column:
    """One column; `kind` is text, number, share (0..1), count or seconds."""

    key: str
    label: str
    kind: str
    setting: bool = False


def _tested(result: Mapping[str, Any]) -> Mapping[str, float]:
    """The epoch whose weights were tested."""
    return result.get("best") or result["last"]


SCORES: list[tuple[Column, Callable[[Mapping[str, Any]], Any]]] = [
    (Column("val_acc", "val acc", "share"), lambda r: (r.get("best") or {}).get("val/acc")),
    (Column("test_acc", "test acc", "share"), lambda r: r["test"]["acc"]),
    (Column("test_top5", "top-5", "share"), lambda r: r["test"].get("top5")),
    (Column("test_f1", "macro F1", "number"), lambda r: r["test"].get("f1")),
    (Column("test_loss", "test loss", "number"), lambda r: r["test"].get("loss")),
    (Column("train_acc", "train acc", "share"), lambda r: _tested(r).get("train/acc")),
    (Column("parameters", "parameters", "count"), lambda r: r["parameters"]),
    (Column("multiply_adds", "multiply-adds", "count"), lambda r: r.get("multiply_adds")),
    (Column("epochs_run", "epochs run", "count"), lambda r: r.get("epochs")),
    (Column("seconds", "seconds", "seconds"), lambda r: r["seconds"]),
    (Column("images_per_second", "images/s", "number"), lambda r: r.get("images_per_second")),
    (Column("device_name", "device", "text"), lambda r: r.get("device_name")),
    (Column("finished", "finished", "text"), lambda r: (r.get("finished") or "")[:16].replace("T", " ")),
]
ECE = Column("ece", "ECE", "number")


def settings(entries: Sequence[Entry]) -> list[Column]:
    """A column for each setting that at least two runs have different values of.

    A setting that only some of them have belongs to an option, or is younger than the others: its lack is
    no difference. What may change no number, and what an option's name says already, is left out.
    """
    keys = dict.fromkeys(key for entry in entries for key in entry.settings)
    differ = [key for key in keys if _tells(key) and _differs(key, entries)]
    differ = [key for key in differ if not _is_told(key, entries)]
    last = Counter(_short(key) for key in differ)
    return [
        Column(key, _short(key) if last[_short(key)] == 1 else key, _kind(key, entries), setting=True)
        for key in differ
    ]


def _tells(key: str) -> bool:
    return key not in NOT_NUMBERS and not key.startswith("logger.") and not key.endswith("._target_")


def _differs(key: str, entries: Sequence[Entry]) -> bool:
    return len({spelt(entry.settings[key]) for entry in entries if key in entry.settings}) > 1


def _is_told(key: str, entries: Sequence[Entry]) -> bool:
    """Whether the option's name tells the value: augmentation=flip_crop says all of its settings."""
    group, _, last = key.partition(".")
    if group not in TOLD or last == "name":
        return False
    known = {(entry.settings.get(f"{group}.name"), spelt(entry.settings.get(key))) for entry in entries}
    return len(known) == len({name for name, _ in known})


def _short(key: str) -> str:
    """lr of optimizer.lr, but model of model.name."""
    return key.removesuffix(".name").rpartition(".")[2]


def _kind(key: str, entries: Sequence[Entry]) -> str:
    values = [entry.settings[key] for entry in entries if entry.settings.get(key) is not None]
    return "number" if all(_is_number(value) for value in values) else "text"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def rows(entries: Sequence[Entry], columns: Sequence[Column], names: Sequence[str]) -> list[Row]:
    """A row for each run, in their order; text and lists as they are typed."""
    return [
        {
            "run": name,
            **{column.key: _value(column, entry) for column in columns},
            **{column.key: plain(score(entry.result)) for column, score in SCORES},
            "dir": str(entry.run.path),
        }
        for entry, name in zip(entries, names, strict=True)
    ]


def _value(column: Column, entry: Entry) -> Any:
    if column.key not in entry.settings:
        return None
    value = entry.settings[column.key]
    return plain(value) if column.kind == "number" else spelt(value)


def plain(value: Any) -> Any:
    """A loss that is not finite is no number in JSON, and none to draw."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def scores(found: Sequence[Row]) -> list[Column]:
    """The columns of scores that say something: a device only if there are several."""
    columns = [column for column, _ in SCORES]
    columns.insert([c.key for c in columns].index("train_acc"), ECE)
    known = {column.key: {row.get(column.key) for row in found} - {None, ""} for column in columns}
    return [c for c in columns if len(known[c.key]) > (1 if c.key == "device_name" else 0)]


def metric(found: Sequence[Row]) -> str:
    """What to choose by: validation accuracy, if every run has one, as the test set is not for choosing."""
    return "val_acc" if all(row["val_acc"] is not None for row in found) else "test_acc"


def shown(column: Column, value: Any) -> str:
    """A cell as people read it."""
    if value is None:
        return ""
    if column.kind == "share":
        return f"{value:.2%}"
    if column.kind == "count":
        return f"{value:,}"
    if column.kind == "seconds":
        return f"{value:,.1f}"
    if column.kind == "number":
        return spelt(value) if column.setting or isinstance(value, int) else f"{value:.4g}"
    return str(value)
