"""Network in Network (Lin, Chen & Yan 2013, section 3) in three blocks of up to 192 channels.

The last ReLU is left out: a class whose map it made zero everywhere would get no gradient.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from imgcls.errors import ConfigError
from imgcls.models.checks import check_choice, check_dropout, check_size
from imgcls.models.vgg import activated, check_counts

ODD = (1, 3, 5, 7, 9, 11)  # kernels that leave the image its size


def mlpconv(
    inplanes: int, planes: int, kernel: int, batch_norm: bool, maps: int | None = None
) -> nn.Sequential:
    """A convolution, then a perceptron at every pixel; (N, inplanes, H, W) -> (N, maps or planes, H, W)."""
    last = nn.Conv2d(planes, maps or planes, 1)
    return nn.Sequential(
        *activated(nn.Conv2d(inplanes, planes, kernel, padding=kernel // 2), batch_norm),
        *activated(nn.Conv2d(planes, planes, 1), batch_norm),
        *([last] if maps else activated(last, batch_norm)),  # maps of the classes are averaged as they are
    )


def check_blocks(widths: Sequence[int], kernels: Sequence[int]) -> None:
    """Refuse anything but a width and an odd kernel for each of one or more blocks."""
    check_counts("widths", widths)
    check_counts("kernels", kernels)
    for kernel in kernels:
        check_choice("kernels", kernel, ODD)
    if not widths or len(widths) != len(kernels):
        given = f"widths={list(widths)} and kernels={list(kernels)}"
        raise ConfigError(f"{given} do not match. Give every block one of each.")


def nin(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    dropout: float = 0.5,
    widths: Sequence[int] = [64, 128, 192],
    kernels: Sequence[int] = [5, 3, 3],
    batch_norm: bool = True,
) -> nn.Sequential:
    """Network in Network: without batch norm 377,226 parameters on MNIST, 380,426 on CIFAR-10."""
    check_dropout(dropout)
    check_blocks(widths, kernels)
    check_choice("batch_norm", batch_norm, (True, False))
    check_size("nin", image_size, 2 ** (len(widths) - 1))  # of less the pools leave nothing
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    planes = [in_channels, *widths]
    for i, kernel in enumerate(kernels[:-1]):  # sides in pixels on CIFAR-10: 32, 16, 8
        layers[f"block{i + 1}"] = mlpconv(planes[i], planes[i + 1], kernel, batch_norm)
        layers[f"pool{i + 1}"] = nn.MaxPool2d(2)
        layers[f"dropout{i + 1}"] = nn.Dropout(dropout)
    layers["classes"] = mlpconv(planes[-2], planes[-1], kernels[-1], batch_norm, num_classes)
    layers["average"] = nn.AdaptiveAvgPool2d(1)  # no dense layer: a class's logit is the mean of its map
    layers["flatten"] = nn.Flatten()
    return nn.Sequential(layers)
