"""The process that jobs run in, one after another: what a job breaks, it breaks here."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from omegaconf import DictConfig


def main(connection: Connection, environment: Mapping[str, str]) -> None:
    """Run the jobs that come through the connection: (configuration, log file) → (exit code, reason, ending).

    The ending is what the parent still has to write, while the next job runs here; None if nothing.
    """
    os.environ.update(environment)
    leave_group()
    threading.Thread(target=follow_parent, daemon=True).start()
    from imgcls.__main__ import register_resolvers

    register_resolvers()
    _load()
    from imgcls import report

    while True:
        try:
            config, log = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        report.left = []
        code, reason = do(config, log)
        connection.send((code, reason, report.left[0] if report.left and not code else None))


def _load() -> None:
    """Import what every training does, before the first one comes."""
    from imgcls import build, memory, report  # noqa: F401

    memory.pass_over_modules()


def leave_group() -> None:
    """Let Ctrl-C reach the parent alone, which passes it on."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()


def follow_parent() -> None:
    """Save and end when the parent has died: nobody is left who would wait for the jobs."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def do(config: DictConfig | list[DictConfig], log: Path) -> tuple[int, str]:
    """Run a job here, its output into the log; returns (exit code, reason)."""
    from imgcls import __main__ as program

    program.failures.clear()
    with _output_to(log):
        try:
            if isinstance(config, list):  # of a team
                _as_one(config)
            else:
                _in_hydra(config, program.task)
        except SystemExit as end:  # of a signal, or of someone's own code
            if isinstance(end.code, int):
                return end.code, f"it called sys.exit({end.code})"
            return (1, str(end.code)) if end.code else (0, "")
        except BaseException as error:
            return 1, f"{type(error).__name__}: {error}"
    return program.failures[0] if program.failures else (0, "")


def _as_one(configs: list[DictConfig]) -> None:
    from imgcls.cli.composing import plain
    from imgcls.together import train

    train.main([plain(config) for config in configs])


def _in_hydra(config: DictConfig, task: Any) -> None:
    """As Hydra's own launcher runs a job; raises what the task lets pass."""
    from hydra._internal.callbacks import Callbacks
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.utils import JobRuntime, run_job, setup_globals
    from hydra.types import HydraContext

    setup_globals()
    JobRuntime.instance().set("name", config.hydra.job.name)
    HydraConfig.instance().set_config(config)
    context = HydraContext(config_loader=None, callbacks=Callbacks(config))  # type: ignore[arg-type]
    run_job(task, config, "hydra.sweep.dir", "hydra.sweep.subdir", context).return_value  # noqa: B018


@contextmanager
def _output_to(file: Path) -> Iterator[None]:
    """Send all that this process and its children print into a file, at its end."""
    file.parent.mkdir(parents=True, exist_ok=True)
    saved = [os.dup(stream) for stream in (1, 2)]
    with file.open("ab") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, old in zip((1, 2), saved, strict=True):
            os.dup2(old, stream)
            os.close(old)
