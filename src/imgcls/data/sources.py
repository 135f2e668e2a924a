"""Sources: whole datasets as uint8 tensors, read through torchvision's classes (digits: from scikit-learn).

Published files are checked once, by size or md5, before they are read. Missing ones are unpacked or
downloaded in a folder aside and moved in place when whole, by one process at a time.
"""

import contextlib
import errno
import hashlib
import io
import logging
import socket
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from imgcls.data.facts import FACTS, Facts
from imgcls.errors import DataError, ResourceError

log = logging.getLogger(__name__)

DIGITS_SEED = 1797  # never the run's seed: all runs share one test set
TIMEOUT = 30  # seconds a server may stay silent
PARTS: tuple[dict[str, Any], dict[str, Any]] = ({"train": True}, {"train": False})

FULL_OR_CLOSED = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
REASONS = {  # what torchvision's errors contain, in the user's words
    "timed out": f"no answer in {TIMEOUT} s",
    "HTTP Error": "the server refused",
    "urlopen error": "no network",
    "corrupted": "what came is damaged",
}


@dataclass(eq=False)
class Images:
    """One part of a dataset: pixels uint8 (N, H, W, C) contiguous, labels int64 (N,)."""

    pixels: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(eq=False)
class Source:
    """A dataset with its official split; classes are names by label."""

    name: str
    title: str
    classes: tuple[str, ...]
    train: Images
    test: Images

    @cached_property
    def digest(self) -> str:
        """Hex sha256 over the shapes, pixels and labels of both parts."""
        sha = hashlib.sha256()
        for part in (self.train, self.test):
            for tensor in (part.pixels, part.labels):
                sha.update(str(tuple(tensor.shape)).encode())
                sha.update(tensor.numpy().data)
        return sha.hexdigest()


@dataclass(frozen=True)
class Published:
    """A dataset's files as published, with paths relative to the root."""

    reader: Any  # torchvision's class
    files: dict[str, int | str]  # each file's size in bytes, or md5
    archives: dict[str, str]  # md5 of each archive that the files can be unpacked from
    wanted: str  # what a user is told to put under the root
    parts: tuple[dict[str, Any], dict[str, Any]] = PARTS  # the reader's arguments for train and test
    channels_first: bool = False

    def missing(self, root: Path) -> list[str]:
        """The files that are not under root."""
        return [file for file in self.files if not (root / file).is_file()]


def digits(root: str = "", download: bool = True) -> Source:
    """scikit-learn's 1,797 digits of 8x8; no files are needed, and the test set is always the same 360."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # Its pixels count 0 to 16 dots; 255/16 spreads them over the range of other uint8 images.
    pixels = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(-1)
    labels, test = torch.from_numpy(bunch.target.astype(np.int64)), torch.from_numpy(_fifth(bunch.target))
    return _source("digits", Images(pixels[~test], labels[~test]), Images(pixels[test], labels[test]))


def _fifth(labels: np.ndarray) -> np.ndarray:
    """Mask (N,) of a fixed stratified fifth: every fifth image of a seeded shuffle sorted by class."""
    # NumPy guarantees the stream of RandomState, so the split outlives the versions of every library.
    order = np.random.RandomState(DIGITS_SEED).permutation(len(labels))
    order = order[labels[order].argsort(kind="stable")]
    mask = np.zeros(len(labels), bool)
    mask[order[::5]] = True
    return mask


def mnist(root: str, download: bool = True) -> Source:
    """MNIST from <root>/MNIST/raw."""
    return _load("mnist", _idx("mnist", "MNIST"), root, download)


def fashion_mnist(root: str, download: bool = True) -> Source:
    """Fashion-MNIST from <root>/FashionMNIST/raw."""
    return _load("fashion_mnist", _idx("fashion_mnist", "FashionMNIST"), root, download)


def cifar10(root: str, download: bool = True) -> Source:
    """CIFAR-10 from <root>/cifar-10-batches-py."""
    return _load("cifar10", _cifar("CIFAR10"), root, download)


def cifar100(root: str, download: bool = True) -> Source:
    """CIFAR-100 with its 100 fine labels from <root>/cifar-100-python."""
    return _load("cifar100", _cifar("CIFAR100"), root, download)


def svhn(root: str, download: bool = True) -> Source:
    """SVHN, cropped digits, from <root>/train_32x32.mat and test_32x32.mat."""
    reader = _reader("SVHN")
    files = {reader.split_list[part][1]: reader.split_list[part][2] for part in ("train", "test")}
    parts = ({"split": "train"}, {"split": "test"})
    return _load("svhn", Published(reader, files, {}, " and ".join(files), parts, True), root, download)


def _reader(name: str) -> Any:
    """A dataset class of torchvision, imported late: digits does without."""
    from torchvision import datasets

    return getattr(datasets, name)


def _idx(name: str, folder: str) -> Published:
    """A dataset in MNIST's format: md5s are published of the archives only, but the facts give file sizes."""
    reader, facts, sizes = _reader(folder), FACTS[name], {}
    for part, count in (("train", facts.train), ("t10k", facts.test)):
        sizes[f"{part}-images-idx3-ubyte"] = 16 + count * facts.image_size**2
        sizes[f"{part}-labels-idx1-ubyte"] = 8 + count
    return Published(
        reader,
        files={f"{folder}/raw/{file}": size for file, size in sizes.items()},
        archives={f"{folder}/raw/{archive}": md5 for archive, md5 in reader.resources},
        wanted=f"{folder}/raw/{{{','.join(sizes)}}} (or the same as .gz)",
    )


