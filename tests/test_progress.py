"""What is seen while training: one line an epoch, or a bar that closes; in files nothing but whole lines."""

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.text import Text

from imgcls import build, progress
from imgcls.__main__ import register_resolvers
from imgcls.cli import command
from imgcls.progress import ProgressBar, show
from imgcls.runs import Run

# 90 images in 3 steps an epoch
BASE = [
    *("model=resnet20", "model.width=2", "epochs=3", "batch_size=32", "dataset.limit=100"),
    *("trainer=cpu", "trainer.threads=1", "trainer.precision=32-true"),
]
NUMBER = r"\d+\.\d{4}"
SHARE = r"\d+\.\d\d%"


def train(folder: Path, mode: str, *more: str, console: Console | None = None, watch: Any = None) -> Run:
    """A whole training with its progress shown."""
    register_resolvers()
    config, problems = command.check([*BASE, *more, f"progress={mode}"])
    assert not problems, problems
    run, images = Run(folder), build.data(config)
    trainer = build.trainer(config, run)
    bar = next(c for c in trainer.callbacks if isinstance(c, ProgressBar))
    bar.console = console or bar.console
    trainer.callbacks += [watch] if watch else []
    trainer.fit(build.classifier(config, images), datamodule=images)
    assert bar._bar is None
    return run


def test_a_line_tells_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tmp_path, "lines")
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 3 and out.endswith("\n")
    line = (
        rf"epoch (\d)/3  train acc ({SHARE})  train loss ({NUMBER})  val acc ({SHARE})  val loss ({NUMBER})"
    )
    for number, (said, row) in enumerate(zip(out.splitlines(), run.history(), strict=True), 1):
        found = re.fullmatch(rf"{line}  ([\d,]+) img/s  (\d+) s left", said)
        assert found, said
        keys = ("train/acc", "train/loss", "val/acc", "val/loss")
        shown = [f"{row[k]:.2%}" if "acc" in k else f"{row[k]:.4f}" for k in keys]
        assert found.groups()[:5] == (str(number), *shown)
        rate = int(found[6].replace(",", ""))
        assert rate == pytest.approx(90 / row["seconds"], abs=1)
    assert out.splitlines()[-1].endswith("  0 s left")


def test_lines_have_no_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, "lines")
    out = capsys.readouterr().out
    assert all(character.isprintable() for character in out.replace("\n", ""))


def test_without_a_hold_out_there_are_two_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, "lines", "dataset.val_fraction=0", "epochs=1")
    out = capsys.readouterr().out
    line = rf"epoch 1/1  train acc {SHARE}  train loss {NUMBER}  [\d,]+ img/s  0 s left\n"
    assert re.fullmatch(line, out), out


def test_none_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, "none")
    assert capfd.readouterr() == ("", "")


