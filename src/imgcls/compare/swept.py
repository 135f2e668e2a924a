"""How a score depends on the values that were tried: lines over one setting, and a grid over two."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from imgcls.cli.kinds import spelt
from imgcls.compare.table import Column, Row
from imgcls.figures.sweep import WIDE

MOST_KEYS, MOST_VALUES = 5, 30  # more values than that are drawn from a range, and no axis
LINES = 8  # lines that can be told apart


@dataclass(frozen=True)
class Axis:
    """A setting that was swept: its values in order, whether they are numbers, and drawn on a log scale."""

    key: str
    label: str
    values: tuple[Any, ...]
    numeric: bool
    log: bool


def axes(columns: Sequence[Column], rows: Sequence[Row], metric: str) -> list[Axis]:
    """The swept settings: first those that all runs have, and of these what makes the most difference."""
    swept = [
        c for c in columns if c.setting and c.key != "seed" and 2 <= len(_values(c, rows)) <= MOST_VALUES
    ]
    found = [_axis(column, _values(column, rows)) for column in swept]

    def rank(axis: Axis) -> tuple[float, ...]:
        return -sum(row[axis.key] is not None for row in rows), -_range(axis, rows, metric)

    return sorted(found, key=rank)[:MOST_KEYS]


def _values(column: Column, rows: Sequence[Row]) -> list[Any]:
    values = {row[column.key] for row in rows if row[column.key] is not None}
    return sorted(values) if column.kind == "number" else sorted(values, key=str)


def _axis(column: Column, values: list[Any]) -> Axis:
    numeric = column.kind == "number"
    log = numeric and values[0] > 0 and (values[-1] > WIDE * values[0] or column.label == "lr")
    return Axis(column.key, column.label, tuple(values), numeric, log)


def _range(axis: Axis, rows: Sequence[Row], metric: str) -> float:
    """How far apart the mean scores of its values are."""
    means = [fmean(found) for value in axis.values if (found := _scores(rows, metric, (axis, value)))]
    return max(means, default=0) - min(means, default=0)


def _scores(rows: Iterable[Row], metric: str, *wanted: tuple[Axis, Any]) -> list[float]:
    """The scores of runs that have all the wanted values."""
    return [
        row[metric]
        for row in rows
        if row[metric] is not None and all(row[axis.key] == value for axis, value in wanted)
    ]


def lines(rows: Sequence[Row], axis: Axis, by: Axis | None, metric: str) -> list[dict[str, Any]]:
    """The score over the values of `axis`, with a line for each value of `by`.

    Of each point: its place in `axis.values`, the number of runs, and the best and the mean of their scores.
    """
    wanted = [[(by, value)] for value in by.values[:LINES]] if by else [[]]
    found = []
    for each in wanted:
        there = [(i, _scores(rows, metric, (axis, v), *each)) for i, v in enumerate(axis.values)]
        points = [_point(scores) | {"at": place} for place, scores in there if scores]
        if points:
            name = f"{each[0][0].label}={spelt(each[0][1])}" if each else "all"
            found.append({"name": name, "points": points})
    return found


def grid(rows: Sequence[Row], x: Axis, y: Axis, metric: str) -> list[list[dict[str, Any] | None]]:
    """The score for each value of `y` (rows) and of `x` (columns); None where nothing was tried."""
    return [
        [
            _point(scores) if (scores := _scores(rows, metric, (x, one), (y, other))) else None
            for one in x.values
        ]
        for other in y.values
    ]


def _point(scores: Sequence[float]) -> dict[str, Any]:
    return {"n": len(scores), "best": max(scores), "mean": fmean(scores)}


def panels(columns: Sequence[Column], rows: Sequence[Row], metrics: Sequence[str]) -> dict[str, Any]:
    """Every line panel and grid there can be, for the page to choose from."""
    found = axes(columns, rows, metrics[0])
    pairs = [(i, j) for i in range(len(found)) for j in range(len(found)) if i != j]
    return {
        "axes": [axis.__dict__ for axis in found],
        "metrics": list(metrics),
        "lines": {
            f"{metric}/{i}/{j}": lines(rows, found[i], None if j < 0 else found[j], metric)
            for metric in metrics
            for i, j in [*((i, -1) for i in range(len(found))), *pairs]
        },
        "grids": {
            f"{metric}/{i}/{j}": grid(rows, found[i], found[j], metric)
            for metric in metrics
            for i, j in pairs
            if i < j
        },
    }
