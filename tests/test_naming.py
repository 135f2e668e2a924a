"""A run is named by what can change its numbers, and by nothing else."""

from pathlib import Path
from typing import Any

import pytest

from imgcls import naming

CONFIG: dict[str, Any] = {
    "task": "train",
    "output": "outputs",
    "name": None,
    "debug": None,
    "run": None,
    "seed": 0,
    "epochs": 20,
    "dataset": {"name": "digits", "root": "data"},
    "model": {"name": "resnet20", "width": 16},
    "optimizer": {"name": "adam", "lr": 0.1, "betas": [0.9, 0.999]},
}


def test_the_name_never_changes() -> None:
    """Runs that users have would not be found again."""
    assert naming.name(CONFIG) == "digits-resnet20-abcc323f"


@pytest.mark.parametrize(
    "words",
    [
        "output=elsewhere",
        "name=mine",
        "restart=true",
        "progress=none",
        "checkpoint_minutes=1",
        "dataset.root=/mnt/data",
        "dataset.download=false",
        "dataset.resident=false",
        "dataset.num_workers=0",
        "trainer.profiler=simple",
        "tta=none",
        "lookahead=null",
        "hardest=null",
        "init.first=default",
        "optimizer.bias_lr=1",
        "optimizer.lr=1e-1",
        "optimizer.lr=0.10",
        "epochs=20",
        "optimizer=sgd",
        "scaling=native",
        "hydra.verbose=true",
    ],
)
def test_the_same_run(words: str, compose: Any) -> None:
    assert naming.digest(compose(words)) == naming.digest(compose())


@pytest.mark.parametrize(
    "words",
    [
        "seed=1",
        "epochs=21",
        "batch_size=32",
        "accumulate=2",
        "select=last",
        "model.width=8",
        "model=resnet32",
        "dataset=mnist",
        "dataset.val_fraction=0.2",
        "dataset.limit=100",
        "augmentation=none",
        "augmentation.rotate=11",
        "scaling=x2",
        "optimizer.lr=0.2",
        "optimizer=adam",
        "schedule=constant",
        "trainer.precision=32-true",
        "trainer.deterministic=true",
        "trainer.compile=true",
        "trainer.threads=2",
        "ema=0.99",
        "tta=mirror",
        "lookahead=0.9",
        "hardest=0.5",
        "freeze_after=layer1=2",
        "init=whitened",
        "optimizer.head_lr=2",
        "clip=1",
        "init=he",
        "debug=limit",
    ],
)
def test_another_run(words: str, compose: Any) -> None:
    assert naming.digest(compose(words)) != naming.digest(compose())


def test_two_ways_to_say_the_same(compose: Any) -> None:
    """1 and 1.0, also in lists; an option, or what it says."""
    assert naming.digest(compose("lr=1")) == naming.digest(compose("lr=1.0"))
    ones = [CONFIG | {"optimizer": {"betas": [one, 0.5]}} for one in (1, 1.0)]
    assert naming.digest(ones[0]) == naming.digest(ones[1])
    assert naming.digest(compose("scaling=x2")) == naming.digest(compose("scaling.factor=2"))
    assert naming.digest(compose("trainer=cpu")) == naming.digest(compose("trainer.accelerator=cpu"))
    # true is no 1
    assert naming.digest(CONFIG | {"seed": True}) != naming.digest(CONFIG | {"seed": 1})


def test_the_order_of_the_settings_does_not_matter() -> None:
    assert naming.digest(dict(reversed(CONFIG.items()))) == naming.digest(CONFIG)


@pytest.mark.parametrize(
    ("changes", "folder"),
    [
        ({"name": "mine"}, "outputs/mine"),
        ({"name": "mine", "output": "/mnt/runs"}, "/mnt/runs/mine"),
        ({"name": "mine", "debug": "fdr"}, "outputs/debug-mine"),
        ({"task": "evaluate", "run": "outputs/mine"}, "outputs/mine/evaluate"),
        ({"task": "evaluate", "run": "outputs/mine/"}, "outputs/mine/evaluate"),
        ({"task": "evaluate", "run": "outputs/mine/best.ckpt"}, "outputs/mine/evaluate"),
        ({"task": "predict", "run": "/mnt/runs/mine"}, "/mnt/runs/mine/predict"),
    ],
)
def test_where_a_task_writes(changes: dict[str, Any], folder: str) -> None:
    assert naming.folder(CONFIG | changes) == Path(folder)


def test_where_a_job_of_a_sweep_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Below the sweep's folder; but what belongs to a run stays with the run."""
    monkeypatch.chdir(tmp_path)
    assert naming.room(CONFIG | {"name": "mine"}) == "mine"
    assert naming.room(CONFIG | {"task": "evaluate", "run": "runs/a"}) == f"{tmp_path}/runs/a/evaluate"


def test_flat() -> None:
    nested = {"a": {"b": 1, "c": {"d": [1]}}, "e": {}, "f": None}
    assert naming.flat(nested) == {"a.b": 1, "a.c.d": [1], "e": {}, "f": None}
