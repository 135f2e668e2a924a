"""Several views of a test image, whose logits are averaged: test-time augmentation (Krizhevsky et al. 2012,
section 4.1; mirror_shift after Jordan 2024, arXiv:2404.00498, section 3.5)."""

from collections.abc import Iterator

from torch import Tensor
from torch.nn import functional as F

VIEWS = ("none", "mirror", "shift", "mirror_shift")


def views(images: Tensor, kind: str) -> Iterator[tuple[float, Tensor]]:
    """(weight, view) of float images (N, C, H, W) as the network sees them; the weights add up to 1.

    mirror: as it is and mirrored · shift: as it is, which counts half, and moved by one pixel down and right
    and up and left, the edge reflected · mirror_shift: each of those also mirrored.
    """
    both = kind.startswith("mirror")
    for weight, view in _shifted(images) if kind.endswith("shift") else [(1.0, images)]:
        yield (weight / 2 if both else weight), view
        if both:
            yield weight / 2, view.flip(-1)


def _shifted(images: Tensor) -> Iterator[tuple[float, Tensor]]:
    height, width = images.shape[2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    yield 0.5, images
    yield 0.25, padded[:, :, :height, :width]
    yield 0.25, padded[:, :, 2:, 2:]
