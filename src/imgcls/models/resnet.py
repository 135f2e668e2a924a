"""ResNet-18, -34 and -50 (He et al. 2015, Deep Residual Learning, table 1), optionally with
squeeze-and-excitation (Hu et al. 2017, Squeeze-and-Excitation Networks, section 3).

Blocks, initial weights and state_dict keys are torchvision's, so that its ImageNet weights load as they are.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1
from torchvision.ops import SqueezeExcitation

from imgcls.models.adapt import load_pretrained
from imgcls.models.checks import check_choice, check_count, check_dropout, check_fit, check_size

log = logging.getLogger(__name__)

Block = Callable[..., nn.Module]  # (inplanes, planes, stride, shortcut) -> block
Shortcut = Callable[[int, int, int], nn.Module | None]  # (inplanes, outplanes, stride) -> shortcut


class Stem(NamedTuple):
    """The layers before the first block."""

    kernel: int
    stride: int
    pool: bool  # 3x3 max-pool of stride 2


AnyStem = TypeVar("AnyStem", bound=tuple[Any, ...])  # alexnet has a kind of its own


class Size(NamedTuple):
    """What makes the published networks differ."""

    block: Block
    widening: int  # channels out of a block per channel inside
    depths: tuple[int, int, int, int]  # blocks per stage


STEMS = {"imagenet": Stem(7, 2, True), "cifar": Stem(3, 1, False)}

SIZES = {
    "resnet18": Size(BasicBlock, 1, (2, 2, 2, 2)),
    "resnet34": Size(BasicBlock, 1, (3, 4, 6, 3)),
    "resnet50": Size(Bottleneck, 4, (3, 4, 6, 3)),
}


def init_convolutions(net: nn.Module) -> None:
    """Normal weights that keep the variance of the gradients (He et al. 2015, Delving Deep, section 2.2)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def projection(inplanes: int, outplanes: int, stride: int) -> nn.Module | None:
    """Shortcut B of the paper: a 1x1 convolution where the shape changes, elsewhere the identity (None)."""
    if stride == 1 and inplanes == outplanes:
        return None
    return nn.Sequential(conv1x1(inplanes, outplanes, stride), nn.BatchNorm2d(outplanes))


def stage(
    block: Block, depth: int, inplanes: int, planes: int, stride: int, widening: int, shortcut: Shortcut
) -> nn.Sequential:
    """`depth` blocks; (N, inplanes, H, W) -> (N, widening * planes, H / stride, W / stride)."""
    outplanes = widening * planes
    first = block(inplanes, planes, stride, shortcut(inplanes, outplanes, stride))
    return nn.Sequential(first, *(block(outplanes, planes) for _ in range(1, depth)))


def se_block(block: Block, reduction: int, *args: object) -> nn.Module:
    """A block with squeeze-and-excitation after its last batch norm, hence before the addition."""
    made = block(*args)
    last = "bn3" if block is Bottleneck else "bn2"
    norm = getattr(made, last)
    squeeze = SqueezeExcitation(norm.num_features, max(1, norm.num_features // reduction))
    setattr(made, last, nn.Sequential(norm, squeeze))
    return made


class ResNet(nn.Module):
    """Stem, four stages of residual blocks, average over the image, one dense layer."""

    def __init__(
        self, size: Size, stem: Stem, num_classes: int, in_channels: int, width: int, dropout: float
    ) -> None:
        super().__init__()
        block, widening, depths = size
        kernel, stride, pool = stem
        out = widening * width  # channels that leave the first stage
        make = partial(stage, block, widening=widening, shortcut=projection)
        # Sides in pixels: imagenet stem on 224 | cifar stem on 32
        self.conv1 = nn.Conv2d(in_channels, width, kernel, stride, kernel // 2, bias=False)  # 112 | 32
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if pool else nn.Identity()  # 56 | 32
        self.layer1 = make(depths[0], width, width, 1)  # 56 | 32
        self.layer2 = make(depths[1], out, 2 * width, 2)  # 28 | 16
        self.layer3 = make(depths[2], 2 * out, 4 * width, 2)  # 14 | 8
        self.layer4 = make(depths[3], 4 * out, 8 * width, 2)  # 7 | 4
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(8 * out, num_classes)
        init_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, num_classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.dropout(self.avgpool(x).flatten(1)))


def pick_stem(stem: str, image_size: int, pretrained: bool | str, stems: Mapping[str, AnyStem]) -> AnyStem:
    """The stem of that name; auto goes by the weights, else by the size of the images.

    A stem begins with kernel and stride.
    """
    if stem != "auto":
        return stems[stem]
    name = "cifar" if image_size <= 64 and not pretrained else "imagenet"
    why = "pretrained weights are" if pretrained else f"images are {image_size} px"
    k, stride = stems[name][:2]
    log.info("stem: %s (%dx%d, stride %d), because %s", name, k, k, stride, why)
    return stems[name]


def _resnet(
    name: str,
    num_classes: int,
    in_channels: int,
    image_size: int,
    *,
    stem: str = "auto",
    stem_pool: bool | None = None,
    width: int = 64,
    dropout: float = 0.0,
    se: bool = False,
    se_reduction: int = 16,
    pretrained: bool | str = False,
) -> ResNet:
    """The network `name` of SIZES, once its options are found good."""
    check_choice("stem", stem, ("auto", *STEMS))
    check_choice("stem_pool", stem_pool, (None, True, False))
    check_choice("se", se, (True, False))
    check_count("width", width)
    check_count("se_reduction", se_reduction)
    check_dropout(dropout)
    check_fit(pretrained, "resnet", stem=stem, stem_pool=stem_pool, width=width, se=se)
    chosen = pick_stem(stem, image_size, pretrained, STEMS)
    if stem_pool is not None:
        chosen = chosen._replace(pool=stem_pool)
    # Stem, pool and three stages halve the image; the last to do so needs more than the pixel it leaves
    check_size(name, image_size, chosen.stride * (1 + chosen.pool) * 4 + 1)
    size = SIZES[name]
    if se:
        size = size._replace(block=partial(se_block, size.block, se_reduction))
    made = ResNet(size, chosen, num_classes, in_channels, width, dropout)
    load_pretrained(made, name, pretrained, num_classes, in_channels)
    return made


def resnet18(*, num_classes: int, in_channels: int, image_size: int, **options: Any) -> ResNet:
    """ResNet-18: 11,689,512 parameters for 1000 classes."""
    return _resnet("resnet18", num_classes, in_channels, image_size, **options)


def resnet34(*, num_classes: int, in_channels: int, image_size: int, **options: Any) -> ResNet:
    """ResNet-34: 21,797,672 parameters for 1000 classes."""
    return _resnet("resnet34", num_classes, in_channels, image_size, **options)


def resnet50(*, num_classes: int, in_channels: int, image_size: int, **options: Any) -> ResNet:
    """ResNet-50: 25,557,032 parameters for 1000 classes."""
    return _resnet("resnet50", num_classes, in_channels, image_size, **options)
