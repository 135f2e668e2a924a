"""The processes of a run's ranks: started, sent signals and ended together. Imports no torch."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from imgcls import stops
from imgcls.distributed.launch import ERROR, JOB, ROOM
from imgcls.errors import ImgclsError, ResourceError

GRACE = 5.0  # seconds in which the others end by themselves once a rank has failed
Process = subprocess.Popen[bytes]


def run(job: Mapping[str, Any], ranks: int) -> None:
    """Start the ranks of a job and wait for them.

    Raises:
        ImgclsError: what ended the first that failed, with its exit code.
        SystemExit: a signal ended them, and they saved.
    """
    processes: list[Process] = []
    with TemporaryDirectory(prefix="imgcls-") as room:
        (Path(room) / JOB).write_text(json.dumps(job), encoding="utf-8")
        try:
            with _passing_on(processes):
                for number in range(ranks):
                    processes.append(_start(number, ranks, room))
                _wait(processes)
        finally:
            left = [number for number, process in enumerate(processes) if process.poll() is None]
            for number in left:
                processes[number].kill()
                processes[number].wait()
        _judge([process.returncode for process in processes], left, Path(room))


def _start(number: int, ranks: int, room: str) -> Process:
    """Rank `number`, in a session of its own: a signal to this process's group reaches it once, from here."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, ROOM: room}
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    threads = max(1, min(cores // ranks, int(wanted or cores)))
    environment = os.environ | {k: str(v) for k, v in place.items()} | {"OMP_NUM_THREADS": str(threads)}
    words = [sys.executable, "-m", "imgcls"]
    return subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, start_new_session=True)


@contextmanager
def _passing_on(processes: list[Process]) -> Iterator[None]:
    """Signals go on to every rank, which saves, ends, and says so by its exit code."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in processes:
            process.send_signal(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = stops.listen(pass_on)
    try:
        yield
    finally:
        stops.restore(before)


def _wait(processes: list[Process]) -> None:
    """Until all have ended, or one has failed and the others have had time to."""
    end = None
    while any(process.poll() is None for process in processes):
        if end is None and any(process.returncode for process in processes):
            end = time.monotonic() + GRACE
        if end is not None and time.monotonic() > end:
            return
        time.sleep(0.05)


def _judge(codes: list[int], left: list[int], room: Path) -> None:
    """Raise what ended the run, if not its end: the first cause, not what followed from it."""
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in room.glob(ERROR.format("*"))]
    reports.sort(key=lambda report: (report["lost"], report["time"]))
    if reports and not reports[0]["lost"]:
        raise _error(reports[0])
    if heard := [number for code in codes for number in stops.STOPS if code in (-number, 128 + number)]:
        if -heard[0] in codes:  # before it could listen
            print("imgcls: stopped. The same command goes on.", file=sys.stderr)
        raise SystemExit(128 + heard[0])
    ended = {number: code for number, code in enumerate(codes) if code and number not in left}
    for number, code in ended.items():
        if code < 0:
            raise ResourceError(
                f"rank {number} of {len(codes)} was ended by {signal.Signals(-code).name}. The same command "
                "goes on from the last checkpoint; if memory is short, lower batch_size."
            )
    if left and reports:
        raise ResourceError(
            f"rank {', '.join(map(str, left))} of {len(codes)} no longer answered (trainer.timeout). "
            "The same command goes on from the last checkpoint."
        )
    for number, code in ended.items():
        raise _error(reports[0] if reports else {"message": f"rank {number} ended with {code}.", "code": 1})


def _error(report: Mapping[str, Any]) -> ImgclsError:
    error = ImgclsError(report["message"])
    error.exit_code = report["code"]
    return error
