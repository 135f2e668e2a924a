"""The callback between a training and its loggers: what they are told, when, and that they cannot do harm."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from imgcls.data.sources import Images

log = logging.getLogger(__name__)
Row = Mapping[str, float]


class Logger(Protocol):
    """What a dashboard is told; whatever it raises is caught."""

    def start(self, step: int, module: Any, images: Any) -> None:
        """Training begins after `step` optimizer steps: what was told of later ones will be told again."""

    def step(self, values: Row, step: int) -> None:
        """The loss and the learning rate at a step."""

    def epoch(self, row: Row) -> None:
        """A finished epoch's row of metrics.csv."""

    def saved(self) -> None:
        """A checkpoint is being written: what was told so far must outlive the process."""

    def finish(self, result: Mapping[str, Any], kept: Mapping[str, np.ndarray], images: Images) -> None:
        """The result; all files of the run are written."""

    def close(self) -> None:
        """No more is coming, be it after the result or after a failure."""


class _Later:
    """A tensor on its way to the processor, while the device works on."""

    def __init__(self, values: torch.Tensor) -> None:
        self._values = values.to("cpu", non_blocking=True)
        self._event = torch.cuda.current_stream(values.device).record_event() if values.is_cuda else None

    def tolist(self) -> list[float]:
        """Its values; waits only for what the device did before it."""
        if self._event:
            self._event.synchronize()
        return self._values.tolist()


class Board(Callback):
    """Tells loggers of a training; one that fails is switched off, with one line.

    Args:
        loggers: by the name to call them in that line.
        every: steps between two points of the training loss.
    """

    def __init__(self, loggers: Mapping[str, Logger], every: int) -> None:
        self.loggers, self.every = dict(loggers), every
        self._started = False
        self._point: tuple[int, float, _Later] | None = None  # told at the next one: by then it is here

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """One process speaks for all."""
        if not trainer.is_global_zero:
            self.loggers.clear()
        self._trainer, self._module = trainer, pl_module

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The global step is known by now, also of a run that goes on, maybe from inside an epoch."""
        self._before = pl_module.seen.clone()  # type: ignore[operator]
        self._start()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._tell("start", self._trainer.global_step, self._module, self._trainer.datamodule)  # type: ignore[attr-defined]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Points are means since the last one, or since the epoch's beginning."""
        self._before = pl_module.seen.clone()  # type: ignore[operator]

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Note the loss of the last steps, without waiting for the device."""
        step = trainer.global_step
        if step % self.every or not self.loggers:
            return
        self._tell_point()
        seen: torch.Tensor = pl_module.seen.clone()  # type: ignore[operator]
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self._point = step, rate, _Later(seen - self._before)
        self._before = seen

    def _tell_point(self) -> None:
        if self._point:
            step, rate, sums = self._point
            loss, _, count = sums.tolist()
            self._point = None
            self._tell("step", {"step/loss": loss / count, "step/lr": rate}, step)

    def epoch(self, row: Row) -> None:
        """Take note of a finished epoch's row of metrics.csv."""
        self._tell_point()
        self._tell("epoch", row)

    def on_save_checkpoint(self, *args: Any) -> None:
        """A run that goes on from here will not tell again what was before."""
        self._tell_point()
        self._tell("saved")

    def finish(self, result: Mapping[str, Any], kept: Mapping[str, np.ndarray], images: Images) -> None:
        """Show the result and close."""
        self._start()  # of a run that was killed between its last epoch and its test
        self._tell("finish", result, kept, images)
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stopped or failed."""
        if self._started:
            self._tell_point()
            self._close()

    def _close(self) -> None:
        self._tell("close")
        self.loggers.clear()

    def _tell(self, what: str, *facts: Any) -> None:
        for name, logger in list(self.loggers.items()):
            try:
                getattr(logger, what)(*facts)
            except Exception as error:
                del self.loggers[name]
                with suppress(Exception):
                    logger.close()
                reason = (str(error).splitlines() or [""])[0]
                log.warning("logger=%s is off (%s: %s); the run goes on.", name, type(error).__name__, reason)
