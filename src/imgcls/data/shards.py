"""Shards: image files in a few large tar files, with an index of which bytes are which image.

The tar files are in the WebDataset format (https://github.com/webdataset/webdataset), an image and its
label after the other, so that other programs read them, too. The index makes an image of any number one
read, which the order of an epoch needs: it must begin anywhere, and be shared among processes.
"""

import hashlib
import io
import json
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imgcls import keys
from imgcls.data.files import PARTS, TRAIN, Files
from imgcls.data.layout import refuse_unprintable
from imgcls.data.scan import Scan, in_threads
from imgcls.errors import ConfigError, DataError

FORMAT = 1  # raised when older programs would read the files wrongly
INDEX, ROWS = "index.json", "rows.npy"
NAME = re.compile(r"\w[\w.-]*\.tar")
SHARD, OFFSET, LENGTH, CRC, LABEL = range(5)  # columns of the rows


def needs_extra(key: str, value: str, error: ImportError) -> ConfigError:
    """What to say where a library is not installed that only shards need."""
    missing = error.name or str(error)
    return ConfigError(f"{key}={value} needs a library ({missing}). Use pip install 'imgcls[stream]'.")


@dataclass(frozen=True, eq=False)
class Index:
    """What some shards hold.

    Args:
        counts: images of each part, in the order of PARTS.
        grey: whether all images are.
        sizes: (width, height) of the smallest, the median and the largest image, in pixels.
        types: images of each file format.
        shards: bytes of each file, by its name.
        rows: int64 (N, 5), an image each, by part, in the order of the files that were converted:
            number of its shard, first byte and length there, CRC-32 of its bytes, label.
    """

    title: str
    classes: tuple[str, ...]
    counts: list[int]
    grey: bool
    sizes: list[list[int]]
    types: dict[str, int]
    shards: dict[str, int]
    rows: np.ndarray

    @cached_property
    def digest(self) -> str:
        """Hex sha256 of all that the index says, which has a CRC of each image."""
        sha = hashlib.sha256(json.dumps(self._facts(), sort_keys=True).encode())
        sha.update(np.ascontiguousarray(self.rows, "<i8").data)
        return sha.hexdigest()

    def of(self, part: int) -> slice:
        """The rows of a part."""
        return slice(sum(self.counts[:part]), sum(self.counts[: part + 1]))

    def _facts(self) -> dict[str, Any]:
        names = ("title", "classes", "counts", "grey", "sizes", "types", "shards")
        return {name: getattr(self, name) for name in names} | {"format": FORMAT}

    def save(self, folder: Path) -> None:
        """Write both files; the one that makes the shards complete comes last."""
        np.save(folder / ROWS, self.rows.astype("<i8"))
        text = json.dumps(self._facts() | {"digest": self.digest}, indent=1, ensure_ascii=False)
        (folder / INDEX).write_text(text, encoding="utf-8")


def load(read: Callable[[str], bytes], root: str) -> Index:
    """The index under `root`, of which `read` gives files by name; DataError if it is none, or damaged."""
    try:
        facts = json.loads(read(INDEX))
        if facts.pop("format") != FORMAT:
            raise DataError(f"{root} was made by another version of imgcls. Convert the images again.")
        digest = facts.pop("digest")
        rows = np.load(io.BytesIO(read(ROWS)), allow_pickle=False)
        index = Index(**facts | {"classes": tuple(facts["classes"]), "rows": rows})
    except (ValueError, TypeError, KeyError, AttributeError, EOFError) as error:
        raise _damaged(root) from error
    if index.digest != digest:
        raise _damaged(root)
    for name in index.shards:
        if not NAME.fullmatch(name):  # a path would lead out of the folder
            raise DataError(f"{root}: {name!r} is no name of a shard. Convert the images again.")
    refuse_unprintable(index.classes)
    return index


def _damaged(root: str) -> DataError:
    return DataError(f"{root}: {INDEX} or {ROWS} is damaged. Copy both again, or convert the images again.")


def write(folder: Path, title: str, files: Files, found: Scan, shard_bytes: int) -> Index:
    """Write all files into shards of about so many bytes each, and the index.

    Images to train on are mixed, so that a few shards are a fair sample; the others stay in order. The
    rows keep the order of the files, so that the same images are held out as from the folder.
    """
    plan = dict(_plan(files, shard_bytes))
    rows = np.zeros((len(files), 5), np.int64)
    rows[:, LABEL] = files.labels
    data = in_threads(_read, [files.paths[row] for some in plan.values() for row in some], "writing shards")
    for number, (name, some) in enumerate(plan.items()):
        rows[some, SHARD] = number
        _write_shard(folder / name, files, some, islice(data, len(some)), rows)
    counts = [len(files.of(part)) for part in range(len(PARTS))]
    shards = {name: (folder / name).stat().st_size for name in plan}
    index = Index(title, files.classes, counts, found.grey, found.sizes, found.types, shards, rows)
    index.save(folder)
    return index


def _plan(files: Files, shard_bytes: int) -> Iterator[tuple[str, np.ndarray]]:
    """(name, rows of its images) of each shard."""
    for part, name in enumerate(PARTS):
        rows = files.of(part)
        if part == TRAIN:
            rows = rows[torch.randperm(len(rows), generator=keys.generator("shards")).numpy()]
        ends = files.stats[rows, 0].cumsum()
        numbers = (ends - 1) // shard_bytes
        for number, some in enumerate(np.split(rows, np.flatnonzero(np.diff(numbers)) + 1)):
            if len(some):
                yield f"{name}-{number:06d}.tar", some


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). Convert again without it.") from error


def _write_shard(path: Path, files: Files, some: np.ndarray, data: Iterable[bytes], rows: np.ndarray) -> None:
    """Write one tar file, and note in `rows` where its images lie."""
    from webdataset import TarWriter

    with path.open("wb") as file:
        with TarWriter(file, user="", group="", encoder=False, mtime=0) as tar:
            for row, image in zip(some, data, strict=True):
                suffix = Path(files.names[row]).suffix.lower()[1:] or "img"
                tar.write({"__key__": f"{row:09d}", suffix: image, "cls": str(rows[row, LABEL]).encode()})
                rows[row, CRC] = zlib.crc32(image)
        file.flush()
        os.fsync(file.fileno())
    with tarfile.open(path) as written:
        for member in written:
            key, _, suffix = member.name.partition(".")
            if suffix != "cls":
                rows[int(key), [OFFSET, LENGTH]] = member.offset_data, member.size
