"""Sources equal what torchvision and scikit-learn give, and say in one line what is wrong with files."""

import errno
import gzip
import hashlib
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision import datasets

from imgcls.data import fetch, sources
from imgcls.data.facts import EMNIST, FACTS
from imgcls.errors import ConfigError, DataError, ImgclsError, ResourceError

CONF = Path(__file__).parents[2] / "conf"
REAL = Path(os.environ.get("IMGCLS_DATA", "data"))
READERS = {
    "mnist": datasets.MNIST,
    "fashion_mnist": datasets.FashionMNIST,
    "kmnist": datasets.KMNIST,
    "emnist": datasets.EMNIST,
    "cifar10": datasets.CIFAR10,
    "cifar100": datasets.CIFAR100,
    "svhn": datasets.SVHN,
    "stl10": datasets.STL10,
}
SPLITS = ("balanced", "letters")  # of EMNIST, written here
TRAIN, TEST = 10, 4
IDX = "{train-images-idx3-ubyte,train-labels-idx1-ubyte,t10k-images-idx3-ubyte,t10k-labels-idx1-ubyte}"
EMNIST_IDX = IDX.replace("train-", "emnist-balanced-train-").replace("t10k-", "emnist-balanced-test-")
WANTED = {
    "mnist": f"MNIST/raw/{IDX} (or the same as .gz)",
    "fashion_mnist": f"FashionMNIST/raw/{IDX} (or the same as .gz)",
    "cifar10": "cifar-10-batches-py/ (or cifar-10-python.tar.gz)",
    "cifar100": "cifar-100-python/ (or cifar-100-python.tar.gz)",
    "kmnist": f"KMNIST/raw/{IDX} (or the same as .gz)",
    "emnist": f"EMNIST/raw/{EMNIST_IDX} (or EMNIST/raw/gzip.zip)",
    "svhn": "train_32x32.mat and test_32x32.mat",
    "stl10": "stl10_binary/{train_X.bin,train_y.bin,test_X.bin,test_y.bin} (or stl10_binary.tar.gz)",
}
PLACE = "there, or set dataset.root to the folder that has it."
AGAIN = "Delete its files and run again with dataset.download=true."
AUGMENTATIONS = {
    "digits": "affine",
    "fashion_mnist": "flip",
    **dict.fromkeys(("cifar10", "cifar100", "stl10"), "flip_crop"),
}


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def arrays(count: int, size: int, channels: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Random pixels (N, H, W, C) and labels (N,) that use the last class."""
    rng = np.random.default_rng(count + size + classes)
    labels = rng.integers(0, classes, count)
    labels[0] = classes - 1
    return rng.integers(0, 256, (count, size, size, channels), np.uint8), labels


def write_idx(
    root: Path, folder: str, prefix: str = "", test: str = "t10k", classes: int = 10, first: int = 0
) -> None:
    raw = root / folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", TRAIN), (test, TEST)):
        pixels, labels = arrays(count, 28, 1, classes)
        labels, part = labels + first, prefix + part
        head = b"".join(n.to_bytes(4, "big") for n in (0x803, count, 28, 28))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = b"".join(n.to_bytes(4, "big") for n in (0x801, count))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.astype(np.uint8).tobytes())


def write_cifar(root: Path, reader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR's pickles of a few images, whose md5s replace torchvision's."""
    folder, key = root / reader.base_folder, reader.meta["key"]
    folder.mkdir(parents=True)
    classes = FACTS["cifar10" if key == "label_names" else "cifar100"].classes
    labels_key = "labels" if key == "label_names" else "fine_labels"

    def write(names: list[str], count: int) -> list[list[str]]:
        pixels, labels = arrays(count, 32, 3, len(classes))
        chw = pixels.transpose(0, 3, 1, 2).reshape(count, -1)
        for name, rows in zip(names, np.array_split(np.arange(count), len(names)), strict=True):
            batch = {"data": chw[rows], labels_key: labels[rows].tolist()}
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
        return [[name, md5(folder / name)] for name in names]

    monkeypatch.setattr(reader, "train_list", write([name for name, _ in reader.train_list], TRAIN))
    monkeypatch.setattr(reader, "test_list", write([name for name, _ in reader.test_list], TEST))
    meta = folder / reader.meta["filename"]
    meta.write_bytes(pickle.dumps({key: list(classes)}, protocol=2))
    monkeypatch.setattr(reader, "meta", reader.meta | {"md5": md5(meta)})


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    root.mkdir(parents=True, exist_ok=True)
    listed = dict(datasets.SVHN.split_list)
    for part, count in (("train", TRAIN), ("test", TEST)):
        pixels, labels = arrays(count, 32, 3, 10)
        labels[1] = 0
        file = root / f"{part}_32x32.mat"
        # As published: pixels (H, W, C, N), and the digit 0 labelled 10.
        savemat(file, {"X": pixels.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
        listed[part] = [listed[part][0], file.name, md5(file)]
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)


def write_stl10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """STL-10's raw bytes: pixels by image, channel, column and row, labels from 1."""
    folder, reader = root / "stl10_binary", datasets.STL10
    folder.mkdir(parents=True)
    for part, count in (("train", TRAIN), ("test", TEST)):
        pixels, labels = arrays(count, 96, 3, 10)
        (folder / f"{part}_X.bin").write_bytes(pixels.transpose(0, 3, 2, 1).tobytes())
        (folder / f"{part}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())
        listed = [[f"{part}_{kind}.bin", md5(folder / f"{part}_{kind}.bin")] for kind in "Xy"]
        unlabelled = [["unlabeled_X.bin", "5242ba1fed5e4be9e1e742405eb56ca4"]] if part == "train" else []
        monkeypatch.setattr(reader, f"{part}_list", listed + unlabelled)


def fact(name: str) -> str:
    """A dataset's key in FACTS."""
    return f"{name}_balanced" if name == "emnist" else name


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a few images of every dataset; the facts, md5s and the network are set to fit."""
    for name in [*(name for name in READERS if name != "emnist"), *(f"emnist_{split}" for split in SPLITS)]:
        monkeypatch.setitem(FACTS, name, replace(FACTS[name], train=TRAIN, test=TEST))
    for name in ("mnist", "fashion_mnist", "kmnist"):
        write_idx(tmp_path / "data", READERS[name].__name__)
    for split, first in zip(SPLITS, (0, 1), strict=True):
        write_idx(tmp_path / "data", "EMNIST", f"emnist-{split}-", "test", len(EMNIST[split][2]), first)
    for name in ("cifar10", "cifar100"):
        write_cifar(tmp_path / "data", READERS[name], monkeypatch)
    write_svhn(tmp_path / "data", monkeypatch)
    write_stl10(tmp_path / "data", monkeypatch)
    offline(monkeypatch, URLError(socket.gaierror(-2, "Name or service not known")))
    return tmp_path / "data"


def offline(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """All requests fail, after printing what no user should see."""

    def urlopen(*_: Any, **__: Any) -> None:
        print("noise")
        print("noise", file=sys.stderr)
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


def message(kind: type[ImgclsError], name: str, root: Path, download: bool = False) -> str:
    """The error that loading raises."""
    with pytest.raises(kind) as caught:
        getattr(sources, name)(str(root), download)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def as_torchvision(name: str, root: Path, train: bool) -> Iterator[tuple[np.ndarray, int]]:
    split = {"split": "train" if train else "test"} if name in ("svhn", "stl10") else {"train": train}
    extra = {"split": "balanced"} if name == "emnist" else {}
    # STL-10's own check wants the unlabelled images, too.
    whole = type(READERS[name].__name__, (READERS[name],), {"_check_integrity": lambda self: True})
    data = whole(str(root), **split, **extra)
    pairs = ((np.array(image), label) for image, label in (data[i] for i in range(len(data))))
    return ((image.T if name == "emnist" else image, label) for image, label in pairs)  # written sideways


def assert_equal(images: sources.Images, expected: Iterator[tuple[np.ndarray, int]]) -> None:
    for pixels, label, (image, target) in zip(images.pixels, images.labels, expected, strict=True):
        assert np.array_equal(pixels.numpy().reshape(image.shape), image)
        assert label == target


def test_facts_and_image_files_load_without_torch() -> None:
    code = "import sys, imgcls.data.facts, imgcls.data.images; print({'torch', 'PIL'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_class_names_are_torchvisions() -> None:
    # "5 - five" there: the digit alone reads better under a picture
    assert FACTS["mnist"].classes == tuple(name[0] for name in datasets.MNIST.classes)
    assert FACTS["fashion_mnist"].classes == tuple(datasets.FashionMNIST.classes)
    assert FACTS["kmnist"].classes == tuple(datasets.KMNIST.classes)
    for split in datasets.EMNIST.splits:
        known = [name for name in datasets.EMNIST.classes_split_dict[split] if name != "N/A"]
        assert list(FACTS[f"emnist_{split}"].classes) == known
    others = {name: len(set(facts.classes)) for name, facts in FACTS.items() if "emnist" not in name}
    assert {name: count for name, count in others.items() if count != 10} == {"cifar100": 100}
    assert list(FACTS["cifar100"].classes) == sorted(FACTS["cifar100"].classes)


def test_digits_are_all_there_once_and_scaled() -> None:
    source, bunch = sources.digits(), load_digits()
    assert (len(source.train), len(source.test)) == (1437, 360)
    both = torch.cat([source.train.pixels, source.test.pixels]).flatten(1).numpy()
    expected = np.rint(bunch.data * 255 / 16).astype(np.uint8)
    assert np.array_equal(both[np.lexsort(both.T)], expected[np.lexsort(expected.T)])
    assert (both.min(), both.max()) == (0, 255)


def test_digits_split_is_stratified_and_fixed() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    source = sources.digits()
    train, test = (part.labels.bincount() for part in (source.train, source.test))
    assert ((train + test) / 5 - test).abs().max() < 1
    # A test set that changes makes all numbers before it incomparable.
    assert source.digest == "6d431230ece03c59c490bc468a93e241c2ef1a4691d71a8d0e67e895d65d6641"


def test_digest_sees_every_pixel_and_label() -> None:
    digests = set()
    for part, field in (("train", "pixels"), ("train", "labels"), ("test", "pixels"), ("test", "labels")):
        source = sources.digits()
        getattr(getattr(source, part), field).view(-1)[7] += 1
        digests.add(source.digest)
    assert len(digests | {sources.digits().digest}) == 5


@pytest.mark.parametrize("name", READERS)
def test_pixels_are_torchvisions(name: str, root: Path) -> None:
    source = getattr(sources, name)(str(root), False)
    facts = FACTS[fact(name)]
    assert (source.name, source.title, source.classes) == (fact(name), facts.title, facts.classes)
    for part, train in ((source.train, True), (source.test, False)):
        assert (part.pixels.dtype, part.labels.dtype) == (torch.uint8, torch.int64)
        assert part.pixels.is_contiguous()
        assert part.pixels.shape[1:] == (facts.image_size, facts.image_size, facts.channels)
        assert len(part) == (TRAIN if train else TEST)
        assert_equal(part, as_torchvision(name, root, train))


@pytest.mark.parametrize(
    ("name", "folder", "digest"),
    [("mnist", "MNIST/raw", "81b5b7068b487449"), ("cifar10", "cifar-10-batches-py", "aa654a69adc0edc3")],
)
def test_the_real_files(name: str, folder: str, digest: str) -> None:
    if not (REAL / folder).is_dir():
        pytest.skip(f"{folder} is not in {REAL}")
    source = getattr(sources, name)(str(REAL), False)
    assert source.digest[:16] == digest
    assert_equal(source.test, as_torchvision(name, REAL, False))


def test_each_md5_is_taken_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def counted(plain: Callable[..., Any]) -> Callable[..., Any]:
        return lambda path, *mark: taken.append(Path(path).name) or plain(path, *mark)

    monkeypatch.setattr(fetch, "_md5", counted(fetch._md5))
    monkeypatch.setattr(datasets.cifar, "check_integrity", counted(datasets.cifar.check_integrity))
    sources.cifar10(str(root), False)
    batches = [name for name in taken if name != "batches.meta"]  # torchvision rereads these 158 bytes
    assert sorted(batches) == [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


@pytest.mark.parametrize("name", READERS)
def test_missing_files(name: str, root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    title, empty = FACTS[fact(name)].title, tmp_path / "empty"
    line = message(DataError, name, empty, download=False)
    assert line == f"{title} is not in {empty} and dataset.download=false. Put {WANTED[name]} {PLACE}"
    assert not empty.exists()
    line = message(DataError, name, empty, download=True)
    why = "could not be downloaded (no network)"
    assert line == f"{title} is not in {empty} and {why}. Put {WANTED[name]} {PLACE}"
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in empty.iterdir()] == [".imgcls.lock"]


def test_some_files_missing(root: Path) -> None:
    (root / "cifar-10-batches-py/data_batch_3").unlink()
    line = message(DataError, "cifar10", root)
    assert line.startswith(f"CIFAR-10 (cifar-10-batches-py/data_batch_3) is not in {root} and ")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (URLError(TimeoutError("timed out")), "no answer in 30 s"),
        (HTTPError("http://x", 404, "Not Found", None, None), "the server refused"),  # type: ignore[arg-type]
        (ConnectionResetError(errno.ECONNRESET, "reset"), "ConnectionResetError: [Errno 104] reset"),
    ],
)
def test_reasons_for_no_download(
    error: Exception, reason: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline(monkeypatch, error)
    for name in ("mnist", "cifar10"):
        line = message(DataError, name, tmp_path / name, download=True)
        assert f" could not be downloaded ({reason}). " in line
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("download", [False, True])
def test_archives_are_unpacked_offline(download: bool, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: getattr(sources, name)(str(root), False).digest for name in ("mnist", "cifar10")}
    packed = []
    for file in sorted((root / "MNIST/raw").iterdir()):
        file.with_name(file.name + ".gz").write_bytes(gzip.compress(file.read_bytes()))
        packed.append((file.name + ".gz", md5(file.with_name(file.name + ".gz"))))
        file.unlink()
    monkeypatch.setattr(datasets.MNIST, "resources", packed)
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(root / "cifar-10-batches-py", "cifar-10-batches-py")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(root / "cifar-10-python.tar.gz"))
    shutil.rmtree(root / "cifar-10-batches-py")
    assert {name: getattr(sources, name)(str(root), download).digest for name in before} == before
    assert not list(root.glob(".imgcls-*"))


def test_emnist_letters_count_from_zero(root: Path) -> None:
    source = sources.emnist(str(root), False, split="letters")
    assert source.classes == tuple("abcdefghijklmnopqrstuvwxyz")
    data = datasets.EMNIST(str(root), split="letters", train=False)
    assert torch.equal(source.test.labels, data.targets - 1) and source.test.labels.max() == 25
    with pytest.raises(
        ConfigError, match=r"dataset.split=small is not known\. Choose from: balanced, byclass,"
    ):
        sources.emnist(str(root), False, split="small")


@pytest.mark.parametrize("download", [False, True])
def test_archives_in_archives_are_unpacked(
    download: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, raw = sources.emnist(str(root), False).digest, root / "EMNIST/raw"
    with ZipFile(root / "gzip.zip", "w") as packed:
        for file in sorted(raw.iterdir()):
            packed.writestr(f"gzip/{file.name}.gz", gzip.compress(file.read_bytes()))
            file.unlink()
    (root / "gzip.zip").rename(raw / "gzip.zip")
    monkeypatch.setattr(datasets.EMNIST, "md5", md5(raw / "gzip.zip"))
    assert sources.emnist(str(root), download).digest == before
    assert not list(root.glob(".imgcls-*")) and (raw / "gzip.zip").is_file()


def test_damaged_archive_is_named(root: Path) -> None:
    shutil.rmtree(root / "cifar-10-batches-py")
    (root / "cifar-10-python.tar.gz").write_bytes(b"half of it")
    note = f" cifar-10-python.tar.gz there is damaged. Put {WANTED['cifar10']} {PLACE}"
    line = message(DataError, "cifar10", root)
    assert line == f"CIFAR-10 is not in {root} and dataset.download=false.{note}"
    line = message(DataError, "cifar10", root, download=True)
    assert line == f"CIFAR-10 is not in {root} and could not be downloaded (no network).{note}"
    assert (root / "cifar-10-python.tar.gz").read_bytes() == b"half of it"


def test_processes_download_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, requests = sources.mnist(str(root), False).digest, []

    def fetch(url: str, download_root: str, filename: str, md5: str) -> None:
        requests.append((filename, socket.getdefaulttimeout()))
        shutil.copy(root / "MNIST/raw" / filename.removesuffix(".gz"), download_root)

    monkeypatch.setattr(datasets.mnist, "download_and_extract_archive", fetch)
    found: list[str] = []
    load = lambda: found.append(sources.mnist(str(tmp_path / "new"), True).digest)  # noqa: E731
    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [digest] * 3
    assert requests == [(name, 30) for name, _ in datasets.MNIST.resources]


@pytest.mark.parametrize(
    ("name", "file", "fault"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte", "is 3,000 bytes, expected 7,856"),
        ("fashion_mnist", "FashionMNIST/raw/t10k-labels-idx1-ubyte", "is 3,000 bytes, expected 12"),
        ("cifar10", "cifar-10-batches-py/data_batch_2", None),
        ("cifar100", "cifar-100-python/meta", None),
        ("svhn", "test_32x32.mat", None),
        ("stl10", "stl10_binary/test_X.bin", None),
        ("emnist", "EMNIST/raw/emnist-balanced-test-labels-idx1-ubyte", "is 3,000 bytes, expected 12"),
    ],
)
def test_damaged_files(name: str, file: str, fault: str | None, root: Path) -> None:
    (root / file).write_bytes(bytes(3000))
    fault = fault or "is damaged (3,000 bytes; its md5 is not the published one)"
    remedy = "Delete it and run again with dataset.download=true."
    for download in (False, True):
        line = message(DataError, name, root, download)
        assert line == f"{FACTS[fact(name)].title}: {root / file} {fault}. {remedy}"


def test_full_size_is_expected_of_the_real_mnist(tmp_path: Path) -> None:
    write_idx(tmp_path, "MNIST")
    line = message(DataError, "mnist", tmp_path)
    assert "train-images-idx3-ubyte is 7,856 bytes, expected 47,040,016. Delete it and run again" in line


def test_right_size_but_not_idx(root: Path) -> None:
    (root / "MNIST/raw/train-images-idx3-ubyte").write_bytes(bytes(16 + TRAIN * 28 * 28))
    line = message(DataError, "mnist", root)
    assert line == f"MNIST: its files in {root} cannot be read (AssertionError). {AGAIN}"


def test_wrong_shape_and_labels(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FACTS, "svhn", replace(FACTS["svhn"], test=TEST + 1))
    line = message(DataError, "svhn", root)
    shapes = "shape (4, 32, 32, 3), expected torch.uint8 of shape (5, 32, 32, 3)"
    assert line == f"SVHN: torch.uint8 of {shapes}. {AGAIN}"
    (root / "MNIST/raw/t10k-labels-idx1-ubyte").write_bytes(bytes.fromhex("00000801 00000004 0a 03 00 07"))
    line = message(DataError, "mnist", root)
    assert line == f"MNIST: labels run from 0 to 10, expected 0 to 9. {AGAIN}"


def test_unwritable_root(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    line = message(ResourceError, "mnist", tmp_path / "file", download=True)
    where = f"cannot use {tmp_path / 'file'} (File exists)"
    assert line == f"MNIST: {where}. Mend that, or set dataset.root to another folder."
    offline(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    line = message(ResourceError, "mnist", tmp_path / "full", download=True)
    assert line.startswith(f"MNIST: cannot use {tmp_path / 'full'} (No space left on device). ")


def test_read_only_root(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(lock: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(lock))

    monkeypatch.setattr(fetch, "FileLock", denied)
    line = message(ResourceError, "mnist", tmp_path / "closed", download=True)
    assert line.startswith(f"MNIST: cannot use {tmp_path / 'closed'}/.imgcls.lock (Permission denied). ")
    assert len(sources.mnist(str(root), True).train) == TRAIN  # whole: nothing is written


def test_exit_codes() -> None:
    assert (DataError.exit_code, ResourceError.exit_code) == (3, 4)


@pytest.mark.parametrize("name", ["digits", *READERS])
def test_configuration(name: str) -> None:
    from hydra import compose, initialize_config_dir
    from hydra.utils import get_method

    first = (CONF / "dataset" / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(first) <= 90
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"dataset={name}"])
        plain = compose("config", ["augmentation=none", f"dataset={name}"])
    assert config.dataset.name == fact(name)
    assert get_method(config.dataset._target_) is getattr(sources, name)
    assert (config.augmentation.name, plain.augmentation.name) == (AUGMENTATIONS.get(name, "shift"), "none")
