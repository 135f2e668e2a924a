"""Everything that the page and the figures show, as plain data: prepared once, drawn twice."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgcls.compare import answers as kept
from imgcls.compare import pairs, table
from imgcls.compare.answers import Answers
from imgcls.compare.collect import Entry, labels
from imgcls.compare.table import Column, Row

TOP = 8  # runs of a test set that are compared in pairs: as many as colours can tell apart
POINTS = 200  # of a curve; of a longer training, evenly spaced epochs
CLASSES = 100  # of the largest confusion matrix that can be read
CURVES = ("train/loss", "val/loss", "train/acc", "val/acc")


@dataclass
class TestSet:
    """Runs that were tested on the same images, by their places, best first; `top` are compared in pairs."""

    title: str
    images: int
    classes: list[str]
    runs: list[int]
    top: list[int]  # those of the best TOP whose answers can be read
    answers: list[Answers]  # of the runs in `top`
    pairs: list[dict[str, Any]]


@dataclass
class Comparison:
    """Runs, best first, with their rows of the table."""

    entries: list[Entry]
    columns: list[Column]
    rows: list[Row]
    metric: str  # what they are ordered by
    sets: list[TestSet]

    @property
    def metrics(self) -> list[str]:
        """The accuracies that there are, the one to order by first."""
        known = [key for key in ("val_acc", "test_acc") if any(row[key] is not None for row in self.rows)]
        return sorted(known, key=lambda key: key != self.metric)

    @property
    def by(self) -> Column | None:
        """What to tell runs apart by in colours: the model, if it differs, or another setting in words."""
        words = [column for column in self.columns if column.setting and column.kind == "text"]
        return next((c for c in words if c.key == "model.name"), words[0] if words else None)


def compare(entries: Sequence[Entry]) -> Comparison:
    """Put the runs side by side, those of the commonest test set first."""
    columns = table.settings(entries)
    rows = table.rows(entries, columns, labels(entries))
    metric = table.metric(rows)
    for entry, row in zip(entries, rows, strict=True):
        row["test_set"], row["ece"] = _tested(entry)
    sizes = Counter(row["test_set"] for row in rows)

    def rank(place: int) -> tuple[Any, ...]:
        row = rows[place]
        return -sizes[row["test_set"]], row["test_set"], -row[metric], -row["test_acc"]

    order = sorted(range(len(rows)), key=rank)
    entries, rows = [entries[i] for i in order], [rows[i] for i in order]
    sets = _test_sets(entries, rows)
    own = [Column("test_set", "test set", "text")] if len(sets) > 1 else []
    return Comparison(entries, [*columns, *own, *table.scores(rows)], rows, metric, sets)


def _tested(entry: Entry) -> tuple[str, float | None]:
    """(what names its test set, expected calibration error)."""
    said = kept.read(entry)
    return kept.test_set(entry, said), kept.ece(said) if said else None


def _test_sets(entries: Sequence[Entry], rows: Sequence[Row]) -> list[TestSet]:
    """The runs by test set, which gets a name in the rows."""
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(row["test_set"], []).append(place)
    titles = [_title(entries[places[0]]) for places in groups.values()]
    sizes = [entries[places[0]].result["test"]["n"] for places in groups.values()]
    titles = [  # the same dataset may have another limit, or other files
        f"{title}, {size:,} images" if titles.count(title) > 1 else title
        for title, size in zip(titles, sizes, strict=True)
    ]
    sets = []
    for number, (places, title) in enumerate(zip(groups.values(), titles, strict=True)):
        if titles.count(title) > 1:
            title += f" #{titles[: number + 1].count(title)}"
        for place in places:
            rows[place]["test_set"] = title
        sets.append(_test_set(title, places, entries, rows))
    return sets


def _title(entry: Entry) -> str:
    """CIFAR-10 of "resnet20 on CIFAR-10"."""
    return str(entry.result.get("title", "")).rpartition(" on ")[2] or str(entry.config["dataset"]["name"])


def _test_set(title: str, places: list[int], entries: Sequence[Entry], rows: Sequence[Row]) -> TestSet:
    result = entries[places[0]].result
    read = [(place, kept.read(entries[place])) for place in places[:TOP]]
    top, answers = [place for place, said in read if said], [said for _, said in read if said]
    found = pairs.all_pairs(answers)
    names, images = [rows[place]["run"] for place in top], result["test"]["n"]
    facts = [pairs.facts(pair, names, images, len(found)) for pair in found]
    return TestSet(title, images, list(result["classes"]), places, top, answers, facts)


def curves(entry: Entry) -> dict[str, list[float | None]]:
    """A run's epochs with its losses and accuracies; None where there is none, or it is not finite."""
    rows = entry.history
    if len(rows) > POINTS:
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, POINTS).round().astype(int)]
    columns = ["epoch", *(key for key in CURVES if any(key in row for row in rows))]
    return {key: [table.plain(row.get(key)) for row in rows] for key in columns}
