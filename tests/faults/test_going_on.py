"""Going on in a run's folder: with what may change, what may not, and from where an older version left it."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from same import assert_same
from stopping import StopAt

from imgcls import build, devices, report
from imgcls.checkpoints import newest
from imgcls.errors import CheckpointError
from imgcls.runs import LAST, Run
from imgcls.tasks import train

ROOT = Path(__file__).parents[2]
RELEASED = ROOT / "tests/golden/run-0.1.0"
QUICK = [
    *("model=resnet20", "model.width=4", "batch_size=32", "dataset.limit=160", "dataset.val_fraction=0.2"),
    *("epochs=2", "progress=none", "trainer.threads=1"),
]


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Train a configuration in a folder, maybe only up to a step, without pictures."""
    monkeypatch.setattr(report.Ending, "_draw", lambda self: None)
    callbacks = build.callbacks

    def fit(config: dict[str, Any], folder: Path, stop: int | None = None) -> Run:
        with monkeypatch.context() as patch:
            if stop:
                patch.setattr(build, "callbacks", lambda *args: [StopAt(stop), *callbacks(*args)])
            try:
                train.main(config, folder)
                assert stop is None
            except SystemExit as end:
                assert (end.code, stop is not None) == (143, True)
        return Run(folder)

    return fit


CHANGED: list[tuple[str, str, Any]] = [
    ("fault-27", "optimizer.lr", 0.2),
    ("fault-28", "optimizer._target_", "torch.optim.AdamW"),
    ("fault-29", "model.width", 8),
    ("fault-30", "batch_size", 16),
    ("fault-30", "trainer.devices", 2),
    ("fault-30", "dataset.limit", 80),
    ("fault-31", "epochs", 1),
]


@pytest.mark.parametrize(
    ("key", "value"), [case[1:] for case in CHANGED], ids=[f"{case[0]} {case[1]}" for case in CHANGED]
)
def test_another_setting_is_named(key: str, value: Any, compose: Any, tmp_path: Path) -> None:
    """Both values, exit code 6, before data or weights are touched."""
    config, run = compose(*QUICK), Run(tmp_path)
    run.claim(config)
    run.release()
    group, _, name = key.rpartition(".")
    settings = config[group] if group else config
    before, settings[name] = settings[name], value
    with pytest.raises(CheckpointError) as caught:
        Run(tmp_path).claim(config)
    assert caught.value.exit_code == 6
    assert str(caught.value) == (
        f"{tmp_path} holds a run with other settings ({key}: {before} → {value}). "
        "Choose another name=…, or restart=true to train anew."
    )


def photos(root: Path, seed: int) -> None:
    """Two classes of twenty pictures."""
    noise = np.random.default_rng(seed)
    for label, name in enumerate(("ant", "bee")):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(20):
            pixels = noise.integers(0, 100, (8, 8, 3), np.uint8) + np.uint8(100 * label)
            Image.fromarray(pixels).save(root / name / f"{number}.png")


def test_fault_30_other_images(compose: Any, tmp_path: Path, training: Callable[..., Run]) -> None:
    """As many, of the same names and labels: refused by their digest, until the first are back."""
    root = tmp_path / "photos"
    photos(root, 0)
    source = ("dataset=folder", f"dataset.root={root}", "dataset.image_size=8", "batch_size=8")
    config = compose(*QUICK, *source, "dataset.limit=null")
    run = training(config, tmp_path / "run", stop=2)
    photos(root, 1)
    with pytest.raises(CheckpointError, match="was trained on other images than those that"):
        training(config, run.path)
    photos(root, 0)
    training(config, run.path)
    assert run.result is not None and run.result["epochs"] == 2


@pytest.mark.parametrize("more", [(), ("ema=0.9",)], ids=["plain", "ema"])
def test_fault_31_killed_between_training_and_test(
    more: tuple[str, ...], compose: Any, tmp_path: Path, training: Callable[..., Run]
) -> None:
    """The same command trains nothing, and tests what it would have tested: averaged weights, too."""
    run = training(compose(*QUICK, *more), tmp_path / "run")
    before, rows = run.result, run.history()
    shutil.copy(run / LAST, tmp_path / "before.ckpt")
    for file in ("result.json", "predictions.npz"):
        (run / file).unlink()
    training(compose(*QUICK, *more), run.path)
    assert before is not None and run.result is not None
    assert (run.result["test"], run.history()) == (before["test"], rows)
    assert_same(tmp_path / "before.ckpt", run / LAST)


