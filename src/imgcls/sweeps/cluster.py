"""Jobs of a sweep on a cluster: each is handed to a queue by submitit, and watched through the shared disk.

A job that the cluster takes away saves, and is queued again; its run, named by its configuration, goes on.
"""

import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import submitit
from omegaconf import DictConfig

from imgcls.sweeps.job import Ended, Job
from imgcls.sweeps.pool import Worker

SECOND = 1.0  # between two looks at a job: the disk is shared
STOPPED = 128 + signal.SIGTERM


class Remote:
    """One job, as it travels."""

    def __init__(self, composed: DictConfig, log: Path) -> None:
        self.composed, self.log = composed, log

    def __call__(self) -> tuple[int, str]:
        """Run it here; returns (exit code, reason)."""
        from imgcls.__main__ import register_resolvers
        from imgcls.sweeps import worker

        register_resolvers()
        taken = _Preemption()
        code, reason = worker.do(self.composed, self.log)
        if taken.number:
            taken.requeue(taken.number, None)  # saved; this ends the process
        if code == STOPPED:  # by the cluster, which knows whether to start it again
            raise SystemExit(code)
        return code, reason

    def checkpoint(self) -> Any:
        """What to do when it is started again: the same."""
        return submitit.helpers.DelayedSubmission(self)


class _Preemption:
    """Notes submitit's signal that the time is up, and has the training save before anything else."""

    def __init__(self) -> None:
        number = submitit.JobEnvironment()._usr_sig()
        self.number: int | None = None
        self.requeue: Any = signal.getsignal(number)
        self.deaf = signal.getsignal(signal.SIGTERM)  # submitit's: it lets the signal pass
        signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if signal.getsignal(signal.SIGTERM) == self.deaf:  # nothing is under way that would save
            raise SystemExit(STOPPED)
        os.kill(os.getpid(), signal.SIGTERM)


class QueueWorker(Worker):
    """A place in the queue.

    Args:
        executor: of submitit; it has the cluster's settings.
    """

    shares = False

    def __init__(self, executor: submitit.Executor) -> None:
        super().__init__({})
        self.executor = executor
        self._queued: Any = None
        self._seen = 0.0

    def warm(self) -> None:
        """The queue has no place without a job."""

    def start(self, job: Job) -> None:
        """Hand a job to the queue."""
        self.job, job.state, job.attempts = job, "running", job.attempts + 1
        self._began = time.perf_counter()
        self._queued = self.executor.submit(Remote(job.composed, job.log.absolute()))

    def _ended(self) -> "Ended | None":
        if time.perf_counter() - self._seen < SECOND:
            return None
        self._seen = time.perf_counter()
        if not self._queued.done():
            return None
        if self._queued.paths.result_pickle.exists() and not self._queued.exception():
            return (*self._queued.result(), None)
        state = self._queued.state
        if state in ("CANCELLED", "INTERRUPTED", "PREEMPTED") or self._cancelled:
            return STOPPED, f"the cluster stopped it ({state})", None
        return 1, f"the cluster says {state}; see {self._queued.paths.stderr}", None

    _cancelled = False

    def signal(self, number: int) -> None:
        """Take the job out of the queue, or have it save and end."""
        self._cancelled = True
        self._queued.cancel(check=False)

    def close(self) -> None:
        """Nothing runs here."""
