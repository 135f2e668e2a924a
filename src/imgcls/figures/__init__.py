"""The pictures of a run: training curves, confusion matrix, per-class scores and contact sheets.

Every picture is a function of plain data that returns a matplotlib `Figure`; `save` writes it as a PNG.
Nothing here touches pyplot, a display or torch, and matplotlib is only imported once a picture is drawn.
All scores and shares are fractions in 0..1 and are shown in percent.
"""

from imgcls.figures.classes import confusion, per_class
from imgcls.figures.curves import curves
from imgcls.figures.explain import Explained, Heat, filters, heats, maps
from imgcls.figures.papers import against, compared, overlaid
from imgcls.figures.plane import plane
from imgcls.figures.search import search
from imgcls.figures.sheet import predictions
from imgcls.figures.style import DPI, FEW, save
from imgcls.figures.sweep import sweep
from imgcls.figures.trials import rates, sizes

__all__ = [
    "DPI",
    "FEW",
    "Explained",
    "Heat",
    "against",
    "compared",
    "confusion",
    "curves",
    "filters",
    "heats",
    "maps",
    "overlaid",
    "per_class",
    "plane",
    "predictions",
    "rates",
    "save",
    "search",
    "sizes",
    "sweep",
]
