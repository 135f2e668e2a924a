"""From the command to the tasks: sweeps, and what becomes of tasks that fail."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imgcls import __main__ as entry
from imgcls.errors import CheckpointError, ConfigError, DataError


def test_a_sweep(answer: Any, jobs: list[dict[str, Any]], here: Path) -> None:
    """Each job has the folder that it would have alone."""
    assert answer("-m", "lr=0.1,0.2", "epochs=1,2", "output=out")[0] == 0
    found = [(job["optimizer"]["lr"], job["epochs"]) for job in jobs]
    assert found == [(0.1, 1), (0.1, 2), (0.2, 1), (0.2, 2)]
    alone = []
    for lr, epochs in found:
        answer(f"lr={lr}", f"epochs={epochs}", "output=out")
        alone.append(jobs[-1]["folder"])
    assert [job["folder"] for job in jobs[:4]] == alone
    assert len(set(alone)) == 4


def test_a_sweep_of_another_task_writes_beside_each_run(
    answer: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not into one folder for all, and least of all into that of a run."""
    folders = []
    monkeypatch.setattr("imgcls.tasks.evaluate.main", lambda config, folder, typed: folders.append(folder))
    for name in ("a", "b"):
        (here / name).mkdir()
        (here / name / "config.yaml").write_text("{dataset: {name: digits}, model: {name: x}, trainer: {}}")
    assert answer("-m", "task=evaluate", "run=a,b")[0] == 0
    assert folders == [here / "a" / "evaluate", here / "b" / "evaluate"]


def test_a_search_draws_values_that_nobody_has_checked(compose: Any) -> None:
    """So each job checks itself."""
    with pytest.raises(ConfigError, match="epochs=0 must be a whole number >= 1"):
        entry.refuse(compose() | {"epochs": 0})


def test_what_an_experiment_sweeps_is_checked_before(answer: Any, own: Any, jobs: list[Any]) -> None:
    params = "{params: {epochs: '1,0,2'}}"
    folder = own("experiment/x.yaml", f"# @package _global_\nhydra: {{sweeper: {params}}}\n")
    code, lines, _ = answer("-m", "+experiment=x", "-cd", str(folder))
    assert (code, lines) == (2, ["imgcls: error: epochs=0 must be a whole number >= 1."])
    assert jobs == []


# --------------------------------------------------------------------------------------------- failing tasks


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException, at: float = 0.1) -> None:
    """Let training fail at that learning rate."""

    def main(config: dict[str, Any], folder: Path, typed: list[str]) -> float:
        if config["optimizer"]["lr"] == at:
            raise error
        return 0.5

    monkeypatch.setitem(sys.modules, "imgcls.tasks.train", SimpleNamespace(main=main))


class OutOfMemoryError(RuntimeError):
    """As torch's on a GPU."""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("broken.png is broken. Remove it."), 3, "broken.png is broken. Remove it."),
        (CheckpointError("no"), 6, "no"),
        (MemoryError(), 4, "out of memory. Lower batch_size, or raise accumulate."),
        (OutOfMemoryError("CUDA"), 4, "out of memory. Lower batch_size, or raise accumulate."),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            4,
            "out of memory. Lower batch_size, or raise accumulate.",
        ),
    ],
)
def test_known_errors(
    error: Exception, code: int, line: str, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, error)
    assert answer()[:2] == (code, [f"imgcls: error: {line}"])


def test_an_unexpected_error(answer: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line; the traceback is in the log."""
    failing(monkeypatch, KeyError("shape\nof water"))
    code, lines, _ = answer("name=x")
    log = here / "outputs/x/imgcls.log"
    assert (code, lines) == (1, [f"imgcls: error: KeyError: 'shape\\nof water' (traceback in {log})."])
    text = log.read_text()
    assert (text.count("Traceback"), text.count("raise error")) == (1, 1)


def test_debug_shows_the_traceback(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ValueError("no"))
    code, lines, _ = answer("debug=limit")
    assert (code, lines[0]) == (1, "Traceback (most recent call last):")
    assert lines[-2:-1] == ["ValueError: no"]
    assert lines[-1].startswith("imgcls: error: ValueError: no (traceback in ")


def test_without_a_log_the_traceback_is_shown(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ValueError("no"))
    code, lines, _ = answer("hydra/job_logging=disabled")
    assert (code, lines[-2:]) == (1, ["ValueError: no", "imgcls: error: ValueError: no (traceback above)."])


def test_a_sweep_survives_its_jobs(answer: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ValueError("no"))
    code, lines, _ = answer("-m", "lr=0.1,0.2", "seed=1,2")
    assert (code, len(lines)) == (7, 2)
    assert {line.partition(" (")[0] for line in lines} == {"imgcls: error: ValueError: no"}
    assert len([*here.glob("outputs/*/imgcls.log")]) == 4
    assert answer("lr=0.2")[0] == 0  # what failed before is not counted again


def test_ctrl_c(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, KeyboardInterrupt())
    assert answer()[:2] == (130, ["imgcls: stopped. The same command goes on."])
