"""Runs against each other on one test set: classes, confusions, calibration, and squares of run by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls.figures.several import legend
from imgcls.figures.style import BLUE, FAINT, FEW, INK, PALETTE, RED, Names, fit, new_figure, percent, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def lettered(names: Names) -> list[str]:
    """The names of runs, each with the letter that stands for it where there is little room."""
    return [f"{letter} {name}" for letter, name in zip(LETTERS, names, strict=False)]


@styled()
def per_run(recall: np.ndarray, classes: Names, names: Names, title: str) -> Figure:
    """Accuracy of each class, a dot for each run; (R, K). Of many classes, those that differ most."""
    order = [*range(len(classes))]
    if len(order) > FEW:
        order = np.argsort(-np.ptp(recall, axis=0), kind="stable")[:FEW].tolist()
        title += f": the {FEW} classes of {len(classes)} that differ most"
    figure = new_figure(title, 9, 1.6 + 0.3 * len(order) + 0.2 * -(-len(names) // 2))
    axes = figure.add_subplot()
    step = 0.7 / len(names)
    for number, (name, colour) in enumerate(zip(lettered(names), PALETTE, strict=False)):
        shift = (number - (len(names) - 1) / 2) * step
        axes.plot(recall[number, order], np.arange(len(order)) + shift, "o", color=colour, label=name)
    axes.set_yticks(range(len(order)), [fit(classes[index], 150, 10) for index in order])
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_xlabel("accuracy of the class")
    axes.xaxis.set_major_formatter(percent)
    axes.set_yticks(np.arange(len(order) - 1) + 0.5, minor=True)
    axes.grid(axis="x")
    axes.grid(axis="y", which="minor")
    axes.tick_params(axis="y", which="both", length=0)
    legend(figure, axes)
    return figure


@styled()
def square(values: np.ndarray, texts: Sequence[Names], names: Names, title: str, both: bool) -> Figure:
    """One value for each two runs, (R, R); `both`: it has a sign, and blue is above zero."""
    side = 0.62 * len(names)
    figure = new_figure(title, max(6.4, side + 2), side + 1.3 + 0.2 * -(-len(names) // 2))
    axes = figure.add_subplot()
    most = max(float(np.nanmax(np.abs(values), initial=0)), 1e-9) if both else 1
    axes.imshow(values, cmap=_shades(both), vmin=-most if both else 0, vmax=most)
    for row, column in np.argwhere(np.isfinite(values)):
        dark = abs(values[row, column]) > 0.6 * most
        axes.text(column, row, texts[row][column], color="white" if dark else INK, ha="center", va="center")
    axes.set_xticks(range(len(names)), LETTERS[: len(names)])
    axes.set_yticks(range(len(names)), LETTERS[: len(names)])
    axes.tick_params(length=0)
    handles = [axes.plot([], [], " ")[0] for _ in names]
    named = [fit(name, 220, 9) for name in lettered(names)]
    figure.legend(handles, named, loc="outside lower left", ncols=2, fontsize=9, handlelength=0)
    return figure


def _shades(both: bool) -> Colormap:
    """White to blue, or, where there is a sign, red to white to blue."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("gap", [RED, "white", BLUE] if both else ["white", BLUE])


@styled()
def confusions(matrices: np.ndarray, classes: Names, names: Names, title: str) -> Figure:
    """Errors of several runs side by side: counts (R, K, K), coloured by their share of the true class."""
    columns = min(4, len(matrices))
    lines = -(-len(matrices) // columns)
    figure = new_figure(title, 3 * columns, 3.1 * lines + 0.5)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flat
    for axes, counts, name in zip(panels, matrices, lettered(names), strict=False):
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        errors = np.where(np.eye(len(counts), dtype=bool), np.nan, np.sqrt(shares))
        axes.imshow(errors, cmap="Oranges", vmin=0, vmax=np.sqrt(0.2))
        axes.set_title(fit(name, 190, 9), fontsize=9)
        _class_ticks(axes, classes)
    for axes in list(figure.axes)[len(matrices) :]:
        axes.set_visible(False)
    return figure


def _class_ticks(axes: Axes, classes: Names) -> None:
    step = -(-len(classes) // FEW)
    shown = range(0, len(classes), step)
    names = [fit(classes[index], 60, 7) for index in shown]
    axes.set_xticks(shown, names, fontsize=7, rotation=90)
    axes.set_yticks(shown, names, fontsize=7)
    axes.tick_params(length=2)


@styled()
def difference(first: np.ndarray, second: np.ndarray, classes: Names, title: str) -> Figure:
    """Confusions (K, K) of one run less those of another; blue is where the first is better."""
    gap = np.asarray(first) - np.asarray(second)
    side = float(np.clip(0.45 * len(gap), 3.5, 7.5))
    figure = new_figure(title, side + 2.4, side + 1.6)
    axes = figure.add_subplot()
    better = np.where(np.eye(len(gap), dtype=bool), gap, -gap)
    most = max(1, np.abs(gap).max())
    image = axes.imshow(better, cmap=_shades(True), vmin=-most, vmax=most)
    if len(gap) <= FEW:
        for row, column in np.argwhere(gap):
            dark = abs(gap[row, column]) > 0.6 * most
            colour = "white" if dark else INK
            text = f"{gap[row, column]:+d}".replace("-", "−")
            axes.text(column, row, text, fontsize=8, color=colour, ha="center", va="center")
    _class_ticks(axes, classes)
    axes.set(xlabel="predicted", ylabel="true")
    figure.colorbar(image, ax=axes, shrink=0.8, label="images (blue: the first run is better)")
    return figure


@styled()
def reliability(bins: Sequence[Mapping[str, Any]], names: Names, eces: Sequence[float], title: str) -> Figure:
    """Accuracy of the answers in each bin of confidence (Guo et al. 2017); below the diagonal: too sure."""
    figure = new_figure(title, 6.4, 5 + 0.2 * len(names))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], ":", color=FAINT, lw=1)
    for each, name, ece, colour in zip(bins, lettered(names), eces, PALETTE, strict=False):
        points = [(c, a) for c, a in zip(each["confidence"], each["accuracy"], strict=True) if a is not None]
        axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=f"{name}: ECE {percent(ece)}")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
    axes.xaxis.set_major_formatter(percent)
    axes.yaxis.set_major_formatter(percent)
    axes.grid()
    legend(figure, axes, 1)
    return figure
