"""Sources: whole datasets as uint8 tensors, read through torchvision's classes; digits from scikit-learn."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imgcls.data.cache import Undecoded
from imgcls.data.facts import EMNIST, FACTS, Facts
from imgcls.data.fetch import SPLITS, Published, mendable, provide, reason, strange
from imgcls.errors import ConfigError

DIGITS_SEED = 1797  # never the run's seed: all runs share one test set


@dataclass(eq=False)
class Images:
    """One part of a dataset: pixels uint8 (N, H, W, C) contiguous, labels int64 (N,).

    `Undecoded` files may stand in for the pixels of what fits neither in memory nor on the disk.
    Of images in shards, `shards` has the number of each one's, int64 (N,); they are shuffled within
    `window` shards at a time.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    shards: torch.Tensor | None = None
    window: int = 1

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(eq=False)
class Source:
    """A dataset with its official split; classes are names by label.

    A validation set of its own is part of `train`: `held` has its rows, int64 (M,).
    """

    name: str
    title: str
    classes: tuple[str, ...]
    train: Images
    test: Images
    held: torch.Tensor | None = None

    @cached_property
    def digest(self) -> str:
        """Hex sha256 over the shapes, pixels and labels of both parts; undecoded files count by name."""
        sha = hashlib.sha256()
        for part in (self.train, self.test):
            for tensor in (part.pixels, part.labels):
                sha.update(str(tuple(tensor.shape)).encode())
                sha.update(tensor.identity if isinstance(tensor, Undecoded) else tensor.numpy().data)
        return sha.hexdigest()


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
    return _load("mnist", root, download)


def fashion_mnist(root: str, download: bool = True) -> Source:
    """Fashion-MNIST from <root>/FashionMNIST/raw."""
    return _load("fashion_mnist", root, download)


def kmnist(root: str, download: bool = True) -> Source:
    """Kuzushiji-MNIST, cursive Japanese characters, from <root>/KMNIST/raw."""
    return _load("kmnist", root, download)


def emnist(root: str, download: bool = True, split: str = "balanced") -> Source:
    """EMNIST, handwritten letters and digits, one of its six splits from <root>/EMNIST/raw."""
    if split not in EMNIST:
        raise ConfigError(f"dataset.split={split} is not known. Choose from: {', '.join(EMNIST)}.")
    source = _load(f"emnist_{split}", root, download, first=int(split == "letters"))
    # The files have columns first. Upright, they are like the images that users have, and like MNIST's.
    for part in (source.train, source.test):
        part.pixels = part.pixels.transpose(1, 2).contiguous()
    return source


def cifar10(root: str, download: bool = True) -> Source:
    """CIFAR-10 from <root>/cifar-10-batches-py."""
    return _load("cifar10", root, download)


def cifar100(root: str, download: bool = True) -> Source:
    """CIFAR-100 with its 100 fine labels from <root>/cifar-100-python."""
    return _load("cifar100", root, download)


def svhn(root: str, download: bool = True) -> Source:
    """SVHN, cropped digits, from <root>/train_32x32.mat and test_32x32.mat."""
    return _load("svhn", root, download)


def stl10(root: str, download: bool = True) -> Source:
    """STL-10's labelled images from <root>/stl10_binary."""
    return _load("stl10", root, download)


def _reader(name: str) -> Any:
    """A dataset class of torchvision, imported late: digits does without."""
    from torchvision import datasets

    return getattr(datasets, name)


def _idx(name: str, folder: str) -> Published:
    """A dataset in MNIST's format: md5s are published of the archives only, but the facts give file sizes."""
    reader, sizes = _reader(folder), _idx_sizes(FACTS[name], "train", "t10k")
    return Published(
        reader,
        files={f"{folder}/raw/{file}": size for file, size in sizes.items()},
        archives={f"{folder}/raw/{archive}": md5 for archive, md5 in reader.resources},
        wanted=f"{folder}/raw/{{{','.join(sizes)}}} (or the same as .gz)",
    )


def _idx_sizes(facts: Facts, train: str, test: str) -> dict[str, int]:
    """Bytes of the four files in MNIST's format: a header, and one byte per pixel or label."""
    sizes = {}
    for part, count in ((train, facts.train), (test, facts.test)):
        sizes[f"{part}-images-idx3-ubyte"] = 16 + count * facts.image_size**2
        sizes[f"{part}-labels-idx1-ubyte"] = 8 + count
    return sizes


