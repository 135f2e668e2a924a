"""Lookahead (Zhang et al. 2019, arXiv:1907.08610): slow weights follow fast ones, which return to them."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

EVERY = 5  # steps between two returns


class Lookahead(Callback):
    """Every fifth step the network returns to a moving average of itself, and at the end once and for all.

    The share that the average keeps of itself grows with the cube of time (Jordan 2024, arXiv:2404.00498,
    section 3.4): early on the network is free, at last it hardly leaves the average.

    Args:
        decay: what it keeps of itself in a step at the end of training; in EVERY steps, decay ** EVERY.
    """

    def __init__(self, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.slow: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the network's weights, or go on with those of a checkpoint."""
        self.steps = pl_module.steps  # type: ignore[assignment]
        fast = self._fast(pl_module)
        self.slow = {k: self.slow[k].to(v.device) if self.slow else v.clone() for k, v in fast.items()}

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Let the average follow the network, and the network return to it."""
        step = trainer.global_step
        if step % EVERY and step != self.steps:
            return
        kept = self.decay**EVERY * (step / self.steps) ** 3
        for name, fast in self._fast(pl_module).items():
            if not step % EVERY:
                self.slow[name].lerp_(fast, 1 - kept)
            fast.copy_(self.slow[name])

    def _fast(self, module: LightningModule) -> dict[str, Tensor]:
        """The network's numbers by name: batch norm's statistics too, but not how often they were taken."""
        network = module.network
        assert isinstance(network, torch.nn.Module)
        return {name: value for name, value in network.state_dict().items() if value.is_floating_point()}

    def state_dict(self) -> dict[str, Any]:
        """The average."""
        return {"slow": self.slow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.slow = state["slow"]
