"""What Lightning, torch, torchvision and Pillow take without a word, where we answer.

As in test_controls.py, what fails here has been mended there, and our check may be theirs.
"""

import inspect
import io
import math
import os
import struct
import subprocess
import sys
import tarfile
import warnings
from pathlib import Path
from typing import Any
from urllib import request

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from PIL import Image
from stock import BATCH, ROWS, Numbers, Plain, loader, trainer, weights
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, Subset
from torchvision.datasets import MNIST, ImageFolder, utils

pytestmark = pytest.mark.filterwarnings("ignore")  # the plain libraries say much

# ---------------------------------------------------------------------------------------------------- numbers


def test_fault_35_workers_draw_otherwise() -> None:
    """The same seed gives other images with a worker than without."""
    found = []
    for workers in (0, 1):
        torch.manual_seed(0)
        found.append(torch.cat(list(loader(noise=0.1, num_workers=workers))))
    assert not torch.equal(*found)


def test_fault_47_a_seed_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for no seed gets that of the job before, from the environment."""
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    monkeypatch.setenv("PL_SEED_WORKERS", "0")  # both are put back after
    monkeypatch.setenv("PL_GLOBAL_SEED", "")
    seed_everything(123)
    assert seed_everything(None) == 123


def test_fault_49_workers_are_waited_for_without_end() -> None:
    assert loader(num_workers=1).timeout == 0


class Spoilt(Plain):
    """After the second step the loss is not a number."""

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        loss = super().training_step(batch, index)
        return loss * (math.nan if self.global_step == 2 else 1)


def test_fault_52_training_on_nothing(tmp_path: Path) -> None:
    """It goes on to the end, its weights are saved (fault 55), and stopping early sees a score (fault 54)."""
    module = Spoilt()
    keeper = ModelCheckpoint(tmp_path, save_last=True)
    stopping = EarlyStopping("val/acc", check_finite=True, mode="max", patience=9)
    trainer(tmp_path, keeper, stopping).fit(module, loader(), loader())
    assert len(module.rows) == 2 * ROWS // BATCH
    assert weights(module).isnan().all()
    saved = torch.load(tmp_path / "last.ckpt")["state_dict"]
    assert all(value.isnan().all() for value in saved.values())


@pytest.mark.parametrize(
    "rate",
    [
        pytest.param(math.nan, id="fault-56 nan"),
        pytest.param(math.inf, id="fault-56 inf"),
        pytest.param(0, id="fault-64 zero"),
    ],
)
def test_rates_that_train_nothing_are_taken(rate: float) -> None:
    torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=rate)


def test_fault_57_a_batch_of_one() -> None:
    """Said when it comes, which may be at the end of an epoch."""
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        nn.BatchNorm1d(3)(torch.zeros(1, 3))


def test_fault_58_a_label_that_there_is_not() -> None:
    """Of which image is not said."""
    with pytest.raises(IndexError, match=r"^Target 200 is out of bounds\.$"):
        nn.functional.cross_entropy(torch.zeros(2, 10), torch.tensor([0, 200]))


# --------------------------------------------------------------------------------------------------- settings


def test_fault_65_a_rate_that_is_text() -> None:
    """The answer names neither key nor value."""
    with pytest.raises(TypeError) as caught:
        torch.optim.SGD(nn.Linear(1, 1).parameters(), lr="0.1")  # type: ignore[arg-type]
    assert "lr" not in str(caught.value) and "0.1" not in str(caught.value)


def test_fault_68_no_batch_at_all(tmp_path: Path) -> None:
    """A success."""
    module = Plain()
    trainer(tmp_path).fit(module, DataLoader(Numbers(), 2 * ROWS, drop_last=True))
    assert module.rows == []


@pytest.mark.parametrize("epochs", [0, -1])
def test_fault_69_no_epoch_or_all_of_them(epochs: int, tmp_path: Path) -> None:
    assert trainer(tmp_path, max_epochs=epochs).max_epochs == epochs


def test_fault_70_a_width_of_nothing() -> None:
    """And fault 71: no blocks at all. A warning of torch's is all that is said."""
    with pytest.warns(UserWarning, match="zero-element"):
        net = nn.Sequential(nn.Linear(4, 0), *(nn.ReLU() for _ in range(-3)), nn.Linear(0, 2))
    assert net(torch.zeros(1, 4)).shape == (1, 2)


