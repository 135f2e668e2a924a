"""Published datasets of photos of all sizes: fetched and listed by torchvision, decoded as users' own are."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.data.fetch import SPLITS, Published, mendable, provide, reason, strange
from imgcls.data.files import TEST, TRAIN, VAL, Files
from imgcls.data.folder import Wanted, load
from imgcls.data.sources import Source
from imgcls.errors import ConfigError

# GTSRB's files only number the signs.
SIGNS = """speed limit 20, speed limit 30, speed limit 50, speed limit 60, speed limit 70, speed limit 80,
    end of speed limit 80, speed limit 100, speed limit 120, no passing, no passing for lorries,
    right of way at the next crossing, priority road, yield, stop, no vehicles, no lorries, no entry, danger,
    curve to the left, curve to the right, double curve, bumpy road, slippery road, road narrows on the right,
    road works, traffic lights, pedestrians, children, bicycles, ice or snow, wild animals, end of all limits,
    turn right ahead, turn left ahead, ahead only, ahead or right, ahead or left, keep right, keep left,
    roundabout, end of no passing, end of no passing for lorries"""


@dataclass(frozen=True)
class Photos:
    """A published dataset of image files.

    Args:
        place: its folder under the root.
        counts: images of each of its parts, as (part, count).
        classes: names by label, where torchvision has none.
    """

    title: str
    place: str
    published: Published
    counts: tuple[tuple[int, int], ...]
    classes: tuple[str, ...] = ()


def published(
    name: str,
    root: str,
    download: bool = True,
    image_size: int = 224,
    fit: str = "crop",
    channels: int | None = None,
    on_bad_image: str = "stop",
    cache: bool | str = "auto",
    resident: bool | str = "auto",
    limit: int | None = None,
) -> Source:
    """One of gtsrb, flowers102, food101, oxford_pets and imagenet; the settings are those of `folder`."""
    title, files = found(name, root, download)
    wanted = Wanted(image_size, fit, channels, on_bad_image, cache, resident, limit)
    return load(name, title, files, wanted, compare=False)


def found(name: str, root: str, download: bool = True) -> tuple[str, Files]:
    """(title, files) of a published dataset under `root`, fetched if need be."""
    if name not in KNOWN:
        raise ConfigError(f"dataset.name={name} is not known. Choose from: {', '.join(KNOWN)}.")
    photos, folder = KNOWN[name](), Path(root).expanduser().absolute()
    with mendable(photos.title, folder):
        provide(photos.title, photos.published, folder, download)
        return photos.title, _listed(photos, folder)


def _listed(photos: Photos, root: Path) -> Files:
    """The files as torchvision lists them; DataError unless there are as many as published."""
    names: list[str] = []
    labels: list[int] = []
    parts: list[int] = []
    place = root / photos.place
    for arguments, (part, count) in zip(photos.published.parts, photos.counts, strict=True):
        try:
            data = photos.published.reader(str(root), **arguments)
            pairs = _pairs(data)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise strange(photos.title, f"its files in {place} cannot be read ({reason(error)})") from error
        # Fewer are there where an archive was not unpacked to its end.
        if len(pairs) != count:
            raise strange(photos.title, f"{place} lists {len(pairs):,} images, expected {count:,}")
        names += [str(path).removeprefix(f"{place}/") for path, _ in pairs]
        labels += [label for _, label in pairs]
        parts += [part] * count
    classes = photos.classes or _names(data)
    return Files(place, names, np.array(labels), np.array(parts), classes, "as published")


def _pairs(data: Any) -> list[tuple[str | Path, int]]:
    """Paths and labels of a torchvision dataset."""
    for field in ("samples", "_samples"):
        if hasattr(data, field):
            return list(getattr(data, field))
    paths = data._images if hasattr(data, "_images") else data._image_files
    return list(zip(paths, data._labels, strict=True))


def _names(data: Any) -> tuple[str, ...]:
    """Names of a torchvision dataset's classes; of synonyms all, and a number where that leaves two alike."""
    names = [", ".join(name) if isinstance(name, tuple) else name for name in data.classes]
    alike = {name for name, count in Counter(names).items() if count > 1}
    return tuple(
        f"{name} ({key})" if name in alike else name
        for name, key in zip(names, getattr(data, "wnids", names), strict=True)
    )


