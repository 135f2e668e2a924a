"""Users' image files: found by name, and read as the uint8 pixels that a network was trained on.

Light to import: Pillow loads when the first image is read.
"""

import glob
import io
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imgcls.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = ("jpg", "jpeg", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm", "pbm", "pnm")
MAX_PIXELS = 50_000_000

# Only these decoders see a file, whatever its name says: Pillow's one for EPS would start Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")

# What white may be in grey images of more than 8 bits; the first that holds all values is taken.
WHITES = {"I": (255, 65535), "F": (1, 255, 65535)}


def find_images(source: str) -> list[Path]:
    """The files of an image, a folder (with its subfolders) or a glob, in natural order: 2.png before 10.png.

    Folders are searched for the accepted suffixes, hidden names aside; a file named is taken as it is.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    # Path.glob takes no absolute pattern.
    matches = [str(path)] if path.is_dir() else glob.glob(str(path), recursive=True)  # noqa: PTH207
    found = {file for match in matches for file in _files(Path(match)) if file.suffix.lower()[1:] in SUFFIXES}
    if not found:
        what = "has no images in it" if matches else "is no file, folder or glob that matches one"
        raise DataError(f"source={source} {what}. Accepted are {', '.join(SUFFIXES)}.")
    return sorted(found, key=natural)


def _files(path: Path) -> list[Path]:
    """A file, or the files in a folder and its subfolders without hidden ones."""
    if not path.is_dir():
        return [path]
    return [file for file in path.rglob("*") if file.is_file() and not _hidden(file.relative_to(path))]


def _hidden(path: Path) -> bool:
    # macOS adds a folder __MACOSX to its archives, in which no file is an image despite the names.
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def natural(path: Path) -> tuple[list[list[str | int]], str]:
    """Sorts folder by folder, numbers by value and letters regardless of case."""
    parts = [re.split(r"(\d+)", part.casefold()) for part in path.parts]
    return [[int(piece) if piece.isdecimal() else piece for piece in part] for part in parts], str(path)


def read_image(
    path: str | Path, channels: int, size: int, fit: str = "crop", data: bytes | None = None
) -> np.ndarray:
    """Pixels uint8 (size, size, channels) of an image file: its first frame, upright, transparency on white.

    Args:
        channels: 1 for grey, 3 for RGB.
        size: side in pixels.
        fit: crop (shorter side to size, centre kept) | pad (longer side to size, black bars) | stretch.
        data: the bytes of the file, if they are not to be read from `path`.
    """
    pixels = _decode(Path(path), "L" if channels == 1 else "RGB", data)
    return np.ascontiguousarray(_fit(pixels, size, fit))


def _decode(path: Path, mode: str, data: bytes | None = None) -> np.ndarray:
    """uint8 (H, W, C) of the first frame, upright; DataError if it is no image, damaged or too large."""
    from PIL import Image, ImageOps

    try:
        data = path.read_bytes() if data is None else data
        file = io.BytesIO(data)
        # Pillow warns of large images and odd metadata: the limit below decides, and the pixels are sound.
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
            _check_size(path, image)
            pixels = _jpeg(image, data) if image.mode == mode else None
            if pixels is None:
                ImageOps.exif_transpose(image, in_place=True)
                pixels = np.array(_eight_bits(image).convert(mode))
            return pixels.reshape(*pixels.shape[:2], -1)
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        if getattr(error, "errno", None):  # the disk's, not the decoder's
            remedy = "See that it is there, and its disk"
            raise DataError(f"{path} cannot be read ({reason(error)}). {remedy}.") from error
        raise DataError(
            f"{path} cannot be read as an image ({reason(error)}). Remove or replace it."
        ) from error


def _jpeg(image: "Image.Image", data: bytes) -> np.ndarray | None:
    """An upright JPEG by torchvision: Pillow's pixels in two thirds of its time. None where it has none."""
    from PIL import ExifTags

    if image.format != "JPEG" or image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        return None
    import torch
    from torchvision.io import decode_jpeg

    try:
        return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8)).permute(1, 2, 0).numpy()
    except RuntimeError:  # damaged, of which Pillow says more; or torchvision has no JPEG here
        return None


def _check_size(path: Path, image: "Image.Image") -> None:
    """DataError for more pixels than MAX_PIXELS: known from the header, before memory is taken."""
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width:,} x {image.height:,} pixels, over the limit of {MAX_PIXELS / 1e6:.0f} million"
        raise DataError(f"{path} has {size}. Make it smaller.")


def reason(error: Exception) -> str:
    """An error in a few words that do not name the file again."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not in a known image format"
    if isinstance(error, Image.DecompressionBombError):  # Pillow's own limit, which it checks first
        return f"over {MAX_PIXELS / 1e6:.0f} million pixels"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0]


def _eight_bits(image: "Image.Image") -> "Image.Image":
    """An image of any mode as L or RGB, with white behind what is transparent."""
    from PIL import Image

    if image.mode[0] in "IF":  # Pillow's own conversion clips at 255
        return Image.fromarray(_scaled(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _scaled(image: "Image.Image") -> np.ndarray:
    """Grey of 16 bits, 32 bits or floats as uint8 (H, W): 0 is black, white follows from type and values."""
    values = np.asarray(image).astype(np.float32)
    values[~np.isfinite(values)] = 0
    low, high = float(values.min()), float(values.max())
    # PNG and PGM store no more than 16 bits, though Pillow may open them as 32.
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    for white in (65535,) if sixteen else WHITES[image.mode]:
        if low >= 0 and high <= white:
            return np.rint(values * (255 / white)).astype(np.uint8)
    # No usual range: darkest to black, brightest to white.
    return np.rint((values - low) * (255 / (high - low or 1))).astype(np.uint8)


def _fit(image: np.ndarray, size: int, fit: str) -> np.ndarray:
    """uint8 (H, W, C) brought to (size, size, C)."""
    height, width = image.shape[:2]
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return _resized(image[top : top + side, left : left + side], size, size)
    if fit == "stretch":
        return _resized(image, size, size)
    if fit != "pad":
        raise ConfigError(f"fit={fit} is unknown. Use crop, pad or stretch.")
    # Of a very long image a side keeps 1 pixel
    high, wide = (max(1, round(side * size / max(height, width))) for side in (height, width))
    square = np.zeros((size, size, image.shape[2]), np.uint8)
    top, left = (size - high) // 2, (size - wide) // 2
    square[top : top + high, left : left + wide] = _resized(image, high, wide)
    return square


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (H, W, C) of another size, antialiased: within a level of Pillow, in a third of its time."""
    if image.shape[:2] == (height, width):
        return image
    import torch
    from torch.nn.functional import interpolate

    batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    found = interpolate(batch, (height, width), mode="bilinear", antialias=True)
    return found[0].permute(1, 2, 0).numpy()
