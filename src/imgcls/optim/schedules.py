"""The learning rate over training, as a factor of `optimizer.lr` at each step."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau


def factor(schedule: Mapping[str, Any], steps: int) -> Callable[[int], float] | None:
    """step (0-based) → factor in [0, 1], for training of `steps` optimizer steps; None if it never moves so.

    onecycle: straight up, straight down (Smith 2018, arXiv:1803.09820, linear as in its section 4) ·
    cosine: straight up, half a cosine down (Loshchilov & Hutter 2016) · step: drops at shares of training.
    """
    kind = schedule["name"]
    if kind in ("constant", "plateau"):
        return None
    if kind == "step":
        drops = [share * steps for share in schedule["at"]]
        return lambda step: float(schedule["gamma"]) ** sum(step >= drop for drop in drops)
    warm, final = schedule["warmup"] * steps, schedule["final"]

    def shape(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        left = (steps - step) / (steps - warm)  # 1 at the top, just above 0 at the last step
        curve = left if kind == "onecycle" else (1 - math.cos(math.pi * left)) / 2
        return final + (1 - final) * max(curve, 0.0)

    return shape


def plateau(optimizer: Optimizer, schedule: Mapping[str, Any]) -> ReduceLROnPlateau | None:
    """The scheduler that is stepped once an epoch with the monitored loss, if that is the schedule."""
    if schedule["name"] != "plateau":
        return None
    # torch counts how many bad epochs it forgives, and we after how many it acts, as Keras does
    return ReduceLROnPlateau(
        optimizer,
        factor=schedule["factor"],
        patience=max(schedule["patience"] - 1, 0),
        threshold=schedule["min_delta"],
        threshold_mode="abs",
    )
