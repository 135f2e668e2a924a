"""Data that is missing, half there, or not what it seems. Which fault of data is tried where:

80-81, 84-86  tests/data/test_sources.py (missing, no network, damaged files and archives)
87-94         test_image_files.py, tests/data/test_images.py, test_scan.py, test_folder.py
95-105        tests/data/test_layout.py, test_scan.py (105); here what the plain reader does
48-50, 82, 83, 86, 106, 127 and a disk that goes away: here
"""

import os
import signal
import socket
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image
from torchvision.datasets import MNIST, ImageFolder

from imgcls import build, report
from imgcls.cli import command
from imgcls.data import fetch, layout, loader, shards, sources
from imgcls.data.folder import folder
from imgcls.data.loader import Rows, WorkerLoader
from imgcls.errors import ConfigError, DataError, resource_trouble
from imgcls.runs import LAST, Run
from imgcls.tasks import evaluate, train


def photos(root: Path, *classes: str, count: int = 20) -> Path:
    """Class folders of noise, brighter from class to class."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 100, (10, 10, 3), np.uint8) + 70 * label
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


# ------------------------------------------------------------------------------------------- downloads


class Half:
    """A dataset whose download is killed when half of a file is there; the next one succeeds."""

    killed = True

    def __init__(self, root: str, download: bool = False, **part: Any) -> None:
        (Path(root) / "x.bin").write_bytes(b"12345")
        if self.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        (Path(root) / "x.bin").write_bytes(b"1234567890")


PUBLISHED = fetch.Published(Half, {"x.bin": 10}, {}, "x.bin")


def test_fault_83_a_download_that_is_killed(tmp_path: Path) -> None:
    """Nothing bears the file's name until it is whole, and what was left over is swept."""
    child = os.fork()
    if not child:
        fetch.provide("Half", PUBLISHED, tmp_path, True)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    left = [path.name for path in tmp_path.iterdir() if path.is_dir()]
    assert len(left) == 1 and not (tmp_path / "x.bin").exists()
    Half.killed = False
    try:
        fetch.provide("Half", PUBLISHED, tmp_path, True)
    finally:
        Half.killed = True
    assert sorted(path.name for path in tmp_path.iterdir()) == [".imgcls.lock", "x.bin"]
    assert (tmp_path / "x.bin").read_bytes() == b"1234567890"


def test_fault_82_a_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the question, and is given up in time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        monkeypatch.setattr(MNIST, "mirrors", [url])
        monkeypatch.setattr(fetch, "TIMEOUT", 0.3)
        with pytest.raises(
            DataError, match=r"MNIST is not in .* could not be downloaded \(no answer in 30 s\)\."
        ):
            sources.mnist(str(tmp_path), True)
    assert [path.name for path in tmp_path.iterdir()] == [".imgcls.lock"]


def test_fault_86_an_archive_that_leaves_its_folder(tmp_path: Path) -> None:
    """It has not the published digest, and so is not even opened."""
    root = tmp_path / "data"
    root.mkdir()
    (tmp_path / "x").write_bytes(b"x")
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as tar:
        for name in ("../escaped", "cifar-10-batches-py/data_batch_1"):
            tar.add(tmp_path / "x", name)
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz there is damaged"):
        sources.cifar10(str(root), False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "x"]
    assert sorted(path.name for path in root.iterdir()) == [".imgcls.lock", "cifar-10-python.tar.gz"]


# ------------------------------------------------------------------------------ processes that read images


