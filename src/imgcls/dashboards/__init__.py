"""Dashboards that a run is shown on beside its own metrics.csv: TensorBoard, Weights & Biases.

They are off the path of training: nothing that a logger does can stop, delay or change a run.
Imports nothing heavy: the process that speaks to W&B needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from imgcls.dashboards.board import Board
    from imgcls.data.sources import Images
    from imgcls.runs import Run

TENSORBOARD, WANDB = "tensorboard", "wandb"  # the folders of both in a run folder


def chosen(config: Mapping[str, Any], run: Run) -> list[Board]:
    """The callback that tells the configured loggers; none without any."""
    from imgcls.dashboards.board import Board, Logger

    options, loggers = config["logger"], dict[str, Logger]()
    if options["tensorboard"]:
        from imgcls.dashboards.tensorboard import TensorBoard

        loggers["tensorboard"] = TensorBoard(run, config)
    if options["wandb"]:
        from imgcls.dashboards.wandb import WandB

        loggers["wandb"] = WandB(run, config)
    return [Board(loggers, options["every"])] if loggers else []


def there(trainer: Trainer) -> bool:
    """Whether a trainer has loggers that show more than numbers."""
    from imgcls.dashboards.board import Board

    return any(isinstance(callback, Board) for callback in trainer.callbacks)  # type: ignore[attr-defined]


def finish(trainer: Trainer, result: Mapping[str, Any], kept: Mapping[str, Any], images: Images) -> None:
    """Tell the loggers of a trainer how it ended, once all files of the run are written."""
    from imgcls.dashboards.board import Board

    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Board):
            callback.finish(result, kept, images)


def places(folder: Path) -> list[str]:
    """Where to look: one line for each dashboard of a run folder."""
    lines = []
    if (folder / TENSORBOARD).is_dir():
        lines.append(f"tensorboard --logdir {folder.parent}")
    state = folder / WANDB / "state.json"
    if state.exists():
        lines.append(told(json.loads(state.read_text(encoding="utf-8")), folder))
    return lines


def told(state: Mapping[str, Any], folder: Path) -> str:
    """What W&B's process says of itself, in one line."""
    if state["url"]:
        return f"wandb: {state['url']}"
    return f"wandb sync {folder / WANDB / state['folder']}   (offline: {state['why']})"
