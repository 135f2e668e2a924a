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
    image = _decode(Path(path), data).convert("L" if channels == 1 else "RGB")
    return np.array(_fit(image, size, fit)).reshape(size, size, channels)


def _decode(path: Path, data: bytes | None = None) -> "Image.Image":
    """The first frame, upright, as 8-bit grey or RGB; DataError if it is no image, damaged or too large."""
    from PIL import Image, ImageOps

    file = path if data is None else io.BytesIO(data)
    try:
        # Pillow warns of large images and odd metadata: the limit below decides, and the pixels are sound.
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
            _check_size(path, image)
            ImageOps.exif_transpose(image, in_place=True)
            return _eight_bits(image)
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        if getattr(error, "errno", None):  # the disk's, not the decoder's
            remedy = "See that it is there, and its disk"
            raise DataError(f"{path} cannot be read ({reason(error)}). {remedy}.") from error
        raise DataError(
            f"{path} cannot be read as an image ({reason(error)}). Remove or replace it."
        ) from error


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


def _fit(image: "Image.Image", size: int, fit: str) -> "Image.Image":
    """An image brought to size x size pixels; Pillow's filters antialias when they shrink."""
    from PIL import Image, ImageOps

    if fit == "crop":
        return ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    if fit == "stretch":
        return image.resize((size, size), Image.Resampling.BILINEAR)
    if fit != "pad":
        raise ConfigError(f"fit={fit} is unknown. Use crop, pad or stretch.")
    # Not ImageOps.pad, which loses all of a very long image: here a side keeps 1 pixel.
    width, height = (max(1, round(side * size / max(image.size))) for side in image.size)
    square, corner = Image.new(image.mode, (size, size)), ((size - width) // 2, (size - height) // 2)
    square.paste(image.resize((width, height), Image.Resampling.BILINEAR), corner)
    return square
