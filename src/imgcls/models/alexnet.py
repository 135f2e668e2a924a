"""AlexNet (Krizhevsky, Sutskever & Hinton 2012) in one column (Krizhevsky 2014, One Weird Trick, section 5),
with or without batch norm.

Layers and state_dict keys are torchvision's, so that its ImageNet weights load where batch_norm is false.
"""

from collections import OrderedDict
from typing import NamedTuple

from torch import nn

from imgcls.models.adapt import load_pretrained
from imgcls.models.checks import check_choice, check_dropout, check_fit, check_size
from imgcls.models.resnet import pick_stem
from imgcls.models.vgg import activated


class Stem(NamedTuple):
    """The first convolution, and what follows from it."""

    kernel: int
    stride: int
    side: int  # of the map that the dense layers see, in pixels
    needed: int  # smallest image of which a pixel is left after the last pool


STEMS = {
    "imagenet": Stem(11, 4, side=6, needed=63),
    "cifar": Stem(5, 1, side=3, needed=15),  # the kernel of Krizhevsky's own CIFAR-10 networks
}


def features(in_channels: int, kernel: int, stride: int, batch_norm: bool) -> nn.Sequential:
    """Five convolutions; (N, in_channels, H, W) -> (N, 256, H', W')."""
    # Sides in pixels: imagenet stem on 224 | cifar stem on 32
    return nn.Sequential(
        *activated(nn.Conv2d(in_channels, 64, kernel, stride, padding=2), batch_norm),  # 55 | 32
        nn.MaxPool2d(3, stride=2),  # 27 | 15
        *activated(nn.Conv2d(64, 192, 5, padding=2), batch_norm),
        nn.MaxPool2d(3, stride=2),  # 13 | 7
        *activated(nn.Conv2d(192, 384, 3, padding=1), batch_norm),
        *activated(nn.Conv2d(384, 256, 3, padding=1), batch_norm),
        *activated(nn.Conv2d(256, 256, 3, padding=1), batch_norm),
        nn.MaxPool2d(3, stride=2),  # 6 | 3
    )


def dense(inputs: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Two hidden layers with dropout on their inputs, then the logits; (N, inputs) -> (N, num_classes)."""
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(inputs, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Linear(4096, num_classes),
    )


def alexnet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    stem: str = "auto",
    dropout: float = 0.5,
    batch_norm: bool | None = None,
    pretrained: bool | str = False,
) -> nn.Sequential:
    """AlexNet: 61,100,840 parameters for 1000 classes without batch norm, 28,728,650 of CIFAR-10's."""
    check_choice("stem", stem, ("auto", *STEMS))
    check_dropout(dropout)
    check_choice("batch_norm", batch_norm, (None, True, False))
    check_fit(pretrained, "alexnet", stem=stem, batch_norm=batch_norm)
    kernel, stride, side, needed = pick_stem(stem, image_size, pretrained, STEMS)
    check_size("alexnet", image_size, needed)
    normed = not pretrained if batch_norm is None else batch_norm
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        features=features(in_channels, kernel, stride, normed),
        avgpool=nn.AdaptiveAvgPool2d(side),
        flatten=nn.Flatten(),  # (N, 256, side, side) -> (N, 256 * side * side)
        classifier=dense(256 * side * side, num_classes, dropout),
    )
    made = nn.Sequential(layers)
    load_pretrained(made, "alexnet", pretrained, num_classes, in_channels)
    return made