class Troubled(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Images whose reading does something to its own process."""

    def __init__(self, trouble: Callable[[], object]) -> None:
        self.trouble = trouble

    def __len__(self) -> int:
        return 8

    def __getitems__(self, rows: list[int]) -> Any:
        self.trouble()
        return torch.zeros(len(rows)), torch.zeros(len(rows))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    signal.pause()


def no_shared_memory() -> None:
    raise RuntimeError(
        "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"
    )


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        pytest.param(die, "a process that reads images has died", id="fault-48"),
        pytest.param(hang, "no images came for minutes", id="fault-49"),
        pytest.param(no_shared_memory, "shared memory (/dev/shm) is full", id="fault-50"),
    ],
)
def test_a_worker_in_trouble(
    trouble: Callable[[], object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "PATIENCE", 1)
    with pytest.raises(RuntimeError) as caught:
        list(WorkerLoader(Troubled(trouble), Rows(torch.arange(8), 4), workers=1))
    line = resource_trouble(caught.value)
    assert line and line.startswith(said) and line.isprintable()


def test_other_errors_of_workers_are_no_trouble_of_the_machine() -> None:
    assert resource_trouble(RuntimeError("Caught ValueError in DataLoader worker process 0.")) is None
    assert resource_trouble(ConfigError("can only say this")) is None


# ---------------------------------------------------------------------------------- a disk that goes away


class Unplug(Callback):
    """Moves a folder away in the middle of the second epoch."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.current_epoch == 1 and self.place.exists():
            self.place.rename(self.place.with_name("away"))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_disk_that_goes_away(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names a file; the epoch before is saved, and the same command ends as if nothing was."""
    monkeypatch.setattr(report.Ending, "_draw", lambda self: None)
    root = photos(tmp_path / "photos", "ant", "bee")
    words = [
        *("dataset=folder", f"dataset.root={root}", "dataset.image_size=8", "dataset.cache=false"),
        *("dataset.resident=false", f"dataset.num_workers={workers}", "batch_size=6", "epochs=2"),
        *("model=resnet20", "model.width=4", "progress=none", "trainer.threads=1", f"output={tmp_path}"),
    ]
    config, problems = command.check(words)
    assert problems == []
    made, run = build.trainer, Run(tmp_path / "run")

    def unplugged(*args: Any) -> Any:
        trainer = made(*args)
        trainer.callbacks.insert(0, Unplug(root))
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(build, "trainer", unplugged)
        with pytest.raises(DataError) as caught:
            train.main(config, run.path)
    line = str(caught.value)
    assert line.startswith(f"{root}/") and line.endswith(
        ".png cannot be read (No such file or directory). See that it is there, and its disk."
    )
    assert torch.load(run / LAST, weights_only=True)["epoch"] == 0 and len(run.history()) == 1
    (tmp_path / "away").rename(root)
    train.main(config, run.path)
    whole = Run(tmp_path / "whole")
    train.main(config, whole.path)
    assert [row["train/loss"] for row in run.history()] == [row["train/loss"] for row in whole.history()]


def test_a_cache_that_is_removed_meanwhile(tmp_path: Path) -> None:
    """What is mapped stays readable after its name is gone."""
    source = folder(str(photos(tmp_path, "ant", "bee")), image_size=8)
    (file,) = tmp_path.glob("*.u8")
    file.unlink()
    assert source.train.pixels.float().mean() > 1


# ----------------------------------------------------------------------------------------- class lists


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", "a\u2028b", os.fsdecode(b"a\xff")])
def test_fault_127_names_of_classes_can_be_shown(name: str, tmp_path: Path) -> None:
    """A name that would clear a terminal or break a table is refused, in one line."""
    photos(tmp_path, name, "bee", count=1)
    with pytest.raises(DataError) as caught:
        layout.find(str(tmp_path))
    assert str(caught.value).isprintable() and "has a character that cannot be shown" in str(caught.value)


def test_names_of_files_may_be_anything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = photos(tmp_path, "ant", "bee", count=9)
    (root / "ant/a\n\x1b[2Jb.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"ant/a\\n\\x1b\[2Jb\.png \(is empty\)") as caught:
        folder(str(root), image_size=8)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("theirs", "answer"),
    [
        (("ant", "bee"), None),
        (("bee", "ant"), "the run's classes in another order (bee)"),
        (("bee", "cow"), "the run's classes in another order (bee)"),
        (("0 ant", "1 bee"), "2 classes are called otherwise than the run's: 0 ant is scored as ant"),
        (("ant", "bee", "cow"), "has 3 classes, the run knows 2"),
    ],
)
def test_fault_106_other_classes_than_the_runs(theirs: tuple[str, ...], answer: str | None) -> None:
    """Labels are places in a list; what shifts it (fault 102) is refused, what renames it is said."""
    domain = SimpleNamespace(classes=["ant", "bee"], image_channels=3)
    images: Any = SimpleNamespace(classes=theirs, shape=(8, 8, 3), source=SimpleNamespace(title="Bugs"))
    try:
        evaluate.fits(domain, images)
        said = evaluate.renamed(domain, images)
    except ConfigError as error:
        said = str(error)
    assert (said is None) if answer is None else (answer in str(said))


def index_of(root: Path, shard: str, classes: tuple[str, ...] = ("ant", "bee")) -> None:
    rows = np.array([[0, 512, 3, 0, 0]], np.int64)
    shards.Index("x", classes, [1, 0, 0], False, [], {}, {shard: 1024}, rows).save(root)


@pytest.mark.parametrize("name", ["../../x.tar", "/etc/passwd", "a/b.tar", "..", ".ssh.tar", "x.part"])
def test_fault_127_shards_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    """An index from elsewhere names files, which are read, or fetched into a folder of the user's."""
    index_of(tmp_path, name)
    with pytest.raises(DataError, match="is no name of a shard"):
        shards.load(lambda file: (tmp_path / file).read_bytes(), "there")
    index_of(tmp_path, "train-000000.tar")
    assert shards.load(lambda file: (tmp_path / file).read_bytes(), "there").shards == {
        "train-000000.tar": 1024
    }
    index_of(tmp_path, "train-000000.tar", ("a\x1b[2J", "b"))
    with pytest.raises(DataError, match="cannot be shown"):
        shards.load(lambda file: (tmp_path / file).read_bytes(), "there")


# ------------------------------------------------------- what the plain reader makes of the same folders


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        layout.find(str(root))
    return str(caught.value)


def test_fault_98_hidden_folders_to_the_plain_reader(tmp_path: Path) -> None:
    """To the plain reader they are classes 0 and 1."""
    photos(tmp_path, ".ipynb_checkpoints", "__MACOSX", "ant", "bee", count=1)
    assert ImageFolder(str(tmp_path)).classes == [".ipynb_checkpoints", "__MACOSX", "ant", "bee"]
    assert layout.find(str(tmp_path)).classes == ("ant", "bee")


def test_fault_95_one_class_to_the_plain_reader(tmp_path: Path) -> None:
    """The plain reader trains on it, to 100 %."""
    photos(tmp_path, "ant", count=1)
    assert ImageFolder(str(tmp_path)).classes == ["ant"]
    assert "has only one class, ant" in refused(tmp_path)


def test_fault_99_twins_to_the_plain_reader(tmp_path: Path) -> None:
    """The plain reader keeps apart what only the file system does."""
    photos(
        tmp_path, "cat", "Cat", unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"), count=1
    )
    assert len(ImageFolder(str(tmp_path)).classes) == 4
    assert "are spelt alike" in refused(tmp_path)


def test_fault_100_numbers_to_the_plain_reader(tmp_path: Path) -> None:
    """The plain reader sorts 10 before 2."""
    photos(tmp_path, "1", "2", "10", count=1)
    assert ImageFolder(str(tmp_path)).classes == ["1", "10", "2"]
    assert layout.find(str(tmp_path)).classes == ("1", "2", "10")


def test_fault_101_parts_as_classes_to_the_plain_reader(tmp_path: Path) -> None:
    """The plain reader takes train and val for classes."""
    photos(tmp_path / "train", "ant", "bee", count=1)
    photos(tmp_path / "val", "ant", "bee", count=1)
    assert ImageFolder(str(tmp_path)).classes == ["train", "val"]
    assert layout.find(str(tmp_path)).classes == ("ant", "bee")


def test_fault_102_shifted_classes_to_the_plain_reader(tmp_path: Path) -> None:
    """To the plain reader, cat is 0 in train and 1 in val."""
    photos(tmp_path / "train", "cat", "dog", count=1)
    photos(tmp_path / "val", "ant", "cat", count=1)
    places = [ImageFolder(str(tmp_path / part)).class_to_idx["cat"] for part in ("train", "val")]
    assert places == [0, 1]
    assert "is of class ant, which is not in train" in refused(tmp_path)


def test_fault_103_links_to_the_plain_reader(tmp_path: Path) -> None:
    """The plain reader counts a broken link as an image."""
    photos(tmp_path, "ant", "bee", count=4)
    (tmp_path / "ant/gone.png").symlink_to(tmp_path / "nothing")
    assert len(ImageFolder(str(tmp_path))) == 9
    with pytest.raises(DataError, match=r"1 of 9 images cannot be read: ant/gone\.png \(is not there\)"):
        folder(str(tmp_path), image_size=8, test_fraction=0.3)
