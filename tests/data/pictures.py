"""Small image files, and what the loaders make of them."""

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image


def noise(seed: int, size: tuple[int, int] = (12, 10), channels: int = 3) -> np.ndarray:
    """Random pixels (height, width, channels); grey without the last axis."""
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path: Path, pixels: np.ndarray | int, **options: Any) -> Path:
    """An image file in the format of its suffix; a number is the seed of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(noise(pixels) if isinstance(pixels, int) else pixels)
    image.save(path, **options)
    return path


def photos(root: Path, classes: tuple[str, ...] = ("ant", "bee"), count: int = 10, below: str = "") -> Path:
    """Class folders of noise; other folders have other noise."""
    for label, name in enumerate(classes):
        for number in range(count):
            save(root / below / name / f"{number}.png", crc32(f"{below} {label} {number}".encode()))
    return root
