"""The signals that ask a run to end: it saves between two steps and exits with 128 + n. Imports no torch."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Ctrl-C; what `kill`, Kubernetes and SLURM send; a terminal that closes; SLURM's --signal=USR1@60
STOPS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
]
ALWAYS = (signal.SIGINT, signal.SIGTERM)


class _Ours:
    """A handler that was set here: whoever listens within it may take its signals over."""

    def __init__(self, note: Callable[[int, FrameType | None], None]) -> None:
        self.note = note

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.note(number, frame)


def _free(number: int) -> bool:
    handler = signal.getsignal(number)
    return number in ALWAYS or handler is signal.SIG_DFL or isinstance(handler, _Ours)


def listen(note: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Have `note` called for each; returns what handled them before, for `restore`. Main thread only.

    A SIGHUP that nohup ignores stays ignored, and a SIGUSR1 that someone else handles stays theirs.
    """
    return {number: signal.signal(number, _Ours(note)) for number in STOPS if _free(number)}


def restore(before: Mapping[int, Any]) -> None:
    """Give the signals back."""
    for number, handler in before.items():
        signal.signal(number, handler)


class _Ended(SystemExit):
    """A signal came where there is nothing to save."""


@contextmanager
def ending() -> Iterator[None]:
    """While nothing is to be saved, before training and after it, each ends the process at once."""

    def end(number: int, frame: FrameType | None) -> None:
        raise _Ended(128 + number)

    main = threading.current_thread() is threading.main_thread()
    before = listen(end) if main else {}
    try:
        yield
    except _Ended:
        print("stopped. The same command continues.")
        raise
    finally:
        restore(before)