def _cifar(name: str) -> Published:
    """A dataset in CIFAR's format: pickles in one folder, published as one archive."""
    reader = _reader(name)
    files = dict([*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])])
    return Published(
        reader,
        files={f"{reader.base_folder}/{file}": md5 for file, md5 in files.items()},
        archives={reader.filename: reader.tgz_md5},
        wanted=f"{reader.base_folder}/ (or {reader.filename})",
    )


def _load(name: str, published: Published, root: str, download: bool) -> Source:
    """A published dataset from its files under root; what is missing is fetched first."""
    title, folder = FACTS[name].title, Path(root).expanduser().absolute()
    try:
        _provide(title, published, folder, download)
        for file, mark in published.files.items():
            _check_file(title, folder / file, mark)
        train, test = (_read(title, published, folder, arguments) for arguments in published.parts)
    except OSError as error:
        what = f"cannot use {error.filename or folder} ({error.strerror or error})"
        raise ResourceError(f"{title}: {what}. Mend that, or set dataset.root to another folder.") from error
    return _source(name, train, test)


def _source(name: str, train: Images, test: Images) -> Source:
    """Both parts, provided they are what the facts say."""
    facts = FACTS[name]
    for part, count in ((train, facts.train), (test, facts.test)):
        if fault := _fault(facts, part, count):
            raise _strange(facts.title, fault)
    return Source(name, facts.title, facts.classes, train, test)


def _fault(facts: Facts, part: Images, count: int) -> str:
    """What is wrong with a part; empty if nothing is."""
    shape = (count, facts.image_size, facts.image_size, facts.channels)
    for tensor, dtype, wanted in ((part.pixels, torch.uint8, shape), (part.labels, torch.int64, (count,))):
        if tensor.dtype != dtype or tensor.shape != wanted:
            return f"{tensor.dtype} of shape {tuple(tensor.shape)}, expected {dtype} of shape {wanted}"
    low, high, last = int(part.labels.min()), int(part.labels.max()), len(facts.classes) - 1
    return "" if low >= 0 and high <= last else f"labels run from {low} to {high}, expected 0 to {last}"


def _strange(title: str, fault: str) -> DataError:
    return DataError(f"{title}: {fault}. Delete its files and run again with dataset.download=true.")


