"""The parts of a sweep by themselves: what its jobs say of themselves, and how they are shown."""

import io
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from imgcls import figures
from imgcls.cli.arguments import read
from imgcls.cli.command import examine
from imgcls.errors import DataError
from imgcls.sweeps import results
from imgcls.sweeps import scribe as scribes
from imgcls.sweeps.board import MOST, Board, swept
from imgcls.sweeps.job import Job
from imgcls.sweeps.pool import environments
from imgcls.sweeps.scribe import Scribe


def jobs(compose: Any, folder: Path, count: int = 3) -> list[Job]:
    rates = [f"optimizer.lr={rate / 100}" for rate in range(1, count + 1)]
    made = []
    for number, rate in enumerate(rates):
        config = OmegaConf.create(compose(rate, "epochs=4", f"output={folder}"))
        made.append(Job(number, [rate, "epochs=4", f"output='{folder}'"], config))
    return made


def row(epoch: int, acc: float) -> dict[str, float]:
    return {"epoch": epoch, "train/loss": 1.0, "val/acc": acc, "seconds": 30.0}


def test_environments_share_out_devices_and_cores() -> None:
    assert environments(1, 1, 8, []) == [{}]
    assert environments(None, 1, 2, []) == [{"OMP_NUM_THREADS": "1"}] * 2
    assert environments(4, 1, 16, []) == [{"OMP_NUM_THREADS": "4"}] * 4
    assert environments(8, 1, 2, []) == [{"OMP_NUM_THREADS": "1"}] * 8
    two = environments(None, 2, 16, ["0", "3"])
    assert [each["CUDA_VISIBLE_DEVICES"] for each in two] == ["0", "3", "0", "3"]
    assert {each["OMP_NUM_THREADS"] for each in two} == {"4"}


def test_the_words_in_which_jobs_differ(compose: Any, tmp_path: Path) -> None:
    made = jobs(compose, tmp_path)
    assert swept(made, made[1]) == ["optimizer.lr=0.02"]
    assert swept(made[:1], made[0]) == made[0].overrides


def test_lines_off_a_terminal_and_the_time_left(compose: Any, tmp_path: Path) -> None:
    text = io.StringIO()
    made = jobs(compose, tmp_path)
    board = Board(False, 2, Console(file=text))
    board.open(made)
    first, second, _ = made
    for job in made:
        job.run.path.mkdir()
    first.state = second.state = "running"
    first.run.write_history([row(1, 0.5), row(2, 0.75)])
    # 2 of 12 epochs at 30 s, 10 to go on 2 workers
    assert board.left() == "ETA 2:30"
    first.end(0, "")
    board.tick([first])
    second.end(5, "the loss is not finite")
    board.tick([second])
    assert text.getvalue().splitlines() == [
        "[1/3] optimizer.lr=0.01 epoch 1/4  train/loss 1.0000  val/acc 0.5000  ETA 2:00",
        "[1/3] optimizer.lr=0.01 epoch 2/4  train/loss 1.0000  val/acc 0.7500  ETA 2:00",
        "[1/3] optimizer.lr=0.01 finished",
        "[2/3] optimizer.lr=0.02 failed: the loss is not finite",
    ]


def test_the_live_table_of_a_long_sweep_shows_what_matters(compose: Any, tmp_path: Path) -> None:
    made = jobs(compose, tmp_path, 50)
    board = Board(False, 1, Console(file=io.StringIO(), width=100))
    board.jobs = made
    for job in made[:40]:
        job.end(0, "")
    made[3].end(-9, "killed")
    made[41].state = "running"
    table = board.table()
    states = list(table.columns[2].cells)
    assert len(states) == MOST
    assert states.count("failed") == states.count("running") == 1
    assert states.count("waiting") == 9
    assert table.caption == "and 30 more"
    assert "39 finished" in str(table.title)


@pytest.mark.parametrize(
    ("code", "state", "again"),
    [
        *[(0, "finished", False), (5, "failed", False), (2, "failed", False), (130, "stopped", False)],
        *[(-9, "failed", True), (1, "failed", True), (4, "failed", True)],
    ],
)
def test_only_accidents_are_tried_again(
    compose: Any, tmp_path: Path, code: int, state: str, again: bool
) -> None:
    (job,) = jobs(compose, tmp_path, 1)
    job.attempts = 1
    job.end(code, "")
    assert (job.state, job.worth_another_try) == (state, again)
    job.attempts = 2
    assert not job.worth_another_try


def test_a_sweep_is_named_by_its_command() -> None:
    one = results.folder("out", ["batch_size=8,16", "epochs=3", "optimizer.lr=0.1,0.01"])
    assert one == results.folder("out", ["batch_size=8,16", "epochs=3", "optimizer.lr=0.1,0.01"])
    assert one.name.startswith("batch-size-lr-")
    assert one != results.folder("out", ["batch_size=8,16", "epochs=4", "optimizer.lr=0.1,0.01"])


