"""The pictures of a run: training curves, confusion matrix, per-class scores and contact sheets.

Every picture is a function of plain data that returns a matplotlib `Figure`; `save` writes it as a PNG.
Nothing here touches pyplot, a display or torch, and matplotlib is only imported once a picture is drawn.
All scores and shares are fractions in 0..1 and are shown in percent.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, float]]
Names = Sequence[str]
Scores = Sequence[float]

DPI = 150
FEW = 20  # classes up to which every one is shown, in its own order and with its numbers
MOST = 40  # bars or images in one picture: more would be too small to read
CAPTION = 8.5  # points

# From Okabe and Ito's palette, whose members stay apart for every common kind of colour blindness.
BLUE, RED, INK, FAINT, PALE = "#0072B2", "#D55E00", "#262626", "#8c8c8c", "#a6cbe3"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "text.parse_math": False,  # a class may be called "$5 bill"
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
# The style lives in matplotlib's global settings while a picture is drawn, so one thread at a time.
_STYLE_LOCK = threading.Lock()


@contextmanager
def _style() -> Iterator[None]:
    """The house style while it is entered; also the decorator of everything that draws."""
    import matplotlib

    with _STYLE_LOCK, matplotlib.rc_context(STYLE):
        yield


@_style()
def save(figure: Figure, path: str | Path) -> None:
    """Write the figure to path as a PNG; a reader sees the old file or the new one, never a part."""
    path = Path(path)
    # In the same folder: a rename is only atomic within one file system.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        figure.savefig(unfinished, format="png", dpi=DPI)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _figure(title: str, width: float, height: float, constrained: bool = True) -> Figure:
    """An empty figure of width x height inches, its title at the top left and no wider than the figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    # No pyplot: it would need a display and keep every figure alive.
    FigureCanvasAgg(figure)
    if constrained:
        figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - 0.42 / height))
    room = 0.85 * (72 * width - 15)  # bold letters are wider than those that are measured
    size = float(np.clip(13 * room / (_width(title, 13) + 1), 9, 13))
    place = {"x": 0.1 / width, "y": 1 - 0.1 / height, "ha": "left"}
    figure.suptitle(_fit(title, room, size), fontsize=size, fontweight="bold", **place)
    return figure


