"""Small trainings with loggers, in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stopping import StopAt

from imgcls import build, report
from imgcls.__main__ import register_resolvers
from imgcls.cli import command
from imgcls.runs import Run
from imgcls.tasks import train

# Dropout and augmentation, which draw random numbers; 128 images, 4 steps an epoch.
BASE = [
    *("model=resnet20", "model.width=4", "model.dropout=0.2", "augmentation=affine", "epochs=3"),
    *("batch_size=32", "dataset.limit=160", "dataset.val_fraction=0.2", "trainer.threads=1"),
    *("progress=none", "logger.every=2"),
]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Train in <tmp>/<name>, maybe only up to a step; with pictures only if asked for."""
    register_resolvers()
    monkeypatch.setenv("HOME", str(tmp_path))  # no one's W&B key
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    draw = report.Ending._draw

    def run(*overrides: str, name: str = "run", stop: int | None = None, pictures: bool = False) -> Run:
        # Drawing them takes longer than the training
        monkeypatch.setattr(report.Ending, "_draw", draw if pictures else lambda *args: None)
        config, problems = command.check([*BASE, f"output={tmp_path}", f"name={name}", *overrides])
        assert not problems, problems
        made = build.trainer

        def stopping(*args: Any) -> Any:
            trainer = made(*args)
            if stop:
                trainer.callbacks.insert(0, StopAt(stop))
            return trainer

        monkeypatch.setattr(build, "trainer", stopping)
        try:
            train.main(config, tmp_path / name)
            assert stop is None
        except SystemExit as end:
            assert (end.code, stop is not None) == (143, True)
        finally:
            monkeypatch.setattr(build, "trainer", made)
        return Run(tmp_path / name)

    return run
