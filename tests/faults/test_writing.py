"""Checkpoints where they can hardly be written: the run's folder is all that is needed, and asked."""

import os
import resource
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpointed import save, state
from lightning.pytorch.callbacks import Callback
from same import differences
from stock import forked

from imgcls import build, checkpoints
from imgcls.errors import ImgclsError
from imgcls.runs import BEST, LAST, PREVIOUS, Run
from imgcls.tasks import train

LARGE = 500_000  # numbers: 2 MB in each of two tensors
QUICK = ("model=resnet20", "model.width=4", "dataset.limit=100", "progress=none", "trainer.threads=1")


def assert_holds(path: Path, step: int) -> None:
    assert not list(differences(checkpoints.load(path), state(step)))


@pytest.mark.parametrize("temp", ["none", "file"])
def test_fault_5_without_the_systems_temporary_folder(
    temp: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it full, missing or on another file system: it is not used."""
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / temp))
    for step in (1, 2):
        save(Run(tmp_path / "run"), LAST, step)
        assert_holds(tmp_path / "run" / LAST, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run"]


def test_fault_6_a_limit_on_file_sizes(tmp_path: Path) -> None:
    """One line names the file, with exit code 4; the checkpoint before stays good, and alone."""
    save(Run(tmp_path), LAST, 1)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        try:
            checkpoints.AtomicIO().save_checkpoint(state(2, LARGE), tmp_path / LAST)
        except ImgclsError as error:
            assert str(error).startswith(f"cannot write {tmp_path / LAST} (File too large; ")
            raise SystemExit(error.exit_code) from error

    assert forked(limited) == 4
    assert_holds(tmp_path / LAST, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, "manifest.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("below", ["", "below"])
def test_fault_7_a_folder_that_cannot_be_written(below: str, compose: Any) -> None:
    """And fault 8: nor made. Exit code 4, before the first batch."""
    config = compose(*QUICK, "epochs=1")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o555)

        def as_nobody() -> None:
            os.setuid(65534)
            build.classifier = lambda *args: os._exit(9)  # type: ignore[assignment]
            try:
                train.main(config, place / below)
            except ImgclsError as error:
                assert str(error).startswith(f"cannot write to {place / below} (permission denied). ")
                raise SystemExit(error.exit_code) from error

        assert forked(as_nobody) == 4
        assert list(place.iterdir()) == []


class Worse(Callback):
    """The validation score falls from epoch to epoch."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.epoch["val/acc"] = 1 / (1 + trainer.current_epoch)


def test_fault_9_the_last_is_of_the_last_epoch(
    compose: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the best is of."""
    callbacks = build.callbacks
    monkeypatch.setattr(build, "callbacks", lambda *args: [Worse(), *callbacks(*args)])
    run = Run(tmp_path / "run")
    run.path.mkdir()
    config = compose(*QUICK, "epochs=3")
    images = build.data(config)
    build.trainer(config, run).fit(build.classifier(config, images), datamodule=images)
    epochs = {file: torch.load(run / file, weights_only=True)["epoch"] for file in (BEST, LAST)}
    assert epochs == {BEST: 0, LAST: 2}


@pytest.mark.parametrize("older", [BEST, PREVIOUS])
def test_fault_10_the_newest_is_not_told_by_the_clock(older: str, tmp_path: Path) -> None:
    """A copied folder has other times."""
    run = Run(tmp_path)
    for file, step in ((BEST if older == BEST else LAST, 10), (LAST, 20)):
        save(run, file, step)
    os.utime(run / older, (2e9, 2e9))
    os.utime(run / LAST, (1e9, 1e9))
    assert checkpoints.newest(run) == run / LAST
