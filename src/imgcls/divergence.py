"""Numbers that are none (NaN, inf): found before they reach the weights, and what is kept of such a run."""

import math
from functools import cache

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from imgcls.distributed import ranks
from imgcls.runs import LAST, Run

BLOWN_UP = 1000  # times the loss of guessing


def blown_up(loss: float, right: float, count: float, classes: int) -> bool:
    """Whether an epoch's mean loss is a thousand times that of guessing, ln(classes), and taught nothing.

    Networks without batch norm survive a rate that is far too high, and answer every image alike from then
    on. A high loss alone may be that of one step, from which a training recovers: then it is right more often
    than by chance (three standard errors).
    """
    chance = 1 / classes
    learned = right / count > chance + 3 * math.sqrt(chance * (1 - chance) / count)
    return loss > BLOWN_UP * math.log(classes) and not learned


def finite_gradients(optimizer: Optimizer) -> bool:
    """Whether all gradients are finite, the same on every rank; waits for the device.

    By the kernel with which torch's GradScaler finds overflows, at a scale of 1: one pass over the gradients
    in a third of the time that their norm takes. What is not finite in the loss is not finite in them.
    """
    found = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    shared = isinstance(found[0], DTensor)
    mine = [ranks.local(gradient) for gradient in found] if shared else found
    bad = torch.zeros(1, device=found[0].device)
    torch._amp_foreach_non_finite_check_and_unscale_(mine, bad, _one(found[0].device))
    # Each rank has its share; else they have exchanged their gradients
    return not (ranks.highest([bad.item()])[0] if shared else bad.item())


@cache
def _one(device: torch.device) -> torch.Tensor:
    return torch.ones(1, device=device)


class FirstWeights(Callback):
    """Keeps the initial weights, so that a run which diverges in its first epoch has some to be tested."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Every later checkpoint takes their place."""
        if not (self.run / LAST).exists():
            trainer.save_checkpoint(self.run / LAST)