@pytest.mark.parametrize(
    ("words", "count", "keys"),
    [
        (["sweep=learning_rate"], 6, {"optimizer.lr"}),
        (["sweep=learning_rate", "optimizer.lr=0.1,0.2"], 2, {"optimizer.lr"}),
        (["sweep=batch_size"], 5, {"batch_size"}),
        (["sweep=epochs", "seed=1,2"], 10, {"epochs", "seed"}),
        (["sweep=optimizer"], 9, {"optimizer", "optimizer.lr"}),
        (["sweep=depth"], 4, {"model"}),
        (["sweep=scaling"], 4, {"scaling"}),
    ],
)
def test_ready_made_sweeps(words: list[str], count: int, keys: set[str]) -> None:
    typed = read(words)
    assert typed.sweeps
    done = examine(typed.overrides, typed.sweeps)
    assert done.problems == []
    assert len(done.jobs) == count
    assert {word.partition("=")[0] for word in done.overrides if "," in word} == keys


def test_the_picture_has_a_panel_for_each_key() -> None:
    rows = [
        {"optimizer.lr": str(lr), "model": model, "val_acc": 0.5 + lr}
        for lr in (0.001, 0.01, 0.1)
        for model in ("resnet20", "vgg11")
    ]
    drawn = figures.sweep(rows, ["optimizer.lr", "model"], "val_acc")
    numbers, words = drawn.axes
    assert numbers.get_xscale() == "log"
    assert list(numbers.lines[0].get_xdata()) == [0.001, 0.01, 0.1]
    assert list(numbers.lines[0].get_ydata()) == [0.501, 0.51, 0.6]
    assert words.lines[0].get_linestyle() == "None"  # there is nothing between two networks
    assert [label.get_text() for label in words.get_xticklabels()] == ["resnet20", "vgg11"]


def test_ties_go_to_the_lower_validation_loss_and_never_to_the_test() -> None:
    def row(run: str, acc: float | None, loss: float | None, test: float | None) -> dict[str, Any]:
        return {"run": run, "val_acc": acc, "val_loss": loss, "test_acc": test}

    found = [row("a", 0.9, 0.4, 0.95), row("b", 0.9, 0.3, 0.85), row("failed", None, None, None)]
    assert [each["run"] for each in sorted(found, key=results._rank, reverse=True)] == ["b", "a", "failed"]
    bare = [row("c", None, None, 0.7), row("d", None, None, 0.8)]
    assert max(bare, key=results._rank)["run"] == "d"


class Written:
    """An ending that leaves word of the process that wrote it, or fails, or dies of it."""

    def __init__(self, file: Path, trouble: str = "") -> None:
        self.file, self.trouble = file, trouble

    def write(self) -> None:
        if self.trouble == "killed" and multiprocessing.parent_process():
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "failed":
            raise DataError("the disk went away.")
        idle = os.sched_getscheduler(0) == os.SCHED_IDLE if hasattr(os, "SCHED_IDLE") else os.nice(0) > 0
        self.file.write_text(f"{os.getpid()} {idle}")


def test_endings_are_written_behind_the_jobs(compose: Any, tmp_path: Path) -> None:
    made = jobs(compose, tmp_path)
    scribe = Scribe()
    try:
        for job, trouble in zip(made, ("", "failed", None), strict=True):
            job.end(0, "", None if trouble is None else Written(tmp_path / str(job.number), trouble))  # type: ignore[arg-type]
            scribe.take(job)
        assert made[2] in scribe.done()  # there is nothing to wait for
        assert {job.number for job in scribe.done(patiently=True)} <= {0, 1}
        assert [job.state for job in made] == ["finished", "failed", "finished"]
        assert (made[1].code, made[1].reason) == (DataError.exit_code, "the disk went away.")
        writer, idle = (tmp_path / "0").read_text().split()
        assert int(writer) != os.getpid()
        assert idle == "True"
        # What cannot wait any more is written here
        for job in (many := jobs(compose, tmp_path, scribes.QUEUE + 2)):
            job.end(0, "", Written(tmp_path / f"many{job.number}"))  # type: ignore[arg-type]
            scribe.take(job)
        assert {job.number for job in scribe.done(patiently=True)} <= {job.number for job in many}
        writers = {(tmp_path / f"many{job.number}").read_text().split()[1] for job in many}
        assert writers == {"True", "False"}
        # Whose writer is killed, writes here
        made[0].end(0, "", Written(tmp_path / "killed", "killed"))  # type: ignore[arg-type]
        scribe.take(made[0])
        assert scribe.done(patiently=True) == [made[0]]
        assert (tmp_path / "killed").read_text() == f"{os.getpid()} False"
        scribe.take(made[0])  # and so do all after it
        assert scribe.done(patiently=True) == [made[0]]
        assert made[0].state == "finished"
    finally:
        scribe.close()
