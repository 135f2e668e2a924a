"""Sweeps as commands: what fails loses only itself, and the same command trains only what is missing."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
import pytest

from imgcls.runs import Run

SMALL = [
    *("model=resnet20", "model.width=4", "dataset.limit=200", "augmentation=none", "trainer.threads=1"),
    *("batch_size=32", "epochs=1"),
]
# Networks that end their process in every way there is
DEADLY = """
    import os, signal, sys
    def network(*, how, **facts):
        if how == "raises":
            raise KeyError("nobody expected this")
        if how == "exits":
            sys.exit(3)
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "memory":
            raise MemoryError
"""


def sweep(folder: Path, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a sweep to its end."""
    return subprocess.run(command(folder, *words), capture_output=True, text=True, timeout=200, **more)


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "imgcls", "-m", *SMALL, f"output={folder}", *words]


def table(folder: Path) -> list[dict[str, str]]:
    """The rows of the one sweep in a folder."""
    (file,) = folder.glob("sweeps/*/sweep.csv")
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def epochs_trained(folder: Path) -> dict[str, list[str]]:
    """Of each run, the epochs that it said it had trained, in all its processes."""
    logs = {path.parent.name: path.read_text() for path in folder.glob("*/output.log")}
    return {
        name: [line.split()[1] for line in text.splitlines() if line.startswith("epoch ")]
        for name, text in logs.items()
    }


def count(folder: Path) -> int:
    """Epochs that all runs have trained."""
    return sum(map(len, epochs_trained(folder).values()))


@pytest.fixture
def deadly(tmp_path: Path) -> Iterator[list[str]]:
    """The words that make `model=deadly` known."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "deadly.py").write_text(dedent(DEADLY))
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "deadly.yaml").write_text(
        "name: deadly\n_target_: deadly.network\nhow: raises\n"
    )
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(tmp_path / "lib")
    yield ["--config-dir", str(tmp_path / "own")]
    os.environ.pop("PYTHONPATH")
    if before:
        os.environ["PYTHONPATH"] = before


REASONS = {  # the whole of each, as a pattern
    "raises": r".*KeyError: 'nobody expected this'.*",
    "exits": r"it called sys\.exit\(3\)",
    "killed": r"killed by SIGKILL, as the system does when memory runs out",
    "memory": r"out of memory\. Lower batch_size.*",
}


@pytest.mark.parametrize(
    "ways", [("raises", "killed"), pytest.param(tuple(REASONS), marks=pytest.mark.slow)], ids=" ".join
)
def test_a_job_that_dies_loses_only_itself(ways: tuple[str, ...], tmp_path: Path, deadly: list[str]) -> None:
    """Raised, sys.exit, kill -9 and memory: the table names each, the others finish, exit code 7."""
    out = tmp_path / "out"
    words = [sys.executable, "-m", "imgcls", "-m", *deadly, *SMALL[2:], "model=deadly", f"output={out}"]
    done = subprocess.run(
        [*words, f"model.how={','.join(ways)}"], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 7, done.stderr
    reasons = {row["model.how"]: row["reason"] for row in table(out)}
    assert reasons.keys() == set(ways)
    assert all(re.fullmatch(REASONS[way], reasons[way], re.DOTALL) for way in ways), reasons
    assert {row["state"] for row in table(out)} == {"failed"}
    assert done.stderr.count("imgcls: error: job ") == len(ways)
    assert all(Path(line.split("log: ")[1].rstrip(")\n")).exists() for line in done.stderr.splitlines())
    assert "Traceback" not in done.stdout + done.stderr


def test_the_same_command_trains_only_what_is_missing(tmp_path: Path) -> None:
    done = sweep(tmp_path, "optimizer.lr=0.01,0.02")
    assert done.returncode == 0, done.stderr
    assert len(table(tmp_path)) == 2
    assert list(tmp_path.glob("sweeps/lr-*/sweep.png"))
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("digits-*/*.ckpt")}
    best = done.stdout.split("best: ")[1].splitlines()
    again = sweep(tmp_path, "optimizer.lr=0.01,0.02")
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("digits-*/*.ckpt")} == stamps
    assert again.stdout.split("best: ")[1].splitlines() == best
    # The best run's command is that run
    single = subprocess.run(
        [sys.executable, *best[1].split()[1:]], capture_output=True, text=True, timeout=100
    )
    assert f"finished already ({Run(best[0].rstrip('/')).result['finished']})" in single.stdout  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_sweep_goes_on(tmp_path: Path, number: int) -> None:
    """Killed twice in the middle; no epoch is trained twice but one that was under way."""
    words = ("optimizer.lr=0.01,0.02,0.03", "epochs=12", "dataset.limit=400")
    for _ in range(2):
        process = subprocess.Popen(command(tmp_path, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        seen = count(tmp_path)
        while count(tmp_path) < seen + 5:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        code = process.wait(timeout=30)
        assert code == (-number if number == signal.SIGKILL else 128 + number)
        psutil.wait_procs(children, timeout=30)
        assert not [child for child in children if child.is_running()]
    done = sweep(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    trained = epochs_trained(tmp_path)
    assert len(trained) == 3
    for epochs in trained.values():
        assert sorted(set(epochs), key=lambda e: int(e.split("/")[0])) == [f"{n}/12" for n in range(1, 13)]
    assert count(tmp_path) == 36  # the parent's end reaches a worker, which saves


def test_a_pool_runs_each_job_once(tmp_path: Path) -> None:
    pool = ("hydra/launcher=pool", "hydra.launcher.workers=2", "seed=1,2,3,4")
    done = sweep(tmp_path, *pool)
    assert done.returncode == 0, done.stderr
    assert {len(epochs) for epochs in epochs_trained(tmp_path).values()} == {1}
    assert sorted(row["seed"] for row in table(tmp_path)) == ["1", "2", "3", "4"]
    assert len(list(tmp_path.glob("digits-*/result.json"))) == 4


def test_what_does_not_train_is_shown() -> None:
    """Other tasks say what they have to say."""
    command = [sys.executable, "-m", "imgcls", "-m", "task=list", "what=models,datasets"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("model=densenet121") < done.stdout.index("dataset=cifar10")


@pytest.mark.slow
def test_what_tests_is_shown(tmp_path: Path) -> None:
    assert sweep(tmp_path, "seed=1,2").returncode == 0
    runs = ",".join(map(str, sorted(tmp_path.glob("digits-*"))))
    command = [sys.executable, "-m", "imgcls", "-m", "task=evaluate", f"run={runs}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 2