def test_fault_75_more_devices_than_there_are(tmp_path: Path) -> None:
    """Three processes share one CPU, and each epoch has a third of the steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trainer(tmp_path, devices=3).num_devices == 3


@pytest.mark.parametrize("callback", [EarlyStopping, ModelCheckpoint])
def test_fault_76_a_score_that_there_is_not(callback: Any, tmp_path: Path) -> None:
    """Said after an epoch of work."""
    module = Plain()
    with pytest.raises((MisconfigurationException, RuntimeError), match="val/los"):
        trainer(tmp_path, callback(monitor="val/los")).fit(module, loader(), loader())
    assert len(module.rows) == ROWS // BATCH


def test_fault_77_nothing_to_validate_on(tmp_path: Path) -> None:
    """Trained to the end, and nothing is saved."""
    keeper = ModelCheckpoint(tmp_path, monitor="val/acc", mode="max")
    trainer(tmp_path, keeper).fit(Plain(), loader(), DataLoader(Subset(Numbers(), []), BATCH))
    assert (keeper.best_model_path, list(tmp_path.iterdir())) == ("", [])


# ------------------------------------------------------------------------------------------------------- data


def test_fault_82_a_server_is_waited_for_without_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    class Silent(io.BytesIO):
        length = 0

    monkeypatch.setattr(request, "urlopen", lambda *args, **more: asked.append(more) or Silent())
    utils._urlretrieve("http://host/file", tmp_path / "file")
    assert asked == [{}]


def test_fault_83_half_a_download_has_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Breaks(io.BytesIO):
        length = 100

        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise ConnectionResetError
            return super().read(50)

    monkeypatch.setattr(request, "urlopen", lambda *args, **more: Breaks(bytes(100)))
    with pytest.raises(ConnectionResetError):
        utils._urlretrieve("http://host/file", tmp_path / "file")
    assert (tmp_path / "file").stat().st_size == 50


def idx(root: Path, images: int, side: int, labels: list[int]) -> Path:
    """The files of MNIST, with so many images in each part."""
    raw = root / "MNIST/raw"
    raw.mkdir(parents=True)
    head = struct.pack(">IIII", 0x803, images, side, side)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + bytes(images * side**2))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x801, len(labels)) + bytes(labels)
        )
    return raw


def test_fault_84_a_file_that_was_cut(tmp_path: Path) -> None:
    """Neither the file is named nor a remedy."""
    path = idx(tmp_path, 10, 28, [0] * 10) / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(RuntimeError, match="shape") as caught:
        MNIST(str(tmp_path))
    assert "train-images" not in str(caught.value)


def test_fault_85_files_that_do_not_go_together(tmp_path: Path) -> None:
    """Ten images of another size, eight labels, one of them impossible."""
    idx(tmp_path, 10, 14, [0] * 7 + [200])
    data = MNIST(str(tmp_path))
    assert (len(data), len(data.targets), int(data.targets[-1])) == (10, 8, 200)
    assert data[7][0].size == (14, 14)


def test_fault_86_an_archive_that_leaves_its_folder(tmp_path: Path) -> None:
    """Where nobody asks Python for its filter."""
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../escaped"))
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "x.tar") as tar:
        tar.extractall(tmp_path / "in", filter="fully_trusted")
    assert (tmp_path / "escaped").exists()


def test_fault_88_bytes_that_still_decode() -> None:
    """Another picture, without a word."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(file, "jpeg")
    before, data = np.asarray(Image.open(file)), bytearray(file.getvalue())
    data[len(data) // 2] ^= 4
    assert not np.array_equal(np.asarray(Image.open(io.BytesIO(data))), before)


def test_fault_92_a_kind_of_file_that_is_passed_over(tmp_path: Path) -> None:
    """A class of GIFs is said to have no file."""
    for name, suffix in (("ant", "png"), ("bee", "gif")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / f"x.{suffix}")
    with pytest.raises(FileNotFoundError, match="Found no valid file for the classes bee"):
        ImageFolder(str(tmp_path))


def test_fault_93_more_pixels_than_a_camera_has(tmp_path: Path) -> None:
    """144 million are a warning."""
    (tmp_path / "x.pgm").write_bytes(b"P5 12000 12000 255\n")
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(tmp_path / "x.pgm")


def test_fault_94_images_of_several_sizes() -> None:
    """Neither of them is named."""
    images = [torch.zeros(3, 8, 8), torch.zeros(3, 9, 9)]
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        next(iter(DataLoader(images, 2)))  # type: ignore[arg-type]


# --------------------------------------------------------------------------- a logger, and several processes


def test_fault_107_wandb_without_a_key(tmp_path: Path) -> None:
    """No training begins."""
    pytest.importorskip("wandb")
    without = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run(
        [sys.executable, "-c", "import wandb; wandb.init(project='x'); print('training')"],
        env=without | {"HOME": str(tmp_path)},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "No API key configured" in done.stderr


def test_fault_112_images_that_count_twice() -> None:
    """Seven images on two ranks are eight (pytorch 25162, Lightning 4732)."""
    shares = [list(DistributedSampler(range(7), 2, rank, shuffle=False)) for rank in range(2)]  # type: ignore[arg-type]
    assert sorted(shares[0] + shares[1]) == [0, 0, 1, 2, 3, 4, 5, 6]


def test_fault_114_a_rank_that_froze_is_waited_for() -> None:
    """Half an hour."""
    assert torch.distributed.constants.default_pg_timeout.total_seconds() == 1800


def test_fault_115_a_handler_that_talks_to_others() -> None:
    """It hangs where two ranks are sent SIGTERM at once, as SLURM does (Lightning 20806)."""
    assert "dist.broadcast(" in inspect.getsource(_SignalConnector._sigterm_notifier_fn)
