"""What all networks check of their options and of the size of their images."""

import json

from imgcls.errors import ConfigError


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
