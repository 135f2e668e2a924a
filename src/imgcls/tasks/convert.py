"""Put image files into shards: a few large tar files, which dataset=streaming reads."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgcls.errors import ConfigError, DataError, ResourceError

log = logging.getLogger(__name__)


def main(config: dict[str, Any], folder: Path, typed: Sequence[str] = ()) -> None:
    """Convert `dataset` into the folder `shards`, which is there only when all of it is good."""
    target = Path(config["shards"]).expanduser().absolute()
    _need_writer()
    title, files, found = _checked(config["dataset"])
    _need_room(target, int(files.stats[:, 0].sum()))
    from imgcls.data import shards

    with _made(target) as part:
        shards.write(part, title, files, found, int(config["shard_mb"] * 1e6))
        index = _verified(part)
    count, size = len(index.shards), sum(index.shards.values()) / 1e6
    print(f"{len(index.rows):,} images in {count} shards, {size:,.0f} MB, read back and good: {target}/")
    print(f"train on them with dataset=streaming dataset.root={config['shards']}")


def _need_writer() -> None:
    """Raise ConfigError if the library that writes is not installed, before any image is read."""
    from imgcls.data.shards import needs_extra

    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise needs_extra("task", "convert", error) from error


def _checked(dataset: Mapping[str, Any]) -> tuple[str, Any, Any]:
    """(title, files, scan) of all images that can be read; others are refused, or left out if asked for."""
    from imgcls import build
    from imgcls.data import scan
    from imgcls.data.cache import Look, decode

    title, files = build.files(dataset)
    skips = dataset["on_bad_image"] == "skip"
    found = scan.scan(files)
    good = scan.usable(files, found, skips)
    # Files whose header is good may be broken all the same: only decoding tells.
    found = replace(found, broken=found.broken | decode(good, Look(32, "stretch", 1), len))
    good = scan.usable(files, found, skips)
    scan.report(title, files, found)
    return title, good, found


def _need_room(target: Path, size: int) -> None:
    """Raise ResourceError if the disk cannot take so many bytes, and a little for the tar files' own."""
    place = next(parent for parent in target.parents if parent.is_dir())
    free = shutil.disk_usage(place).free
    if size * 1.1 > free:
        what = f"{size / 1e6:,.0f} MB of images, {free / 1e6:,.0f} MB free in {place}"
        raise ResourceError(f"shards={target}: {what}. Make room, or choose another place.")


@contextmanager
def _made(target: Path) -> Iterator[Path]:
    """A folder to fill beside `target`, which gets that name when the block ends well."""
    from filelock import FileLock, Timeout

    part = target.with_name(f"{target.name}.part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        with FileLock(part / ".lock", blocking=False):
            _empty(part)  # an earlier conversion may have been killed
            yield part
            (part / ".lock").unlink()
            if target.exists():
                raise ConfigError(f"shards={target} is there by now. Name another folder.")
            part.rename(target)
    except Timeout as error:
        raise ResourceError(f"{part} is in use by another conversion. Wait for it.") from error
    except OSError as error:
        reason = f"cannot write to {error.filename or part} ({error.strerror or error})"
        raise ResourceError(f"{reason}. Make room, or choose another place.") from error


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != ".lock":
            path.unlink()


def _verified(folder: Path) -> Any:
    """The index of the shards in a folder, after reading each image as training will."""
    from imgcls.data import shards
    from imgcls.data.cache import Look
    from imgcls.data.streaming import Folder, Sharded

    place = Folder(str(folder))
    index = shards.load(place.read, place.root)
    place.check(index)
    images = Sharded(place, index, index.rows, Look(1, "stretch", 1))
    order = sorted(range(len(images)), key=lambda row: tuple(index.rows[row, :2]))
    read = sum(1 for row in order if images.bytes_of(index.rows[row]))
    if read != sum(index.counts):
        raise DataError(f"{folder} holds {read:,} images of {sum(index.counts):,}. Convert them again.")
    return index
