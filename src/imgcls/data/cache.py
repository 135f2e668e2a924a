"""Decoded images: read in threads, kept on disk as plain uint8, and mapped into memory from there."""

import contextlib
import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from filelock import FileLock

from imgcls.data.files import CACHE, Files
from imgcls.data.images import read_image
from imgcls.data.scan import Scan, in_threads, why
from imgcls.errors import DataError, ResourceError

READER = 2  # raised when the same file gives other pixels than before


@dataclass(frozen=True)
class Look:
    """How a file becomes pixels uint8 (size, size, channels); `fit` as in `read_image`."""

    size: int
    fit: str
    channels: int

    def shape(self, count: int) -> tuple[int, int, int, int]:
        """Shape of the pixels of so many files."""
        return count, self.size, self.size, self.channels

    def read(self, path: str, *data: bytes) -> np.ndarray:
        """Pixels of one file, or of its bytes."""
        return read_image(path, self.channels, self.size, self.fit, *data)

    def try_to_read(self, path: str) -> np.ndarray | str:
        """Pixels of one file, or what is wrong with it."""
        try:
            return self.read(path)
        except DataError as error:
            return why(error.__cause__ if isinstance(error.__cause__, Exception) else error)


class Undecoded:
    """Files in place of their pixels, uint8 (N, size, size, channels), decoded whenever they are asked for.

    It stands in for a tensor: indexing chooses files, `index_select` and `numpy` read them.
    """

    dtype = torch.uint8

    def __init__(self, files: Files, look: Look) -> None:
        self.files, self.look = files, look
        self.paths = files.paths  # made here once, not in each worker
        self.shape = torch.Size(look.shape(len(files)))

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return self.shape.numel()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Any) -> "Undecoded":
        return Undecoded(self.files.take(torch.arange(len(self))[rows].numpy()), self.look)

    def numpy(self) -> np.ndarray:
        """Pixels of all files."""
        return self.index_select(0, torch.arange(len(self))).numpy()

    def index_select(self, dim: int, rows: torch.Tensor) -> torch.Tensor:
        """Pixels of the files in `rows`."""
        pixels = np.empty(self.look.shape(len(rows)), np.uint8)
        for image, row in zip(pixels, rows.tolist(), strict=True):
            image[:] = self.look.read(self.paths[row])
        return torch.from_numpy(pixels)

    @property
    def identity(self) -> bytes:
        """What tells these files from others without reading them: their names and sizes."""
        text = "\n".join([*self.files.names, str(self.look)])
        return os.fsencode(text) + self.files.stats[:, 0].tobytes()


def decode(files: Files, look: Look, put: Callable[[np.ndarray], object]) -> dict[str, str]:
    """Hand the pixels of each file in turn to `put`; {name: reason} of the files that cannot be read."""
    bad: dict[str, str] = {}
    with warnings.catch_warnings(action="ignore"):  # what read_image does, too, but threads must not
        images = in_threads(look.try_to_read, files.paths, "decoding")
        for name, image in zip(files.names, images, strict=True):
            if isinstance(image, str):
                bad[name] = image
            else:
                put(image)
    return bad


class Shelf:
    """A place for what is kept of some files: what a scan found, and their pixels.

    Beside the images, or in the user's cache folder where that cannot be written; nowhere if not `used`.
    The names have a digest of the files, so that a change of them is a new beginning.
    """

    def __init__(self, title: str, files: Files, used: bool) -> None:
        user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "imgcls"
        own = hashlib.sha256(os.fsencode(files.root)).hexdigest()[:16]
        self.title, self.key = CACHE + title[:40], files.digest[:16]
        self.places = [Path(files.root), user / own] if used else []

    @cached_property
    def folder(self) -> Path | None:
        """The first place that can be written to, if there is one."""
        for place in self.places:
            with contextlib.suppress(OSError):
                place.mkdir(parents=True, exist_ok=True)
                if os.access(place, os.W_OK):
                    return place
        return None

    @cached_property
    def lock(self) -> contextlib.AbstractContextManager[object]:
        """Lets one process at a time decode and write; may be taken again by the one who has it."""
        return FileLock(self.folder / f"{self.title}.lock") if self.folder else contextlib.nullcontext()

    def noted(self) -> Scan | None:
        """What an earlier scan of the same files found."""
        path = self._find(self._notes)
        try:
            return Scan(**json.loads(path.read_text(encoding="utf-8"))) if path else None
        except (OSError, ValueError, TypeError):  # damaged, or written by another version
            return None

    def note(self, found: Scan) -> None:
        """Keep what a scan found."""
        if self.folder:
            with self.lock, self._new(self._notes) as file:
                file.write(json.dumps(asdict(found)).encode())

    def mapped(self, count: int, look: Look) -> torch.Tensor | None:
        """Pixels of so many files, uint8 (N, size, size, channels), if they are kept.

        They stay on the disk until they are used; what is written to them stays in memory.
        """
        path, size = self._find(self._pixels(look)), math.prod(look.shape(count))
        if path is None or path.stat().st_size != size:
            return None
        # Not shared: torch then opens the file for reading only, and copies the pages that are written to.
        return torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).view(look.shape(count))

    def writing(self, look: Look) -> contextlib.AbstractContextManager[BinaryIO]:
        """A file to write pixels to, which counts only if the block ends well."""
        return self._new(self._pixels(look))

    @property
    def _notes(self) -> str:
        return f"{self.title}-{self.key}.json"

    def _pixels(self, look: Look) -> str:
        """A name that says all that decides about the pixels."""
        import PIL

        version = hashlib.sha256(f"{READER} {PIL.__version__} {self.key}".encode()).hexdigest()[:16]
        return f"{self.title}-{look.size}-{look.fit}-{look.channels}-{version}.u8"

    def _find(self, name: str) -> Path | None:
        return next((place / name for place in self.places if (place / name).is_file()), None)

    @contextlib.contextmanager
    def _new(self, name: str) -> Iterator[BinaryIO]:
        """A file under its name only when it is whole; then those of the same name but another digest go."""
        assert self.folder
        path, part = self.folder / name, self.folder / f"{name}.part"
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            what = f"cannot keep {path} ({error.strerror or error})"
            raise ResourceError(f"{what}. Make room, or set dataset.cache=false.") from error
        finally:
            part.unlink(missing_ok=True)
        # What was made of the files before they changed is of no use any more.
        for old in self.folder.glob(f"*{path.suffix}"):
            if old != path and old.name.rpartition("-")[0] == name.rpartition("-")[0]:
                with contextlib.suppress(OSError):  # another process may use it
                    old.unlink()
