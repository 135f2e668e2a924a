"""What all networks check of their options and of the size of their images. Imports no torch."""

import json
from collections.abc import Mapping

from imgcls.cli.kinds import spelt
from imgcls.errors import ConfigError

# By family, the settings with which torchvision's ImageNet weights fit; the last of each is what to type
IMAGENET: dict[str, dict[str, tuple[object, ...]]] = {
    "alexnet": {"stem": ("auto", "imagenet"), "batch_norm": (None, False)},
    "densenet": {"stem": ("auto", "imagenet"), "growth_rate": (32,), "width": (64,)},
    "googlenet": {"stem": ("auto", "imagenet"), "batch_norm": (True,)},
    "resnet": {"stem": ("auto", "imagenet"), "stem_pool": (None, True), "width": (64,), "se": (False,)},
    "vgg": {"width": (64,), "kernel": (3,), "fc": (None, [4096, 4096]), "head": (None, "adaptive")},
}


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
    """Refuse images (after scaling) that are too small, and name the size that is enough."""
    if image_size < needed:
        raise ConfigError(
            f"{network} needs images of at least {needed} px, these are {image_size} px. "
            f"Use scaling.size={needed} or more."
        )


def misfits(family: str, options: Mapping[str, object]) -> list[str]:
    """One line for each option that changes a network of IMAGENET so that the weights do not fit any more."""
    return [
        f"model.{key}={spelt(options[key])} does not fit pretrained weights. "
        f"Use model.{key}={spelt(fit[-1])}, or model.pretrained=false."
        for key, fit in IMAGENET.get(family, {}).items()
        if key in options and options[key] not in fit
    ]


def check_fit(pretrained: object, family: str, **options: object) -> None:
    """Refuse options with which pretrained weights, if they are asked for, do not fit."""
    if pretrained and (lines := misfits(family, options)):
        raise ConfigError(lines[0])
