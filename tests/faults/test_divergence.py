"""Numbers that are none: found before they reach the weights, and what becomes of such a run."""

import csv
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from same import assert_same

from imgcls import build
from imgcls.__main__ import register_resolvers
from imgcls.classifier import Classifier
from imgcls.cli import command
from imgcls.compare import collect
from imgcls.divergence import blown_up
from imgcls.errors import CheckpointError, DivergedError
from imgcls.runs import Run
from imgcls.tasks import list as listing
from imgcls.tasks import train

# 128 images in four steps an epoch
SMALL = [
    *("model=resnet20", "model.width=4", "augmentation=none", "epochs=3", "batch_size=32"),
    *("dataset.limit=160", "dataset.val_fraction=0.2", "trainer.threads=1", "progress=none"),
    *("schedule=constant", "optimizer.lr=0.05"),
]


def config_of(folder: Path, *more: str) -> dict[str, Any]:
    register_resolvers()
    config, problems = command.check([*SMALL, "trainer=cpu", f"output={folder}", "name=run", *more])
    assert not problems, problems
    return config


class Spoil(Callback):
    """At an optimizer step, counted from 1, something is not finite; remembers the weights before it."""

    def __init__(self, step: int, what: str, value: float) -> None:
        self.step, self.what, self.value = step, what, value
        self.before: dict[str, torch.Tensor] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, index: int) -> None:
        if trainer.global_step + 1 != self.step:
            return
        self.module = pl_module
        self.before = {name: p.detach().clone() for name, p in pl_module.network.named_parameters()}
        if self.what == "loss":
            objective = pl_module._objective

            def spoilt(*args: Any) -> Any:
                logits, loss = objective(*args)
                return logits, loss * self.value

            pl_module._objective = spoilt
        else:
            pl_module.network.fc.weight.register_hook(self._gradient)

    def _gradient(self, gradient: torch.Tensor) -> torch.Tensor:
        """Of one weight out of thousands."""
        gradient = gradient.clone()
        gradient[0, 0] = self.value
        return gradient

    def untouched(self) -> bool:
        """Whether the weights are still those of the step before."""
        left = dict(self.module.network.named_parameters())
        return bool(left) and all(torch.equal(left[name], value) for name, value in self.before.items())


def fit(config: dict[str, Any], *more: Callback, run: Run | None = None, lean: bool = True) -> Classifier:
    """Train with some callbacks before all others."""
    images = build.data(config)
    classifier, trainer = build.classifier(config, images), build.trainer(config, run)
    if not lean:
        trainer.fit_loop.epoch_loop = _TrainingEpochLoop(trainer)
    trainer.callbacks[:0] = more  # type: ignore[attr-defined]
    last = run / "last.ckpt" if run and (run / "last.ckpt").exists() else None
    trainer.fit(classifier, datamodule=images, ckpt_path=last)
    return classifier


FAULTS = {
    "fault-52 nan loss": ("loss", math.nan, "the loss"),
    "fault-52 inf loss": ("loss", math.inf, "the loss"),
    "fault-53 inf gradient": ("gradient", math.inf, "a gradient"),
    "fault-53 nan gradient": ("gradient", math.nan, "a gradient"),
}
WAYS = {
    "plain": (),
    "clip": ("clip=1",),  # which would spread one inf over all weights
    "parts": ("accumulate=4",),
    "full precision": ("trainer.precision=32-true",),
    "not fused": ("optimizer.fused=false",),
    "adam": ("optimizer=adam", "optimizer.lr=0.05"),
    "fault-54 early stopping": ("early_stopping.monitor=val/acc", "early_stopping.patience=2"),
}


@pytest.mark.parametrize(
    ("fault", "way"),
    [*((fault, "plain") for fault in FAULTS), *(("fault-53 inf gradient", way) for way in [*WAYS][1:])],
)
def test_it_stops_before_the_step(fault: str, way: str, tmp_path: Path) -> None:
    """One line names what, epoch, step, rate and remedy; the weights are those of the step before."""
    what, value, name = FAULTS[fault]
    spoil = Spoil(6, what, value)
    with pytest.raises(DivergedError) as caught:
        fit(config_of(tmp_path, *WAYS[way]), spoil)
    remedy = "Lower optimizer.lr." if way == "clip" else "Lower optimizer.lr, or set clip=1."
    assert str(caught.value) == f"{name} is not finite in epoch 2, at step 6 (lr 0.05). {remedy}"
    assert (caught.value.exit_code, caught.value.where) == (5, {"epoch": 2, "step": 6, "lr": 0.05})
    assert spoil.untouched()


