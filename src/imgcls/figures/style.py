"""The house style of all pictures, and writing them; matplotlib is imported only once one is drawn."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
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
PALETTE = (BLUE, RED, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK, FAINT)  # lines that are told apart
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
    "svg.hashsalt": "imgcls",  # names within an SVG are drawn by chance otherwise
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
SAVING: dict[str, dict[str, Any]] = {
    "svg": {"metadata": {"Date": None}},  # it would else differ from day to day
    "png": {"pil_kwargs": {"compress_level": 2}},  # a tenth larger than at 6, in a third of the time
}
# The style lives in matplotlib's global settings while a picture is drawn, so one thread at a time.
_STYLE_LOCK = threading.Lock()


@contextmanager
def styled() -> Iterator[None]:
    """The house style while it is entered; also the decorator of everything that draws."""
    import matplotlib

    with _STYLE_LOCK, matplotlib.rc_context(STYLE):
        yield


@styled()
def save(figure: Figure, path: str | Path) -> None:
    """Write the figure to path, a .png or .svg; a reader sees the old file or the new one, never a part."""
    path = Path(path)
    # In the same folder: a rename is only atomic within one file system.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        kind = path.suffix[1:]
        figure.savefig(unfinished, format=kind, dpi=DPI, **SAVING.get(kind, {}))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def new_figure(title: str, width: float, height: float, constrained: bool = True) -> Figure:
    """An empty figure of width x height inches, its title at the top left and no wider than the figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    # No pyplot: it would need a display and keep every figure alive.
    FigureCanvasAgg(figure)
    if constrained:
        figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - 0.42 / height))
    room = 0.85 * (72 * width - 15)  # bold letters are wider than those that are measured
    size = float(np.clip(13 * room / (width_of(title, 13) + 1), 9, 13))
    place = {"x": 0.1 / width, "y": 1 - 0.1 / height, "ha": "left"}
    figure.suptitle(fit(title, room, size), fontsize=size, fontweight="bold", **place)
    return figure


def width_of(text: str, size: float) -> float:
    """How wide the text is in points when set in the given font size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    return text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)[0]


def fit(text: str, width: float, size: float, suffix: str = "") -> str:
    """Text and suffix on one line, the text cut with … where both would be wider than width points."""
    # Measured rather than counted: a W is as wide as three i.
    text = shown = " ".join(str(text).split())
    while text and width_of(shown + suffix, size) > width:
        text = text[:-1]
        shown = f"{text.rstrip()}…"
    return shown + suffix


def percent(value: float, _: object = None) -> str:
    """A fraction as percent, with no more digits than it needs."""
    return f"{100 * value:.4g} %"
