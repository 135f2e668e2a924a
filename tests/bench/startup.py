"""Seconds from enter to an answer: `--help`, a configuration, a mistake, the first step of the default.

    python tests/bench/startup.py [rounds]

Whole commands, in turns; medians and the slowest. The first step ends where the network is asked for its
second one.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

HERE = Path(__file__).parent
GROUP = """
defaults: [resnet20]
name: watched
_target_: startup.watched
"""
CASES = {
    "--help": (["--help"], 0),
    "--cfg job": (["--cfg", "job"], 0),
    "a mistake": (["optimizer.lrr=1"], 2),
    "first training step of the default": (["model=watched", "progress=none"], 0),
}


def watched(**facts: Any) -> nn.Module:
    """The default's network; the second training step ends the process."""
    from imgcls.models.resnet_cifar import resnet20

    network, calls = resnet20(**facts), []

    def count(module: nn.Module, inputs: Any) -> None:
        if module.training:
            calls.append(1)
        if len(calls) == 2:
            os._exit(0)

    network.register_forward_pre_hook(count)
    return network


def seconds(words: list[str], code: int) -> float:
    """Of one command, which must end with this code."""
    here = {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    with TemporaryDirectory() as folder:
        (Path(folder) / "conf" / "model").mkdir(parents=True)
        (Path(folder) / "conf" / "model" / "watched.yaml").write_text(GROUP)
        line = [sys.executable, "-m", "imgcls", "--config-dir", f"{folder}/conf", *words]
        began = time.perf_counter()
        done = subprocess.run(line, capture_output=True, text=True, env=os.environ | here, cwd=folder)
        taken = time.perf_counter() - began
        assert done.returncode == code, done.stderr
        assert not list(Path(folder).glob("outputs/*/result.json"))  # it ended in training
    return taken


def main() -> None:
    """Print a line for each."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    taken: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, case in CASES.items():
            taken[name].append(seconds(*case))
    for name, times in taken.items():
        print(f"{name:36} {statistics.median(times):6.2f} s   (slowest {max(times):.2f})")


if __name__ == "__main__":
    main()
