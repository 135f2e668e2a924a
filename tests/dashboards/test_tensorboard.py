"""Event files, read back with TensorBoard's own reader."""

from collections.abc import Callable
from typing import Any

import pytest
from same import assert_same

from imgcls.runs import Run

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData


def events(run: Run) -> EventAccumulator:
    sizes = {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0}  # 0: all of them
    return EventAccumulator(str(run / "tensorboard"), sizes).Reload()


def points(read: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read.Scalars(tag)]


def assert_shows_history(run: Run) -> None:
    """Every value of metrics.csv, once, at its step; float32 as event files have it."""
    read = events(run)
    for key in ("epoch", "lr", "train/loss", "train/acc", "val/loss", "val/acc"):
        wanted = [(int(row["step"]), pytest.approx(row[key], rel=1e-6)) for row in run.history()]
        assert points(read, key) == wanted


def test_all_that_is_shown(trained: Callable[..., Run]) -> None:
    run = trained("logger=tensorboard", pictures=True)
    read = events(run)
    assert_shows_history(run)
    assert [step for step, _ in points(read, "step/loss")] == [2, 4, 6, 8, 10, 12]
    assert read.Tags()["graph"]
    assert {"samples", "confusion", "per_class", "right", "curves"} <= set(read.Tags()["images"])
    sample = read.Images("samples")[0]
    assert (sample.step, sample.width, sample.height) == (0, 8 * 10 + 2, 8 * 10 + 2)  # 64 digits of 8 pixels
    assert len(read.Tags()["histograms"]) == 19 + 2 * 19 + 2  # convolutions, batch norms, the last layer
    assert read.Histograms("conv1.weight")[0].histogram_value.num == 4 * 9
    for name in read.Tags()["histograms"]:
        assert [h.step for h in read.Histograms(name)] == [4, 8, 12]
    assert run.result is not None
    assert points(read, "test/acc") == [(12, pytest.approx(run.result["test"]["acc"], rel=1e-6))]
    assert_points_make_up_the_epochs(read, run)
    assert_settings(read)


def assert_points_make_up_the_epochs(read: EventAccumulator, run: Run) -> None:
    """Two points of two equal batches each: their mean is the epoch's."""
    steps = [value for _, value in points(read, "step/loss")]
    means = [(a + b) / 2 for a, b in zip(steps[::2], steps[1::2], strict=True)]
    assert means == pytest.approx([row["train/loss"] for row in run.history()], rel=1e-5)


def assert_settings(read: EventAccumulator) -> None:
    """They are in the table of runs, those that can change a number."""
    plugin = read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    settings = HParamsPluginData.FromString(plugin).session_start_info.hparams
    assert settings["batch_size"].number_value == 32
    assert settings["model.width"].number_value == 4
    assert "output" not in settings


@pytest.mark.parametrize("stops", [(4,), (5, 6)])
def test_a_run_that_goes_on_repeats_no_point(trained: Callable[..., Run], stops: tuple[int, ...]) -> None:
    """Stopped at an epoch's end, and twice inside one."""
    for step in stops:
        trained("logger=tensorboard", stop=step)
    run = trained("logger=tensorboard")
    assert_shows_history(run)
    read = events(run)
    assert [step for step, _ in points(read, "step/loss")] == [2, 4, 6, 8, 10, 12]
    assert [image.step for image in read.Images("samples")] == [0]
    assert [h.step for h in read.Histograms("conv1.weight")] == [4, 8, 12]


def test_what_came_after_the_last_checkpoint_comes_once(trained: Callable[..., Run]) -> None:
    """A kill leaves points that no checkpoint knows: here, the checkpoint is an older one."""
    trained("logger=tensorboard", stop=5)
    older = (run := trained("logger=tensorboard", stop=9)) / "last.ckpt"
    trained("logger=tensorboard", name="early", stop=5)
    older.write_bytes((run.path.with_name("early") / "last.ckpt").read_bytes())
    run = trained("logger=tensorboard")
    assert_shows_history(run)
    assert [step for step, _ in points(events(run), "step/loss")] == [2, 4, 6, 8, 10, 12]


def test_loggers_change_no_bit(trained: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    plain, shown = trained(name="plain"), trained("logger=[tensorboard,wandb]", name="shown")
    for file in ("last.ckpt", "best.ckpt"):
        assert_same(plain / file, shown / file)
    rows: list[Any] = [[{**r, "seconds": 0} for r in run.history()] for run in (plain, shown)]
    assert rows[0] == rows[1]


def test_a_logger_that_fails_is_off_and_the_run_goes_on(
    trained: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SummaryWriter, "add_histogram", lambda *args, **kw: 1 / 0)  # as a full disk would
        run = trained("logger=tensorboard")
    assert run.result is not None and len(run.history()) == 3
    said = [r.getMessage() for r in caplog.records if "logger" in r.getMessage()]
    assert said == ["logger=tensorboard is off (ZeroDivisionError: division by zero); the run goes on."]
