"""Sweeps through a queue: submitit's, on this machine."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("submitit")
from imgcls.sweeps import queue

SMALL = [
    *("model=resnet20", "model.width=4", "dataset.limit=200", "augmentation=none", "trainer.threads=1"),
    *("batch_size=32", "hydra/launcher=submitit_local"),
]


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "imgcls", "-m", *SMALL, f"output={folder}", *words]


def jobs_at_work(folder: Path) -> list[psutil.Process]:
    """The processes in which submitit runs what was handed to its queue."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "submitit.core._submit" in words and any(str(folder) in word for word in words):
            found.append(process)
    return found


def test_what_a_queue_needs(monkeypatch: Any) -> None:
    assert list(queue.problems("pool")) == []
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert list(queue.problems("submitit_local")) == []
    (line,) = queue.problems("submitit_slurm")
    assert line.startswith("hydra/launcher=submitit_slurm: there is no srun here.")
    monkeypatch.setattr(queue, "find_spec", lambda name: None)
    (line,) = queue.problems("submitit_local")
    assert line.endswith("needs the package submitit. pip install 'imgcls[slurm]'")


@pytest.mark.slow
def test_a_sweep_of_two_and_a_failure_that_comes_back(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, "epochs=1", "seed=0,1"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("sweeps/*/sweep.csv")
    with file.open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["state"] for row in rows] == ["finished", "finished"]
    assert len(list(tmp_path.glob("*/result.json"))) == 2
    diverging = command(tmp_path, "epochs=1", "seed=2,3", "optimizer.lr=1e30")
    done = subprocess.run(diverging, capture_output=True, text=True)
    assert done.returncode == 7
    assert done.stdout.count(" failed: ") == 2


@pytest.mark.slow
def test_a_job_whose_time_is_up_saves_and_goes_on(tmp_path: Path) -> None:
    words = command(tmp_path, "epochs=80", "seed=0,1", "hydra.launcher.array_parallelism=1")
    sweep = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while not list(tmp_path.glob("*/last.ckpt")):
        time.sleep(0.1)
        assert sweep.poll() is None
    (first,) = jobs_at_work(tmp_path)
    first.send_signal(signal.SIGUSR2)  # as submitit has SLURM send it
    assert sweep.wait(timeout=280) == 0
    logs = {path: path.read_text() for path in tmp_path.glob("*/output.log")}
    assert sorted(log.count("continues from") for log in logs.values()) == [0, 1]
    assert sum("stopped at" in log for log in logs.values()) == 1
    for path in logs:
        assert len((path.parent / "metrics.csv").read_text().splitlines()) == 81
