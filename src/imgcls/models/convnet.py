"""A small convolutional network (Chollet 2017, Deep Learning with Python, section 5.1), with optional dropout
before the output (Srivastava et al. 2014).

The checks of options and of the image size that all networks share are here too, with the simplest network.
"""

import json
from collections import OrderedDict

from torch import nn

from imgcls.errors import ConfigError

# name: (pixels added on each side, smallest image of which a pixel is left after the third convolution)
PADDINGS = {"valid": (0, 18), "same": (1, 4)}


def check_choice(option: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse a value that is not one of `choices`; they are listed as one types them (true, false, null)."""
    if value not in choices:
        names = [json.dumps(item, default=str).strip('"') for item in (value, *choices)]
        raise ConfigError(f"{option}={names[0]} is not an option. Use one of: {', '.join(names[1:])}.")


def check_count(option: str, value: object) -> None:
    """Refuse anything but a whole number from 1 on."""
    if not isinstance(value, int) or value < 1:
        raise ConfigError(f"{option}={value} is not an option. Use a whole number of at least 1.")


def check_dropout(value: object) -> None:
    """Refuse a rate outside 0 <= rate < 1: at 1 no signal would be left."""
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigError(f"dropout={value} is not an option. Use a number of at least 0 and below 1.")


def check_size(network: str, image_size: int, needed: int) -> None:
    """Refuse images that are too small, and name the smallest whole scaling that makes them large enough."""
    if image_size < needed:
        remedy = f"Use scaling=x{-(-needed // image_size)}."  # the quotient rounded up
        raise ConfigError(
            f"{network} needs images of at least {needed} px, these are {image_size} px. {remedy}"
        )


def convnet(
    *, num_classes: int, in_channels: int, image_size: int, dropout: float = 0.0, padding: str = "valid"
) -> nn.Sequential:
    """Three convolutions and two dense layers: 93,322 parameters on MNIST, 122,570 on CIFAR-10."""
    check_choice("padding", padding, tuple(PADDINGS))
    check_dropout(dropout)
    pad, needed = PADDINGS[padding]
    check_size("convnet", image_size, needed)
    lost = 2 - 2 * pad  # pixels of the side that a 3x3 convolution takes away
    side = ((image_size - lost) // 2 - lost) // 2 - lost
    layers: OrderedDict[str, nn.Module] = OrderedDict(  # sides in pixels: MNIST, valid
        conv1=nn.Conv2d(in_channels, 32, 3, padding=pad),  # 28 -> 26
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),  # 26 -> 13
        conv2=nn.Conv2d(32, 64, 3, padding=pad),  # 13 -> 11
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),  # 11 -> 5
        conv3=nn.Conv2d(64, 64, 3, padding=pad),  # 5 -> 3
        relu3=nn.ReLU(),
        flatten=nn.Flatten(),  # (N, 64, 3, 3) -> (N, 576)
        dense=nn.Linear(64 * side * side, 64),
        relu4=nn.ReLU(),
        dropout=nn.Dropout(dropout),  # there at 0 too, so that both variants have the same layers
        fc=nn.Linear(64, num_classes),
    )
    return nn.Sequential(layers)
