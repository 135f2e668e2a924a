"""Commands on a network that takes its time, so that a test can meet a run in any of its phases."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil

from imgcls.runs import Run

EPOCHS = 2
# Three steps of training and three batches of validation an epoch, five of the test
SMALL = [
    *("model=slow", "augmentation=none", f"epochs={EPOCHS}", "batch_size=16", "progress=lines"),
    *("dataset.limit=96", "dataset.val_fraction=0.5", "trainer.threads=1", "trainer.precision=32-true"),
]
# A network that takes its time, and says what it is doing
SLOW = """
    import os, time
    from pathlib import Path
    from torch import nn
    class Slow(nn.Sequential):
        def forward(self, x):
            seconds = float(os.environ["SLOW"])
            if seconds:
                with Path(os.environ["PHASES"]).open("a") as file:
                    file.write("training\\n" if self.training else "evaluation\\n")
                time.sleep(seconds)
            return super().forward(x)
    def network(*, num_classes, in_channels, image_size):
        return Slow(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))
"""


class Program:
    """Commands on the slow network, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run = folder, Run(folder / "out" / "run")
        self.validated = 0
        (folder / "lib").mkdir()
        (folder / "own" / "model").mkdir(parents=True)
        self.add("slow", SLOW)

    def add(self, name: str, code: str) -> None:
        """Make `model=<name>` known: the function `network` of this code."""
        (self.folder / "lib" / f"{name}.py").write_text(dedent(code))
        option = f"name: {name}\n_target_: {name}.network\n"
        (self.folder / "own" / "model" / f"{name}.yaml").write_text(option)

    def start(self, *words: str, seconds: float) -> "subprocess.Popen[str]":
        """A command whose network takes so many seconds for a batch."""
        own = {"PYTHONPATH": self.folder / "lib", "PHASES": self.folder / "phases", "SLOW": seconds}
        mine = ["--config-dir", str(self.folder / "own"), *SMALL, f"output={self.folder / 'out'}"]
        return subprocess.Popen(
            [sys.executable, "-m", "imgcls", *mine, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {name: str(value) for name, value in own.items()},
        )

    def finish(self, *words: str) -> str:
        """Run a command to its end; gives what it printed."""
        process = self.start(*words, seconds=0)
        told, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return told

    def is_in(self, phase: str, run: Run) -> bool:
        """Whether the run is in that phase now; validation is that of the first epoch."""
        try:
            lines = (self.folder / "phases").read_text().split()
        except OSError:
            return False
        if phase == "training":
            return lines.count("training") >= 2
        rows, evaluated = len(run.history()), lines.count("evaluation")
        if phase == "validation":
            return rows == 0 and evaluated > 0
        if rows < EPOCHS:
            return False
        self.validated = self.validated or evaluated  # the next batches will be those of the test
        return evaluated > self.validated


PHASES = ("training", "validation", "test")


def ended(process: "subprocess.Popen[str]", send: Callable[[], Any], within: float = 10) -> tuple[str, str]:
    """Send a signal: (stdout, stderr), once it has ended in time with all that it started."""
    family = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    send()
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - began < within
    _, left = psutil.wait_procs(family, timeout=5)
    assert left == []
    return out, err


def wait_for(program: Program, process: "subprocess.Popen[str]", phase: str, run: Run | None = None) -> None:
    while not program.is_in(phase, run or program.run):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
