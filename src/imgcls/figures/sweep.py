"""The score of a sweep's runs against each value that was swept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imgcls.figures.style import BLUE, FAINT, RED, fit, new_figure, percent, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 30  # values that span more than this get a log axis
NAMES = {"val_acc": "validation accuracy", "test_acc": "test accuracy"}


@styled()
def sweep(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], metric: str) -> Figure:
    """One panel for each swept key: every run as a point, a line through the best run of each value.

    Args:
        rows: of the runs, with their values of the keys as text and their score `metric` as a fraction.
    """
    columns = min(len(keys), 3)
    lines = -(-len(keys) // columns)
    figure = new_figure(f"{NAMES[metric]} of {len(rows)} runs", 4.2 * columns + 0.8, 3.4 * lines + 0.6)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).flat
    for axes, key in zip(panels, keys, strict=False):
        _panel(axes, [row for row in rows if key in row], key, metric)
    for axes in list(figure.axes)[len(keys) :]:
        axes.set_visible(False)
    for axes in list(figure.axes)[::columns]:
        axes.yaxis.set_major_formatter(percent)
    return figure


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, metric: str) -> None:
    values = list(dict.fromkeys(row[key] for row in rows))
    numbers = _numbers(values)
    order = sorted(values, key=numbers.__getitem__) if numbers else values
    place = numbers or {value: float(index) for index, value in enumerate(order)}
    best = [max(row[metric] for row in rows if row[key] == value) for value in order]
    # Without a scale between them, a line would speak of values that nobody tried
    axes.plot([place[v] for v in order], best, color=BLUE, marker="o", linestyle="-" if numbers else "")
    axes.scatter(
        [place[row[key]] for row in rows], [row[metric] for row in rows], s=12, color=FAINT, zorder=1
    )
    top = max(range(len(order)), key=best.__getitem__)
    axes.scatter(place[order[top]], best[top], s=55, c="white", edgecolors=RED, linewidths=1.8, zorder=3)
    axes.set_title(fit(f"{key}: best {order[top]}", 250, 11))
    if numbers and min(place.values()) > 0 and max(place.values()) > WIDE * min(place.values()):
        axes.set_xscale("log")
    axes.set_xticks([place[value] for value in order], order, rotation=0 if len(order) < 6 else 45)
    axes.minorticks_off()
    axes.grid(axis="y")


def _numbers(values: Sequence[str]) -> dict[str, float]:
    """The values as numbers, or nothing if one of them is none."""
    try:
        return {value: float(value) for value in values}
    except ValueError:
        return {}
