"""A training in plain Lightning, for what it does where we do otherwise."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, Dataset

ROWS, BATCH = 32, 8  # four steps an epoch


class Numbers(Dataset):  # type: ignore[type-arg]
    """Row k is the number k; maybe with noise from torch's default generator, as augmentation draws it."""

    def __init__(self, noise: float = 0) -> None:
        self.noise = noise

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.tensor([float(row)]) + self.noise * torch.randn(1)


class Plain(LightningModule):
    """Learns to tell odd from even; remembers the rows of each batch, and how often it was validated."""

    def __init__(self, width: int = 8, optimizer: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.automatic_optimization = True
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 2))
        self.make = optimizer or (lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9))
        self.rows: list[list[int]] = []
        self.validated = 0

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        self.rows.append(batch.flatten().round().int().tolist())
        loss = nn.functional.cross_entropy(self.network(batch / ROWS), batch.flatten().round().long() % 2)
        self.log("train/row", batch.mean(), on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        """A score that falls from epoch to epoch."""
        self.validated += index == 0
        self.log("val/acc", 1 / (1 + self.current_epoch))

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters())


def loader(**options: Any) -> Any:
    return DataLoader(Numbers(options.pop("noise", 0)), BATCH, **options)


def trainer(folder: Path, *callbacks: Any, **options: Any) -> Trainer:
    """Lightning's, as it comes, but silent."""
    silent = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    fixed = {"accelerator": "cpu", "devices": 1, "default_root_dir": folder, "num_sanity_val_steps": 0}
    given = {"max_epochs": 2, "enable_checkpointing": bool(callbacks), "callbacks": [*callbacks]}
    return Trainer(**{**silent, **fixed, **given, **options})


def weights(module: nn.Module) -> torch.Tensor:
    """All in one line."""
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def forked(work: Callable[[], object]) -> int:
    """Do it in a child process; gives its exit code as Python would, or minus the signal that ended it."""
    if not (child := os.fork()):
        code = 1
        try:
            work()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
