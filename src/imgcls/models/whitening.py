"""A first convolution that whitens what it sees (Coates & Ng 2012, Learning Feature Representations with
K-means; as a fixed layer Page 2019, How to Train Your ResNet 8, and Jordan 2024, arXiv:2404.00498, 3.2).

Its filters are the principal directions of patches of training images, each divided by their spread along it.
What leaves it has the identity as its matrix of second moments: no direction drowns another.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imgcls.errors import ConfigError

EPS = 5e-4  # added to a variance, so that a direction in which patches hardly vary is not blown up
SEEN = 5000 * 32**2  # pixels that the moments are taken of, about
PART = SEEN // 100  # at a time, for their patches take several times the memory


def first(network: nn.Module) -> nn.Conv2d:
    """The convolution that sees the image; ConfigError if there is none."""
    found = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    if found is None or found.groups > 1:
        raise ConfigError(
            "init.first=whitened: the network begins with no convolution. Use init.first=default."
        )
    return found


def parts(image_size: int) -> tuple[int, int]:
    """(images to whiten by, images at a time), of that side in pixels."""
    return max(SEEN // image_size**2, 1), max(PART // image_size**2, 1)


def moments(images: Iterable[Tensor], layer: nn.Conv2d) -> Tensor:
    """Second moments of a layer's patches in float images (N, C, H, W), in parts: (D, D) float64."""
    size = layer.weight[0].numel()
    total, count = torch.zeros(size, size, dtype=torch.float64), 0
    for part in images:
        patches = F.unfold(part, layer.kernel_size, layer.dilation, stride=layer.stride)
        flat = patches.double().transpose(0, 1).flatten(1)  # (N, D, L) -> (D, N * L)
        total += flat @ flat.T
        count += flat.shape[1]
    return total / count


def filters(second: Tensor, count: int) -> Tensor:
    """`count` whitening filters of patches with these second moments: (count, D) float64.

    Each direction and its negative, so that what is cut off below zero is kept; the strongest, if there is no
    room for all. What is left over is zero.
    """
    variances, directions = torch.linalg.eigh(second)  # weakest first
    rows = (directions / (variances + EPS).sqrt()).T.flip(0)[: count // 2]
    made = torch.zeros(count, len(second), dtype=torch.float64)
    made[: 2 * len(rows)] = torch.cat([rows, -rows])
    return made


@torch.no_grad()
def whiten(network: nn.Module, images: Iterable[Tensor]) -> None:
    """Fix the filters of the first convolution by float images (N, C, H, W) that the network sees, in parts.

    Those beyond the whitening ones stay as they were drawn; none of them trains. A bias still does.
    """
    layer = first(network)
    made = filters(moments(images, layer), layer.out_channels).to(layer.weight.dtype).view_as(layer.weight)
    drawn = made.flatten(1).any(1).logical_not().nonzero().flatten()
    made[drawn] = layer.weight[drawn]
    layer.weight.copy_(made)
    layer.weight.requires_grad_(False)
