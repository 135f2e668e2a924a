"""The networks of the CIFAR-10 speed records (Jordan 2024, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU,
arXiv:2404.00498, sections 3 and A; code: github.com/KellerJordan/cifar10-airbench).

They are meant for `init=whitened`, which fixes the filters of the first convolution.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from imgcls.errors import ConfigError
from imgcls.models.checks import check_count, check_size

PATCH = 2  # side of the whitened patches, in pixels


class Size(NamedTuple):
    """What the two sizes differ in, beside their widths."""

    convolutions: int  # of a block; over the last two of three goes a shortcut
    momentum: float  # share of a batch in the running statistics of batch norm
    unit_head: bool  # weights of the last layer with variance 1, and logits divided by their number of inputs


SIZES = {
    "airbench94": Size(2, 0.4, True),
    "airbench96": Size(3, 0.1, False),
    "hardest": Size(2, 0.1, False),
}


class Scale(nn.Module):
    """Multiplies by a fixed number, as a weight of the last layer that never trains."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, …) -> (N, …)."""
        return x * self.factor

    def extra_repr(self) -> str:
        """The factor."""
        return f"{self.factor:g}"


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3 without bias; its first filters pass their input on (Jordan 2024, 3.3), the others are as usual."""
    made = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(made.weight[:inputs])
    return made


def norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    """Batch norm that learns to shift and never to scale."""
    made = nn.BatchNorm2d(channels, eps=1e-12, momentum=momentum)
    made.weight.requires_grad_(False)
    return made


class Block(nn.Module):
    """Two or three 3x3 convolutions; the image is halved after the first."""

    def __init__(self, inputs: int, outputs: int, size: Size) -> None:
        super().__init__()
        self.conv1, self.norm1 = convolution(inputs, outputs), norm(outputs, size.momentum)
        self.conv2, self.norm2 = convolution(outputs, outputs), norm(outputs, size.momentum)
        self.deep = size.convolutions == 3
        if self.deep:
            self.conv3, self.norm3 = convolution(outputs, outputs), norm(outputs, size.momentum)
        self.pool, self.gelu = nn.MaxPool2d(2), nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / 2, W / 2), odd sides rounded down."""
        x = self.gelu(self.norm1(self.pool(self.conv1(x))))
        y = self.gelu(self.norm2(self.conv2(x)))
        return self.gelu(x + self.norm3(self.conv3(y))) if self.deep else y


def _airbench(
    name: str, num_classes: int, in_channels: int, image_size: int, widths: Sequence[int]
) -> nn.Sequential:
    """The network `name` of SIZES, once its options are found good."""
    if len(widths) != 3:
        raise ConfigError(f"widths={list(widths)} is not an option. Use three numbers, as [64,256,256].")
    for width in widths:
        check_count("widths", width)
    check_size(name, image_size, 9)  # one pixel less, then three halvings
    size, patch = SIZES[name], in_channels * PATCH**2
    seen = 2 * patch  # channels: each direction of a patch, and its negative
    one, two, three = widths
    head = nn.Linear(three, num_classes, bias=False)
    if size.unit_head:
        with torch.no_grad():
            head.weight.div_(head.weight.std())
    layers: OrderedDict[str, nn.Module] = OrderedDict(  # sides in pixels: CIFAR
        whiten=nn.Conv2d(in_channels, seen, PATCH),  # 32 -> 31
        gelu=nn.GELU(),
        block1=Block(seen, one, size),  # 31 -> 15
        block2=Block(one, two, size),  # 15 -> 7
        block3=Block(two, three, size),  # 7 -> 3
        pool=nn.AdaptiveMaxPool2d(1),  # 3 -> 1
        flatten=nn.Flatten(),
        head=head,
        scale=Scale(1 / three if size.unit_head else 1 / 9),
    )
    return nn.Sequential(layers)


def airbench94(
    *, num_classes: int, in_channels: int, image_size: int, widths: Sequence[int] = (64, 256, 256)
) -> nn.Sequential:
    """The network of airbench94_muon: 1,972,792 parameters for CIFAR-10."""
    return _airbench("airbench94", num_classes, in_channels, image_size, widths)


def airbench96(
    *, num_classes: int, in_channels: int, image_size: int, widths: Sequence[int] = (128, 384, 512)
) -> nn.Sequential:
    """The network of airbench96, with a shortcut in each block: 9,918,776 parameters for CIFAR-10."""
    return _airbench("airbench96", num_classes, in_channels, image_size, widths)


def proxy(*, num_classes: int, in_channels: int, image_size: int) -> nn.Sequential:
    """The small network that chooses images for airbench96_faster: 146,744 parameters for CIFAR-10."""
    return _airbench("hardest", num_classes, in_channels, image_size, (32, 64, 64))