def test_fault_34_a_run_of_release_0_1_0(compose: Any, tmp_path: Path) -> None:
    """Stopped in the middle of its second epoch, it goes on to the scores of one that nobody stopped.

    The folder was written by the code of another commit, before there were manifests.
    """
    run = Run(shutil.copytree(RELEASED, tmp_path / "run"))
    words = "model=resnet20 model.width=1 augmentation=affine schedule=plateau epochs=3 batch_size=32"
    more = "dataset.limit=160 dataset.val_fraction=0.2 trainer.precision=32-true trainer=cpu"
    config = compose(*words.split(), *more.split(), "trainer.threads=1", "progress=none")
    run.claim(config)
    try:
        images, last = build.data(config), newest(run)
        assert last == run / LAST and torch.load(last, weights_only=True)["global_step"] == 6
        build.trainer(config, run).fit(build.classifier(config, images), datamodule=images, ckpt_path=last)
    finally:
        run.release()
    with (RELEASED / "whole.csv").open(newline="") as file:
        wanted = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    for row, before in zip(run.history(), wanted, strict=True):
        for key in before.keys() - {"seconds"}:
            assert row[key] == pytest.approx(before[key], rel=1e-4), key  # of other processors


def test_fault_47_a_job_leaves_nothing_to_the_next(
    compose: Any, tmp_path: Path, training: Callable[..., Run]
) -> None:
    """In one process: first alone, then after one that sets whatever a job can set."""
    mine = compose(*QUICK)
    other = ("trainer.threads=2", "trainer.deterministic=true", "trainer.precision=bf16-mixed", "ema=0.9")
    first = training(mine, tmp_path / "first")
    training(compose(*QUICK, *other, "seed=7", "augmentation=mixup", "epochs=1"), tmp_path / "other")
    second = training(mine, tmp_path / "second")
    assert_same(first / LAST, second / LAST)


@pytest.mark.slow
@pytest.mark.timeout(900)  # most of it is compiling
def test_fault_60_a_compiled_network(compose: Any, tmp_path: Path, training: Callable[..., Run]) -> None:
    """Stopped inside each epoch, it ends with the bits of one that was not; eager runs have others."""
    config = compose("model=convnet", "scaling=to32", *QUICK[2:], "trainer.compile=true")
    whole = training(config, tmp_path / "whole")
    for stop in (2, 6, None):
        cut = training(config, tmp_path / "cut", stop)
    assert_same(whole / LAST, cut / LAST)


def test_fault_14_a_run_without_a_checkpoint(compose: Any, tmp_path: Path) -> None:
    """Its own command begins it; whoever wants its weights is told which file is missing."""
    from imgcls.tasks import evaluate

    run = Run(tmp_path / "run")
    run.claim(compose(*QUICK))
    run.release()
    assert newest(run) is None
    with pytest.raises(CheckpointError, match=r"last\.ckpt is missing") as caught:
        evaluate.main(compose("task=evaluate", f"run={run.path}"), run / "evaluate", ["run"])
    assert caught.value.exit_code == 6


def test_fault_22_the_number_of_steps_is_our_own() -> None:
    """Lightning's property forgets where the loader was."""
    sources = {path: path.read_text() for path in (ROOT / "src").rglob("*.py")}
    assert len(sources) > 100
    assert [path for path, text in sources.items() if "estimated_stepping_batches" in text] == []


def test_fault_45_nothing_hangs_on_hydras_callbacks() -> None:
    """Hydra swallows their errors."""
    files = [*(ROOT / "conf").rglob("*.yaml")]
    assert len(files) > 50
    assert [path for path in files if "callbacks" in path.read_text()] == []


def test_fault_47_threads_are_a_jobs_own(compose: Callable[..., dict[str, Any]]) -> None:
    own = devices.settle(compose("trainer.threads=null")["trainer"]) and torch.get_num_threads()
    devices.settle(compose(f"trainer.threads={own + 1}")["trainer"])
    assert torch.get_num_threads() == own + 1
    devices.settle(compose("trainer.threads=null")["trainer"])
    assert torch.get_num_threads() == own
