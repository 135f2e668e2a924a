"""One run on several processes: a rank for each device, which start, stop and end together. Imports no torch.

The process that a user starts keeps the run folder, and waits. The ranks are processes of `imgcls` that find
their job in a temporary folder, so that nothing of Hydra runs twice. Under torchrun the processes are there
already: rank 0 is the user's, and the others take their job from it.
"""

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgcls.errors import ImgclsError

if TYPE_CHECKING:
    from imgcls.runs import Run

ROOM = "IMGCLS_ROOM"  # environment variable of a rank that was started here: the folder of its job
JOB, ERROR = "job.json", "error-{}.json"  # files in it: what to do, and why a rank ended
Job = dict[str, Any]


def count(trainer: Mapping[str, Any]) -> int:
    """How many processes the trainer group asks for."""
    return int(trainer["devices"] * trainer["num_nodes"])


def started() -> int:
    """How many processes torchrun, or this module, has started; 0 for a user's own."""
    known = ROOM in os.environ or "TORCHELASTIC_RUN_ID" in os.environ
    return int(os.environ["WORLD_SIZE"]) if known else 0


def rank() -> int:
    """The number of this process among them."""
    return int(os.environ["RANK"]) if started() else 0


def waits() -> bool:
    """Whether this process does what another tells it."""
    return ROOM in os.environ or rank() > 0


def everywhere(work: Callable[[dict[str, Any], "Run"], Any], config: dict[str, Any], run: "Run") -> Any:
    """Do a task's work on every process that the configuration asks for; returns the run's result.

    Raises:
        ImgclsError: what ended the first rank that failed, with its exit code.
    """
    if count(config["trainer"]) == 1:
        return work(config, run)
    named = (work.__module__, work.__name__)
    job = {"work": named, "config": config, "folder": str(run.path), "logging": _logging()}
    if started():
        from imgcls.distributed import ranks

        ranks.publish(job)
        do(job)
    else:
        from imgcls.distributed import processes

        processes.run(job, count(config["trainer"]))
    return run.result


def _logging() -> Any:
    """How Hydra has set up logging, for the ranks to do alike."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    if not HydraConfig.initialized():
        return None
    return OmegaConf.to_container(HydraConfig.get().job_logging, resolve=True)


def told() -> Job | None:
    """The job of a waiting process; None if there is none after all."""
    if ROOM not in os.environ:
        from imgcls.distributed import ranks

        job = ranks.published()
    else:
        threading.Thread(target=_end_with_launcher, daemon=True).start()
        job = json.loads((Path(os.environ[ROOM]) / JOB).read_text(encoding="utf-8"))
    if job and job["logging"]:
        from logging.config import dictConfig

        dictConfig(job["logging"])
    if rank():  # rank 0 speaks for all; of the others' errors the log gets the traceback
        logging.disable(logging.CRITICAL)
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    return job


def _end_with_launcher() -> None:
    """A launcher that was killed closes the pipe: then nobody keeps the folder's lock."""
    while os.read(0, 1):  # not sys.stdin, which Python could not close while it is read
        pass
    os._exit(128 + signal.SIGKILL)


def do(job: Job) -> None:
    """This rank's part of a job."""
    from imgcls.distributed import ranks
    from imgcls.runs import Run

    module, name = job["work"]
    with ranks.joined(job["config"]["trainer"]):
        getattr(import_module(module), name)(job["config"], Run(job["folder"]))


def dismiss() -> None:
    """Let the other processes of torchrun end, if this one had no job for them."""
    if started() > 1 and not waits():
        from imgcls.distributed import ranks

        ranks.publish(None)


def report(error: Exception, message: str, code: int) -> None:
    """Tell whoever started this rank why it ends."""
    if ROOM not in os.environ:
        print(f"imgcls: error: {message}", file=sys.stderr)
        return
    # Others end because they lose this rank: what they say of it is not the cause.
    lost = not isinstance(error, ImgclsError) and any(
        word in str(error) for word in ("gloo", "NCCL", "Connection", "wait timeout")
    )
    text = json.dumps({"lost": lost, "time": time.time(), "message": message, "code": code})
    (Path(os.environ[ROOM]) / ERROR.format(rank())).write_text(text, encoding="utf-8")
