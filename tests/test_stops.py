"""Signals that ask for an end: which are listened to, and that training saves and exits with their code."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback

from imgcls import build, checkpoints, runs, stops
from imgcls.tasks import train

QUICK = ("epochs=3", "model.width=4", "dataset.limit=160", "batch_size=32", "dataset.val_fraction=0.2")
MORE = ("progress=none", "trainer.threads=1")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Whatever a test does to signals is undone."""
    before = {number: signal.getsignal(number) for number in stops.STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_all_four_are_heard_and_given_back() -> None:
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    heard: list[int] = []
    before = stops.listen(lambda number, frame: heard.append(number))
    assert list(before) == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1] == stops.STOPS
    for number in stops.STOPS:
        os.kill(os.getpid(), number)
    assert heard == stops.STOPS
    stops.restore(before)
    assert {number: signal.getsignal(number) for number in stops.STOPS} == before


def test_who_listens_within_hears_instead() -> None:
    """Training, within a task that would only end; then the task again."""
    heard: list[str] = []
    outer = stops.listen(lambda number, frame: heard.append("outer"))
    inner = stops.listen(lambda number, frame: heard.append("inner"))
    for _ in range(2):
        for number in outer:
            os.kill(os.getpid(), number)
        stops.restore(inner)
    stops.restore(outer)
    assert heard == ["inner"] * len(outer) + ["outer"] * len(outer)


def test_nohup_holds_and_others_keep_their_signal() -> None:
    """submitit may have SIGUSR1 to queue a job again."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, mine := lambda number, frame: None)
    stops.restore(stops.listen(lambda number, frame: None))
    assert set(stops.listen(lambda number, frame: None)) == {signal.SIGINT, signal.SIGTERM}
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGUSR1) is mine


class Sends(Callback):
    """Sends this process a signal once so many optimizer steps are done."""

    def __init__(self, number: int, step: int) -> None:
        self.number, self.step = number, step

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", stops.STOPS)
def test_training_saves_at_that_step_and_the_same_command_goes_on(
    number: int, tmp_path: Path, compose: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Exit code 128 + n, with a line that says where."""
    config, run = compose(*QUICK, *MORE), runs.Run(tmp_path / "run")
    callbacks = build.callbacks
    monkeypatch.setattr(build, "callbacks", lambda *args: [Sends(number, 6), *callbacks(*args)])
    with pytest.raises(SystemExit) as end:
        train.main(config, run.path)
    assert end.value.code == 128 + number
    assert "stopped at epoch 2, step 6; saved. The same command continues." in capsys.readouterr().out
    assert checkpoints.load(run / "last.ckpt")["global_step"] == 6
    monkeypatch.undo()
    train.main(config, run.path)
    assert [row["epoch"] for row in run.history()] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["cpu", "ddp_cpu"])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_command_is_sent_one(number: int, trainer: str, tmp_path: Path) -> None:
    """As by SLURM (--signal=B:USR1@60), and by a terminal that closes: it ends within 10 seconds."""
    words = [*QUICK, *MORE, "epochs=500", f"trainer={trainer}", f"output={tmp_path}", "name=run"]
    process = subprocess.Popen([sys.executable, "-m", "imgcls", *words], stdout=subprocess.PIPE, text=True)
    run = runs.Run(tmp_path / "run")
    while process.poll() is None and len(run.history()) < 2:
        time.sleep(0.05)
    process.send_signal(number)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert "saved. The same command continues." in out
    assert checkpoints.newest(run) == run / "last.ckpt"