def test_fault_53_in_lightnings_own_loop(tmp_path: Path) -> None:
    spoil = Spoil(3, "gradient", math.inf)
    with pytest.raises(DivergedError, match="a gradient is not finite in epoch 1, at step 3 "):
        fit(config_of(tmp_path), spoil, lean=False)
    assert spoil.untouched()


def test_fault_53_the_negative_control() -> None:
    """Without us torch takes the step, clipping spreads the ruin, and nobody says a word."""
    network = torch.nn.Linear(4, 2)
    network(torch.ones(1, 4)).sum().backward()
    assert network.weight.grad is not None
    network.weight.grad[0, 0] = math.inf
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1)
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    assert network.weight.isnan().any()


def test_looking_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = fit(config_of(tmp_path)).state_dict()
    monkeypatch.setattr("imgcls.classifier.finite_gradients", lambda optimizer: True)
    blind = fit(config_of(tmp_path)).state_dict()
    assert all(torch.equal(value, blind[name]) for name, value in looked.items())


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("fc.bias", "dataset.val_fraction=0", "a weight"),
        ("fc.bias", "dataset.val_fraction=0.2", "the validation loss"),
        ("bn1.running_var", "dataset.val_fraction=0.2", "the validation loss"),
    ],
)
def test_fault_55_what_is_ruined_is_not_saved(name: str, more: str, said: str, tmp_path: Path) -> None:
    """Neither as last nor as best: the checkpoints stay those of the epoch before."""

    class Ruin(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
            if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch and trainer.current_epoch == 1:
                # No gradient will show it any more
                state = dict(pl_module.network.state_dict(keep_vars=True))
                state[name].data.fill_(math.nan)

    run = Run(tmp_path / "run")
    run.path.mkdir()
    with pytest.raises(DivergedError, match=f"^{said} is not finite in epoch 2, at step"):
        fit(config_of(tmp_path, more), Ruin(), run=run)
    for file in run.path.glob("*.ckpt"):
        saved = torch.load(file, weights_only=True)
        assert saved["epoch"] == 0
        assert all(value.isfinite().all() for value in saved["state_dict"].values())


def test_a_loss_has_blown_up_only_if_nothing_was_learned() -> None:
    """Of ten classes: above 1000 ln 10 = 2302.6, and right on no more than 10 % and three standard errors."""
    assert blown_up(2303, 100, 1000, 10)
    assert blown_up(1e9, 128, 1000, 10)
    assert not blown_up(2302, 100, 1000, 10)
    assert not blown_up(1e9, 129, 1000, 10)


# What is kept of such a run


def test_a_diverged_run_is_recorded_with_the_weights_before(tmp_path: Path, capsys: Any) -> None:
    """In the first epoch those are the initial ones; the second time it is shown and not trained."""
    config = config_of(tmp_path, "optimizer.lr=1e30", "on_divergence=record")
    train.main(config, tmp_path / "run")
    run = Run(tmp_path / "run")
    result = run.result
    assert result is not None
    why = "the loss is not finite in epoch 1, at step 2 (lr 1e+30). Lower optimizer.lr, or set clip=1."
    assert result["diverged"] == {"epoch": 1, "step": 2, "lr": 1e30, "why": why}
    assert (result["epochs"], result["last"], result["best"], result["weights"]) == (0, None, None, "last")
    assert result["warnings"][0] == f"diverged: {why} The scores are of its last checkpoint before that."
    assert (run.diverged, run.completed) == (why, None)
    initial = build.classifier(config, build.data(config)).state_dict()
    saved = torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in initial.items())
    stamp = (run / "result.json").stat().st_mtime_ns
    train.main(config, run.path)
    assert "finished already" in capsys.readouterr().out
    assert (run / "result.json").stat().st_mtime_ns == stamp
    assert listing._run(run)[1:3] == ["diverged", "-"]
    with pytest.raises(CheckpointError, match=r"1 diverged \(run\)"):
        collect.load([run.path])


def test_a_run_that_diverges_late_is_tested_with_its_best_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build.trainer

    def spoilt(*args: Any) -> Any:
        trainer = made(*args)
        trainer.callbacks.insert(0, Spoil(7, "gradient", math.inf))  # type: ignore[attr-defined]
        return trainer

    monkeypatch.setattr(build, "trainer", spoilt)
    train.main(config_of(tmp_path, "on_divergence=record"), tmp_path / "run")
    result = Run(tmp_path / "run").result
    assert result is not None
    assert (result["diverged"]["epoch"], result["diverged"]["step"]) == (2, 7)
    assert (result["epochs"], result["weights"], result["best"]["epoch"]) == (1, "best", 1)
    assert result["images_per_second"] > 0


