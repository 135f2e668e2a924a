"""A whole sweep: what is left to run, what failed, and what came out."""

import sys
from collections.abc import Callable, Sequence
from typing import ClassVar

from omegaconf import DictConfig

from imgcls import memory
from imgcls.errors import SWEEP_FAILED
from imgcls.sweeps import results, teams
from imgcls.sweeps.board import Board
from imgcls.sweeps.job import Job
from imgcls.sweeps.pool import Pool, Worker


class Sweep:
    """The jobs of one `-m` command.

    Args:
        config: what all jobs are composed from.
        workers: who does them, one each at a time.
        together: how many jobs of one network a worker may train as one.
    """

    current: ClassVar["Sweep | None"] = (
        None  # of this process: Hydra makes the launcher, the entry point ends it
    )

    def __init__(self, config: DictConfig, workers: Sequence[Worker], together: int = 1) -> None:
        self.typed = sorted(config.hydra.overrides.task)
        self.output = str(config.output)
        self.together = together
        self.pool = Pool(workers)
        self.board = Board(config.progress == "none", len(workers))
        self.jobs: list[Job] = []

    def warm(self, jobs: int) -> None:
        """Let the workers of so many jobs begin to load."""
        for worker in self.pool.workers[:jobs]:
            worker.warm()

    def run(
        self,
        jobs: Sequence[Job],
        tick: Callable[[Sequence[Job]], None] = lambda ended: None,
        more: Callable[[], Job | None] = lambda: None,
    ) -> None:
        """Run the jobs that have not finished before; those that failed by accident get another try.

        `tick` sees the jobs that have just ended; `more` is asked for another job when a worker is free.
        """
        left = self._open(jobs)
        if left:
            import matplotlib.backends.backend_agg  # noqa: F401  # while the workers load

            memory.pass_over_modules()

        def both(ended: Sequence[Job]) -> None:
            self.board.tick(ended)
            self._show_output(ended)
            tick(ended)

        def another() -> Job | None:
            while job := more():
                if self._open([job]):
                    left.append(job)
                    return job
                both([job])
            return None

        if self.together > 1:
            left = self._train_together(left, both)
        while not self.pool.stopped:
            self.pool.run(left, both, another)
            left = [job for job in left if job.worth_another_try]
            if not left:
                return

    def _train_together(self, jobs: Sequence[Job], tick: Callable[[Sequence[Job]], None]) -> list[Job]:
        """Train teams, and run the jobs that are in none; returns what is left to be run then."""
        formed, alone, told = teams.form(jobs, self.together, results.folder(self.output, self.typed))
        print(told, flush=True)

        def mine(ended: Sequence[Job]) -> None:
            for team in formed:
                team.tell()
            tick([job for job in ended if not isinstance(job, teams.Team)])

        self.pool.run([*formed, *alone], mine)
        return [job for job in jobs if job.state == "waiting" or job.worth_another_try]

    def _open(self, jobs: Sequence[Job]) -> list[Job]:
        """Take jobs in; those of them that are to be run."""
        for job in jobs:
            if job.done_before:
                job.state, job.reason = "finished", "before"
        self.jobs += jobs
        self.board.open(list(jobs))
        return [job for job in jobs if job.state == "waiting"]

    def _show_output(self, ended: Sequence[Job]) -> None:
        """What does not train has said what it has to say on its own."""
        for job in ended:
            if not job.trains and job.log.exists():
                print(job.log.read_text(errors="replace"), end="", flush=True)

    def finish(self) -> int:
        """End the workers, say and write what came out; returns the exit code."""
        self.pool.dismiss()
        self.board.close()
        trained = [job for job in self.jobs if job.trains]
        if trained:
            results.show(trained, self.output, self.typed)
        self.close()
        return self.blame([job for job in self.jobs if job.state == "failed"])

    def close(self) -> None:
        """End the workers, and leave the terminal as it was."""
        self.pool.close()
        self.board.close()
        Sweep.current = None

    def blame(self, failed: Sequence[Job]) -> int:
        """Say what failed, and whether the sweep was stopped; returns the exit code."""
        for job in failed:
            line = f"job {job.label or job.number + 1} failed: {job.reason} (log: {job.log})"
            print(f"imgcls: error: {line}", file=sys.stderr)
        if self.pool.stopped:
            print("imgcls: stopped; saved. The same command continues the sweep.")
            return 128 + self.pool.stopped
        return SWEEP_FAILED if failed else 0