def _reader(name: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, name)


def _gtsrb() -> Photos:
    files = ("gtsrb/GTSRB/Training", "gtsrb/GTSRB/Final_Test/Images", "gtsrb/GT-final_test.csv")
    archives = {  # md5s as in torchvision's code
        "gtsrb/GTSRB-Training_fixed.zip": "513f3c79a4c5141765e10e952eaa2478",
        "gtsrb/GTSRB_Final_Test_Images.zip": "c7e4e6327067d32654124b0fe9e82185",
        "gtsrb/GTSRB_Final_Test_GT.zip": "fe31e9c9270bbcd7b84b7f21a9d9d9e5",
    }
    wanted = "gtsrb/{GTSRB-Training_fixed.zip,GTSRB_Final_Test_Images.zip,GTSRB_Final_Test_GT.zip}"
    names = tuple(name.strip() for name in SIGNS.split(","))
    made = Published(_reader("GTSRB"), dict.fromkeys(files), archives, wanted, SPLITS)
    return Photos("GTSRB", "gtsrb", made, ((TRAIN, 26_640), (TEST, 12_630)), names)


def _flowers102() -> Photos:
    reader, place = _reader("Flowers102"), "flowers-102"
    images, labels, splits = (reader._file_dict[key] for key in ("image", "label", "setid"))
    files = {f"{place}/jpg": None, f"{place}/{labels[0]}": labels[1], f"{place}/{splits[0]}": splits[1]}
    wanted = f"{place}/{{{images[0]},{labels[0]},{splits[0]}}}"
    parts = tuple({"split": split} for split in ("train", "val", "test"))
    made = Published(reader, files, {f"{place}/{images[0]}": images[1]}, wanted, parts)
    return Photos(
        "Flowers-102", place, made, ((TRAIN, 1_020), (VAL, 1_020), (TEST, 6_149)), tuple(reader.classes)
    )


def _food101() -> Photos:
    reader = _reader("Food101")
    files = dict.fromkeys(("food-101/images", "food-101/meta"))
    archive = reader._URL.rpartition("/")[2]
    made = Published(reader, files, {archive: reader._MD5}, f"food-101/ (or {archive})", SPLITS)
    return Photos("Food-101", "food-101", made, ((TRAIN, 75_750), (TEST, 25_250)))


def _oxford_pets() -> Photos:
    reader, place = _reader("OxfordIIITPet"), "oxford-iiit-pet"
    archives = {f"{place}/{url.rpartition('/')[2]}": md5 for url, md5 in reader._RESOURCES}
    files = dict.fromkeys((f"{place}/images", f"{place}/annotations"))
    wanted = f"{place}/{{images.tar.gz,annotations.tar.gz}}"
    made = Published(reader, files, archives, wanted, ({"split": "trainval"}, {"split": "test"}))
    return Photos("Oxford-IIIT Pet", place, made, ((TRAIN, 3_680), (TEST, 3_669)))


def _imagenet() -> Photos:
    from torchvision.datasets.imagenet import ARCHIVE_META

    made = Published(
        _reader("ImageNet"),
        files=dict.fromkeys(("meta.bin", "train", "val")),
        archives=dict(ARCHIVE_META.values()),
        wanted=f"{{{','.join(archive for archive, _ in ARCHIVE_META.values())}}}",
        parts=({"split": "train"}, {"split": "val"}),  # the labels of its test set are secret
        unpacks={},
        closed="is to be had from image-net.org only",
    )
    return Photos("ImageNet", ".", made, ((TRAIN, 1_281_167), (TEST, 50_000)))


KNOWN = {
    "gtsrb": _gtsrb,
    "flowers102": _flowers102,
    "food101": _food101,
    "oxford_pets": _oxford_pets,
    "imagenet": _imagenet,
}
