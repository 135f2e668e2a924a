"""Images of one's own, in folders or listed in a CSV: found, checked, decoded once, and given as a source."""

import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import torch

from imgcls import keys
from imgcls.data import layout
from imgcls.data.cache import Look, Shelf, Undecoded, decode
from imgcls.data.datamodule import hold_out
from imgcls.data.fetch import mendable
from imgcls.data.files import TEST, TRAIN, VAL, Files, brief
from imgcls.data.scan import Scan, report, scan, usable
from imgcls.data.sources import Images, Source
from imgcls.errors import ConfigError, ResourceError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What is asked of a dataset of files, as in conf/dataset/folder.yaml."""

    image_size: int = 224
    fit: str = "crop"
    channels: int | None = None
    on_bad_image: str = "stop"
    cache: bool | str = "auto"
    resident: bool | str = "auto"
    limit: int | None = None


def folder(
    root: str,
    image_size: int = 224,
    fit: str = "crop",
    channels: int | None = None,
    on_bad_image: str = "stop",
    cache: bool | str = "auto",
    resident: bool | str = "auto",
    limit: int | None = None,
    test_fraction: float = 0.15,
    test_seed: int = 0,
) -> Source:
    """Images under `root`: class folders, or train, val and test folders with class folders, or a CSV.

    Args:
        image_size: side in pixels of the decoded images.
        fit: crop | pad | stretch, as `read_image` has it.
        channels: 1 or 3; None: grey if all files are.
        on_bad_image: stop | skip.
        cache: auto | True | False, whether decoded images are kept on disk.
        test_fraction: share of the images to test on, if there is no test set.
    """
    title, files = found(root, test_fraction, test_seed)
    wanted = Wanted(image_size, fit, channels, on_bad_image, cache, resident, limit)
    return load("folder", title, files, wanted)


def found(root: str, test_fraction: float = 0.15, test_seed: int = 0) -> tuple[str, Files]:
    """(title, files) under `root`, with a test set."""
    path = Path(root).expanduser().absolute()
    with mendable(path.name, path):
        files = layout.find(root)
    if not len(files.of(TEST)):
        files = hold_out_test(files, test_fraction, test_seed)
    return path.name, files


def hold_out_test(files: Files, fraction: float, seed: int) -> Files:
    """The files with a seeded share of those to train on, each class in proportion, as the test set."""
    train = files.of(TRAIN)
    labels = files.labels[train]
    held = hold_out(torch.from_numpy(labels), fraction, keys.key(seed, "test"))[1].numpy()
    # A class that would be held out as a whole keeps an image to train on.
    classes, first = np.unique(labels[held], return_index=True)
    held = np.delete(held, first[np.bincount(labels[held])[classes] == np.bincount(labels)[classes]])
    if not len(held):
        what = f"dataset.test_fraction={fraction} holds out none of {len(train)} images"
        raise ConfigError(f"{what}, and there is no test set. Use more, or make one.")
    parts = files.parts.copy()
    parts[train[held]] = TEST
    words = f"{files.layout}, {fraction:.0%} of them held out as the test set"
    return replace(files, parts=parts, layout=words).take(np.argsort(parts, kind="stable"))


def load(name: str, title: str, files: Files, wanted: Wanted, compare: bool = True) -> Source:
    """The source of some files, decoded if there is room for that.

    Args:
        compare: look for images that are both tested and trained on.
    """
    loading = _Loading(title, files, wanted, compare)
    pixels, good = loading.pixels(), loading.good
    labels, train, held = torch.from_numpy(good.labels), len(good) - len(good.of(TEST)), good.of(VAL)
    first, last = (Images(pixels[rows], labels[rows]) for rows in (slice(train), slice(train, None)))
    return Source(name, title, good.classes, first, last, torch.from_numpy(held) if len(held) else None)


class _Loading:
    """Files on their way to pixels. Those that turn out to be broken are refused, or left out."""

    def __init__(self, title: str, files: Files, wanted: Wanted, compare: bool) -> None:
        self.title, self.files, self.wanted = title, files, wanted
        self.skips = wanted.on_bad_image == "skip"
        self.shelf = Shelf(title, files, wanted.cache is not False)
        found = self.shelf.noted()
        if found and (self.skips or not found.broken):  # else what was broken may be mended now
            self._believe(found)
        else:
            self._believe(scan(files, compare))
            self.shelf.note(self.found)
        report(title, files, self.found)
        self.look = Look(wanted.image_size, wanted.fit, wanted.channels or (1 if self.found.grey else 3))

    def _believe(self, found: Scan) -> None:
        """Go on with what is known of the files."""
        self.found, self.good = found, usable(self.files, found, self.skips)

    @property
    def bytes(self) -> int:
        """Bytes of all pixels."""
        return math.prod(self.look.shape(len(self.good)))

    def pixels(self) -> torch.Tensor:
        """Pixels from the cache, made if need be; or in memory; or files for workers to decode."""
        wanted = self.wanted
        pixels = self.shelf.mapped(len(self.good), self.look)
        if pixels is not None:
            log.info("all of them were decoded before")
            return pixels
        # A limit is for a quick look: it decodes no more than it uses.
        fits = self.bytes < psutil.virtual_memory().available / 2 and not wanted.limit
        if (wanted.cache is True or (wanted.cache == "auto" and fits)) and self._disk_has_room():
            return self._on_disk()
        if wanted.resident is True or (wanted.resident == "auto" and fits):
            return self._in_memory()
        return self._undecoded()

    def _disk_has_room(self) -> bool:
        """Whether the pixels can be kept; ResourceError if they cannot but must."""
        place = self.shelf.folder
        free = shutil.disk_usage(place).free if place else 0
        if place and self.bytes < 0.9 * free:
            return True
        where = f"{_mb(free)} are free in {place}" if place else f"{self.shelf.places[0]} is read-only"
        fault = f"{self.title}: cannot keep {_mb(self.bytes)} of decoded images ({where})"
        if self.wanted.cache is True:
            raise ResourceError(f"{fault}. Make room, or set dataset.cache=false.")
        log.info(fault)
        return False

    def _on_disk(self) -> torch.Tensor:
        """Decode into the cache, unless another process does so meanwhile."""
        with self.shelf.lock:
            # Who waited here takes over what the other process found out.
            self._believe(self.shelf.noted() or self.found)
            if self.shelf.mapped(len(self.good), self.look) is None:
                log.info("decoding to %d px into %s", self.look.size, self.shelf.folder)
                with self.shelf.writing(self.look) as file:
                    self._decode(lambda image: file.write(image.data))
        pixels = self.shelf.mapped(len(self.good), self.look)
        assert pixels is not None
        return pixels

    def _in_memory(self) -> torch.Tensor:
        """Decode into memory."""
        log.info("decoding to %d px into memory", self.look.size)
        pixels = np.empty(self.look.shape(len(self.good)), np.uint8)
        rows = iter(pixels)
        self._decode(lambda image: np.copyto(next(rows), image))
        return torch.from_numpy(pixels[: len(self.good)])

    def _undecoded(self) -> torch.Tensor:
        """Leave the decoding to the workers."""
        note = "dataset.limit leaves most out" if self.wanted.limit else "dataset.cache=true would keep them"
        log.info("images are decoded whenever they are used (%s; %s)", _mb(self.bytes), note)
        if self.skips and not self.found.decoded:  # what is left out must be known before
            self._decode(len)
        return cast(torch.Tensor, Undecoded(self.good, self.look))  # which is as good as one to all who ask

    def _decode(self, put: Callable[[np.ndarray], object]) -> None:
        """Hand all pixels to `put`; files that cannot be read are refused, or left out from now on."""
        broken = decode(self.good, self.look, put)
        if broken:
            self._believe(replace(self.found, broken=self.found.broken | broken))  # DataError unless skipped
            log.info("left out: %d that cannot be decoded: %s", len(broken), brief(list(broken), 3))
        self.found.decoded = True
        self.shelf.note(self.found)


def _mb(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e6:,.0f} MB"
