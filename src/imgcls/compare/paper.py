"""The page's figures for a paper: PNG and SVG, in the house style, from the same data."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgcls import figures
from imgcls.compare import prepare, swept
from imgcls.compare.answers import reliability
from imgcls.compare.prepare import Comparison, TestSet
from imgcls.compare.table import shown
from imgcls.figures import pairs, several

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "figures"
COSTS = ("train_acc", "parameters", "multiply_adds", "seconds")
KINDS = (".png", ".svg")
MOST_SETS = 4  # test sets with pictures of their own
Pictures = Iterator[tuple[str, "Figure"]]


def write(folder: Path, found: Comparison) -> list[str]:
    """Write all figures into `figures/`; returns their names without suffix."""
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    names = []
    for name, figure in _all(found):
        names.append(re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"))
        for kind in KINDS:
            figures.save(figure, place / f"{names[-1]}{kind}")
    return names


def _all(found: Comparison) -> Pictures:
    top = range(min(prepare.TOP, len(found.rows)))
    curves = [prepare.curves(found.entries[place]) for place in top]
    if any(len(each["epoch"]) for each in curves):
        title = f"{len(top)} of {len(found.rows)} runs" if len(top) < len(found.rows) else f"{len(top)} runs"
        yield "curves", several.overlaid(curves, [found.rows[place]["run"] for place in top], title)
    yield from _costs(found)
    yield from _swept(found)
    for tests in [tests for tests in found.sets if len(tests.top) > 1][:MOST_SETS]:
        prefix = f"{tests.title} " if len(found.sets) > 1 else ""
        for name, figure in _pairs(tests, found):
            yield prefix + name, figure


def _costs(found: Comparison) -> Pictures:
    by = found.by
    columns = {column.key: column for column in found.columns}
    for key in (key for key in COSTS if key in columns):
        rows = [row for row in found.rows if row[key]]
        groups = [shown(by, row[by.key]) if by else "" for row in rows]
        labels = (columns[key].label, "test accuracy")
        if rows:
            values = [row[key] for row in rows], [row["test_acc"] for row in rows]
            yield f"accuracy_{key}", several.scatter(*values, groups, labels, key != "train_acc")


def _swept(found: Comparison) -> Pictures:
    """Each swept setting, with lines by the one that matters most beside it; and both of them as a grid."""
    axes, label = swept.axes(found.columns, found.rows, found.metric), _words(found.metric)
    for axis in axes:
        by = next((other for other in axes if other is not axis), None)
        lines = swept.lines(found.rows, axis, by, found.metric)
        yield f"over_{axis.label}", several.over_values(axis, lines, (axis.label, label))
    if len(axes) > 1:
        cells = swept.grid(found.rows, axes[0], axes[1], found.metric)
        yield f"over_{axes[0].label}_{axes[1].label}", several.over_two(axes[0], axes[1], cells, label)


def _words(metric: str) -> str:
    return {"val_acc": "validation accuracy", "test_acc": "test accuracy"}[metric]


def _pairs(tests: TestSet, found: Comparison) -> Pictures:
    results = [found.entries[place].result["test"] for place in tests.top]
    rows = [found.rows[place] for place in tests.top]
    names, on = [row["run"] for row in rows], f"on {tests.title}"
    recall = np.array([result["classes"]["recall"] for result in results])
    yield "per_class", pairs.per_run(recall, tests.classes, names, f"Accuracy of each class {on}")
    if len(tests.classes) <= prepare.CLASSES:
        matrices = np.array([result["confusion"] for result in results])
        yield "confusions", pairs.confusions(matrices, tests.classes, names, f"Errors {on}")
        title = f"Confusions: {names[0]} less {names[1]}"
        yield "difference", pairs.difference(matrices[0], matrices[1], tests.classes, title)
    yield "paired", _gaps(tests, names, [row["test_acc"] for row in rows])
    yield "overlap", _overlap(tests, names)
    bins, eces = [reliability(each) for each in tests.answers], [row["ece"] for row in rows]
    yield "reliability", pairs.reliability(bins, names, eces, f"Calibration {on}")


def _empty(count: int) -> tuple[np.ndarray, list[list[str]]]:
    return np.full((count, count), np.nan), [[""] * count for _ in range(count)]


def _gaps(tests: TestSet, names: list[str], accuracy: list[float]) -> "Figure":
    """Points of accuracy between each two runs; a star where that is not noise."""
    values, texts = _empty(len(names))
    for pair in tests.pairs:
        star = " *" if pair["adjusted"] < prepare.pairs.ALPHA else ""
        for a, b in ((pair["a"], pair["b"]), (pair["b"], pair["a"])):
            values[a, b] = 100 * (accuracy[a] - accuracy[b])
            texts[a][b] = f"{values[a, b]:.2f}{star}"
    return pairs.square(values, texts, names, "Row minus column, points of accuracy (*: not noise)", True)


def _overlap(tests: TestSet, names: list[str]) -> "Figure":
    values, texts = _empty(len(names))
    for pair in tests.pairs:
        if pair["jaccard"] is not None:
            for a, b in ((pair["a"], pair["b"]), (pair["b"], pair["a"])):
                values[a, b], texts[a][b] = pair["jaccard"], f"{pair['jaccard']:.2f}"
    return pairs.square(values, texts, names, "Errors that two runs share (Jaccard index)", False)
