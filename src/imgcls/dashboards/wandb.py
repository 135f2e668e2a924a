"""Weights & Biases, from the side of the training: a process of its own does all that can be slow or fail.

The two share files in `<run>/wandb/`: what that process is to do (job.json), what is to be shown
(rows.jsonl, one line each), what W&B made of it (state.json). Writing a line never waits for anything.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, TextIO

import numpy as np

from imgcls.dashboards import WANDB, told
from imgcls.dashboards.board import Row
from imgcls.dashboards.facts import public, sweep
from imgcls.data.sources import Images
from imgcls.report import shown
from imgcls.runs import Run, write_text

log = logging.getLogger(__name__)
JOB, ROWS, STATE, SAMPLES, LOG = "job.json", "rows.jsonl", "state.json", "samples.npz", "mirror.log"
PATIENCE = 5.0  # seconds to wait at the end; the process then goes on by itself, for a while


class WandB:
    """Writes down what is to be shown, and starts the process that shows it."""

    def __init__(self, run: Run, config: Mapping[str, Any]) -> None:
        self.run, self.room, self.config = run, run / WANDB, config
        self.process: subprocess.Popen[bytes] | None = None
        self.rows: TextIO | None = None
        self.told = False

    def start(self, step: int, module: Any, images: Any) -> None:
        """Start the process; rows that will come again are taken back."""
        self.room.mkdir(exist_ok=True)
        (self.room / STATE).unlink(missing_ok=True)
        write_text(self.room / JOB, json.dumps(self._job()))
        write_text(self.room / ROWS, "".join(self._kept(step)))
        self.rows = (self.room / ROWS).open("a", buffering=1, encoding="utf-8")
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {"WANDB_ERROR_REPORTING": "false", **os.environ, "PYTHONPATH": paths}
        with (self.room / LOG).open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "imgcls.dashboards.mirror", str(self.room.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the training, which then tells it the end
            )

    def _job(self) -> dict[str, Any]:
        config = public(self.config)
        options = config["logger"]
        return {
            "id": self._id(),
            "name": self.run.path.name,
            "parent": os.getpid(),
            "config": config,
            "group": options["group"] or sweep(),
            **{key: options[key] for key in ("project", "entity", "tags", "notes", "artifacts")},
        }

    def _id(self) -> str:
        """The run's name and where and when it began: a run trained anew, or elsewhere, is another."""
        job = self.room / JOB
        if job.exists():
            return str(json.loads(job.read_text(encoding="utf-8"))["id"])
        place = f"{socket.gethostname()} {self.room.resolve()} {time.time_ns()}"
        return f"{self.run.path.name[:50]}-{sha256(place.encode()).hexdigest()[:8]}"

    def _kept(self, step: int) -> list[str]:
        """Lines of an earlier start that still hold; the last may be half a line, of a process killed."""
        rows = self.room / ROWS
        lines = rows.read_text(encoding="utf-8").splitlines(keepends=True) if rows.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        return [line for line in whole if 0 < json.loads(line).get("step", 0) <= step]

    def step(self, values: Row, step: int) -> None:
        """Write one line."""
        self._write({"step": step, **values})

    def epoch(self, row: Row) -> None:
        """Write one line; say once how W&B is doing."""
        self._write(row)
        state = self.room / STATE
        if not self.told and state.exists():
            self.told = True
            log.info("%s", told(json.loads(state.read_text(encoding="utf-8")), self.run.path))
        elif self.process and self.process.poll() is not None:
            raise RuntimeError(f"its process has ended, see {self.room / LOG}")

    def saved(self) -> None:
        """Every line is already with the system, which writes it even if the process is killed."""

    def finish(self, result: Mapping[str, Any], kept: Mapping[str, np.ndarray], images: Images) -> None:
        """Leave some tested images for the table of samples; the rest is in the run folder."""
        which = np.concatenate([shown(kind, kept)[0] for kind in ("wrong", "right")])
        labels, top, confidence = kept["labels"][which], kept["top"][which, 0], kept["confidence"][which, 0]
        pixels = images.pixels[which].numpy()
        np.savez(self.room / SAMPLES, pixels=pixels, labels=labels, top=top, confidence=confidence)
        self._write({"finished": True})

    def close(self) -> None:
        """Give the process some seconds to end; it needs nobody to wait for it."""
        if self.rows is None or self.process is None:
            return
        self._write({"end": True})
        self.rows.close()
        try:
            if self.process.wait(PATIENCE):
                raise RuntimeError(f"its process failed, see {self.room / LOG}")
        except subprocess.TimeoutExpired:
            log.info("wandb goes on in the background (process %d), for 2 minutes at most.", self.process.pid)

    def _write(self, row: Mapping[str, Any]) -> None:
        assert self.rows is not None
        self.rows.write(json.dumps(row) + "\n")
