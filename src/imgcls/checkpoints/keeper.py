"""Deciding what is saved when, and stopping so that nothing is lost."""

import threading
import time
from collections.abc import Callable
from signal import SIGINT
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from imgcls import stops
from imgcls.distributed import ranks
from imgcls.runs import BEST, LAST, Run


class Stopped(BaseException):
    """A signal asked for the end; everything is saved."""

    def __init__(self, number: int, where: str) -> None:
        super().__init__(where)
        self.exit_code = 128 + number


class Keeper(Checkpoint):
    """Keeps `last.ckpt`, `best.ckpt` and `metrics.csv`, and saves at the next step when a signal comes.

    The row of an epoch and its best weights are written before `last.ckpt`: a run that is killed in
    between repeats the epoch and writes the same again.
    """

    def __init__(self, run: Run, minutes: float, tell: Callable[[dict[str, float]], None]) -> None:
        self.run, self.seconds, self.tell = run, minutes * 60, tell
        self.best: dict[str, float] = {}
        self.signal: int | None = None
        self._spent = 0.0  # seconds of this epoch before an interruption
        self._handlers: dict[int, Any] = {}

    @property
    def state_key(self) -> str:
        """Under which Lightning stores our state."""
        return "imgcls.Keeper"

    def state_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return {"best": self.best, "spent": self._seconds(), "stop": self._stop}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where the checkpoint left."""
        self.best, self._spent, self._stop = state["best"], state["spent"], state["stop"]

    _stop = False  # early stopping has ended training: a resumed run must not train on
    _started = _noted = 0.0

    def _seconds(self) -> float:
        return self._spent + (time.perf_counter() - self._started if self._started else 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to signals (after Lightning has set its own handlers) and forget rows not yet earned."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = stops.listen(self._note)
        if trainer.is_global_zero:
            rows = [row for row in self.run.history() if row["epoch"] <= trainer.current_epoch]
            if rows or (self.run / "metrics.csv").exists():
                self.run.write_history(rows)
        trainer.should_stop |= self._stop
        self._started = self._saved = time.perf_counter()

    def _asked(self, due: bool = False) -> bool:
        """Whether any rank was sent a signal, or found it time to save: all do the same."""
        signal_number, saving = ranks.highest([self.signal or 0, due])
        self.signal = int(signal_number) or None
        return bool(signal_number or saving)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Only take note: the save happens between two steps. A second Ctrl-C stops at once."""
        if self.signal == SIGINT == number and time.monotonic() - self._noted > 0.5:
            raise KeyboardInterrupt  # within the same half second, a launcher has passed on the first
        self.signal, self._noted = number, time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Save inside an epoch if a signal came, or if it is time."""
        due = self._asked(time.perf_counter() - self._saved > self.seconds)
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        # The last batch waits for the validation that follows.
        if due and not last:
            pl_module.check_finite()  # type: ignore[operator]
            self._save(trainer, LAST)
            self._leave(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's row, its weights if they are the best, and then the state to resume from."""
        scores = dict(pl_module.epoch)  # type: ignore[arg-type]
        self._stop = trainer.should_stop
        row = self._row(trainer, scores)
        if trainer.is_global_zero:
            self.run.write_history([r for r in self.run.history() if r["epoch"] < row["epoch"]] + [row])
            self.tell(row)
        self._spent = self._started = 0.0  # the row has them; a checkpoint at an epoch's end has none
        if "val/acc" in scores and self._better(scores):
            self.best = {"epoch": row["epoch"], **scores}
            self._save(trainer, BEST)
        self._save(trainer, LAST)
        self._started = time.perf_counter()
        self._asked()
        self._leave(trainer)

    def _row(self, trainer: Trainer, scores: dict[str, float]) -> dict[str, float]:
        """The epoch's line of metrics.csv; epochs count from 1."""
        return {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            **dict(sorted(scores.items())),
            "seconds": round(self._seconds(), 3),
        }

    def _better(self, scores: dict[str, float]) -> bool:
        """Higher validation accuracy, or the same with lower loss."""

        def rank(s: dict[str, float]) -> tuple[float, float]:
            return s["val/acc"], -s["val/loss"]

        return not self.best or rank(scores) > rank(self.best)

    def _save(self, trainer: Trainer, file: str) -> None:
        trainer.save_checkpoint(self.run / file)
        self._saved = time.perf_counter()

    def _leave(self, trainer: Trainer) -> None:
        if self.signal is not None:
            where = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}"
            raise Stopped(self.signal, where)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        stops.restore(self._handlers)
        self._handlers = {}