def _check_file(title: str, path: Path, mark: int | str) -> None:
    """DataError unless a file has the size in bytes, or the md5, of the published one."""
    size = path.stat().st_size
    if isinstance(mark, int):
        fault = "" if size == mark else f"is {size:,} bytes, expected {mark:,}"
    else:
        fault = "" if _md5(path) == mark else f"is damaged ({size:,} bytes; its md5 is not the published one)"
    if fault:
        raise DataError(f"{title}: {path} {fault}. Delete it and run again with dataset.download=true.")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _read(title: str, published: Published, root: Path, arguments: dict[str, Any]) -> Images:
    """One part as torchvision reads it, in (N, H, W, C); at most one more copy of the pixels on the way."""
    # Every md5 is checked by now; torchvision would take them all again for each part.
    reader = type(published.reader.__name__, (published.reader,), {"_check_integrity": lambda self: True})
    try:
        data = reader(str(root), **arguments)
    except (AssertionError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _strange(title, f"its files in {root} cannot be read ({_reason(error)})") from error
    pixels = torch.as_tensor(data.data)
    labels = torch.as_tensor(data.labels if hasattr(data, "labels") else data.targets)
    if pixels.ndim == 3:
        pixels = pixels.unsqueeze(-1)
    return Images((pixels.movedim(1, -1) if published.channels_first else pixels).contiguous(), labels)


def _provide(title: str, published: Published, root: Path, download: bool) -> None:
    """See that all files are under root: unpack the archives there, download what is still missing."""
    if not published.missing(root):
        return
    if not download and not any((root / archive).is_file() for archive in published.archives):
        raise _absent(title, published, root, "dataset.download=false")  # and a read-only root is no error
    root.mkdir(parents=True, exist_ok=True)
    # Other processes wait at the lock, and then find the files in place.
    with FileLock(root / ".imgcls.lock"), TemporaryDirectory(prefix=".imgcls-", dir=root) as aside:
        if published.missing(root):
            _unpack(published, root, Path(aside))
        if published.missing(root):
            if not download:
                raise _absent(title, published, root, "dataset.download=false")
            _download(title, published, root, Path(aside))


def _unpack(published: Published, root: Path, aside: Path) -> None:
    """Unpack the archives under root; a damaged one counts as absent."""
    from torchvision.datasets.utils import extract_archive

    for archive, md5 in published.archives.items():
        if (root / archive).is_file() and _md5(root / archive) == md5:
            (aside / archive).parent.mkdir(parents=True, exist_ok=True)
            extract_archive(root / archive, (aside / archive).parent)
    _move(published, aside, root)


def _move(published: Published, aside: Path, root: Path) -> None:
    """Bring missing files in place, each by a rename, so that a file there is always whole."""
    for file in published.missing(root):
        if (aside / file).is_file():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (aside / file).replace(root / file)


def _download(title: str, published: Published, root: Path, aside: Path) -> None:
    """Download through torchvision, silently; DataError with the reason if that fails."""
    log.info("%s is not in %s: downloading it", title, root)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for arguments in published.parts:
                published.reader(str(aside), **arguments, download=True)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL_OR_CLOSED:
            raise  # the disk's fault, not the network's
        raise _absent(title, published, root, f"could not be downloaded ({_reason(error)})") from error
    finally:
        socket.setdefaulttimeout(before)
    _move(published, aside, root)


def _reason(error: Exception) -> str:
    """An error in a few words."""
    words = [reason for mark, reason in REASONS.items() if mark in str(error)]
    return words[0] if words else ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def _absent(title: str, published: Published, root: Path, why: str) -> DataError:
    """The line on missing files: which and why, and where to put them."""
    missing = published.missing(root)
    some = f" ({', '.join(missing)})" if len(missing) < len(published.files) else ""
    damaged = [a for a, md5 in published.archives.items() if (root / a).is_file() and _md5(root / a) != md5]
    note = f" {', '.join(damaged)} there is damaged." if damaged else ""
    remedy = f"Put {published.wanted} there, or set dataset.root to the folder that has it."
    return DataError(f"{title}{some} is not in {root} and {why}.{note} {remedy}")
