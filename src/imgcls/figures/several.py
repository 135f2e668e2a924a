"""Several runs in one picture: their curves, what accuracy costs, and how it depends on swept values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls.figures.curves import log_if_wide
from imgcls.figures.style import FAINT, PALETTE, Names, fit, new_figure, percent, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curves = Mapping[str, Sequence[float | None]]
LEGEND = 330  # points: the widest name in a legend


def legend(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """Names below the picture, where no line can cross them."""
    handles, names = axes.get_legend_handles_labels()
    named = [fit(name, LEGEND, 9) for name in names]
    figure.legend(handles, named, loc="outside lower left", ncols=columns, fontsize=9)


@styled()
def overlaid(curves: Sequence[Curves], names: Names, title: str) -> Figure:
    """Loss and accuracy over the epochs: validation solid, training dotted, a colour for each run."""
    figure = new_figure(title, 10, 4.4 + 0.2 * -(-len(names) // 2))
    panels = figure.subplots(1, 2)
    for axes, key in zip(panels, ("loss", "acc"), strict=True):
        axes.set_title("loss" if key == "loss" else "accuracy")
        for each, name, colour in zip(curves, names, cycle(PALETTE), strict=False):
            solid = f"val/{key}" in each
            for part, style in (("train", ":"), ("val", "-")):
                if f"{part}/{key}" in each:
                    values = np.array(each[f"{part}/{key}"], float)
                    label = name if part == ("val" if solid else "train") else None
                    marker = "o" if len(values) == 1 else ""
                    axes.plot(each["epoch"], values, style, marker=marker, color=colour, label=label)
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True)
        axes.grid(axis="y")
    log_if_wide(panels[0], [v for line in panels[0].get_lines() for v in line.get_ydata()])
    panels[1].yaxis.set_major_formatter(percent)
    legend(figure, panels[1])
    return figure


@styled()
def scatter(
    x: Sequence[float], y: Sequence[float], groups: Names, labels: tuple[str, str], log: bool
) -> Figure:
    """Runs as points, y an accuracy (0..1), coloured by group; `labels` of x and y."""
    kinds = sorted(set(groups))
    figure = new_figure(f"{labels[1]} of {len(x)} runs against {labels[0]}", 6, 4.4)
    axes = figure.add_subplot()
    for kind, colour in zip(kinds, cycle(PALETTE), strict=False):
        points = [(a, b) for a, b, group in zip(x, y, groups, strict=True) if group == kind]
        xs, ys = zip(*points, strict=True)
        axes.scatter(xs, ys, s=24, color=colour, alpha=0.8, label=kind)
    axes.set(xlabel=labels[0], ylabel=labels[1], xscale="log" if log else "linear")
    if log:
        _log_ticks(axes, min(x), max(x))
    else:
        axes.xaxis.set_major_formatter(percent)
    axes.yaxis.set_major_formatter(percent)
    axes.grid()
    if 1 < len(kinds) <= len(PALETTE):
        legend(figure, axes, 3)
    return figure


def _log_ticks(axes: Axes, low: float, high: float) -> None:
    """Short numbers, and within a decade or two more than powers of ten."""
    from matplotlib.ticker import EngFormatter, LogLocator

    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.minorticks_off()
    if high < 2 * low:  # else there might be no tick at all
        axes.set_xticks(sorted({low, high}))


@styled()
def over_values(axis: Any, lines: Sequence[Mapping[str, Any]], labels: tuple[str, str]) -> Figure:
    """The best accuracy at each value of a swept setting, with a line for each value of another.

    Args:
        axis: with values, numeric and log, as of `imgcls.compare.swept`; so are `lines`.
        labels: of the setting and of the accuracy.
    """
    figure = new_figure(f"{labels[1]} over {labels[0]}", 6, 4.4)
    axes = figure.add_subplot()
    place = axis.values if axis.numeric else range(len(axis.values))
    for line, colour in zip(lines, cycle(PALETTE), strict=False):
        xs = [place[point["at"]] for point in line["points"]]
        style = "-" if axis.numeric else ""  # without a scale, a line would speak of what nobody tried
        axes.plot(
            xs, [p["best"] for p in line["points"]], style, marker="o", color=colour, label=line["name"]
        )
    axes.set(xlabel=labels[0], ylabel=f"{labels[1]}, best run", xscale="log" if axis.log else "linear")
    axes.set_xticks(list(place), [str(value) for value in axis.values], rotation=0 if len(place) < 7 else 45)
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(percent)
    axes.grid(axis="y")
    if len(lines) > 1:
        legend(figure, axes, 3)
    return figure


@styled()
def over_two(x: Any, y: Any, cells: Sequence[Sequence[Mapping[str, Any] | None]], label: str) -> Figure:
    """The best accuracy for each two values of two swept settings; white where nothing was tried."""
    width, height = 2.6 + 0.62 * len(x.values), 1.7 + 0.45 * len(y.values)
    figure = new_figure(f"{label}, best run", width, height)
    axes = figure.add_subplot()
    values = np.array([[cell["best"] if cell else np.nan for cell in line] for line in cells])
    image = axes.imshow(values, cmap="viridis", aspect="auto", origin="lower")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for row, column in np.argwhere(np.isfinite(values)):
        colour = "white" if values[row, column] <= middle else "black"
        axes.text(column, row, f"{100 * values[row, column]:.1f}", color=colour, ha="center", va="center")
    for side, swept in (("x", x), ("y", y)):
        axes.set(**{f"{side}label": swept.label, f"{side}ticks": range(len(swept.values))})
        axes.set(**{f"{side}ticklabels": [str(value) for value in swept.values]})
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, format=percent)
    bar.outline.set_edgecolor(FAINT)
    return figure
