"""A run that is interrupted anywhere and continued ends with the bits of one that never was."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from same import assert_same
from stopping import StopAt

from imgcls import build, runs
from imgcls.__main__ import register_resolvers
from imgcls.checkpoints import Stopped, newest
from imgcls.cli import command
from imgcls.tasks import train

# Dropout, batch norm, augmentation of every kind of draw; 128 images, 4 steps an epoch.
BASE = [
    *(
        "model=resnet20",
        "model.width=4",
        "model.dropout=0.2",
        "augmentation=affine",
        "augmentation.hflip=0.5",
    ),
    *("epochs=3", "batch_size=32", "dataset.limit=160", "dataset.val_fraction=0.2"),
    *("progress=none", "trainer.threads=1"),
]


def config_of(folder: Path, *more: str) -> dict[str, Any]:
    register_resolvers()
    config, problems = command.check([*BASE, f"output={folder}", *more])
    assert not problems, problems
    return config


def scramble() -> None:
    """Spoil all global random state: nothing may depend on it."""
    torch.manual_seed(int(time.time()))
    torch.rand(17)


def fit(config: dict[str, Any], folder: Path, stop: int | None = None) -> bool:
    """Train in a folder, maybe up to a step; whether it came to the end."""
    scramble()
    run = runs.Run(folder)
    run.claim(config)
    try:
        images = build.data(config)
        trainer = build.trainer(config, run)
        if stop is not None:
            trainer.callbacks.insert(0, StopAt(stop))
        trainer.fit(
            build.classifier(config, images), datamodule=images, ckpt_path=newest(run), weights_only=True
        )
        return True
    except Stopped:
        return False
    finally:
        run.release()


OPTIONS = {
    "plain": (),
    "plateau": (
        "schedule=plateau",
        "schedule.patience=1",
        "schedule.monitor=val/loss",
        "schedule.min_delta=5",
    ),
    "cosine, mixup, adamw": ("schedule=cosine", "augmentation.mixup=0.4", "optimizer=adamw"),
    "ema": ("ema=0.9",),
    "muon, a part that ends early": ("optimizer=muon", "freeze_after=layer1=1"),
    "lookahead, whitened": ("lookahead=0.9", "init=whitened", "optimizer.bias_lr=8"),
    "the hardest half": ("hardest=0.5", "accumulate=2", "scaling=x2"),
    "alternating flips, half a network": ("augmentation.hflip=alternating", "freeze_after=layer2=2"),
    "accumulate, clip": ("accumulate=2", "clip=0.5"),
    "two workers": ("dataset.resident=false", "dataset.num_workers=2"),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_stopped_in_every_place_and_continued_equals_uninterrupted(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    """First batch, inside an epoch, last batch of one, twice in one epoch: complete final checkpoints."""
    config = config_of(tmp_path, *options)
    assert fit(config, tmp_path / "whole")
    cut = tmp_path / "cut"
    stops = [1, 3, 4, 6, 7]
    for step in stops:
        assert not fit(config, cut, stop=step)
    assert fit(config, cut)
    assert_same(tmp_path / "whole" / "last.ckpt", cut / "last.ckpt")
    assert_same(tmp_path / "whole" / "best.ckpt", cut / "best.ckpt")
    rows = [
        [{k: v for k, v in r.items() if k != "seconds"} for r in runs.Run(f).history()]
        for f in (tmp_path / "whole", cut)
    ]
    assert rows[0] == rows[1]
    assert [row["epoch"] for row in rows[1]] == [1, 2, 3]


def test_worker_count_and_residence_do_not_change_a_bit(tmp_path: Path) -> None:
    """Resident, and through 0, 1 and 2 workers."""
    assert fit(config_of(tmp_path), tmp_path / "resident")
    for workers in range(3):
        more = ("dataset.resident=false", f"dataset.num_workers={workers}")
        assert fit(config_of(tmp_path, *more), tmp_path / f"{workers}")
        assert_same(tmp_path / "resident" / "last.ckpt", tmp_path / f"{workers}" / "last.ckpt")


def test_a_moved_run_continues(tmp_path: Path) -> None:
    """A run folder carried elsewhere in the middle of an epoch."""
    config = config_of(tmp_path)
    assert fit(config, tmp_path / "whole")
    assert not fit(config, tmp_path / "here", stop=6)
    (tmp_path / "here").rename(tmp_path / "there")
    assert fit(config, tmp_path / "there")
    assert_same(tmp_path / "whole" / "last.ckpt", tmp_path / "there" / "last.ckpt")


@pytest.mark.parametrize(
    ("options", "file", "other"),
    [((), "last.ckpt", "best.ckpt"), (("dataset.val_fraction=0",), "last.ckpt", "previous.ckpt")],
    ids=["best", "previous"],
)
def test_a_damaged_checkpoint_costs_time_and_no_bit(
    options: tuple[str, ...], file: str, other: str, tmp_path: Path
) -> None:
    """Whole, and cut inside the last epoch, damaged, and continued from the one before."""
    config = config_of(tmp_path, *options)
    assert fit(config, tmp_path / "whole")
    cut = tmp_path / "cut"
    assert not fit(config, cut, stop=9)
    (cut / file).write_bytes((cut / file).read_bytes()[:-1])
    assert newest(runs.Run(cut)) == cut / other
    assert fit(config, cut)
    assert_same(tmp_path / "whole" / file, cut / file)
    assert_same(tmp_path / "whole" / other, cut / other)
    assert [row["epoch"] for row in runs.Run(cut).history()] == [1, 2, 3]


def test_early_stopping_survives_an_interruption(tmp_path: Path) -> None:
    """The count of bad epochs goes on; a run that had stopped early does not train on."""
    more = (
        "early_stopping.patience=1",
        "early_stopping.monitor=val/loss",
        "early_stopping.min_delta=50",
        "epochs=6",
    )
    config = config_of(tmp_path, *more)
    assert fit(config, tmp_path / "whole")
    assert len(runs.Run(tmp_path / "whole").history()) == 2
    assert not fit(config, tmp_path / "cut", stop=6)
    assert fit(config, tmp_path / "cut")
    assert_same(tmp_path / "whole" / "last.ckpt", tmp_path / "cut" / "last.ckpt")
    assert fit(config, tmp_path / "cut")  # as if killed between the last epoch and the test
    assert_same(tmp_path / "whole" / "last.ckpt", tmp_path / "cut" / "last.ckpt")


def start(folder: Path) -> "subprocess.Popen[str]":
    words = [
        sys.executable,
        "-m",
        "imgcls",
        *BASE,
        "epochs=4",
        f"output={folder}",
        "name=run",
        "progress=lines",
    ]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def killed_when(folder: Path, ready: Any, number: int) -> int:
    """Start the run, send a signal once it is ready, and give its exit code."""
    process = start(folder)
    while process.poll() is None and not ready(folder / "run"):
        time.sleep(0.002)
    process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


def test_kill_9_at_three_points_and_the_same_command_again(tmp_path: Path) -> None:
    """Before the first checkpoint, inside a later epoch, and after training while the test runs."""
    whole = start(tmp_path / "a")
    whole.communicate(timeout=120)
    assert whole.returncode == 0
    points = (
        lambda run: (run / "config.yaml").exists(),
        lambda run: len(runs.Run(run).history()) == 2,
        lambda run: (run / "predictions.npz.part").exists() or (run / "report.txt").exists(),
    )
    for point in points:
        assert killed_when(tmp_path / "b", point, signal.SIGKILL) in (-signal.SIGKILL, 0)
    last = start(tmp_path / "b")
    last.communicate(timeout=120)
    assert last.returncode == 0
    a, b = runs.Run(tmp_path / "a" / "run"), runs.Run(tmp_path / "b" / "run")
    assert a.result is not None and b.result is not None
    assert a.result["test"] == b.result["test"]
    assert_same(a / "last.ckpt", b / "last.ckpt")
    assert_same(a / "best.ckpt", b / "best.ckpt")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_so_and_exits_with_its_code(number: int, tmp_path: Path) -> None:
    """130 for Ctrl-C, 143 for SIGTERM; the same command continues."""
    code = killed_when(tmp_path, lambda run: len(runs.Run(run).history()) >= 1, number)
    assert code == 128 + number
    again = start(tmp_path)
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    assert "continues from" in out
    assert [row["epoch"] for row in runs.Run(tmp_path / "run").history()] == [1, 2, 3, 4]


def test_a_finished_run_is_shown_and_not_trained_again(tmp_path: Path, capsys: Any) -> None:
    """The second time nothing is written."""
    config = config_of(tmp_path)
    first = train.main(config, tmp_path / "run")
    stamp = (tmp_path / "run" / "last.ckpt").stat().st_mtime_ns
    assert train.main(config, tmp_path / "run") == first
    assert (tmp_path / "run" / "last.ckpt").stat().st_mtime_ns == stamp
    assert "finished already" in capsys.readouterr().out