def test_the_checkpoint_that_a_recorded_run_begins_with_is_exact(tmp_path: Path) -> None:
    """Killed before its first step, it goes on to the bits of a run that was not."""

    class Killed(Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            raise MemoryError

    config = config_of(tmp_path, "on_divergence=record", "augmentation=affine")
    whole, cut = Run(tmp_path / "whole"), Run(tmp_path / "cut")
    whole.path.mkdir()
    cut.path.mkdir()
    fit(config, run=whole)
    with pytest.raises(MemoryError):
        fit(config, Killed(), run=cut)
    assert (cut / "last.ckpt").exists()
    fit(config, run=cut)
    assert_same(whole / "last.ckpt", cut / "last.ckpt")
    assert_same(whole / "best.ckpt", cut / "best.ckpt")


def imgcls(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imgcls", *words], capture_output=True, text=True, timeout=200
    )


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_fault_53_on_two_ranks(strategy: str, tmp_path: Path) -> None:
    """All stop at one step: one line, or one result of all test images."""
    words = [*SMALL, "trainer=ddp_cpu", f"trainer.strategy={strategy}", f"output={tmp_path}", "name=run"]
    words += ["optimizer.lr=1e30", "trainer.timeout=60"]
    stop = imgcls(*words)
    assert stop.returncode == 5, stop.stderr
    assert stop.stderr.startswith("imgcls: error: the loss is not finite in epoch 1, at step 2 (lr 1e+30).")
    assert stop.stderr.count("\n") == 1
    done = imgcls(*words, "on_divergence=record")
    assert done.returncode == 0, done.stderr
    result = Run(tmp_path / "run").result
    assert result is not None
    assert (result["diverged"]["step"], result["test"]["n"]) == (2, 160)


# A plain VGG, which a rate of 0.1 ruins at once
VGG = [
    *("model=vgg11", "model.width=8", "model.batch_norm=false", "scaling=x4", "dataset=digits"),
    *("dataset.limit=320", "epochs=2", "batch_size=32", "trainer.threads=1"),
]


def table(folder: Path, pattern: str) -> list[dict[str, str]]:
    (file,) = folder.glob(pattern)
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


@pytest.mark.slow
def test_fault_52_the_2024_reports_vgg_at_rate_01(tmp_path: Path) -> None:
    """The report prints 10 %. In the reproduction it is a line that says why, and no score."""
    change = ["model.pretrained=false", "freeze=none", "seeds=2"]
    done = imgcls("task=reproduce", "rows=gilbert.table3.01", *VGG, *change, f"output={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "gilbert.table3.01: diverged (the loss has blown up (to " in done.stdout
    assert "in epoch 1, at step 10 (lr 0.1). Lower optimizer.lr" in done.stdout
    rows = [row for row in table(tmp_path, "papers/*/table.csv") if row["row"] == "gilbert.table3.01"]
    assert {(row["state"], row["ours"], row["verdict"], row["runs"]) for row in rows} == {
        ("diverged", "", "", "0")
    }


@pytest.mark.slow
def test_fault_52_in_a_sweep(tmp_path: Path) -> None:
    """Recorded it is a row without a score, below the others, and trained once; else a failed job."""
    own = ["optimizer=adam", "schedule=constant", "dataset.val_fraction=0", "dataset.normalize=zero_one"]
    words = ["-m", *VGG, *own, "optimizer.lr=0.1,0.0001"]
    failed = imgcls(*words, f"output={tmp_path}")
    assert failed.returncode == 7
    assert failed.stderr.startswith("imgcls: error: job 1 failed: the loss has blown up (to ")
    done = imgcls(*words, "on_divergence=record", f"output={tmp_path}/kept")
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path / "kept", "sweeps/*/sweep.csv")
    assert [(row["optimizer.lr"], row["state"]) for row in rows] == [
        ("0.0001", "finished"),
        ("0.1", "diverged"),
    ]
    assert rows[1]["test_acc"] == "" and rows[1]["reason"].startswith("the loss has blown up")
    again = imgcls(*words, "on_divergence=record", f"output={tmp_path}/kept")
    assert again.returncode == 0 and " diverged: the loss has blown up" in again.stdout
