"""What stock Lightning does, where a part of ours exists only because of it: saving and going on.

Each asserts that Lightning still fails. One that no longer does fails here: then our way round it can go.
The same of Hydra: test_controls_hydra.py; of torch, torchvision and Pillow: test_controls_torch.py.
"""

import os
import resource
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from stock import BATCH, ROWS, Plain, forked, loader, trainer, weights

pytestmark = pytest.mark.filterwarnings("ignore")  # the plain libraries say much

STATE = {"w": torch.zeros(1_000_000)}  # 4 MB


# ---------------------------------------------------------------------------------------------------- writing


def test_fault_1_what_a_killed_writer_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An orphan in the system's temporary folder, which nobody sweeps."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "run").mkdir()

    def die() -> None:
        shutil.move = lambda *args, **more: os._exit(9)
        TorchCheckpointIO().save_checkpoint(STATE, tmp_path / "run/last.ckpt")

    assert forked(die) == 9
    (orphan,) = (path for path in tmp_path.iterdir() if path.is_file())
    assert orphan.stat().st_size >= 4_000_000


def test_fault_3_nothing_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the file nor its folder, so that a name may outlive its content when the power fails."""
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    TorchCheckpointIO().save_checkpoint(STATE, tmp_path / "last.ckpt")
    assert calls == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_fault_4_a_full_disk(tmp_path: Path) -> None:
    """Half a file lies under the final name (Lightning 21253)."""
    (small := tmp_path / "small").mkdir()
    if os.system(f"mount -t tmpfs -o size=1m tmpfs {small} 2>/dev/null"):
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(OSError, match="No space left"):
            TorchCheckpointIO().save_checkpoint(STATE, small / "last.ckpt")
        assert 0 < (small / "last.ckpt").stat().st_size < 4_000_000
    finally:
        os.system(f"umount {small}")


def test_fault_5_a_missing_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is needed, although the run's own folder is fine."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        TorchCheckpointIO().save_checkpoint(STATE, tmp_path / "last.ckpt")


def test_fault_6_a_limit_on_file_sizes(tmp_path: Path) -> None:
    """The error names no file."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            TorchCheckpointIO().save_checkpoint(STATE, tmp_path / "last.ckpt")
        except OSError as error:
            raise SystemExit(41 if error.filename is None else 42) from error

    assert forked(limited) == 41


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_fault_7_a_folder_that_cannot_be_written() -> None:
    """Training ends well, and nothing was saved (Lightning 21800: the error is swallowed)."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o555)

        def as_nobody() -> None:
            os.setuid(65534)
            keeper = ModelCheckpoint(place, save_last=True)
            trainer(place, keeper, max_epochs=1).fit(Plain(), loader())

        assert forked(as_nobody) == 0
        assert list(place.iterdir()) == []


def test_fault_8_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """It is noticed after an epoch of work."""
    (tmp_path / "file").touch()
    module = Plain()
    with pytest.raises(OSError):
        trainer(tmp_path, ModelCheckpoint(tmp_path / "file/below")).fit(module, loader())
    assert len(module.rows) == ROWS // BATCH


def test_fault_9_the_last_is_not_the_last(tmp_path: Path) -> None:
    """Since 2.6 it is written only together with a best one (openclimatefix/pvnet 544)."""
    keeper = ModelCheckpoint(tmp_path, monitor="val/acc", mode="max", save_last=True)
    trainer(tmp_path, keeper, max_epochs=3).fit(Plain(), loader(), loader())
    assert torch.load(tmp_path / "last.ckpt")["epoch"] == 0


def test_fault_10_a_folder_that_is_used_twice(tmp_path: Path) -> None:
    """Both runs mix in it, and "last" goes by the time of change: here, to the first and shorter one."""
    for epochs in (1, 2):
        keeper = ModelCheckpoint(tmp_path, save_last=True)
        trainer(tmp_path, keeper, max_epochs=epochs).fit(Plain(), loader())
    assert torch.load(tmp_path / "last-v1.ckpt")["epoch"] == 1
    os.utime(tmp_path / "last.ckpt", (2e9, 2e9))
    module = Plain()
    trainer(tmp_path, ModelCheckpoint(tmp_path, save_last=True)).fit(module, loader(), ckpt_path="last")
    assert len(module.rows) == ROWS // BATCH


@pytest.mark.parametrize("content", [b"", b"half", b"PK\x03\x04" + bytes(500), b"<!DOCTYPE html>"])
def test_fault_12_damage_is_not_said_of_a_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(Exception) as caught:  # torch raises a dozen kinds
        TorchCheckpointIO().load_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert "last.ckpt" not in str(caught.value)


def test_fault_13_a_file_of_somebody_else(tmp_path: Path) -> None:
    """A missing key of Lightning's own is all that is said."""
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(KeyError, match="pytorch-lightning_version"):
        trainer(tmp_path).fit(Plain(), loader(), ckpt_path=tmp_path / "last.ckpt")


def test_fault_14_going_on_from_nothing(tmp_path: Path) -> None:
    """Who asks for "last" where there is none gets a new training."""
    module = Plain()
    trainer(tmp_path, ModelCheckpoint(tmp_path), max_epochs=1).fit(module, loader(), ckpt_path="last")
    assert len(module.rows) == ROWS // BATCH


def test_fault_15_a_kill_between_two_links(tmp_path: Path) -> None:
    """The old link has gone before the new one is made."""
    for name in ("a", "b"):
        (tmp_path / name).touch()
    (tmp_path / "last.ckpt").symlink_to(tmp_path / "a")

    def die() -> None:
        os.symlink = lambda *args, **more: os._exit(9)
        made = trainer(tmp_path)
        ModelCheckpoint._link_checkpoint(made, str(tmp_path / "b"), str(tmp_path / "last.ckpt"))

    assert forked(die) == 9
    assert not (tmp_path / "last.ckpt").is_symlink()


# ----------------------------------------------------------------------------------------- signals, the end


class Send(Callback):
    """Sends this process a signal after the second step."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_train_batch_end(self, made: Any, *args: Any) -> None:
        if made.global_step == 2:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGTERM, 0, id="fault-36 SIGTERM"),  # Lightning 21623
        pytest.param(signal.SIGINT, 1, id="fault-37 SIGINT"),
        pytest.param(signal.SIGUSR1, -signal.SIGUSR1, id="fault-38 SIGUSR1"),
        pytest.param(signal.SIGHUP, -signal.SIGHUP, id="fault-38 SIGHUP"),
    ],
)
def test_a_signal_saves_nothing(number: int, code: int, tmp_path: Path) -> None:
    """And SIGTERM is a success to whoever asks for the exit code."""

    def train() -> None:
        for each in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            signal.signal(each, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        trainer(tmp_path, Send(number), ModelCheckpoint(tmp_path, save_last=True)).fit(Plain(), loader())

    assert forked(train) == code
    assert list(tmp_path.iterdir()) == []


def test_fault_31_weights_that_were_averaged(tmp_path: Path) -> None:
    """Gone on with after its end, the network has the weights of the last step, not their average."""
    keeper = ModelCheckpoint(tmp_path, save_last=True)
    first, again = Plain(), Plain()
    trainer(tmp_path, EMAWeightAveraging(decay=0.9), keeper).fit(first, loader())
    averaged = weights(first)
    trainer(tmp_path, EMAWeightAveraging(decay=0.9)).fit(again, loader(), ckpt_path=tmp_path / "last.ckpt")
    assert again.rows == []
    assert not torch.equal(weights(again), averaged)
