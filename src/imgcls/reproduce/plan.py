"""What the rows of papers would take on this machine, and which of them fit into a budget of time."""

import hashlib
import json
import platform
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import zip_longest
from pathlib import Path
from typing import Any

from imgcls import naming
from imgcls.data.facts import FACTS
from imgcls.errors import ConfigError
from imgcls.reproduce.rows import Entry, to_run
from imgcls.runs import write_text
from imgcls.sweeps.job import Job
from imgcls.sweeps.pool import SPAWN

SPEEDS = "speeds.json"  # what was timed, by machine and configuration
FORWARD = 1 / 3  # of the time of a training step: what an image takes that is only classified
ALIKE = ("epochs", "seed", "select", "optimizer.lr", "dataset.limit")  # change no step's speed

Speed = Mapping[str, float] | None  # as imgcls.reproduce.timing.measure; None: it does not fit into memory


class Speeds:
    """The speed of each job, timed once on this machine.

    Args:
        folder: where what was timed is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / SPEEDS
        self.known: dict[str, Speed] = {}
        if self.file.exists():
            self.known = json.loads(self.file.read_text(encoding="utf-8"))

    def of(self, job: Job) -> Speed:
        """As timed before."""
        return self.known[_key(job.config)]

    def time(self, jobs: Sequence[Job]) -> None:
        """Time those that are not known, in a process of their own; each is kept at once."""
        new = {_key(job.config): job for job in jobs if _key(job.config) not in self.known}
        with Timer() as timer:
            for number, (name, job) in enumerate(new.items(), 1):
                print(f"timing {number}/{len(new)}: {job.label}", flush=True)
                self.known[name] = timer.time(job)
                self.file.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.file, json.dumps(self.known, indent=1))


class Timer:
    """A process that times one job after another; where it dies, another takes its place."""

    def __enter__(self) -> "Timer":
        self.pool: ProcessPoolExecutor | None = None
        return self

    def __exit__(self, *error: object) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)
            self.pool = None

    def time(self, job: Job) -> Speed:
        """How fast it is; ConfigError if nothing is known of its dataset before it is there."""
        data = job.config["dataset"]
        if not _facts(data):
            unknown = f"plan knows no counts of dataset={data['name']}"
            raise ConfigError(f"{job.label}: {unknown}. Leave plan and budget out.")
        # Ctrl-C ends it without a word
        self.pool = self.pool or ProcessPoolExecutor(1, SPAWN, signal.signal, (signal.SIGINT, signal.SIG_DFL))
        try:
            return self.pool.submit(_measure, job.config).result()
        except BrokenProcessPool:  # the system ends what takes too much memory
            self.__exit__()
            return None
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):  # torch has two that say so
                raise
            return None


def _measure(config: Mapping[str, Any]) -> dict[str, float]:
    from imgcls.reproduce import timing

    return timing.measure(config)


def _key(config: Mapping[str, Any]) -> str:
    settings = {k: v for k, v in naming.numbers(config).items() if k not in ALIKE}
    text = json.dumps([platform.node(), settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _facts(data: Mapping[str, Any]) -> Any:
    return FACTS.get(data["name"]) or FACTS.get(f"{data['name']}_{data.get('split')}")


def seconds(job: Job, speed: Speed) -> float:
    """What is left of a job: epochs that it has not trained, and its test; infinite if it does not fit."""
    if not speed:
        return float("inf")
    epochs = job.config["epochs"] - len(job.rows)
    return epochs * _epoch(job, speed) + FORWARD * _counts(job)[2] / speed["images_per_second"]


def _epoch(job: Job, speed: Mapping[str, float]) -> float:
    train, held, _ = _counts(job)
    return (train + FORWARD * held) / speed["images_per_second"]


def _counts(job: Job) -> tuple[int, int, int]:
    """Images to train on, held out, and to test."""
    data = job.config["dataset"]
    facts, limit = _facts(data), data["limit"]
    total = min(facts.train, limit or facts.train)
    held = int(total * data["val_fraction"] + 1e-9)
    return total - held, held, min(facts.test, limit or facts.test)


def disk(job: Job, speed: Speed) -> float:
    """Megabytes of its checkpoints: the last, and with a hold-out the best."""
    return (speed["checkpoint_mb"] if speed else 0) * (1 + (job.config["dataset"]["val_fraction"] > 0))


def fitting(entries: Sequence[Entry], speeds: Speeds, budget: float) -> Iterator[Entry]:
    """Those that fit into so many seconds: one of each table before the second of any, the soonest first."""
    taken: set[int] = set()
    for entry in in_turn(entries, speeds):
        new = [job for job in entry.jobs if not job.done_before and id(job) not in taken]
        cost = sum(seconds(job, speeds.of(job)) for job in new)
        if cost <= budget:
            budget -= cost
            taken |= {id(job) for job in new}
            yield entry


def in_turn(entries: Sequence[Entry], speeds: Speeds) -> list[Entry]:
    """The rows that tell most first: a row of every table, then another of each."""

    def cost(entry: Entry) -> float:
        return sum(seconds(job, speeds.of(job)) for job in entry.jobs if not job.done_before)

    tables: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=cost):
        tables.setdefault(entry.row.id.rpartition(".")[0], []).append(entry)
    return [entry for turn in zip_longest(*tables.values()) for entry in turn if entry]


def lines(entries: Sequence[Entry], speeds: Speeds) -> Iterator[list[str]]:
    """row, state, epochs left, s/epoch, hours, memory, disk, what it is; what is shared counts once."""
    counted: set[int] = set()
    for entry in entries:
        jobs = [job for job in entry.jobs if not job.done_before and id(job) not in counted]
        counted |= {id(job) for job in jobs}
        if not jobs:
            state = entry.state if all(job.done_before for job in entry.jobs) else "as above"
            yield [entry.row.id, state, "", "", "", "", "", entry.row.title]
            continue
        speed = speeds.of(jobs[0])
        epochs = sum(job.config["epochs"] - len(job.rows) for job in jobs)
        hours = sum(seconds(job, speeds.of(job)) for job in jobs) / 3600
        size = sum(disk(job, speeds.of(job)) for job in jobs)
        state = "to train" if speed else "does not fit into memory"
        numbers = (
            [f"{_epoch(jobs[0], speed):.1f}", f"{hours:.2f}", f"{speed['memory_mb']:,.0f}"]
            if speed
            else [""] * 3
        )
        yield [entry.row.id, state, str(epochs), *numbers, f"{size:,.0f}" if speed else "", entry.row.title]


def total(entries: Sequence[Entry], speeds: Speeds, output: Path) -> str:
    """The sum, in one line."""
    left = [job for job in to_run(entries) if not job.done_before]
    spent = [seconds(job, speed) for job in left if (speed := speeds.of(job))]
    size = sum(disk(job, speeds.of(job)) for job in left)
    there = next(path for path in (output, *output.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    return (
        f"{len(left)} runs, about {sum(spent) / 3600:.1f} hours one after another, "
        f"{size / 1e3:.2f} GB of checkpoints ({free:,.0f} GB free)"
    )
