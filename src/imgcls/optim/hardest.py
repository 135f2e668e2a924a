"""Training on the hardest images of each batch alone (Jiang et al. 2019, Accelerating Deep Learning by
Focusing on the Biggest Losers, arXiv:1910.00762), chosen by a small network that trains beside (Coleman et
al. 2020, Selection via Proxy, arXiv:1906.11829), as airbench96_faster does it
(github.com/KellerJordan/cifar10-airbench), whose settings these are.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from imgcls.optim import decay

EVERY = 4  # batches from one of which the small network learns
MOMENTUM = 0.85
RATE = 9 / (1024 * (1 + 1 / (1 - MOMENTUM)))  # for a loss that is summed over the images learned from
DECAY = 0.012 / 9  # for each image of a batch
BIAS_RATE = 64.0  # as a multiple


class Hardest(Callback):
    """Chooses the images of a batch on which a small network has the highest loss, and trains that on them.

    Args:
        share: of a batch that is chosen, in (0, 1).
        proxy: the small network; maps float images to logits.
        batch_size: of the batches that are chosen from.
        factor: step (0-based) → factor of the learning rate.
        smoothing: of the labels.
    """

    def __init__(
        self,
        share: float,
        proxy: nn.Module,
        batch_size: int,
        factor: Callable[[int], float],
        smoothing: float,
    ) -> None:
        self.share, self.proxy, self.factor, self.smoothing = share, proxy, factor, smoothing
        groups = decay.groups(proxy, DECAY * batch_size, True, bias_lr=BIAS_RATE)
        for group in groups:
            group["lr"] = group["initial_lr"] = RATE * group.pop("times", 1.0)
        self.optimizer = torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the classifier to its device."""
        self.proxy.to(pl_module.device).train()
        self.optimizer.load_state_dict(self.optimizer.state_dict())  # which takes its state there

    def rows(self, x: Tensor, labels: Tensor, step: int) -> Tensor:
        """Float images (N, C, H, W), labels (N,) → which are the hardest, in their order: (⌈share · N⌉,).

        At least two, without which batch norm takes nothing from a batch.
        """
        count = min(max(math.ceil(self.share * len(labels)), 2), len(labels))
        learns = step % EVERY == 0
        with torch.set_grad_enabled(learns):
            logits = self.proxy(x).float()
            losses = F.cross_entropy(logits, labels, label_smoothing=self.smoothing, reduction="none")
        found = losses.detach().topk(count).indices.sort().values
        if learns:
            self._learn(losses[found].sum(), self.factor(step))
        return found

    def _learn(self, loss: Tensor, factor: float) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """The small network and its momentum."""
        return {"proxy": self.proxy.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self.proxy.load_state_dict(state["proxy"])
        self.optimizer.load_state_dict(state["optimizer"])
