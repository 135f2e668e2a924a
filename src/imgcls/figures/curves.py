"""Loss, accuracy and learning rate over the epochs of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls.figures.style import BLUE, FAINT, INK, RED, History, new_figure, percent, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# By hand, as fractions of the figure (left, bottom, width, height): finding them takes longer than drawing
PLACES = {
    "loss": (0.07, 0.37, 0.38, 0.46),
    "accuracy": (0.57, 0.37, 0.38, 0.46),
    "learning rate": (0.07, 0.11, 0.88, 0.1),
}


@styled()
def curves(history: History, title: str) -> Figure:
    """Loss, accuracy (0..1) and lr over the epochs (from 1); a row may lack any key but epoch."""
    figure = new_figure(title, 10, 5, constrained=False)
    panels = {name: figure.add_axes(place) for name, place in PLACES.items()}
    best = _best_row(history)
    for key, (name, axes) in zip(("loss", "acc", "lr"), panels.items(), strict=True):
        axes.set_title(name)
        _lines(axes, history, ["lr"] if key == "lr" else [f"train/{key}", f"val/{key}"])
        if f"val/{key}" in best:
            value = best[f"val/{key}"]
            shown = f"{value:.1%}".replace("%", " %") if key == "acc" else f"{value:.3g}"
            # The value stands in the title, where no line can cross it.
            axes.set_title(f"{name}: val {shown} at best epoch {best['epoch']:.0f}")
            axes.scatter(best["epoch"], value, s=55, c="white", edgecolors=RED, linewidths=1.8, zorder=3)
            axes.axvline(best["epoch"], color=FAINT, linewidth=1, linestyle=":", zorder=0)
    axes = panels["accuracy"]
    axes.yaxis.set_major_formatter(percent)
    low, high = axes.get_ylim()
    if high - low < 0.02:  # a lone epoch would be drawn on a scale of thousandths
        axes.set_ylim(low - 0.01, high + 0.01)
    return figure


def _best_row(history: History) -> Mapping[str, float]:
    """The first row with the highest val accuracy, the lower val loss among equals; empty without val."""
    rows = [row for row in history if "val/acc" in row or "val/loss" in row]
    return max(rows, key=lambda row: (row.get("val/acc", 0), -row.get("val/loss", 0)), default={})


def _lines(axes: Axes, history: History, keys: Sequence[str]) -> None:
    """Draw some keys over the epochs, each line with its name at its end."""
    ends = []
    for key in keys:
        rows = [row for row in history if key in row]  # validation may not run in every epoch
        name = key.split("/")[0]
        look: dict[str, Any] = {"label": name, "color": {"train": BLUE, "val": RED}.get(name, INK)}
        marker = "o" if len(rows) <= 10 else ""  # a single epoch has no line to see
        axes.plot([row["epoch"] for row in rows], [row[key] for row in rows], marker=marker, **look)
        ends += [(row[key], name, look["color"]) for row in rows if np.isfinite(row[key])][-1:]
    # One name below its point and the other above: they cannot collide however close the lines end.
    for (y, name, colour), side in zip(sorted(ends), ("top", "bottom"), strict=False):
        # A panel of its own needs no name on its only line.
        if name != "lr":
            place = history[-1]["epoch"], y
            axes.annotate(name, place, (6, 0), textcoords="offset points", color=colour, va=side)
    _epoch_axis(axes, [row["epoch"] for row in history] or [1])
    log_if_wide(axes, [row[key] for row in history for key in keys if key in row])


def _epoch_axis(axes: Axes, epochs: Sequence[float]) -> None:
    """Whole-numbered ticks from the first epoch to the last, and none for an epoch 0."""
    pad = min(0.5, 0.02 * (max(epochs) - min(epochs))) or 0.5
    axes.set_xlim(min(epochs) - pad, max(epochs) + pad)
    axes.locator_params(axis="x", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)
    axes.set_xlabel("epoch")
    axes.grid(axis="y")


def log_if_wide(axes: Axes, values: Sequence[float]) -> None:
    """A log axis where the positive values span more than one and a half decades.

    The lowest tenth does not count: a rate that ends at almost nothing would flatten all the rest.
    """
    from matplotlib.ticker import LogLocator

    finite = [value for value in values if 0 < value < np.inf]
    low = float(np.quantile(finite, 0.1)) if finite else 1.0
    if finite and max(finite) > 10**1.5 * low:
        axes.set_yscale("log")
        # Within three decades whole powers of ten alone would be too few ticks.
        steps = (1.0, 2.0, 5.0) if max(finite) < 1e3 * low else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=steps, numticks=5))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
