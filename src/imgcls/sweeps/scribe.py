"""Processes that write the last files of a sweep's runs, in the time that the jobs leave."""

import gc
import multiprocessing
import os
import threading
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from queue import Full
from typing import TYPE_CHECKING

from imgcls import memory
from imgcls.errors import ImgclsError
from imgcls.sweeps.job import Job
from imgcls.sweeps.worker import follow_parent, leave_group

if TYPE_CHECKING:
    from imgcls.report import Ending

MOST = 2  # processes; the second starts when the first has more than one to write
QUEUE = 8  # endings that may wait: each holds images


class Scribe:
    """Writes one ending after another, and takes no core from a job that wants it.

    In processes, because threads have no priority on the interpreter: the one that hands out jobs would wait
    for the one that draws.
    """

    def __init__(self) -> None:
        self._executor = ProcessPoolExecutor(MOST, multiprocessing.get_context("spawn"), _prepare)
        self._busy: list[tuple[Job, Future[None]]] = []

    def take(self, job: Job) -> None:
        """Let a job's ending be written, if there is one."""
        self._busy.append((job, self._begin(job.ending) if job.ending else _settled()))

    def _begin(self, ending: "Ending") -> "Future[None]":
        if sum(not future.done() for _, future in self._busy) >= QUEUE:
            return _settled(Full())
        try:
            return self._executor.submit(_write, ending)
        except BrokenProcessPool as error:
            return _settled(error)

    def done(self, patiently: bool = False) -> list[Job]:
        """The jobs that were taken and have everything written; `patiently` waits for all."""
        if patiently:
            wait([future for _, future in self._busy])
        done = [(job, future) for job, future in self._busy if future.done()]
        self._busy = [pair for pair in self._busy if pair not in done]
        for job, future in done:
            _conclude(job, future)
        return [job for job, _ in done]

    def dismiss(self) -> None:
        """Let the processes begin to end."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the processes."""
        self._executor.shutdown(cancel_futures=True)


def _settled(error: Exception | None = None) -> "Future[None]":
    future: Future[None] = Future()
    future.set_exception(error) if error else future.set_result(None)
    return future


def _conclude(job: Job, future: "Future[None]") -> None:
    """Note what stood in the way of an ending."""
    try:
        try:
            future.result()
        except (BrokenProcessPool, Full):  # somebody killed it, or it cannot keep up
            assert job.ending
            job.ending.write()
    except Exception as error:
        job.end(getattr(error, "exit_code", ImgclsError.exit_code), str(error))
    job.ending = None


def _prepare() -> None:
    """Stand back behind the jobs, then import what drawing needs."""
    leave_group()
    threading.Thread(target=follow_parent, daemon=True).start()
    with suppress(OSError):  # where a container forbids it
        if hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        elif hasattr(os, "nice"):
            os.nice(19)
    import matplotlib.backends.backend_agg  # noqa: F401

    from imgcls import report  # noqa: F401

    memory.pass_over_modules()


def _write(ending: "Ending") -> None:
    ending.write()
    gc.collect()  # figures are rings of objects: left to themselves, those of a hundred runs add up
