"""Runs per minute of a sweep over seeds, one at a time and together, as whole commands in turn.

    python tests/bench/together.py [rounds] [KEY=VALUE ...]

Start-up, tests and pictures of each run are in these times. More words go to both commands, as
`model=convnet`, `epochs=20` or `hydra/launcher=pool`; MEMBERS=16 in the environment makes 16 of 8.
"""

import os
import statistics
import subprocess
import sys
import time
from tempfile import TemporaryDirectory

MEMBERS = int(os.environ.get("MEMBERS", "8"))
SMALL = ["dataset=digits", "model=resnet20", "model.width=4", "batch_size=32", "epochs=5", "progress=none"]


def seconds(*words: str) -> float:
    """Of one sweep, trained anew in a folder of its own."""
    seeds = f"seed={','.join(map(str, range(MEMBERS)))}"
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "imgcls", "-m", *SMALL, seeds, *words, f"output={folder}"]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - began


def main() -> None:
    """Print all figures."""
    words = sys.argv[1:]
    rounds = int(words.pop(0)) if words and words[0].isdigit() else 3
    times: dict[str, list[float]] = {"one at a time": [], "together": []}
    for _ in range(rounds):
        times["one at a time"].append(seconds(*words))
        times["together"].append(seconds(*words, f"sweep.together={MEMBERS}"))
    for way, spent in times.items():
        print(f"{way:14} {60 * MEMBERS / statistics.median(spent):7.1f} runs/min")
    ratios = sorted(one / all_ for one, all_ in zip(*times.values(), strict=True))
    print(f"together / one {statistics.median(ratios):6.2f}   (rounds: {ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
