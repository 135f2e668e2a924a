"""Contact sheets: images with what was said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgcls.figures.style import CAPTION, DPI, FAINT, INK, MOST, RED, Names, Scores, fit, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled()
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
    figure = new_figure(title, width, height, constrained=False)
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
        return fit(true or "", width, CAPTION)
    guess = fit(predicted, width, CAPTION, "" if confidence is None else f" {100 * confidence:.0f} %")
    if true is None or true == predicted:
        return guess
    return fit(f"is {true}", width, CAPTION, " →") + "\n" + guess


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