def _emnist(split: str) -> Published:
    """EMNIST's files of one split; all splits are published as one archive of archives."""
    reader, name = _reader("EMNIST"), f"emnist-{split}"
    sizes = _idx_sizes(FACTS[f"emnist_{split}"], f"{name}-train", f"{name}-test")
    return Published(
        reader,
        files={f"EMNIST/raw/{file}": size for file, size in sizes.items()},
        archives={"EMNIST/raw/gzip.zip": reader.md5},
        wanted=f"EMNIST/raw/{{{','.join(sizes)}}} (or EMNIST/raw/gzip.zip)",
        parts=({"split": split, "train": True}, {"split": split, "train": False}),
        unpacks={"download": True},
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


def _svhn() -> Published:
    """Two files in MATLAB's format."""
    reader = _reader("SVHN")
    files = {reader.split_list[part][1]: reader.split_list[part][2] for part in ("train", "test")}
    return Published(reader, files, {}, " and ".join(files), SPLITS, channels_first=True)


def _stl10() -> Published:
    """Plain arrays, without those of the images that have no label."""
    reader = _reader("STL10")
    listed = {file: md5 for file, md5 in [*reader.train_list, *reader.test_list] if "unlabeled" not in file}
    files = {f"{reader.base_folder}/{file}": md5 for file, md5 in listed.items()}
    wanted = f"{reader.base_folder}/{{{','.join(listed)}}} (or {reader.filename})"
    archives = {reader.filename: reader.tgz_md5}
    return Published(reader, files, archives, wanted, SPLITS, channels_first=True)


PUBLISHED: dict[str, Callable[[], Published]] = {
    "mnist": partial(_idx, "mnist", "MNIST"),
    "fashion_mnist": partial(_idx, "fashion_mnist", "FashionMNIST"),
    "kmnist": partial(_idx, "kmnist", "KMNIST"),
    **{f"emnist_{split}": partial(_emnist, split) for split in EMNIST},
    "cifar10": partial(_cifar, "CIFAR10"),
    "cifar100": partial(_cifar, "CIFAR100"),
    "svhn": _svhn,
    "stl10": _stl10,
}


def _load(name: str, root: str, download: bool, first: int = 0) -> Source:
    """A published dataset from its files under root; what is missing is fetched first.

    Args:
        first: the label of the first class in the files.
    """
    published, title, folder = PUBLISHED[name](), FACTS[name].title, Path(root).expanduser().absolute()
    with mendable(title, folder):
        provide(title, published, folder, download)
        train, test = (_read(title, published, folder, arguments) for arguments in published.parts)
    for part in (train, test):
        part.labels -= first
    return _source(name, train, test)


def _source(name: str, train: Images, test: Images) -> Source:
    """Both parts, provided they are what the facts say."""
    facts = FACTS[name]
    for part, count in ((train, facts.train), (test, facts.test)):
        if fault := _fault(facts, part, count):
            raise strange(facts.title, fault)
    return Source(name, facts.title, facts.classes, train, test)


def _fault(facts: Facts, part: Images, count: int) -> str:
    """What is wrong with a part; empty if nothing is."""
    shape = (count, facts.image_size, facts.image_size, facts.channels)
    for tensor, dtype, wanted in ((part.pixels, torch.uint8, shape), (part.labels, torch.int64, (count,))):
        if tensor.dtype != dtype or tensor.shape != wanted:
            return f"{tensor.dtype} of shape {tuple(tensor.shape)}, expected {dtype} of shape {wanted}"
    low, high, last = int(part.labels.min()), int(part.labels.max()), len(facts.classes) - 1
    return "" if low >= 0 and high <= last else f"labels run from {low} to {high}, expected 0 to {last}"


def _read(title: str, published: Published, root: Path, arguments: dict[str, Any]) -> Images:
    """One part as torchvision reads it, in (N, H, W, C); at most one more copy of the pixels on the way."""
    # Every md5 is checked by now; torchvision would take them all again for each part.
    reader = type(published.reader.__name__, (published.reader,), {"_check_integrity": lambda self: True})
    try:
        data = reader(str(root), **arguments)
    except (AssertionError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise strange(title, f"its files in {root} cannot be read ({reason(error)})") from error
    pixels = torch.as_tensor(data.data)
    labels = torch.as_tensor(data.labels if hasattr(data, "labels") else data.targets).long()
    if pixels.ndim == 3:
        pixels = pixels.unsqueeze(-1)
    return Images((pixels.movedim(1, -1) if published.channels_first else pixels).contiguous(), labels)
