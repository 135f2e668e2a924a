"""Test images that one run has right and another wrong, cut from the dataset where it is present."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imgcls.compare import pairs
from imgcls.compare.collect import Entry
from imgcls.compare.prepare import TestSet
from imgcls.errors import ImgclsError

SIDE = 64  # pixels of a larger image's thumbnail
ACROSS = 24  # thumbnails beside each other in the one picture that holds them


def rows_of(tests: TestSet) -> dict[str, list[int]]:
    """{"a/b": rows of images that run a has right and b wrong}, for all ordered pairs of `top`."""
    count = range(len(tests.top))
    return {
        f"{a}/{b}": pairs.only_right(tests.answers, a, b).tolist() for a in count for b in count if a != b
    }


def load(tests: TestSet, entries: Sequence[Entry], root: str | None) -> tuple[Any, str]:
    """(test images in the order in which they were tested, nothing) or (None, why they cannot be shown).

    Nothing is downloaded. `root` is where the data lies, if it is not where the runs found it.
    """
    from imgcls import build

    entry = entries[tests.top[0]]
    dataset: Mapping[str, Any] = {**entry.config["dataset"], "download": False}
    if root is not None:
        dataset = {**dataset, "root": root}
    try:
        images = build.data({"accumulate": 1, **entry.config}, dataset)
        digest = images.source.digest
    except (ImgclsError, KeyError, OSError) as error:
        return None, f"The test images cannot be shown: {error}"
    if digest != entry.result["data"]["digest"]:
        what = f"dataset.root={dataset['root']} holds other images than those of the runs"
        return None, f"The test images cannot be shown: {what}. Say where theirs are."
    return images.tested, ""


def thumbnails(pixels: Any, rows: Sequence[int]) -> np.ndarray:
    """Images uint8 (M, H, W, 3), at most SIDE pixels large."""
    from PIL import Image

    found = pixels[np.asarray(rows, int)].numpy()
    found = found[..., :3] if found.shape[3] >= 3 else found[..., :1].repeat(3, axis=3)
    height, width = found.shape[1:3]
    if max(height, width) <= SIDE:
        return found
    size = max(1, width * SIDE // max(height, width)), max(1, height * SIDE // max(height, width))
    return np.stack([np.asarray(Image.fromarray(each).resize(size)) for each in found])


def sheet(images: np.ndarray) -> str:
    """All thumbnails in one picture, ACROSS in a row, as an address that holds it."""
    from PIL import Image

    count, height, width, _ = images.shape
    lines = -(-count // ACROSS)
    canvas = np.zeros((lines * ACROSS, height, width, 3), np.uint8)
    canvas[:count] = images
    whole = canvas.reshape(lines, ACROSS, height, width, 3).transpose(0, 2, 1, 3, 4)
    buffer = io.BytesIO()
    # Small images are drawn large: there every pixel shows
    picture = Image.fromarray(whole.reshape(lines * height, ACROSS * width, 3))
    picture.save(buffer, "WEBP", lossless=height <= 32, quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