def _width(text: str, size: float) -> float:
    """How wide the text is in points when set in the given font size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    return text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)[0]


def _fit(text: str, width: float, size: float, suffix: str = "") -> str:
    """Text and suffix on one line, the text cut with … where both would be wider than width points."""
    # Measured rather than counted: a W is as wide as three i.
    text = shown = " ".join(str(text).split())
    while text and _width(shown + suffix, size) > width:
        text = text[:-1]
        shown = f"{text.rstrip()}…"
    return shown + suffix


def _percent(value: float, _: object = None) -> str:
    """A fraction as percent, with no more digits than it needs."""
    return f"{100 * value:.4g} %"


@_style()
def curves(history: History, title: str) -> Figure:
    """Loss, accuracy (0..1) and lr over the epochs (from 1); a row may lack any key but epoch."""
    figure = _figure(title, 10, 5)
    strip = "learning rate"
    panels = figure.subplot_mosaic([["loss", "accuracy"], [strip, strip]], height_ratios=[4, 1])
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
    axes.yaxis.set_major_formatter(_percent)
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
    _log_if_wide(axes, [row[key] for row in history for key in keys if key in row])


def _epoch_axis(axes: Axes, epochs: Sequence[float]) -> None:
    """Whole-numbered ticks from the first epoch to the last, and none for an epoch 0."""
    pad = min(0.5, 0.02 * (max(epochs) - min(epochs))) or 0.5
    axes.set_xlim(min(epochs) - pad, max(epochs) + pad)
    axes.locator_params(axis="x", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)
    axes.set_xlabel("epoch")
    axes.grid(axis="y")


def _log_if_wide(axes: Axes, values: Sequence[float]) -> None:
    """A log axis where the positive values span more than one and a half decades."""
    from matplotlib.ticker import LogLocator

    finite = [value for value in values if 0 < value < np.inf]
    if finite and max(finite) > 10**1.5 * min(finite):
        axes.set_yscale("log")
        # Within three decades whole powers of ten alone would be too few ticks.
        steps = (1.0, 2.0, 5.0) if max(finite) < 1e3 * min(finite) else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=steps, numticks=5))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()


@_style()
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
    bar = figure.colorbar(wrong, cax=axes.inset_axes((1.03, 0, 0.035, 1)), ticks=ticks, format=_percent)
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
    names = [_fit(classes[index], 90, font) for index in shown]
    room = max(_width(name, font) for name in names) / 72
    angle = 0 if 72 * room < 0.9 * cell else 45 if cell > 18 else 90
    fall = {0: 0.15, 45: 0.1 + 0.75 * room, 90: 0.05 + room}[angle]
    # Placed by hand in inches: the automatic layout clips labels next to cells that must stay square.
    left, low, width, height = 0.5 + room, 0.45 + fall + below, 1.65 + room + side, 0.9 + fall + below + side
    figure = _figure(title, width, height, constrained=False)
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
    font = min(11.0, 8.5 * cell / _width(str(counts.max()), 10))
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
        names = [_fit(classes[index], 12 * width - 32, CAPTION) for index in divmod(int(cell), len(errors))]
        text = f"{' → '.join(names)}  {errors.flat[cell]} ({100 * shares.flat[cell]:.0f} %)"
        axes.text(place // 3 / 3, 0.7 - 0.25 * (place % 3), text, fontsize=CAPTION, va="top")


@_style()
def per_class(recall: Scores, precision: Scores, f1: Scores, classes: Names, title: str) -> Figure:
    """Recall, precision and F1 of each class (0..1): class order up to 20, else the worst 40 by recall."""
    scores = np.array([recall, precision, f1], dtype=float)
    order = list(range(len(classes)))
    if len(order) > FEW:
        order = np.argsort(scores[0], kind="stable")[:MOST].tolist()
        title += f": worst {len(order)} of {len(classes)} classes"
    # The mean is that of all classes, of those left out too.
    rows, shown, mean = range(len(order)), scores[:, order], np.nanmean(scores[0])
    figure = _figure(title, 9, 1.5 + 0.27 * len(order))
    axes = figure.subplots()
    bars = axes.barh(rows, shown[0], height=0.66, color=PALE, label="accuracy (recall)")
    axes.plot(shown[1], rows, "d", color=RED, markersize=6, clip_on=False, label="precision")
    axes.plot(shown[2], rows, "o", color=INK, clip_on=False, label="F1")
    axes.axvline(mean, color=BLUE, ls="--", lw=1.2, label=f"mean accuracy {100 * mean:.1f} %")
    # From whole tens below the worst score: differences between good classes stay visible.
    axes.set(xlim=(max(0, np.floor(10 * np.nanmin(shown) - 0.5) / 10), 1), ylim=(len(order) - 0.4, -0.6))
    values = [f"   {100 * value:.1f} %" if np.isfinite(value) else "   –" for value in shown[0]]
    labels = [_fit(classes[index], 180, 10, value) for index, value in zip(order, values, strict=True)]
    axes.set_yticks(rows, labels)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(_percent)
    axes.grid(axis="x")
    keys = [bars, *axes.get_lines()]
    axes.legend(handles=keys, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderpad=0)
    return figure


@_style()
def predictions(
    images: np.ndarray,
    true: Names | None = None,
    predicted: Names | None = None,
    confidence: Scores | None = None,
    title: str = "",
    columns: int = 8,
) -> Figure:
    """A sheet of the first 40 images, uint8 (M, H, W, C), captioned with whatever is given; errors in red."""
    shown = images[:MOST]
    if len(shown) < len(images):
        title += f" (first {len(shown)} of {len(images)})"
    columns = max(1, min(columns, len(shown)))
    cell = float(np.clip(10 / columns, 1.25, 2))  # all lengths are in inches
    wide = cell - 0.12
    blank = [None] * len(shown)
    given = [blank if part is None else part[:MOST] for part in (true, predicted, confidence)]
    texts = [_caption(72 * wide, *row) for row in zip(*given, strict=True)]
    high = wide * shown.shape[1] / shown.shape[2] if texts else 0.2
    step = high + 0.16 + 0.16 * max((text.count("\n") + 1 for text in texts), default=0)
    # A title needs some width even above a single image.
    width, height = max(6.0, columns * cell + 0.1), 0.5 + step * max(1, -(-len(texts) // columns))
    figure = _figure(title, width, height, constrained=False)
    # One pair of axes measured in inches holds the whole sheet: quicker than forty, and nothing can shift.
    axes = figure.add_axes((0, 0, 1, 1))
    for index, (image, text) in enumerate(zip(shown, texts, strict=True)):
        left, top = 0.1 + index % columns * cell, 0.45 + index // columns * step
        _tile(axes, image, text, (left, left + wide, top + high, top))
    if not texts:
        axes.text(0.1, 0.6, "none", color=FAINT)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    axes.axis("off")
    return figure


def _caption(width: float, true: str | None, predicted: str | None, confidence: float | None) -> str:
    """The words below one image, each line at most width points long; only an error takes two lines."""
    if predicted is None:
        return _fit(true or "", width, CAPTION)
    guess = _fit(predicted, width, CAPTION, "" if confidence is None else f" {100 * confidence:.0f} %")
    if true is None or true == predicted:
        return guess
    return _fit(f"is {true}", width, CAPTION, " →") + "\n" + guess


def _tile(axes: Axes, image: np.ndarray, text: str, box: tuple[float, float, float, float]) -> None:
    """One image (H, W, C) in its box of left, right, bottom, top in inches, its caption below."""
    left, right, bottom, top = box
    pixels = image[..., :3] if image.shape[2] >= 3 else image[..., 0]
    # Enlarged pixels stay sharp squares; a shrunk image must be smoothed, or fine lines would drop out.
    smoothing = "nearest" if image.shape[1] <= DPI * (right - left) else "antialiased"
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=box, interpolation=smoothing)
    colour = RED if "\n" in text else INK
    for number, line in enumerate(text.split("\n"), start=1):
        axes.text(left, bottom + 0.155 * number, line, color=colour, fontsize=CAPTION)
    if colour == RED:
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=RED, linewidth=1.5)
