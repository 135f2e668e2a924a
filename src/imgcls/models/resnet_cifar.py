"""ResNets for small images, depth 6n + 2 (He et al. 2015, Deep Residual Learning, section 4.2)."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from imgcls.models.checks import check_choice, check_count, check_dropout, check_size
from imgcls.models.resnet import Shortcut, init_convolutions, projection, stage

DEPTHS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}  # n, blocks per stage


class SubsampledIdentity(nn.Module):
    """Shortcut A of the paper: every second pixel of every second row; zeros for the new channels."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + added, H / 2, W / 2), odd sides rounded up."""
        # A 1x1 average is x[:, :, ::2, ::2], but its gradient stays channels_last and that of a slice does
        # not: a training step of ResNet-20 (batch 128, CPU, bfloat16) takes 8 % less time
        return F.pad(F.avg_pool2d(x, kernel_size=1, stride=2), (0, 0, 0, 0, 0, self.added))


def identity(inplanes: int, outplanes: int, stride: int) -> nn.Module | None:
    """Shortcut A where the shape changes, elsewhere the plain identity (None)."""
    return SubsampledIdentity(outplanes - inplanes) if stride == 2 else None


def bare_projection(inplanes: int, outplanes: int, stride: int) -> nn.Module | None:
    """Shortcut B without its batch norm, as in Keras' example (cifar10_resnet, version 1)."""
    projected = projection(inplanes, outplanes, stride)
    return projected[:1] if isinstance(projected, nn.Sequential) else None


SHORTCUTS: dict[str, Shortcut] = {
    "identity": identity,
    "projection": projection,
    "bare_projection": bare_projection,
}


def add_biases(net: nn.Module) -> None:
    """Give every convolution a bias, zero at first; torchvision's blocks leave them to their batch norms."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))


class CifarResNet(nn.Module):
    """3x3 convolution, three stages of n residual blocks, average over the image, one dense layer."""

    def __init__(
        self,
        n: int,
        shortcut: Shortcut,
        num_classes: int,
        in_channels: int,
        width: int,
        dropout: float,
        conv_bias: bool,
    ) -> None:
        super().__init__()
        make = partial(stage, BasicBlock, n, widening=1, shortcut=shortcut)
        # Channels x side at width 16 on 32 px
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)  # 16 x 32
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = make(width, width, 1)  # 16 x 32
        self.layer2 = make(width, 2 * width, 2)  # 32 x 16
        self.layer3 = make(2 * width, 4 * width, 2)  # 64 x 8
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(4 * width, num_classes)
        init_convolutions(self)
        if conv_bias:
            add_biases(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, num_classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.dropout(self.avgpool(x).flatten(1)))


def _resnet(
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: int,
    *,
    shortcut: str = "identity",
    width: int = 16,
    dropout: float = 0.0,
    conv_bias: bool = False,
) -> CifarResNet:
    """The network `name` of DEPTHS, once its options are found good."""
    check_choice("shortcut", shortcut, tuple(SHORTCUTS))
    check_count("width", width)
    check_dropout(dropout)
    check_choice("conv_bias", conv_bias, (True, False))
    check_size(name, image_size, 3)  # two halvings; the last needs more than the one pixel it leaves
    made = SHORTCUTS[shortcut]
    return CifarResNet(DEPTHS[name], made, num_classes, in_channels, width, dropout, conv_bias)


def resnet20(*, num_classes: int, in_channels: int, image_size: int, **options: Any) -> CifarResNet:
    """ResNet-20: 269,722 parameters for CIFAR-10."""
    return _resnet("resnet20", num_classes, in_channels, image_size, **options)


def resnet32(*, num_classes: int, in_channels: int, image_size: int, **options: Any) -> CifarResNet:
    """ResNet-32: 464,154 parameters for CIFAR-10."""
    return _resnet("resnet32", num_classes, in_channels, image_size, **options)


def resnet44(*, num_classes: int, in_channels: int, image_size: int, **options: Any) -> CifarResNet:
    """ResNet-44: 658,586 parameters for CIFAR-10."""
    return _resnet("resnet44", num_classes, in_channels, image_size, **options)


def resnet56(*, num_classes: int, in_channels: int, image_size: int, **options: Any) -> CifarResNet:
    """ResNet-56: 853,018 parameters for CIFAR-10."""
    return _resnet("resnet56", num_classes, in_channels, image_size, **options)


def resnet110(*, num_classes: int, in_channels: int, image_size: int, **options: Any) -> CifarResNet:
    """ResNet-110: 1,727,962 parameters for CIFAR-10."""
    return _resnet("resnet110", num_classes, in_channels, image_size, **options)
