"""Images from shards, here or at an address: read by number, and decoded whenever they are used."""

import logging
import os
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from imgcls.data import shards
from imgcls.data.cache import Look, Undecoded
from imgcls.data.depot import Depot
from imgcls.data.files import PARTS, TEST, VAL
from imgcls.data.shards import CRC, INDEX, LABEL, LENGTH, OFFSET, SHARD, Index
from imgcls.data.sources import Images, Source
from imgcls.errors import DataError

log = logging.getLogger(__name__)

OPEN = 8  # files that a process keeps open; those that a depot has removed take room until then


class Folder:
    """Shards in a folder of this machine."""

    def __init__(self, root: str) -> None:
        self.root, self.path = root, Path(root).expanduser().absolute()
        if not (self.path / INDEX).is_file():
            what = "has no index.json" if self.path.is_dir() else "is not there"
            raise DataError(
                f"dataset.root={root} {what}. Make shards of images with "
                f"task=convert dataset=folder dataset.root=FOLDER shards={root}."
            )

    def read(self, name: str) -> bytes:
        """A small file as a whole."""
        return (self.path / name).read_bytes()

    def check(self, index: Index) -> None:
        """Raise DataError unless all shards are there, and as long as they were."""
        for name, size in index.shards.items():
            path = self.path / name
            if not path.is_file():
                raise DataError(f"{path} is not there. Copy it again, or convert the images again.")
            if path.stat().st_size != size:
                found = f"{path.stat().st_size:,} bytes, not {size:,}"
                raise DataError(f"{path} has {found}. Copy it again, or convert the images again.")

    def open(self, name: str, size: int) -> BinaryIO:
        """A shard, to read from."""
        return (self.path / name).open("rb")


class Sharded(Undecoded):
    """Images in shards in place of their pixels, uint8 (N, size, size, channels).

    Args:
        place: opens shards.
        rows: int64 (N, 5), as `Index` has them.
    """

    def __init__(self, place: "Folder | Depot", index: Index, rows: np.ndarray, look: Look) -> None:
        self.place, self.index, self.rows, self.look = place, index, rows, look
        self.names = list(index.shards)
        self.shape = torch.Size(look.shape(len(rows)))
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> "Sharded":
        return Sharded(self.place, self.index, self.rows[torch.arange(len(self))[rows].numpy()], self.look)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": OrderedDict()}  # a process opens files of its own

    def index_select(self, dim: int, rows: torch.Tensor) -> torch.Tensor:
        """Pixels of the images in `rows`; each shard is read from front to back."""
        chosen = self.rows[rows.numpy()]
        pixels = np.empty(self.look.shape(len(chosen)), np.uint8)
        for place in np.lexsort((chosen[:, OFFSET], chosen[:, SHARD])):
            name = f"{self.names[chosen[place, SHARD]]}, byte {chosen[place, OFFSET]}"
            pixels[place] = self.look.read(name, self.bytes_of(chosen[place]))
        return torch.from_numpy(pixels)

    def bytes_of(self, row: np.ndarray) -> bytes:
        """An image's file, of one of the rows; DataError if it is not what was converted."""
        file = self._open(int(row[SHARD]))
        # Reads at a place of its own: processes may share the file's
        data = os.pread(file.fileno(), int(row[LENGTH]), int(row[OFFSET]))
        if len(data) != row[LENGTH] or zlib.crc32(data) != row[CRC]:
            name = self.names[row[SHARD]]
            what = f"{self.place.root}: {name} is damaged at byte {row[OFFSET]:,}"
            raise DataError(f"{what}. Copy it again, or convert the images again.")
        return data

    def _open(self, number: int) -> BinaryIO:
        """A shard; of those opened before, the last few stay open."""
        if number not in self._files:
            name = self.names[number]
            self._files[number] = self.place.open(name, self.index.shards[name])
            if len(self._files) > OPEN:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(number)
        return self._files[number]

    @property
    def identity(self) -> bytes:
        """What tells these images from others without reading them: their CRCs, however they are cut."""
        return self.rows[:, [LENGTH, CRC]].tobytes() + str(self.look).encode()


def streaming(
    root: str,
    image_size: int = 224,
    fit: str = "crop",
    channels: int | None = None,
    window: int = 8,
    depot: str | None = None,
    depot_gb: float = 50.0,
) -> Source:
    """Images from the shards under `root`, a folder or an address (https, s3, gs).

    Args:
        image_size, fit, channels: as of `imgcls.data.folder.folder`.
        window: shards whose images are shuffled together.
        depot: where the shards of an address are kept; None: the user's cache folder.
        depot_gb: how much of them.
    """
    place = Depot(root, depot, depot_gb) if "://" in root else Folder(root)
    index = shards.load(place.read, root)
    place.check(index)
    _report(index)
    look = Look(image_size, fit, channels or (1 if index.grey else 3))
    test = index.of(TEST)
    train, tested = (_images(place, index, rows, look, window) for rows in (slice(test.start), test))
    held = torch.arange(len(train))[index.of(VAL)]
    return Source("streaming", index.title, index.classes, train, tested, held if len(held) else None)


def _images(place: Folder | Depot, index: Index, part: slice, look: Look, window: int) -> Images:
    rows = index.rows[part]
    pixels = cast(torch.Tensor, Sharded(place, index, rows, look))  # as good as one to all who ask
    return Images(pixels, torch.tensor(rows[:, LABEL]), torch.tensor(rows[:, SHARD]), window)


def _report(index: Index) -> None:
    """Say in two lines what is in the shards."""
    counts = ", ".join(f"{n:,} {name}" for n, name in zip(index.counts, PARTS, strict=True) if n)
    size = sum(index.shards.values()) / 1e6
    total = f"{len(index.rows):,} images ({counts}) of {len(index.classes)} classes"
    log.info("%s: %s in %d shards, %s MB", index.title, total, len(index.shards), f"{size:,.0f}")
