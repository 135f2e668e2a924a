"""Time to 94 or 96 % on CIFAR-10 beside the record's own program: prints figures.

    python tests/bench/airbench.py CHECKOUT [EXPERIMENT] [rounds=1] [epochs=N] [images=N]

CHECKOUT is a clone of KellerJordan/cifar10-airbench, IMGCLS_DATA where CIFAR-10 lies, EXPERIMENT cifar10_94
(beside airbench94_muon) or cifar10_96 (beside airbench96_faster). Each round trains both once, in turn, with
the round's number as the seed of ours. With fewer epochs (at least 4) or images both stop early: enough for
their times, not for accuracies. Times are of training and of what whitens the first layer, without imports,
reading, compiling and testing.

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
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

DATA = Path(os.environ.get("IMGCLS_DATA", "data")).absolute()
FEWEST = 4  # epochs: they train the first layer's bias for three


class Record(NamedTuple):
    """Their program for an experiment of ours."""

    program: str
    epochs: int  # of both
    theirs: tuple[str, str]  # where it says so, and how to say another number
    eager: Mapping[str, str]  # what it takes to run it without torch.compile


RECORDS = {
    "cifar10_94": Record(
        "airbench94_muon.py",
        8,
        ("range(ceil(total_train_steps / len(train_loader)))", "range({})"),
        {
            "@torch.compile\n": "",
            '    model.compile(mode="max-autotune")\n': "",
            '    main("warmup", model)\n': "",
        },
    ),
    "cifar10_96": Record(
        "airbench96_faster.py",
        45,
        ("'train_epochs': 45.0", "'train_epochs': {}"),
        {
            "    model_proxy = torch.compile(model_proxy, mode='max-autotune')\n": "",
            "    model_trainbias = torch.compile(model_trainbias, mode='max-autotune')\n": "",
            "    model_freezebias = torch.compile(model_freezebias, mode='max-autotune')\n": "",
            "._orig_mod": "",
        },
    ),
}


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


def theirs(checkout: Path, experiment: str, epochs: int, images: int) -> None:
    """Runs their program in this process, in the working folder."""
    import torch

    from imgcls import devices, memory

    record = RECORDS[experiment]
    program = checkout / record.program
    changes = {
        "CIFAR10(path,": f"CIFAR10({str(DATA)!r},",
        "dset.data": f"dset.data[:{images}]",
        "dset.targets": f"dset.targets[:{images}]",
        "range(200)": "range(1)",
        record.theirs[0]: record.theirs[1].format(epochs),
    }
    if not torch.cuda.is_available():
        memory.keep_freed()  # as ours has it
        kind = "bfloat16" if devices.precision("auto", "cpu") == "bf16-mixed" else "float"
        quote = '"' if '"cuda"' in program.read_text() else "'"
        changes |= record.eager | {f"{quote}cuda{quote}": f"{quote}cpu{quote}"}
        changes |= {".cuda()": "", ".half()": f".{kind}()"}
        torch.cuda.Event = Timer  # type: ignore[misc, assignment]
        torch.cuda.synchronize = lambda device=None: None  # type: ignore[assignment]
    text = program.read_text()
    for old, new in changes.items():
        assert old in text, f"another version of {program.name}: no {old!r}"
        text = text.replace(old, new)
    Path("cifar10").mkdir()
    Path(program.name).write_text(text)  # it reads itself
    sys.argv = [program.name]
    exec(compile(text, str(program), "exec"), {"__name__": "__main__"})


def run_theirs(checkout: Path, experiment: str, seed: int, epochs: int, images: int) -> tuple[float, float]:
    """(seconds, test accuracy in %) of their program."""
    words = ["--theirs", str(checkout), experiment, str(epochs), str(images)]
    with TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).absolute()), *words]
        out = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    table = [[cell.strip() for cell in row.split("|")] for row in re.findall(r"^\|.*\|$", out.stdout, re.M)]
    ends = [dict(zip(table[0], row, strict=True)) for row in table if "eval" in row]
    if not ends:
        program = RECORDS[experiment].program
        sys.exit(f"{program} failed:\n{out.stdout[-500:]}\n{out.stderr[-1500:]}")
    before = dict(zip(table[0], table[-2], strict=True))
    seconds = next(value for key, value in before.items() if key.endswith("time_seconds"))
    return float(seconds), 100 * float(ends[-1]["tta_val_acc"])


def run_ours(checkout: Path, experiment: str, seed: int, epochs: int, images: int) -> tuple[float, float]:
    """(seconds, test accuracy in %) of the experiment."""
    with TemporaryDirectory() as folder:
        words = [f"experiment={experiment}", f"seed={seed}", f"output={folder}", f"dataset.root={DATA}"]
        words += [f"epochs={epochs}"] if epochs != RECORDS[experiment].epochs else []
        words += [f"dataset.limit={images}"] if images < 50_000 else []
        line = [sys.executable, "-m", "imgcls", *words, "progress=none"]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        result = json.loads(next(Path(folder).glob("*/result.json")).read_text())
    return result["seconds"], 100 * result["test"]["acc"]


def options(words: list[str]) -> tuple[str, int, int, int]:
    """EXPERIMENT, rounds, epochs and images of a command line."""
    given = dict(word.split("=") for word in words if "=" in word)
    experiment = next((word for word in words if "=" not in word), "cifar10_94")
    if experiment not in RECORDS:
        sys.exit(f"{experiment}: choose from {', '.join(RECORDS)}")
    if wrong := given.keys() - {"rounds", "epochs", "images"}:
        sys.exit(f"{', '.join(wrong)}: give rounds=, epochs= or images=")
    whole = RECORDS[experiment].epochs
    epochs = int(given.get("epochs", whole))
    if not FEWEST <= epochs <= whole:
        sys.exit(f"epochs={epochs}: give {FEWEST} to {whole}")
    return experiment, int(given.get("rounds", 1)), epochs, int(given.get("images", 50_000))


def main() -> None:
    """Print each round and the medians."""
    checkout, *words = sys.argv[1:]
    experiment, rounds, epochs, images = options(words)
    ways = {"imgcls": run_ours, RECORDS[experiment].program.removesuffix(".py"): run_theirs}
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for seed in range(rounds):
        for way, run in ways.items():
            found[way].append(run(Path(checkout).absolute(), experiment, seed, epochs, images))
            print(f"round {seed}: {way:17} {found[way][-1][0]:8.2f} s {found[way][-1][1]:6.2f} %", flush=True)
    for way, runs in found.items():
        seconds, accuracies = zip(*runs, strict=True)
        print(f"{way:17} {statistics.median(seconds):8.2f} s {statistics.mean(accuracies):6.2f} % (mean)")
    ours, theirs = found.values()
    ratios = [b[0] / a[0] for a, b in zip(ours, theirs, strict=True)]
    print(f"theirs / ours {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--theirs"]:
        theirs(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
