"""What was tried to find a learning rate or a batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from imgcls.figures.style import BLUE, PALE, RED, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled()
def rates(points: Sequence[tuple[float, float, float]], best: float, title: str) -> Figure:
    """Loss and smoothed loss over the learning rate; `best` is marked."""
    figure = new_figure(title, 8, 4.5)
    axes = figure.add_subplot()
    rate, loss, smooth = zip(*points, strict=True)
    axes.plot(rate, loss, color=PALE, linewidth=1, label="each step")
    axes.plot(rate, smooth, color=BLUE, label="smoothed")
    # A single wild step at the end would flatten all before it
    low, high = min(smooth), max(smooth)
    axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_title(f"steepest at {best:.2g}")
    axes.legend()
    _mark(axes, best)
    return figure


@styled()
def sizes(points: Sequence[Mapping[str, float]], best: int, title: str) -> Figure:
    """Images per second and memory (MB) over the batch size; `best` is marked."""
    figure = new_figure(title, 10, 4.5)
    panels = figure.subplots(1, 2)
    batch = [point["batch_size"] for point in points]
    for axes, key, name in zip(
        panels, ("images_per_second", "memory_mb"), ("images/s", "peak memory, MB"), strict=True
    ):
        values = [point[key] for point in points]
        axes.plot(batch, values, marker="o", color=BLUE)
        axes.set_xscale("log", base=2)
        axes.set_xticks(batch, [f"{size:.0f}" for size in batch])
        axes.minorticks_off()
        axes.set(xlabel="batch size", title=name)
        axes.set_ylim(0, 1.1 * max(values))
        axes.grid(axis="y")
        _mark(axes, best)
    return figure


def _mark(axes: Axes, best: float) -> None:
    axes.axvline(best, color=RED, linewidth=1.2, linestyle=":", zorder=0)
