"""What tests let every rank do; `imgcls.distributed.launch` finds it by name in processes of its own."""

import json
import os
import signal
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from imgcls import build
from imgcls.checkpoints import Stopped
from imgcls.distributed import launch, ranks
from imgcls.errors import DataError
from imgcls.runs import Run


class SignalAt(Callback):
    """One rank is sent SIGTERM once so many optimizer steps are done."""

    def __init__(self, step: int, rank: int) -> None:
        self.step, self.rank = step, rank

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if (trainer.global_step, trainer.global_rank) == (self.step, self.rank):
            os.kill(os.getpid(), signal.SIGTERM)


def fit(config: dict[str, Any], run: Run, stop: tuple[int, int] | None = None) -> None:
    """Train and test a configuration; leaves scores and predictions beside the checkpoints."""
    run.path.mkdir(exist_ok=True)
    images = build.data(config)
    classifier, trainer = build.classifier(config, images), build.trainer(config, run)
    trainer.callbacks[:0] = [SignalAt(*stop)] if stop else []
    last = run / "last.ckpt"
    trainer.fit(classifier, datamodule=images, ckpt_path=last if last.exists() else None)
    trainer.test(classifier, datamodule=images, verbose=False)
    scores, kept = classifier.scores.full(), classifier.scores.kept()
    if trainer.is_global_zero:
        np.savez(run / "kept.npz", asked=images.tested.labels, **kept)
        (run / "scores.json").write_text(json.dumps(scores))


def fit_all(config: dict[str, Any], run: Run) -> None:
    """Fit each of the configurations that lie in the run's folder, through all their interruptions."""
    for name, (case, stops) in json.loads((run / "cases.json").read_text()).items():
        for stop in stops:
            try:
                fit(case, Run(run / name), stop)
            except Stopped:
                continue
            raise AssertionError(f"{name} went past {stop}")
        fit(case, Run(run / name))


def fail(config: dict[str, Any], run: Run) -> None:
    """Rank 1 cannot read something, while rank 0 waits for it."""
    if launch.rank():
        raise DataError("photo.jpg is damaged. Delete it.")
    ranks.total(torch.ones(1))


def disagree(config: dict[str, Any], run: Run) -> None:
    """Rank 1 has read other images."""
    ranks.agree({"torch": "2", "data": f"images {launch.rank()}"})


def die(config: dict[str, Any], run: Run) -> None:
    """Rank 1 gets the signal whose number is the seed, while rank 0 waits for it."""
    if launch.rank():
        os.kill(os.getpid(), config["seed"])
    ranks.total(torch.ones(1))
