"""Rows of papers made small, and run folders that are written rather than trained."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imgcls import papers
from imgcls.__main__ import register_resolvers
from imgcls.reproduce import rows
from imgcls.reproduce.composer import composing
from imgcls.reproduce.rows import Entry
from imgcls.sweeps.job import Job

VERSIONS = {"torch": "2", "lightning": "2"}


@pytest.fixture
def composer() -> Callable[..., Any]:
    """A context with a composer for changes and a fraction."""
    register_resolvers()
    return lambda *changes, fraction=None: composing(None, changes, fraction)


@pytest.fixture
def entries(tmp_path: Path, composer: Any) -> Callable[..., list[Entry]]:
    """The chosen rows of a pattern, with their jobs, in a folder of their own."""

    def make(pattern: str, *changes: str, seeds: int = 1, fraction: float | None = None) -> list[Entry]:
        with composer(f"output={tmp_path}", *changes, fraction=fraction) as made:
            return rows.entries(made, papers.rows(pattern), seeds)

    return make


@pytest.fixture
def finish() -> Callable[..., None]:
    """Write what a finished run leaves: scores, and training accuracies by epoch."""

    def write(job: Job, acc: float = 0.8, train: tuple[float, ...] = (0.5, 0.9, 0.7), **more: Any) -> None:
        job.run.path.mkdir(parents=True, exist_ok=True)
        history = [{"epoch": n, "train/acc": a, "seconds": 3.0} for n, a in enumerate(train, 1)]
        job.run.write_history(history)
        test = {"acc": acc, "precision": acc, "recall": acc, "f1": acc, "loss": 0.5, "n": 10_000}
        result = {
            "test": test,
            "best": None,
            "seconds": 90.0,
            "parameters": 1234,
            "seed": job.config["seed"],
            "data": {"train": 50_000},
            "versions": VERSIONS,
            "commit": "abc",
            "device_name": "a machine",
            "precision": "32-true",
            "finished": "2030-01-02T03:04:05",
            **more,
        }
        (job.run / "result.json").write_text(json.dumps(result))
        job.state = "finished"

    return write


@pytest.fixture(autouse=True)
def no_hydra() -> Iterator[None]:
    """A test that fails inside of a composer leaves Hydra as it was."""
    from hydra.core.global_hydra import GlobalHydra

    yield
    GlobalHydra.instance().clear()
