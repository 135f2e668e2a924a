"""What a network looks at: heat over images, filters, feature maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from imgcls.figures.style import BLUE, CAPTION, INK, PALE, RED, fit, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In inches
CELL, GAP, TOP, LINE = 1.35, 0.12, 0.45, 0.24  # a picture, between two, the title, a caption
FILTERS = 64  # shown of a layer; more would be too small to read
# From nothing to opaque, so that the image stays visible where nothing speaks
WARM = [(1, 0.85, 0.6, 0), (0.99, 0.6, 0.2, 0.55), (0.75, 0.15, 0, 0.85)]
SIGNED = [BLUE, PALE, "white", "#f9c98b", RED]


class Heat(NamedTuple):
    """A map (S, S), at least 0, of what speaks for a class, and the words below it."""

    values: np.ndarray
    caption: str


class Explained(NamedTuple):
    """An image uint8 (H, W, C) with the words below it, and the heats that are shown beside it."""

    pixels: np.ndarray
    caption: str
    wrong: bool
    heats: Sequence[Heat]


@styled()
def heats(shown: Sequence[Explained], title: str) -> Figure:
    """Each image and beside it its heats laid over it, each on a scale of its own; two images in a row."""
    group = GAP + (1 + len(shown[0].heats)) * (CELL + GAP)
    step = CELL + LINE + GAP
    sheet = _Sheet(title, 2 * group + GAP, -(-len(shown) // 2) * step)
    for number, one in enumerate(shown):
        left, top = number % 2 * group + GAP, number // 2 * step
        for place, heat in enumerate([Heat(np.zeros((1, 1)), one.caption), *one.heats]):
            axes = sheet.axes(left + place * (CELL + GAP), top, CELL)
            _picture(axes, one.pixels, pale=place > 0)
            _warm(axes, heat.values, one.pixels.shape)
            words = fit(heat.caption, 72 * CELL, CAPTION)
            axes.text(
                0, -0.11, words, transform=axes.transAxes, fontsize=CAPTION, color=RED if one.wrong else INK
            )
    return sheet.figure


@styled()
def filters(weights: np.ndarray, title: str) -> Figure:
    """Filters (F, C, K, K): for colour images in colours around grey, else red above 0 and blue below."""
    shown = weights[:FILTERS]
    if len(shown) < len(weights):
        title += f" (first {len(shown)} of {len(weights)})"
    side = 0.6
    sheet = _Sheet(title, 16 * (side + 0.06) + GAP, -(-len(shown) // 16) * (side + 0.06) + GAP)
    most = float(np.abs(shown).max()) or 1.0
    for number, one in enumerate(shown):
        axes = sheet.axes(GAP + number % 16 * (side + 0.06), number // 16 * (side + 0.06), side)
        if len(one) == 3:
            axes.imshow(0.5 + 0.5 * one.transpose(1, 2, 0) / most)
        else:
            axes.imshow(one.mean(0), cmap=_colours(SIGNED), vmin=-most, vmax=most)
    return sheet.figure


@styled()
def maps(image: np.ndarray, stages: Mapping[str, np.ndarray], title: str) -> Figure:
    """An image (H, W, C), and of each stage's maps (C, S, S) the eight strongest, on a scale of their own."""
    side, left, step = 1.0, CELL + 3 * GAP, 1.0 + LINE + GAP
    sheet = _Sheet(title, left + 8 * (side + 0.06) + GAP, len(stages) * step)
    _picture(sheet.axes(GAP, LINE, CELL), image)
    for row, (name, values) in enumerate(stages.items()):
        strongest = np.argsort(-values.mean((1, 2)), kind="stable")[:8]
        for column, channel in enumerate(strongest):
            axes = sheet.axes(left + column * (side + 0.06), row * step + LINE, side)
            axes.imshow(values[channel], cmap="gray", interpolation="nearest")
        cells = f"{values.shape[-1]}x{values.shape[-1]}"
        sheet.write(
            left, row * step + LINE - 0.05, f"{name}: {len(strongest)} of {len(values)} maps, {cells}"
        )
    return sheet.figure


class _Sheet:
    """A figure on which pictures are placed in inches from the top left corner below the title."""

    def __init__(self, title: str, width: float, height: float) -> None:
        self.size = max(6.0, width), height + TOP
        self.figure = new_figure(title, *self.size, constrained=False)

    def axes(self, left: float, top: float, side: float) -> Axes:
        """A square without frame."""
        width, height = self.size
        axes = self.figure.add_axes(
            (left / width, 1 - (TOP + top + side) / height, side / width, side / height)
        )
        axes.axis("off")
        return axes

    def write(self, left: float, top: float, text: str) -> None:
        """Words that stand on a line."""
        width, height = self.size
        self.figure.text(left / width, 1 - (TOP + top) / height, text, fontsize=CAPTION, color=INK)


def _picture(axes: Axes, image: np.ndarray, pale: bool = False) -> None:
    """An image (H, W, C); pale, for heat to be laid over it, it is grey and bright."""
    look: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}
    if pale:
        axes.imshow(140 + 0.45 * image.mean(2), **look)
    else:
        axes.imshow(image if image.shape[2] == 3 else image[..., 0], **look)


def _warm(axes: Axes, heat: np.ndarray, shape: tuple[int, ...]) -> None:
    """Lay heat over an image, enlarged to it: the most of it is always 1."""
    if heat.max():
        extent = (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)
        look: dict[str, Any] = {"vmin": 0, "vmax": 1, "extent": extent, "interpolation": "bilinear"}
        axes.imshow(heat / heat.max(), cmap=_colours(WARM), **look)


def _colours(stops: Sequence[Any]) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("explain", stops)
