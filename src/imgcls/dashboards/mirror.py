"""The process that shows a run on Weights & Biases: `python -m imgcls.dashboards.mirror RUN/wandb`.

It reads the run folder and what the training writes for it, ends by itself soon after the training has, and
whatever becomes of it, the training never knows. Without a network it writes W&B's offline files; they then
hold the whole run, what was told before an interruption included.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import psutil

from imgcls.dashboards.probe import unreachable
from imgcls.runs import write_text

LIMIT = 120.0  # seconds that uploading may take after the training has ended
CONNECT = 10.0  # seconds that W&B gets to open a run, once its server has answered
LOOK = 0.2  # seconds between two looks at the rows


def main(room: Path) -> None:
    """Show a run until it ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is the training that decides when to end
    job = json.loads((room / "job.json").read_text(encoding="utf-8"))
    run = _opened(job, room)
    run.define_metric("step", hidden=True)
    run.define_metric("epoch", hidden=True)
    run.define_metric("*", step_metric="epoch")
    run.define_metric("step/*", step_metric="step")
    finished = False
    for row in _rows(room / "rows.jsonl", job["parent"]):
        if row.get("finished"):
            from imgcls.dashboards import tables

            tables.show(run, room, job)
            finished = True
        elif row["step"] >= run.starting_step:  # what the server has from before an interruption
            run.log(row, step=row["step"])
    run.finish(exit_code=0 if finished else 1)


def _opened(job: dict[str, Any], room: Path) -> Any:
    """A W&B run, online if it can be."""
    import wandb

    why = _offline(wandb)
    settings = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,  # an address of a repository may hold a password
        disable_code=True,
        init_timeout=CONNECT,
        x_stats_pid=job["parent"],  # system metrics are of the training
        x_stats_track_process_tree=True,
    )
    # An agent of a W&B sweep has named run and project already
    keys = () if os.environ.get("WANDB_SWEEP_ID") else ("id", "project", "entity", "group")
    try:
        run = wandb.init(
            dir=str(room.parent),
            mode="offline" if why else "online",
            resume="allow" if keys else None,
            settings=settings,
            **{key: job[key] for key in (*keys, "name", "config", "tags", "notes")},
        )
    except Exception as error:
        if why:
            raise
        _again_offline(error)
    folder = Path(run.dir).parent.name
    write_text(
        room / "state.json", json.dumps({"why": why, "folder": folder, "url": run.url if not why else None})
    )
    return run


def _offline(wandb: Any) -> str | None:
    """Why not to go online, or None."""
    mode = os.environ.get("WANDB_MODE", "online")
    if mode != "online":
        return os.environ.get("IMGCLS_WANDB_WHY", f"WANDB_MODE={mode}")
    if why := unreachable(wandb.setup().settings.base_url.rstrip("/")):
        return why
    try:
        wandb.login(verify=False)
    except Exception:  # UsageError: it would ask, and there is nobody to answer
        return "no API key"
    return None


def _again_offline(error: Exception) -> NoReturn:
    """Begin again in a fresh program: W&B cannot change its mind within one."""
    why = (str(error).splitlines() or [type(error).__name__])[0]
    environment = {**os.environ, "WANDB_MODE": "offline", "IMGCLS_WANDB_WHY": why}
    environment.pop("WANDB_SERVICE", None)  # where W&B's own process of this program listened
    _end_helpers()
    os.execve(sys.executable, [sys.executable, "-m", "imgcls.dashboards.mirror", *sys.argv[1:]], environment)


def _rows(path: Path, parent: int) -> Iterator[dict[str, Any]]:
    """The rows as they are written, until the training says that it is over, or is gone."""
    half = ""
    with path.open(encoding="utf-8") as file:
        while True:
            gone = os.getppid() != parent  # first: what it wrote before is still read
            *lines, half = (half + file.read()).split("\n")
            for row in map(json.loads, lines):
                if row.get("end") or row.get("finished"):
                    _limit()
                if row.get("end"):
                    return
                yield row
            if gone:
                return _limit()
            time.sleep(LOOK)


def _limit() -> None:
    """From now on there is only so much time."""
    timer = threading.Timer(LIMIT, _give_up)
    timer.daemon = True
    timer.start()


def _give_up() -> NoReturn:
    _end_helpers()
    os._exit(1)


def _end_helpers() -> None:
    """W&B's own process has a session of its own, and would go on trying."""
    for process in psutil.Process().children(recursive=True):
        process.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
