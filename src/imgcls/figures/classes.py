"""What became of each class: the confusion matrix, and scores as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls.figures.style import (
    BLUE,
    CAPTION,
    FEW,
    INK,
    MOST,
    PALE,
    RED,
    Names,
    Scores,
    fit,
    new_figure,
    percent,
    styled,
    width_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled()
def confusion(matrix: np.ndarray, classes: Names, title: str) -> Figure:
    """Counts (K, K), rows true and columns predicted, coloured by their share of the row."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    counts = np.asarray(matrix)
    right = np.eye(len(counts), dtype=bool)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)  # a class without samples stays 0
    errors = np.where(right, 0, shares)
    figure, axes = _square(title, classes, below=0.0 if len(counts) <= FEW else 0.9)
    # The diagonal has its own pale scale: on a shared one it would bleach every error to white.
    blues = LinearSegmentedColormap.from_list("right", ["white", PALE])
    axes.imshow(np.ma.array(shares, mask=~right), cmap=blues, vmin=0, vmax=1, interpolation="nearest")
    reds = LinearSegmentedColormap.from_list("wrong", ["white", "#f9c98b", RED, "#5a1e00"])
    # The square root lifts 1 % clear of white; the floor keeps a nearly perfect result from looking dark.
    scale = PowerNorm(0.5, vmin=0, vmax=max(0.1, errors.max()))
    wrong = axes.imshow(np.ma.array(shares, mask=right), cmap=reds, norm=scale, interpolation="nearest")
    ticks = [share for share in (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if share <= (scale.vmax or 0)]
    bar = figure.colorbar(wrong, cax=axes.inset_axes((1.03, 0, 0.035, 1)), ticks=ticks, format=percent)
    bar.set_label("errors, share of the true class")
    if len(counts) <= FEW:
        _write_counts(axes, counts, scale(errors) > 0.7)
    else:
        _list_errors(figure, np.where(right, 0, counts), shares, classes)
    return figure


def _square(title: str, classes: Names, below: float) -> tuple[Figure, Axes]:
    """Axes for K x K square cells with the class names along them and a space of some inches below."""
    side = float(np.clip(0.5 * len(classes), 3, 7.2))
    cell = 72 * side / len(classes)
    font = 9.0 if cell > 12 else 7.5
    # Where a name is taller than a cell, only every second or third class is named.
    shown = range(0, len(classes), int(np.ceil(1.15 * font / cell)))
    names = [fit(classes[index], 90, font) for index in shown]
    room = max(width_of(name, font) for name in names) / 72
    angle = 0 if 72 * room < 0.9 * cell else 45 if cell > 18 else 90
    fall = {0: 0.15, 45: 0.1 + 0.75 * room, 90: 0.05 + room}[angle]
    # Placed by hand in inches: the automatic layout clips labels next to cells that must stay square.
    left, low, width, height = 0.5 + room, 0.45 + fall + below, 1.65 + room + side, 0.9 + fall + below + side
    figure = new_figure(title, width, height, constrained=False)
    axes = figure.add_axes((left / width, low / height, side / width, side / height))
    turn: dict[str, Any] = {"rotation": angle, "rotation_mode": "anchor", "ha": "right", "va": "center"}
    axes.set_xticks(shown, names, fontsize=font, **(turn if angle else {}))
    axes.set_yticks(shown, names, fontsize=font)
    axes.tick_params(length=2)
    axes.spines[:].set_visible(True)
    axes.set(xlabel="predicted", ylabel="true")
    return figure, axes


def _write_counts(axes: Axes, counts: np.ndarray, dark: np.ndarray) -> None:
    """The counts (K, K) as numbers, white on dark cells, in one font size for all; zeros stay blank."""
    cell = 72 * axes.bbox.width / axes.figure.dpi / len(counts)
    font = min(11.0, 8.5 * cell / width_of(str(counts.max()), 10))
    for row, column in np.argwhere(counts):
        colour, text = "white" if dark[row, column] else INK, str(counts[row, column])
        axes.text(column, row, text, color=colour, fontsize=font, ha="center", va="center_baseline")


def _list_errors(figure: Figure, errors: np.ndarray, shares: np.ndarray, classes: Names) -> None:
    """The nine most frequent errors in words below a matrix whose cells are too small to be looked up."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0.12 / width, 0.08 / height, 1 - 0.2 / width, 0.75 / height))
    axes.axis("off")
    axes.text(0, 1, "most frequent errors: true → predicted, count (share of the true class)", va="top")
    # By count: ranked by share, the one mistake in a rare class would come first.
    worst = [cell for cell in np.argsort(-errors, axis=None, kind="stable")[:9] if errors.flat[cell]]
    for place, cell in enumerate(worst):
        # A sixth of the width for each name, less what the numbers need.
        names = [fit(classes[index], 12 * width - 32, CAPTION) for index in divmod(int(cell), len(errors))]
        text = f"{' → '.join(names)}  {errors.flat[cell]} ({100 * shares.flat[cell]:.0f} %)"
        axes.text(place // 3 / 3, 0.7 - 0.25 * (place % 3), text, fontsize=CAPTION, va="top")


@styled()
def per_class(recall: Scores, precision: Scores, f1: Scores, classes: Names, title: str) -> Figure:
    """Recall, precision and F1 of each class (0..1): class order up to 20, else the worst 40 by recall."""
    scores = np.array([recall, precision, f1], dtype=float)
    order = list(range(len(classes)))
    if len(order) > FEW:
        order = np.argsort(scores[0], kind="stable")[:MOST].tolist()
        title += f": worst {len(order)} of {len(classes)} classes"
    # The mean is that of all classes, of those left out too.
    rows, shown, mean = range(len(order)), scores[:, order], np.nanmean(scores[0])
    values = [f"   {100 * value:.1f} %" if np.isfinite(value) else "   –" for value in shown[0]]
    labels = [fit(classes[index], 180, 10, value) for index, value in zip(order, values, strict=True)]
    width, height = 9.0, 1.5 + 0.27 * len(order)
    left = 0.2 + max(width_of(label, 10) for label in labels) / 72
    figure = new_figure(title, width, height, constrained=False)
    axes = figure.add_axes(
        (left / width, 0.35 / height, 1 - (left + 0.35) / width, 1 - (0.35 + 0.75) / height)
    )
    bars = axes.barh(rows, shown[0], height=0.66, color=PALE, label="accuracy (recall)")
    axes.plot(shown[1], rows, "d", color=RED, markersize=6, clip_on=False, label="precision")
    axes.plot(shown[2], rows, "o", color=INK, clip_on=False, label="F1")
    axes.axvline(mean, color=BLUE, ls="--", lw=1.2, label=f"mean accuracy {100 * mean:.1f} %")
    # From whole tens below the worst score: differences between good classes stay visible.
    axes.set(xlim=(max(0, np.floor(10 * np.nanmin(shown) - 0.5) / 10), 1), ylim=(len(order) - 0.4, -0.6))
    axes.set_yticks(rows, labels)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(percent)
    axes.grid(axis="x")
    keys = [bars, *axes.get_lines()]
    axes.legend(handles=keys, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderpad=0)
    return figure
