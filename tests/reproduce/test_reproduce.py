"""task=reproduce as a command: only what is missing is trained, and everything is beside the paper."""

import csv
import functools
import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from imgcls.runs import Run

# Rows of a paper, on a network and data of seconds
SMALL = [
    *("dataset=digits", "dataset.limit=200", "dataset.val_fraction=0.2", "model=resnet20", "model.width=4"),
    *("augmentation=none", "trainer.threads=1", "batch_size=32"),
]


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "imgcls", "task=reproduce", *SMALL, f"output={folder}", *words]


def reproduce(folder: Path, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the task to its end."""
    return subprocess.run(command(folder, *words), capture_output=True, text=True, timeout=250, **more)


def table(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The lines of the one table.csv, by row and metric."""
    (file,) = folder.glob("papers/*/table.csv")
    with file.open(newline="") as text:
        return {(line["row"], line["metric"]): line for line in csv.DictReader(text)}


def epochs_trained(folder: Path) -> dict[str, list[str]]:
    """Of each run, the epochs that it said it had trained, in all its processes."""
    logs = {path.parent.name: path.read_text() for path in folder.glob("*/output.log")}
    return {
        name: [line.split()[1] for line in text.splitlines() if line.startswith("epoch ")]
        for name, text in logs.items()
    }


def test_rows_are_run_once_and_shown_beside_the_paper(tmp_path: Path) -> None:
    rows = "rows=hisariya.table1.0[134]"  # on one network the first two are the same
    done = reproduce(tmp_path, rows, "epochs=1", "seeds=2")
    assert done.returncode == 0, done.stderr
    assert len(epochs_trained(tmp_path)) == 4
    found = table(tmp_path)
    figures = [found[f"hisariya.table1.0{n}", "test_acc"] for n in (1, 3, 4)]
    assert figures[0]["ours"] == figures[1]["ours"]
    line = figures[2]
    runs = [Run(tmp_path / name).result for name in line["folders"].split()]
    scores = [run["test"]["acc"] for run in runs if run]
    assert len(scores) == 2
    assert float(line["ours"]) == pytest.approx(sum(scores) / 2)
    assert (line["paper"], line["runs"], line["state"]) == ("0.9906", "2", "finished")
    assert float(line["difference"]) == pytest.approx(sum(scores) / 2 - 0.9906, abs=1e-6)
    assert found["hisariya.table1.05", "test_acc"]["state"] == "finished"  # the same once more
    assert line["stamps"].startswith("changed: ")
    assert "epochs=1" in line["stamps"]
    assert "hisariya.table1.04: test acc 99.06 → " in done.stdout
    (folder,) = tmp_path.glob("papers/hisariya-changed-*")
    page = (folder / "table.html").read_text()
    for text in ("changed: ", "one standard deviation of 2 seeds", "data:image/png"):
        assert text in page
    assert 'src="http' not in page
    assert "| table1.04 | Modified ResNet-34" in (folder / "table.md").read_text()


@pytest.mark.slow
def test_the_same_command_trains_nothing_again(tmp_path: Path) -> None:
    words = ("rows=ma.table2.01,ma.table2.09", "epochs=1")
    assert reproduce(tmp_path, *words).returncode == 0
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("digits-*/*.ckpt")}
    again = reproduce(tmp_path, *words)
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("digits-*/*.ckpt")} == stamps
    assert "rows 2 finished" in again.stdout
    (run,) = {line["folders"] for key, line in table(tmp_path).items() if key[0] == "ma.table2.09"}
    alone = [word for word in command(tmp_path, "epochs=1") if word != "task=reproduce"]
    row = ["optimizer=adam", "optimizer.lr=0.01", "schedule=constant", "dataset.normalize=zero_one"]
    single = subprocess.run([*alone, *row], capture_output=True, text=True, timeout=100)
    assert "finished already" in single.stdout and run in single.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_nothing_is_done_twice(tmp_path: Path, number: int) -> None:
    words = ("rows=ma.table2.01,ma.table2.02,ma.table2.09", "epochs=12", "dataset.limit=400")
    process = subprocess.Popen(command(tmp_path, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while len(functools.reduce(operator.iadd, epochs_trained(tmp_path).values(), [])) < 14:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    assert process.wait(timeout=40) == (-number if number == signal.SIGKILL else 128 + number)
    psutil.wait_procs(children, timeout=30)
    done = reproduce(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    trained = epochs_trained(tmp_path)
    assert len(trained) == 3
    for epochs in trained.values():
        assert sorted(epochs, key=lambda e: int(e.split("/")[0])) == [f"{n}/12" for n in range(1, 13)]


@pytest.mark.slow
def test_divergence_is_a_result_and_failure_is_not(tmp_path: Path) -> None:
    """A rate that ruins the loss: shown, exit code 0, not tried again. A full memory: exit code 7."""
    words = ("rows=ma.table2.02", "epochs=2", "optimizer.lr=1e30")
    done = reproduce(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert "ma.table2.02: diverged (the loss is not finite in epoch 1" in done.stdout
    assert table(tmp_path)["ma.table2.02", "test_acc"]["state"] == "diverged"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("digits-*/imgcls.log")}
    assert "rows 1 diverged" in reproduce(tmp_path, *words).stdout
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("digits-*/imgcls.log")} == before


@pytest.mark.slow
def test_a_row_that_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "broken.py").write_text(
        "def network(**facts):\n    raise KeyError('nobody expected this')\n"
    )
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "broken.yaml").write_text("name: broken\n_target_: broken.network\n")
    own = ["--config-dir", str(tmp_path / "own"), "dataset=digits", "epochs=1", "rows=ma.table2.0[12]"]
    words = [sys.executable, "-m", "imgcls", "task=reproduce", *own, "model=broken", f"output={tmp_path}/out"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "lib")}
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 7, done.stderr
    assert done.stderr.count("failed: KeyError: 'nobody expected this'") == 2
    assert "job ma.table2.01 failed" in done.stderr
    assert table(tmp_path / "out")["ma.table2.01", "test_acc"]["state"] == "failed"