def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until its only element is set."""
    now = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return now


def stand_in(epoch: int = 0) -> Any:
    """As much of a trainer as the bar asks for: ten steps an epoch."""
    return SimpleNamespace(
        current_epoch=epoch, is_global_zero=True, world_size=1, fit_loop=SimpleNamespace(max_batches=10)
    )


def batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(size), torch.zeros(size)


def test_the_time_left_is_that_of_an_epoch_times_those_to_come(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, bar, module = clock(monkeypatch), ProgressBar("lines", 5), SimpleNamespace(seen=torch.zeros(3))
    bar.on_train_start(stand_in(), module)
    for epoch, (moment, expected) in enumerate([(110, 40), (130, 45), (160, 40), (200, 25), (210, 0)], 1):
        bar.on_train_epoch_start(stand_in(epoch - 1), module)
        now[0] = moment
        bar.epoch({"epoch": epoch, "seconds": 10.0, "train/loss": 1.0})
        assert capsys.readouterr().out.endswith(f"  {expected} s left\n")


def test_a_resumed_run_counts_only_its_own_epochs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, bar, module = clock(monkeypatch), ProgressBar("lines", 10), SimpleNamespace(seen=torch.zeros(3))
    bar.on_train_start(stand_in(6), module)
    bar.on_train_epoch_start(stand_in(6), module)
    now[0] += 8
    bar.epoch({"epoch": 7, "seconds": 8.0, "train/loss": 1.0})
    assert capsys.readouterr().out.endswith("  24 s left\n")


def test_images_before_an_interruption_count_as_its_seconds_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """300 images in 3 s before, 100 in 1 s after: 100 a second."""
    clock(monkeypatch)
    bar, module = ProgressBar("lines", 10), SimpleNamespace(seen=torch.tensor([9.0, 8.0, 300.0]))
    bar.on_train_start(stand_in(6), module)
    bar.on_train_epoch_start(stand_in(6), module)
    bar.on_train_batch_end(stand_in(6), module, None, batch(100), 3)
    bar.epoch({"epoch": 7, "seconds": 4.0, "train/loss": 1.0})
    assert "  100 img/s  " in capsys.readouterr().out


def test_an_epoch_of_no_time_has_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    bar, module = ProgressBar("lines", 1), SimpleNamespace(seen=torch.zeros(3))
    bar.on_train_start(stand_in(), module)
    bar.on_train_batch_end(stand_in(), module, None, batch(20), 0)
    bar.epoch({"epoch": 1, "seconds": 0.0, "train/loss": 1.0})
    assert "  20,000 img/s  " in capsys.readouterr().out


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=140)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def screen(console: Console) -> list[str]:
    """What the terminal was told to show, line after line, without colours and movements."""
    lines = [Text.from_ansi(line).plain for line in re.split(r"[\r\n]", written(console))]
    return [re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", line).rstrip() for line in lines if line.strip()]


class Draw(Callback):
    """Draws the bar at once after each step, where its own clock does so four times a second."""

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        next(c for c in trainer.callbacks if isinstance(c, ProgressBar))._bar.refresh()


def test_a_bar_shows_epoch_scores_speed_and_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REFRESH", 0.0)
    console = terminal()
    train(tmp_path, "bar", console=console, watch=Draw())
    line = rf"epoch (\d)/3 \S+ +(\d+) % ([\d,]+) img/s ETA \S+ loss {NUMBER}  acc {SHARE}(?:  val ({SHARE}))?"
    found = [re.fullmatch(line, said) for said in screen(console)]
    drawn = list(dict.fromkeys((m[1], m[2]) for m in found if m))
    steps = [(str(step // 3 + 1), f"{100 * (step + 1) / 9:.0f}") for step in range(9)]
    assert drawn == steps
    assert {m[1] for m in found if m and m[4]} == {"2", "3"}  # a validation comes with the first epoch's end


def test_a_bar_ends_full_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the training, the last line tells its end, and the cursor is given back below it."""
    monkeypatch.setattr(progress, "REFRESH", 3600.0)
    console = terminal()
    run = train(tmp_path, "bar", console=console)
    row, last = run.history()[-1], screen(console)[-1]
    shown = f"loss {row['train/loss']:.4f}  acc {row['train/acc']:.2%}  val {row['val/acc']:.2%}"
    assert last.startswith("epoch 3/3 ") and last.endswith(shown) and " 100 % " in last
    text = written(console)
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1 and text.endswith("\x1b[?25h")


def test_a_bar_that_is_stopped_early_names_its_last_epoch(tmp_path: Path) -> None:
    console = terminal()
    early = ("early_stopping.patience=1", "early_stopping.min_delta=1000", "epochs=9")
    train(tmp_path, "bar", *early, console=console)
    assert screen(console)[-1].startswith("epoch 2/9 ")


def test_an_error_gives_the_cursor_back(tmp_path: Path) -> None:
    class Fail(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise ZeroDivisionError

    console = terminal()
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, "bar", console=console, watch=Fail())
    assert written(console).endswith("\x1b[?25h")


def test_a_resumed_bar_starts_where_the_run_stands() -> None:
    console, module = terminal(), SimpleNamespace(seen=torch.zeros(3))
    bar = ProgressBar("bar", 8, console)
    bar.on_train_start(stand_in(2), module)
    assert bar._bar is not None
    (task,) = bar._bar.tasks
    assert (task.description, task.completed, task.total) == ("epoch 3/8", 20, 80)
    bar.on_exception(stand_in(2), module, ValueError())


def test_only_the_first_of_several_processes_draws() -> None:
    trainer, console = stand_in(), terminal()
    trainer.is_global_zero = False
    ProgressBar("bar", 8, console).on_train_start(trainer, SimpleNamespace(seen=torch.zeros(3)))
    assert written(console) == ""


@pytest.mark.parametrize(("tty", "mode"), [(True, "bar"), (False, "lines")])
def test_auto_is_a_bar_on_a_terminal_only(tty: bool, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: tty))
    assert show("auto") == mode
    assert [show(m) for m in ("bar", "lines", "none")] == ["bar", "lines", "none"]
