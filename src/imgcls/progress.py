"""What is seen while training: a bar with ETA on a terminal, one plain line per epoch elsewhere."""

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

REFRESH = 0.25  # seconds between two updates: reading the running loss may wait for the device


def show(mode: str) -> str:
    """`auto` resolved: a bar on a terminal, lines in a file or a notebook."""
    if mode != "auto":
        return mode
    return "bar" if sys.stdout.isatty() else "lines"


class _Rate(ProgressColumn):
    """Images per second, over the last seconds."""

    def render(self, task: Task) -> Text:
        """See the class."""
        rate = task.fields.get("rate")
        return Text(f"{rate:,.0f} img/s" if rate else "", style="progress.data.speed")


class ProgressBar(Callback):
    """Shows epoch, losses, images/s and the time left of the whole training."""

    def __init__(self, mode: str, epochs: int, console: Console | None = None) -> None:
        self.mode, self.epochs = show(mode), epochs
        self.console = console or Console()
        self._bar: Progress | None = None
        self._seen = self._images = 0  # images since the last update, and in this epoch

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar over all steps of all epochs."""
        self._began = self._updated = time.perf_counter()
        self._first = trainer.current_epoch
        if self.mode != "bar" or not trainer.is_global_zero:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:3.0f} %"),
            _Rate(),
            TextColumn("ETA"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[scores]}"),
            console=self.console,
            refresh_per_second=4,
            expand=True,
        )
        total = int(trainer.fit_loop.max_batches * self.epochs)
        done = int(trainer.current_epoch * trainer.fit_loop.max_batches)
        self._task = self._bar.add_task(
            self._title(trainer), total=total, completed=done, scores="", rate=0.0
        )
        self._bar.start()

    def _title(self, trainer: Trainer) -> str:
        return f"epoch {min(trainer.current_epoch + 1, self.epochs)}/{self.epochs}"

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the epoch's images, from those before an interruption on."""
        self._images = int(pl_module.seen[2]) * trainer.world_size  # type: ignore[index]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, a few times a second."""
        self._seen += len(batch[1]) * trainer.world_size
        self._images += len(batch[1]) * trainer.world_size
        now = time.perf_counter()
        if self._bar is None or now - self._updated < REFRESH:
            return
        done = trainer.current_epoch * trainer.fit_loop.max_batches + batch_idx + 1
        loss, right, count = pl_module.seen.tolist()  # type: ignore[operator]
        scores = f"loss {loss / count:.4f}  acc {right / count:.2%}{self._validated}"
        rate = self._seen / (now - self._updated)
        self._bar.update(
            self._task, completed=done, description=self._title(trainer), rate=rate, scores=scores
        )
        self._seen, self._updated = 0, now

    _validated = ""

    def epoch(self, row: dict[str, float]) -> None:
        """Take note of a finished epoch's row of metrics.csv; print it where there is no bar."""
        if "val/acc" in row:
            self._validated = f"  val {row['val/acc']:.2%}"
        if self._bar:
            scores = f"loss {row['train/loss']:.4f}  acc {row['train/acc']:.2%}{self._validated}"
            self._bar.update(self._task, scores=scores)
        if self.mode != "lines":
            return
        now, epoch = time.perf_counter(), int(row["epoch"])
        left = (now - self._began) / (epoch - self._first) * (self.epochs - epoch)
        shown = [f"{key.replace('/', ' ')} {_shown(key, value)}" for key, value in row.items() if "/" in key]
        rate = f"{self._images / max(row['seconds'], 1e-3):,.0f} img/s"
        print("  ".join([f"epoch {epoch}/{self.epochs}", *shown, rate, f"{left:.0f} s left"]), flush=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar:
            done = f"epoch {trainer.current_epoch}/{self.epochs}"
            self._bar.update(self._task, completed=self._bar.tasks[0].total, description=done)
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._close()

    def _close(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


def _shown(key: str, value: float) -> str:
    return f"{value:.2%}" if key.endswith("acc") else f"{value:.4f}"
