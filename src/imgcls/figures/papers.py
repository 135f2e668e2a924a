"""What a paper reports beside what came out here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imgcls.figures.style import BLUE, FAINT, PALE, RED, History, fit, new_figure, percent, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 30  # values that span more than this get a log axis
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#262626")  # Okabe and Ito's
DASHES = ("-", "--", ":", "-.")

Point = tuple[str, float | None, float, float | None]
Named = Mapping[str, float | None]


@styled()
def compared(points: Sequence[Point], title: str) -> Figure:
    """One line for each row: (name, the paper's test accuracy, ours, our spread), shares of 1."""
    figure = new_figure(title, 9, 1.3 + 0.3 * len(points))
    axes = figure.add_subplot()
    places = range(len(points))
    for place, (_, paper, ours, _) in enumerate(points):
        if paper is not None:
            axes.plot([paper, ours], [place, place], color=PALE, linewidth=2, zorder=1)
    given = [
        (paper, place) for place, (_, paper, *_) in zip(places, points, strict=True) if paper is not None
    ]
    if given:
        look: dict[str, Any] = {"s": 42, "c": "white", "edgecolors": RED, "linewidths": 1.6}
        axes.scatter(*zip(*given, strict=True), label="paper", zorder=2, **look)
    spread = [spread or 0 for *_, spread in points]
    values = [ours for _, _, ours, _ in points]
    axes.errorbar(values, places, xerr=spread, fmt="o", color=BLUE, markersize=5, label="ours", zorder=3)
    axes.set_yticks(places, [fit(name, 290, 9) for name, *_ in points], fontsize=9)
    axes.set_ylim(len(points) - 0.4, -0.6)
    axes.set_title("test accuracy")
    axes.xaxis.set_major_formatter(percent)
    axes.grid(axis="x")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    return figure


@styled()
def against(points: Sequence[tuple[float, Named, Named]], key: str, title: str) -> Figure:
    """Scores over the values of a setting: (value, the paper's by name, ours by name), shares of 1."""
    figure = new_figure(title, 8, 4.5)
    axes = figure.add_subplot()
    points = sorted(points, key=lambda point: point[0])
    names = list(dict.fromkeys(name for _, _, ours in points for name in ours))
    hollow: dict[str, Any] = {"linestyle": "--", "marker": "o", "markerfacecolor": "white"}
    for colour, name in zip(LINES, names, strict=False):
        ours = [(value, y) for value, _, named in points if (y := named.get(name)) is not None]
        paper = [(value, y) for value, named, _ in points if (y := named.get(name)) is not None]
        for line, look in ((ours, {"marker": "o", "label": name}), (paper, hollow)):
            axes.plot([value for value, _ in line], [y for _, y in line], color=colour, **look)
    if any(value is not None for _, named, _ in points for value in named.values()):
        axes.plot([], [], color=FAINT, label="paper", **hollow)
    _axis(axes, [value for value, *_ in points], key)
    axes.yaxis.set_major_formatter(percent)
    axes.grid(axis="y")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _axis(axes: Axes, values: Sequence[float], key: str) -> None:
    """Ticks at the values alone."""
    if min(values) > 0 and max(values) > WIDE * min(values):
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    axes.set_xlabel(key)


@styled()
def overlaid(histories: Mapping[str, History], title: str) -> Figure:
    """Training accuracy over the epochs of several runs, and validation accuracy where there is one."""
    held = any("val/acc" in row for rows in histories.values() for row in rows)
    figure = new_figure(title, 10, max(4.0, 1.6 + 0.22 * len(histories)))
    panels = figure.subplots(1, 1 + held, squeeze=False, sharey=True)[0]
    for axes, part in zip(panels, ("train", "val"), strict=False):
        axes.set(title=f"{'training' if part == 'train' else 'validation'} accuracy", xlabel="epoch")
        for number, (name, rows) in enumerate(histories.items()):
            look = {
                "color": LINES[number % len(LINES)],
                "linestyle": DASHES[number // len(LINES) % len(DASHES)],
            }
            line = [(row["epoch"], row[f"{part}/acc"]) for row in rows if f"{part}/acc" in row]
            marker = "o" if len(line) < 4 else ""  # an epoch alone has no line to see
            if line:
                axes.plot(*zip(*line, strict=True), marker=marker, label=fit(name, 260, 8.5), **look)
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        axes.yaxis.set_major_formatter(percent)
        axes.grid(axis="y")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
    return figure
