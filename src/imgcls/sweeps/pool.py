"""Workers and the jobs they share: who runs what, and what becomes of it when a process dies."""

import multiprocessing
import os
import re
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType

from imgcls.sweeps.job import Ended, Job
from imgcls.sweeps.scribe import Scribe
from imgcls.sweeps.worker import main

PATIENCE = 30.0  # seconds that a worker gets to save when the sweep is stopped
TICK = 0.1  # seconds between two looks at the jobs
SPAWN = multiprocessing.get_context("spawn")  # a fork would share what the parent's threads hold


class Worker:
    """A place for one job at a time, in a process that stays warm between jobs.

    Args:
        environment: variables for the process: its device and number of threads.
    """

    shares = True  # the machine, with the other workers

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.job: Job | None = None
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._given: dict[str, str] = {}  # the environment of the process
        self._used = False  # the process has been given a job

    def warm(self) -> None:
        """Begin to load what a job needs, while the jobs are still composed."""
        if not self._process:
            self._begin(dict(self.environment))

    def start(self, job: Job) -> None:
        """Begin a job."""
        self.job, job.state, job.attempts = job, "running", job.attempts + 1
        self._began = time.perf_counter()
        wanted = {} if job.alone else dict(self.environment)
        if self._process is None or not self._process.is_alive() or self._given != wanted:
            self._end()
            self._begin(wanted)
        assert self._connection is not None
        self._used = True
        self._connection.send((job.composed, job.log))

    def _begin(self, environment: dict[str, str]) -> None:
        self._connection, theirs = SPAWN.Pipe()
        # No daemon: loaders and ranks are processes of a job's own
        self._process, self._given = SPAWN.Process(target=main, args=(theirs, environment)), environment
        self._process.start()
        self._used = False
        theirs.close()

    def dismiss(self) -> None:
        """An idle process ends by itself when nobody is left to talk to."""
        if self._connection:
            self._connection.close()

    def _end(self) -> None:
        self.dismiss()
        if self._process:
            if not self._used:  # it may still be loading
                self._process.kill()
            self._process.join()
            self._process = None

    def look(self) -> Job | None:
        """The job, if it has ended since the last look."""
        if self.job is None or (ended := self._ended()) is None:
            return None
        job, self.job = self.job, None
        job.seconds += time.perf_counter() - self._began
        job.end(*ended)
        return job

    def _ended(self) -> "Ended | None":
        assert self._process is not None and self._connection is not None
        try:
            if self._connection.poll():
                ended: Ended = self._connection.recv()
                return ended
        except (EOFError, ConnectionError):
            self._process.join()
        if self._process.is_alive():
            return None
        code = self._process.exitcode or 1
        self._process = None
        return code, _killed(code) if code < 0 else f"its process ended with exit code {code}", None

    @property
    def connections(self) -> list[Connection]:
        """What to wait on."""
        return [self._connection] if self._connection and self._process and self.job else []

    def signal(self, number: int) -> None:
        """Pass a signal on to the job."""
        if self._process and self._process.pid and self._process.is_alive():
            os.kill(self._process.pid, number)

    def close(self) -> None:
        """End the process, and a job in it."""
        if self.job:
            self.signal(signal.SIGKILL)
        self._end()


def _killed(code: int) -> str:
    name = signal.Signals(-code).name
    return f"killed by {name}" + (", as the system does when memory runs out" if name == "SIGKILL" else "")


class Pool:
    """Runs jobs on its workers; a signal saves what runs and leaves the rest."""

    def __init__(self, workers: Iterable["Worker"]) -> None:
        self.workers = list(workers)
        self._scribe = Scribe()
        self.stopped: int | None = None  # the signal that did

    def run(
        self,
        jobs: Iterable[Job],
        tick: Callable[[list[Job]], None],
        more: Callable[[], Job | None] = lambda: None,
    ) -> None:
        """Run all jobs; `tick` is called every now and then with those that have just ended.

        `more` is asked for another job whenever a worker has nothing to do; None ends it once none runs.
        """
        waiting = deque(jobs)
        with self._signals():
            while True:
                self._hand_out(waiting, more)
                if not self._busy:
                    return
                wait([c for worker in self.workers for c in worker.connections], TICK)
                for job in [job for worker in self.workers if (job := worker.look())]:
                    self._scribe.take(job)
                self._hand_out(waiting)
                # Who has no job left may be given one for what the last has come to
                tick(self._scribe.done(patiently=any(not worker.job for worker in self.workers)))
                self._pass_on()

    @property
    def _busy(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.job]

    def stop(self, job: Job) -> None:
        """Give up a job that has no hope: it saves, and its worker takes another."""
        job.hopeless = True
        for worker in self._busy:
            if worker.job is job:
                worker.signal(signal.SIGTERM)

    def _hand_out(self, waiting: deque[Job], more: Callable[[], Job | None] = lambda: None) -> None:
        for worker in self.workers:
            if not waiting and not worker.job and not self.stopped and (job := more()):
                waiting.append(job)
            alone = worker.shares and any(w.job.alone for w in self._busy if w.job)
            if not waiting or self.stopped or alone or (worker.shares and waiting[0].alone and self._busy):
                return
            if not worker.job:
                worker.start(waiting.popleft())

    _passed: int | None = None

    def _pass_on(self) -> None:
        """Tell the jobs of a signal once; who does not save in time is killed."""
        if self.stopped and self.stopped != self._passed:
            self._passed, self._deadline = self.stopped, time.perf_counter() + PATIENCE
            for worker in self._busy:
                worker.signal(self.stopped)
        if self._passed and time.perf_counter() > self._deadline:
            for worker in self._busy:
                worker.signal(signal.SIGKILL)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def note(number: int, frame: FrameType | None) -> None:
            self.stopped = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def dismiss(self) -> None:
        """Let all processes begin to end, which takes them a moment."""
        for worker in self.workers:
            worker.dismiss()
        self._scribe.dismiss()

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers:
            worker.close()
        self._scribe.close()


def environments(
    workers: int | None, per_device: int, cores: int, devices: list[str]
) -> list[dict[str, str]]:
    """Variables for each worker: its own device, or its share of the cores.

    Args:
        workers: how many; None for as many as there are devices, or else cores, times `per_device`.
        cores: that this process may use.
        devices: names of the GPUs, as CUDA_VISIBLE_DEVICES has them.
    """
    if workers == 1:
        return [{}]  # everything is its own
    count = workers or (len(devices) or cores) * per_device
    threads = {"OMP_NUM_THREADS": str(max(1, cores // count))}
    return [
        threads | ({"CUDA_VISIBLE_DEVICES": devices[n % len(devices)]} if devices else {})
        for n in range(count)
    ]


def gpus() -> list[str]:
    """The GPUs that this process may use, found without loading torch."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(number) for number, _ in enumerate(re.findall(r"^GPU \d+:", listed, re.M))]


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