@pytest.mark.slow
def test_a_plan_trains_nothing_and_a_budget_what_fits(tmp_path: Path) -> None:
    words = ("rows=ma.table2.01,ma.table3.01", "epochs=1", "hydra/launcher=pool", "hydra.launcher.workers=2")
    planned = reproduce(tmp_path, *words, "plan=true")
    assert planned.returncode == 0, planned.stderr
    lines = [line.split("\t") for line in planned.stdout.splitlines() if "\t" in line]
    assert [line[:3] for line in lines] == [
        ["row", "state", "epochs"],
        ["ma.table2.01", "to train", "1"],
        ["ma.table3.01", "as above", ""],  # on the same data they are the same
    ]
    assert "1 runs, about 0.0 hours" in planned.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["papers"]
    none = reproduce(tmp_path, *words, "budget=0.001s")
    assert "budget=0.001s: 0 of 2 rows fit; not ma.table2.01, ma.table3.01" in none.stdout
    some = reproduce(tmp_path, *words, "budget=1h")
    assert "2 of 2 rows fit" in some.stdout and "timing" not in some.stdout
    assert len(epochs_trained(tmp_path)) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("paper=mo", "paper=mo is not known. Choose from: asif, clark, gilbert, hisariya, ma."),
        ("rows=ma.table2.11", "rows=ma.table2.11 is no row. Choose from: ma.table2.01"),
        ("", "task=reproduce needs to know what. Add paper=NAME, paper=all or rows=PATTERN."),
        ("paper=ma epochz=3", "unknown key epochz=3. Did you mean epochs=3?"),
        ("paper=ma budget=45", "budget=45 must be a time, as 90s, 45m or 2h or null."),
        ("paper=ma seeds=0", "seeds=0 must be a whole number >= 1."),
        ("paper=ma name=x", "name=x: each run of task=reproduce has a name of its own. Leave name out."),
        ("paper=ma axes.epochs=1", "axes.epochs=1 is for task=study. Add that, or leave it out."),
        ("paper=ma seeds=2 seed=1", "seeds=2 chooses seed=… itself. Leave one of them out."),
        ("paper=ma fraction=0.5 dataset.limit=9", "fraction=0.5 chooses dataset.limit=… itself."),
        ("paper=ma -m", "-m: the task is many runs already. Leave -m out."),
        ("paper=ma hydra/launcher=basic", "hydra/launcher=basic cannot run papers. Use serial or pool."),
    ],
)
def test_mistakes_are_answered_at_once(
    words: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from imgcls import __main__ as entry

    with pytest.raises(SystemExit) as stop:
        entry.main(["task=reproduce", f"output={tmp_path}", *words.split()])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*/config.yaml"))


def test_other_tasks_have_no_use_for_its_settings() -> None:
    from imgcls.cli import command

    assert command.check(["paper=ma", "budget=5m"])[1] == [
        "paper=ma is for task=reproduce or task=study. Add that, or leave it out.",
        "budget=5m is for task=reproduce. Add that, or leave it out.",
    ]
