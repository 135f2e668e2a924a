"""The learning-rate range test (Smith 2017, arXiv:1506.01186, section 3.3), on the run's own training step.

The rate grows exponentially from step to step. Where the loss falls fastest is a good rate to train with;
beyond it the loss turns, and training diverges.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightning.pytorch import Callback

from imgcls import build, trials
from imgcls.data.loader import Batch
from imgcls.errors import ConfigError, DivergedError

LOW, HIGH, STEPS = 1e-6, 10.0, 100
MEMORY = 0.9  # how much of the smoothed loss is what it was
WORST = 2.0  # times the least smoothed loss: diverged
WARM = 10  # steps before the smoothed loss means something

Points = Sequence[tuple[float, float, float]]  # rate, loss, smoothed loss


@dataclass(frozen=True)
class Trial:
    """What came of a range test."""

    points: Points
    best: float
    diverged: bool


class Watch(Callback):
    """Notes the loss of every step, and stops when it diverges."""

    def __init__(self, rates: Sequence[float]) -> None:
        self.rates = rates
        self.points: list[tuple[float, float, float]] = []
        self.diverged = False
        self.mean = 0.0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """The classifier's sums begin at zero."""
        self.before = 0.0

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The step that is not finite is not taken."""
        self.diverged = isinstance(exception, DivergedError)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """The step's own loss is what the epoch's sum has grown by."""
        total = float(pl_module.seen[0])
        loss, self.before = (total - self.before) / len(batch[1]), total
        step = len(self.points) + 1
        self.mean = MEMORY * self.mean + (1 - MEMORY) * loss
        smooth = self.mean / (1 - MEMORY**step)  # without the pull of the zero at the start
        least = min((point[2] for point in self.points), default=math.inf)
        if not math.isfinite(loss) or (step > WARM and smooth > WORST * least):
            self.diverged = True
        else:
            self.points.append((self.rates[step - 1], loss, smooth))
        trainer.should_stop = self.diverged or step == len(self.rates)


def test(config: Mapping[str, Any], steps: int = STEPS) -> Trial:
    """Train for some steps with a rate that grows from LOW to HIGH."""
    images = build.data(dict(config))
    schedule = {"name": "constant"}
    classifier = build.classifier(
        {**config, "optimizer": {**config["optimizer"], "lr": LOW}, "schedule": schedule}, images
    )
    growth = HIGH / LOW
    classifier.factor = lambda step: growth ** (step / (steps - 1))
    watch = Watch([LOW * classifier.factor(step) for step in range(steps)])
    trials.train(config, classifier, images, steps, watch)
    return Trial(watch.points, steepest(watch.points), watch.diverged)


def steepest(points: Points) -> float:
    """The rate, before the least smoothed loss, at which it falls fastest per decade; ConfigError if none."""
    rates, smooth = np.array([(rate, s) for rate, _, s in points[WARM:]]).reshape(-1, 2).T
    turn = int(smooth.argmin()) + 1 if len(smooth) else 0  # beyond it the loss may fall again, from its ruins
    slope = np.gradient(smooth[:turn], np.log(rates[:turn])) if turn > 1 else np.zeros(1)
    if slope.min() >= 0:
        raise ConfigError(
            f"the loss falls at no rate from {LOW:g} to {HIGH:g}. Try a larger batch_size, or another init."
        )
    return float(rates[slope.argmin()])
