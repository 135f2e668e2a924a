"""Where the datasets come from: what a download weighs, and what the publisher allows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """One dataset as its publisher gives it.

    Args:
        megabytes: of the archives, 10^6 bytes; 0 where there is nothing to download.
        licence: in the publisher's words; empty where he states none.
        classes: how many, of datasets whose files are needed to name them.
    """

    megabytes: int
    licence: str = ""
    classes: int = 0


ORIGINS: dict[str, Origin] = {
    "digits": Origin(0, "CC BY 4.0"),
    "mnist": Origin(12, "CC BY-SA 3.0"),
    "fashion_mnist": Origin(31, "MIT"),
    "kmnist": Origin(21, "CC BY-SA 4.0"),
    "emnist": Origin(562),
    "cifar10": Origin(170),
    "cifar100": Origin(169),
    "svhn": Origin(246, "non-commercial use"),
    "stl10": Origin(2_640),
    "gtsrb": Origin(277, classes=43),
    "flowers102": Origin(345, classes=102),
    "food101": Origin(4_996, classes=101),
    "oxford_pets": Origin(811, "CC BY-SA 4.0", 37),
    "imagenet": Origin(154_645, "non-commercial research, by agreement", 1_000),
}


def size(megabytes: int) -> str:
    """12 MB, 2.6 GB."""
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes} MB"
