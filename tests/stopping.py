"""An interruption at an exact step."""

import signal
from typing import Any

from lightning.pytorch.callbacks import Callback

from imgcls.checkpoints import Keeper


class StopAt(Callback):
    """Notes a signal with the keeper once so many optimizer steps are done."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            next(c for c in trainer.callbacks if isinstance(c, Keeper)).signal = signal.SIGTERM
