"""Image files with their classes and parts: what all datasets of files are before they are decoded."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from imgcls.errors import printable

PARTS = ("train", "val", "test")
TRAIN, VAL, TEST = range(3)
CACHE = ".imgcls-"  # begins names of what is kept beside the images: files, as a folder looks like a class


@dataclass(frozen=True, eq=False)
class Files:
    """N image files in the order of their parts: train, val, test.

    Args:
        root: what the names are relative to.
        names: with slashes.
        labels, parts: int64 (N,).
        layout: how they were found, in words.
        aside: what else was there and left out, by kind.
    """

    root: Path
    names: list[str]
    labels: np.ndarray
    parts: np.ndarray
    classes: tuple[str, ...]
    layout: str
    aside: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def paths(self) -> list[str]:
        """Where the files lie; those that a list names in full, there."""
        return [os.path.join(self.root, name) for name in self.names]  # noqa: PTH118 - quick for a million

    @cached_property
    def stats(self) -> np.ndarray:
        """Bytes and time of the last change in ns, int64 (N, 2); -1 for a file that is not there."""
        return np.array([_stat(path) for path in self.paths], np.int64).reshape(-1, 2)

    @cached_property
    def digest(self) -> str:
        """Hex sha256 that changes with every change of a file, of the choice of files, and of their parts."""
        sha = hashlib.sha256(os.fsencode("\n".join(self.names)))
        sha.update(self.stats.tobytes())
        sha.update(self.parts.tobytes())
        return sha.hexdigest()

    def take(self, rows: np.ndarray) -> "Files":
        """The files in `rows`, int64 (M,)."""
        names = [self.names[row] for row in rows]
        return replace(self, names=names, labels=self.labels[rows], parts=self.parts[rows])

    def of(self, part: int) -> np.ndarray:
        """Rows of a part, int64 (M,)."""
        return np.flatnonzero(self.parts == part)


def _stat(path: str) -> tuple[int, int]:
    """Bytes and time of the last change in ns."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def brief(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are."""
    more = f" … and {len(names) - most:,} more" if len(names) > most else ""
    return printable(", ".join(names[:most])) + more
