"""Small folders of checkpoints, as training leaves them, to be damaged."""

from pathlib import Path
from typing import Any

import torch

from imgcls.checkpoints import AtomicIO
from imgcls.runs import Run


def state(step: int, numbers: int = 300) -> dict[str, Any]:
    """A checkpoint like those of training: weights of several kinds, optimizer, plain values."""
    weights = {
        "network.weight": torch.full((numbers,), float(step)),
        "network.count": torch.tensor(step),
        "network.half": torch.arange(64, dtype=torch.bfloat16) * step,
    }
    return {
        "epoch": step // 10,
        "global_step": step,
        "state_dict": weights,
        "optimizer_states": [{"state": {0: {"momentum": torch.ones(numbers) * step}}}],
        "callbacks": {"imgcls.Keeper": {"best": {"val/acc": 0.5}, "stop": False}},
        "imgcls": {"domain": {"classes": ["ä", "b"]}, "seen": torch.zeros(1, 3, dtype=torch.float64)},
    }


def save(run: Run, file: str, step: int) -> None:
    """Write a checkpoint as training does."""
    AtomicIO().save_checkpoint(state(step), run / file)


def folder(path: Path, *saves: tuple[str, int]) -> Run:
    """A run folder in which these files were saved at these steps, one after another."""
    path.mkdir(parents=True)
    for file, step in saves:
        save(Run(path), file, step)
    return Run(path)
