"""A sweep while it runs: one live table on a terminal, one plain line per epoch and job elsewhere."""

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from imgcls.sweeps.job import Job

COLOURS = {"running": "bold", "finished": "green", "stopped": "yellow", "pruned": "dim"}
COLOURS |= dict.fromkeys(("failed", "diverged"), "red")
MOST = 20  # rows that are shown of a longer sweep


class Board:
    """Shows the jobs of a sweep.

    Args:
        quiet: show nothing (progress=none).
        workers: how many jobs run at a time.
    """

    def __init__(self, quiet: bool, workers: int, console: Console | None = None) -> None:
        self.console = console or Console()
        self.quiet, self.workers = quiet, workers
        self.jobs: list[Job] = []
        self.total = 0  # jobs that there will be, where more come later
        self._told: Counter[int] = Counter()  # epochs of each job that have their line
        self._began = time.perf_counter()
        self._live: Live | None = None
        self._drawn = 0.0

    def open(self, jobs: list[Job]) -> None:
        """Begin to show these jobs, too."""
        self.jobs += jobs
        self._told.update({job.number: len(job.rows) for job in jobs})
        if self.console.is_terminal and not self.quiet and self._live is None:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()

    def tick(self, ended: Sequence[Job]) -> None:
        """Show what is new; at most twice a second but for the ends of jobs."""
        if self.quiet or (not ended and time.perf_counter() - self._drawn < 0.5):
            return
        self._drawn = time.perf_counter()
        if self._live:
            self._live.update(self.table(), refresh=True)
            return
        for job in self.jobs:
            if job.state == "running" or job in ended:
                self._lines(job)
        for job in ended:
            self._say(f"{self._name(job)} {job.outcome}{f': {job.reason}' if job.reason else ''}")

    def _lines(self, job: Job) -> None:
        for row in job.rows[self._told[job.number] :]:
            self._told[job.number] += 1
            scores = "  ".join(f"{key} {value:.4f}" for key, value in row.items() if "/" in key)
            self._say(
                f"{self._name(job)} epoch {row['epoch']:.0f}/{job.config['epochs']}  {scores}  {self.left()}"
            )

    def _say(self, line: str) -> None:
        print(line, file=self.console.file, flush=True)

    def _name(self, job: Job) -> str:
        count = max(self.total, len(self.jobs))
        return f"[{job.number + 1}/{count}] {' '.join(swept(self.jobs, job))}".rstrip()

    def left(self) -> str:
        """The time that the rest of the sweep will take, as its epochs have taken so far."""
        seconds = [row["seconds"] for job in self.jobs for row in job.rows]
        missing = sum(
            job.config["epochs"] - len(job.rows)
            for job in self.jobs
            if job.trains and job.state in ("waiting", "running")
        )
        if not seconds or not missing:
            return ""
        return f"ETA {_clock(missing * sum(seconds) / len(seconds) / self.workers)}"

    def table(self) -> Table:
        """The jobs: those that run first, then those that have ended, then some that wait."""
        states = Counter(job.state for job in self.jobs)
        done = "  ".join(f"{count} {state}" for state, count in states.items())
        spent = _clock(time.perf_counter() - self._began)
        table = Table(title=f"{done}   {spent} spent  {self.left()}", title_justify="left")
        for column in ("job", "overrides", "state", "epoch", "val acc"):
            table.add_column(column, no_wrap=column != "overrides")
        for job in self._shown():
            score = "" if job.score is None else f"{job.score:.2%}"
            epochs = f"{len(job.rows)}/{job.config['epochs']}" if job.trains else ""
            words, colour = " ".join(swept(self.jobs, job)), COLOURS.get(job.outcome, "")
            table.add_row(str(job.number + 1), words, job.outcome, epochs, score, style=colour)
        if hidden := len(self.jobs) - table.row_count:
            table.caption = f"and {hidden} more"
        return table

    def _shown(self) -> list[Job]:
        if len(self.jobs) <= MOST:
            return self.jobs
        order = ["running", "failed", "stopped", "waiting"]
        ranked = sorted(
            self.jobs, key=lambda job: order.index(job.state) if job.state in order else len(order)
        )
        return sorted(ranked[:MOST], key=lambda job: job.number)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live:
            self._live.stop()
            self._live = None


def swept(jobs: Sequence[Job], job: Job) -> list[str]:
    """What a job is called, or the overrides in which the jobs differ; all of them where there is one job."""
    if job.label:
        return [job.label]
    values: dict[str, set[str]] = {}
    for each in jobs:
        for key, _, value in (override.partition("=") for override in each.overrides):
            values.setdefault(key, set()).add(value)
    return [o for o in job.overrides if len(jobs) == 1 or len(values[o.partition("=")[0]]) > 1]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
