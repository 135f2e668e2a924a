"""What the headers of image files tell before any is decoded: sizes, types, and which cannot be read."""

import hashlib
import logging
import math
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from imgcls.data.files import PARTS, TEST, TRAIN, Files, brief
from imgcls.data.images import FORMATS, MAX_PIXELS, reason
from imgcls.errors import DataError

log = logging.getLogger(__name__)

GREY = ("1", "L", "LA", "La", "I", "F")  # and all that begin with I;16
SECONDS = 5  # between two lines on progress
PART = 16  # files that a thread takes at a time

Item = TypeVar("Item")
Result = TypeVar("Result")


class Header(NamedTuple):
    """What a file's header says; sizes in pixels."""

    kind: str
    grey: bool
    frames: bool  # more than one
    width: int
    height: int


@dataclass
class Scan:
    """What was seen of a list of files, as JSON can keep it.

    Args:
        sizes: (width, height) of the smallest, the median and the largest image.
        frames: names of the files with several frames.
        broken: {name: reason}; after decoding, too, if `decoded`.
        twins: pairs of names, tested and trained on, with the same content.
    """

    grey: bool = True
    sizes: list[list[int]] = field(default_factory=list)
    types: dict[str, int] = field(default_factory=dict)
    frames: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    twins: list[list[str]] = field(default_factory=list)
    decoded: bool = False


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], doing: str = ""
) -> Iterator[Result]:
    """Results in order, computed in as many threads as torch has; says from time to time how far it is."""
    count, begin, done = len(items), time.monotonic(), 0
    said, threads = begin, torch.get_num_threads()
    parts = (items[start : start + PART] for start in range(0, count, PART))
    with ThreadPoolExecutor(threads) as pool:
        # A few parts for each thread wait their turn, so that results do not pile up.
        work = (pool.submit(lambda part: [function(item) for item in part], part) for part in parts)
        ahead = deque(islice(work, 4 * threads))
        while ahead:
            yield from (found := ahead.popleft().result())
            ahead.extend(islice(work, 1))
            done, now = done + len(found), time.monotonic()
            if doing and now - said > SECONDS:
                said, rate = now, done / (now - begin)
                log.info("%s: %s of %s images, %.0f a second", doing, f"{done:,}", f"{count:,}", rate)


def scan(files: Files, compare: bool = True) -> Scan:
    """Read the headers of all files; `compare` looks for images that are both tested and trained on."""
    # Pillow warns of large images and odd metadata. Filters belong to the process: threads must not set them.
    with warnings.catch_warnings(action="ignore"):
        heads = list(in_threads(_header, files.paths, "looking at headers"))
    pairs = list(zip(files.names, heads, strict=True))
    good = {name: head for name, head in pairs if isinstance(head, Header)}
    sizes = sorted(([head.width, head.height] for head in good.values()), key=math.prod)
    return Scan(
        grey=all(head.grey for head in good.values()),
        sizes=[sizes[0], sizes[len(sizes) // 2], sizes[-1]] if sizes else [],
        types=dict(Counter(head.kind for head in good.values()).most_common()),
        frames=[name for name, head in good.items() if head.frames],
        broken={name: head for name, head in pairs if isinstance(head, str)},
        twins=_twins(files) if compare else [],
    )


def _header(path: str) -> Header | str:
    """What a file's header says, or what is wrong with the file."""
    from PIL import Image

    try:
        if not Path(path).stat().st_size:
            return "is empty"
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return f"{image.width:,} x {image.height:,} pixels, over {MAX_PIXELS / 1e6:.0f} million"
            grey = image.mode in GREY or image.mode.startswith("I;16")
            frames = getattr(image, "is_animated", False)
            return Header(str(image.format), grey, frames, image.width, image.height)
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        return why(error)


def why(error: Exception) -> str:
    """What is wrong with a file, in a few words."""
    return "is not there" if isinstance(error, FileNotFoundError) else reason(error)


def _twins(files: Files) -> list[list[str]]:
    """[tested, trained on] for each tested file whose bytes are those of another."""
    size, test = files.stats[:, 0], files.parts == TEST
    # Only files of the same size can be the same, so that few have to be read.
    rows = np.flatnonzero(np.isin(size, np.intersect1d(size[test], size[~test])) & (size > 0))
    digests = in_threads(_digest, [files.paths[row] for row in rows], "comparing files")
    first: dict[bytes, str] = {}
    pairs = []
    # Tested files come last.
    for row, digest in zip(rows.tolist(), digests, strict=True):
        if not test[row]:
            first.setdefault(digest, files.names[row])
        elif digest in first:
            pairs.append([files.names[row], first[digest]])
    return pairs


def _digest(path: str) -> bytes:
    """Of a file's content; of its name if it cannot be read."""
    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
    except OSError:
        return path.encode(errors="surrogateescape")


def usable(files: Files, found: Scan, skips: bool) -> Files:
    """The files that can be read; DataError if there are others, unless they may be skipped."""
    if not found.broken:
        return files
    if not skips:
        what = f"{len(found.broken):,} of {len(files):,} images cannot be read"
        first = brief([f"{name} ({reason})" for name, reason in found.broken.items()], 5)
        remedy = "Replace or remove them, or leave them out with dataset.on_bad_image=skip"
        raise DataError(f"{files.root}: {what}: {first}. {remedy}.")
    good = files.take(
        np.array([row for row, name in enumerate(files.names) if name not in found.broken], int)
    )
    lost = np.setdiff1d(np.arange(len(files.classes)), good.labels[good.of(TRAIN)])
    if len(lost) or not len(good.of(TEST)):
        what = f"class {files.classes[lost[0]]} to train on" if len(lost) else "the test set"
        raise DataError(f"{files.root}: no image of {what} can be read. Replace them.")
    return good


def report(title: str, files: Files, found: Scan) -> None:
    """Say in a few lines what was found."""
    parts = [f"{len(files.of(part)):,} {name}" for part, name in enumerate(PARTS) if part in files.parts]
    log.info("%s: %s images %s (%s)", title, f"{len(files):,}", files.layout, ", ".join(parts))
    counts = np.bincount(files.labels[files.of(TRAIN)], minlength=len(files.classes))
    classes = [f"{name} {count:,}" for name, count in zip(files.classes, counts, strict=True)]
    log.info("%d classes to train on: %s", len(classes), brief(classes, 10))
    log.info("%s", _kinds(found))
    left = [f"{count:,} {kind}" for kind, count in files.aside.most_common()]
    if found.broken:
        left.append(f"{len(found.broken):,} that cannot be read ({brief(list(found.broken), 3)})")
    if left:
        log.info("left out: %s", brief(left, 10))
    if found.frames:
        names = brief(found.frames, 3)
        log.info("files with several frames, of which the first is used: %d (%s)", len(found.frames), names)
    if found.twins:
        pairs = brief([" = ".join(pair) for pair in found.twins], 3)
        log.warning("tested and trained on: %d (%s), which flatters the score", len(found.twins), pairs)


def _kinds(found: Scan) -> str:
    """Sizes, types and colours in words."""
    small, median, large = (f"{width} x {height}" for width, height in found.sizes)
    types = ", ".join(f"{count:,} {kind}" for kind, count in found.types.items())
    colour = "all grey" if found.grey else "colour"
    return f"sizes: {small} smallest, {median} median, {large} largest; {types}; {colour}"
