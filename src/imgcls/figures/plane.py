"""Images as points in the plane, coloured by their class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls.figures.style import CAPTION, FAINT, FEW, INK, RED, Names, fit, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled()
def plane(
    points: Mapping[str, np.ndarray], labels: np.ndarray, right: np.ndarray, classes: Names, title: str
) -> Figure:
    """One panel for each entry of `points`, (N, 2) by its title; the last one names the classes, if few.

    Args:
        labels: the true class of each, (N,).
        right: whether it was recognised, (N,); else it is a cross.
    """
    figure = new_figure(title, 6.2 * len(points), 6.2)
    panels = figure.subplots(1, len(points), squeeze=False)[0]
    colours = _colours(labels, right, len(classes))
    for axes, (name, places) in zip(panels, points.items(), strict=True):
        axes.scatter(*places[right].T, s=9, c=colours[right], alpha=0.6, linewidths=0)
        axes.scatter(*places[~right].T, s=24, c=colours[~right], marker="x", linewidths=1.2)
        axes.set(xticks=[], yticks=[], title=name)
        axes.spines[:].set_color("#e6e6e6")
    if len(classes) <= FEW:
        _name(panels[-1], places, labels, classes)
    panels[-1].set_title(f"× wrong: {(~right).sum():,}", loc="right", fontsize=CAPTION + 1)
    return figure


def _colours(labels: np.ndarray, right: np.ndarray, classes: int) -> np.ndarray:
    """(N, 4): a colour for each class, or where there are too many to tell apart, for right and wrong."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgba_array

    if classes > FEW:
        return to_rgba_array([FAINT if is_right else RED for is_right in right])
    return np.asarray(colormaps["tab10" if classes <= 10 else "tab20"](labels))


def _name(axes: Axes, places: np.ndarray, labels: np.ndarray, classes: Names) -> None:
    """Write each class where the middle of it lies."""
    box: dict[str, Any] = {
        "boxstyle": "round,pad=0.2",
        "facecolor": "white",
        "edgecolor": FAINT,
        "alpha": 0.85,
    }
    for label in np.unique(labels):
        x, y = np.median(places[labels == label], axis=0)
        words = fit(classes[label], 90, 11)
        axes.text(x, y, words, fontsize=11, color=INK, ha="center", va="center", bbox=box)
