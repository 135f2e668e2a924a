"""What a sweep of short jobs costs beside their training, and what a pool of two saves: prints figures.

    python tests/bench/sweep.py [rounds] [KEY=VALUE ...]

12 trainings of the default (20 epochs of digits) one after another and in a pool of two, and one alone before
each: in turns, because a shared machine changes its speed. A training is what lies between the first line of
its log, which names the device, and its last checkpoint.
"""

import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

JOBS = 12


class Command(NamedTuple):
    """Seconds that a command took, and those of them that its runs trained."""

    total: float
    trained: float


def command(*words: str) -> Command:
    """Run one, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        line = [sys.executable, "-m", "imgcls", *words, "progress=none", f"output={folder}"]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        total = time.perf_counter() - began
        runs = [path.parent for path in Path(folder).glob("*/last.ckpt")]
        return Command(total, sum(trained(run) for run in runs))


def trained(run: Path) -> float:
    """Seconds."""
    began = datetime.strptime((run / "imgcls.log").read_text()[:23], "%Y-%m-%d %H:%M:%S,%f")
    return (run / "last.ckpt").stat().st_mtime - began.timestamp()


def main(rounds: int = 3, *words: str) -> None:
    """Print each round and the medians."""
    each, gain = [], []
    for _ in range(rounds):
        alone = [command("seed=100", *words)]
        serial = command("-m", f"seed=range({JOBS})", *words)
        alone.append(command("seed=100", *words))
        pool = command("-m", "hydra/launcher=pool", f"seed=range({JOBS})", *words)
        start = sum(one.total - one.trained for one in alone) / len(alone)
        each.append((serial.total - serial.trained - start) / JOBS)
        gain.append(serial.total / pool.total)
        print(
            f"alone {alone[0].total:.1f} {alone[1].total:.1f}, of which not training {start:.1f}; "
            f"serial {serial.total:.1f}, of which training {serial.trained:.1f}: {each[-1]:.2f} s a job; "
            f"pool {pool.total:.1f}: {gain[-1]:.2f} times",
            flush=True,
        )
    print(f"median: {median(each):.2f} s a job beside its training; pool {median(gain):.2f} times serial")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:2]), *sys.argv[2:])
