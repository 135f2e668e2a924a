"""Time to 94 % on CIFAR-10 beside the record's own program, airbench94_muon: prints figures.

    python tests/bench/airbench.py CHECKOUT [rounds] [epochs]

CHECKOUT is a clone of KellerJordan/cifar10-airbench; IMGCLS_DATA is where CIFAR-10 lies. Each round trains
`experiment=cifar10_94` and their program once, in turn, with the round's number as the seed of ours. With
fewer `epochs` than the 8 that both have (at least 4), both stop early: enough for their times, not for
accuracies. Times are of training and of what whitens the first layer, without imports, reading, compiling
and testing.

On a GPU theirs runs as it is, but once. On a CPU, which it does not know, it runs in the precision that ours
takes there, without torch.compile and CUDA's clocks.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

DATA = Path(os.environ.get("IMGCLS_DATA", "data")).absolute()
FEWEST, EPOCHS = 4, 8  # both train the first layer's bias for three


class Timer:
    """A stand-in for torch.cuda.Event where there is no GPU."""

    def __init__(self, enable_timing: bool = True) -> None:
        self.at = 0.0

    def record(self) -> None:
        """Now."""
        self.at = time.perf_counter()

    def elapsed_time(self, other: "Timer") -> float:
        """Milliseconds until the other."""
        return 1e3 * (other.at - self.at)


def theirs(program: Path, epochs: int) -> None:
    """Runs their program in this process, in the working folder."""
    import torch

    from imgcls import devices, memory

    text = program.read_text().replace("CIFAR10(path,", f"CIFAR10({str(DATA)!r},")
    text = text.replace("for run in range(200)", "for run in range(1)")
    text = text.replace("ceil(total_train_steps / len(train_loader))", str(epochs))
    if not torch.cuda.is_available():
        memory.keep_freed()  # as ours has it
        kind = "bfloat16" if devices.precision("auto", "cpu") == "bf16-mixed" else "float"
        for old, new in {
            "@torch.compile\n": "",
            '    model.compile(mode="max-autotune")\n': "",
            '    main("warmup", model)\n': "",
            '"cuda"': '"cpu"',
            ".cuda()": "",
            ".half()": f".{kind}()",
        }.items():
            assert old in text, f"another version of {program.name}: no {old!r}"
            text = text.replace(old, new)
        torch.cuda.Event = Timer  # type: ignore[misc, assignment]
        torch.cuda.synchronize = lambda device=None: None  # type: ignore[assignment]
    Path("cifar10").mkdir()
    sys.argv = [str(program)]
    exec(compile(text, str(program), "exec"), {"__name__": "__main__"})


def run_theirs(checkout: Path, seed: int, epochs: int) -> tuple[float, float]:
    """(seconds, test accuracy in %) of their program."""
    command = [sys.executable, __file__, "--theirs", str(checkout / "airbench94_muon.py"), str(epochs)]
    with TemporaryDirectory() as folder:
        out = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    rows = re.findall(r"^\|.*\|$", out.stdout, re.M)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    ends = [row for row in cells if row[1] == "eval"]
    if not ends:
        sys.exit(f"airbench94_muon.py failed:\n{out.stdout[-500:]}\n{out.stderr[-1500:]}")
    trained = cells[cells.index(ends[-1]) - 1]
    return float(trained[5]), 100 * float(ends[-1][4])


def run_ours(checkout: Path, seed: int, epochs: int) -> tuple[float, float]:
    """(seconds, test accuracy in %) of the experiment."""
    with TemporaryDirectory() as folder:
        words = ["experiment=cifar10_94", f"seed={seed}", f"output={folder}", f"dataset.root={DATA}"]
        if epochs != EPOCHS:
            words.append(f"epochs={epochs}")
        line = [sys.executable, "-m", "imgcls", *words, "progress=none"]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        result = json.loads(next(Path(folder).glob("*/result.json")).read_text())
    return result["seconds"], 100 * result["test"]["acc"]


WAYS: dict[str, Callable[[Path, int, int], tuple[float, float]]] = {
    "imgcls": run_ours,
    "airbench94_muon": run_theirs,
}


def main() -> None:
    """Print each round and the medians."""
    checkout, *numbers = sys.argv[1:]
    rounds, epochs = (*map(int, numbers), *(1, EPOCHS)[len(numbers) :])
    if not FEWEST <= epochs <= EPOCHS:
        sys.exit(f"epochs={epochs}: give {FEWEST} to {EPOCHS}")
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for seed in range(rounds):
        for way, run in WAYS.items():
            found[way].append(run(Path(checkout).absolute(), seed, epochs))
            print(f"round {seed}: {way:16} {found[way][-1][0]:8.2f} s {found[way][-1][1]:6.2f} %", flush=True)
    for way, runs in found.items():
        seconds, accuracies = zip(*runs, strict=True)
        print(f"{way:16} {statistics.median(seconds):8.2f} s {statistics.mean(accuracies):6.2f} % (mean)")
    pairs = zip(found["airbench94_muon"], found["imgcls"], strict=True)
    print(f"theirs / ours {statistics.median(a[0] / b[0] for a, b in pairs):.3f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--theirs"]:
        theirs(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
