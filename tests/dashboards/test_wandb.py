"""W&B without W&B: servers of our own, and its offline files read back."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from offline import Offline, records
from same import assert_same
from servers import answering, dead, silent

from imgcls import dashboards
from imgcls.dashboards.board import Board
from imgcls.dashboards.facts import public
from imgcls.dashboards.probe import unreachable
from imgcls.dashboards.wandb import PATIENCE, WandB
from imgcls.runs import Run

KEY = "0123456789abcdef0123456789abcdef01234567"


def offline(run: Run) -> Offline:
    """The last offline folder, once the process behind it is done."""
    for _ in range(300):
        if files := sorted((run / "wandb").glob("offline-run-*/*.wandb")):
            break
        time.sleep(0.1)
    while not any(record.HasField("exit") for record in records(files[-1])):
        time.sleep(0.1)
    return Offline(files[-1])


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose: Any) -> Iterator[Callable[..., WandB]]:
    """The logger by itself, of a run folder without a training; with a key."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    made: list[WandB] = []

    def make(url: str, *overrides: str, step: int = 0) -> WandB:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        (tmp_path / "run").mkdir(exist_ok=True)
        made.append(WandB(Run(tmp_path / "run"), compose("logger=wandb", *overrides)))
        made[-1].start(step, None, None)
        return made[-1]

    yield make
    for logger in made:
        assert logger.process
        logger.process.kill()
        logger.process.wait()


def state_of(logger: WandB) -> dict[str, Any]:
    """What its process says of itself, as soon as it does."""
    while not (logger.room / "state.json").exists():
        assert logger.process and logger.process.poll() is None, (logger.room / "mirror.log").read_text()
        time.sleep(0.05)
    return json.loads((logger.room / "state.json").read_text())


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (dead, "{} does not answer"),
        (silent, "{} does not answer"),
        (lambda: answering(500), "{} answers with error 500"),
    ],
    ids=["dead", "silent", "broken"],
)
def test_offline_where_the_server_does_not_work(
    alone: Callable[..., WandB], place: Callable[[], AbstractContextManager[str]], said: str
) -> None:
    """One line says why, and names the command for later; all that is told is on the disk."""
    with place() as url:
        logger = alone(url)
        logger.epoch({"epoch": 1, "step": 4, "val/acc": 0.5})
        state = state_of(logger)
        assert state["why"] == said.format(url) and state["url"] is None
        logger.close()
    (line,) = dashboards.places(logger.run.path)
    assert line == f"wandb sync {logger.room / state['folder']}   (offline: {state['why']})"
    (row,) = offline(logger.run).history
    assert (row["epoch"], row["step"], row["val/acc"], row["_step"]) == (1, 4, 0.5, 4)
    files = [path for path in logger.room.rglob("*") if path.is_file()]
    assert len(files) > 5 and [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_offline_without_a_key(alone: Callable[..., WandB], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    with answering(200) as url:
        logger = alone(url)
        assert state_of(logger)["why"] == "no API key"
        logger.close()


@pytest.mark.slow
def test_a_network_that_dies_costs_seconds_and_loses_nothing(alone: Callable[..., WandB]) -> None:
    """The server answers once, then hangs: the run waits for PATIENCE, the process starts again offline."""
    rest = threading.Event()
    with answering(200, rest) as url:
        logger = alone(url)
        logger.epoch({"epoch": 1, "step": 4, "val/acc": 0.5})
        time.sleep(1)
        before = time.monotonic()
        logger.close()
        assert time.monotonic() - before < PATIENCE + 1
        (row,) = offline(logger.run).history
        assert (row["step"], row["val/acc"]) == (4, 0.5)
        assert "http" not in dashboards.places(logger.run.path)[0].split("(offline")[0]
        rest.set()


@contextmanager
def lost() -> Iterator[str]:
    """Answers once, then takes questions and hangs."""
    rest = threading.Event()
    with answering(200, rest) as url:
        yield url
        rest.set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "key", "killed"),
    [
        pytest.param(lambda: answering(200), "", False, id="fault-107 no key"),
        pytest.param(dead, KEY, False, id="fault-108 no network"),
        pytest.param(silent, KEY, False, id="fault-108 no answer"),
        pytest.param(lost, KEY, False, id="fault-110 network lost"),
        pytest.param(dead, KEY, True, id="fault-110 its process killed"),
    ],
)
def test_a_training_waits_for_nobody_and_ends_with_the_same_bits(
    place: Any, key: str, killed: bool, trained: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No word to the logger takes a second, but for the last, which waits for PATIENCE."""
    waited: dict[str, float] = {}
    tell = Board._tell

    def timed(board: Board, what: str, *facts: Any) -> None:
        loggers = [*board.loggers.values()]
        began = time.monotonic()
        tell(board, what, *facts)
        waited[what] = max(waited.get(what, 0), time.monotonic() - began)
        if killed and what == "start":
            for logger in loggers:
                assert isinstance(logger, WandB) and logger.process
                logger.process.kill()
                logger.process.wait()

    alone = trained(name="alone")
    monkeypatch.setattr(Board, "_tell", timed)
    with place() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        if key:
            monkeypatch.setenv("WANDB_API_KEY", key)
        run = trained("logger=wandb", name="told")
    assert run.result is not None and alone.result is not None
    assert run.result["test"] == alone.result["test"]
    assert_same(alone / "last.ckpt", run / "last.ckpt")
    assert waited.pop("close", 0) < PATIENCE + 1
    assert max(waited.values()) < 1


@pytest.mark.parametrize("place", [dead, silent])
def test_the_probe_has_a_limit(place: Callable[[], AbstractContextManager[str]]) -> None:
    with place() as url:
        before = time.monotonic()
        assert unreachable(url, limit=0.3) == f"{url} does not answer"
        assert time.monotonic() - before < 2


def test_the_probe_takes_any_answer_but_a_server_error() -> None:
    for code in (200, 401, 404):
        with answering(code) as url:
            assert unreachable(url) is None
    assert unreachable("nonsense") == "nonsense does not answer"


def test_a_training_that_was_stopped_is_shown_whole(
    trained: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under one id; the last offline folder has everything, each value as in metrics.csv."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    options = (
        "logger=wandb",
        "logger.tags=[a,b]",
        "logger.notes=why",
        "logger.group=g",
        "logger.artifacts=true",
    )
    first = offline(trained(*options, stop=5))
    run = trained(*options, pictures=True)
    shown = offline(run)
    assert (first.exit, shown.exit) == ([1], [0])
    assert first.run.run_id == shown.run.run_id and shown.run.run_id.startswith("run-")
    said = shown.run
    assert (said.display_name, said.project, said.run_group, said.notes) == ("run", "imgcls", "g", "why")
    assert list(said.tags) == ["a", "b"] and said.resume
    assert shown.config["model"]["width"] == 4 and shown.config["batch_size"] == 32
    assert_history(shown, run)
    assert_result(shown, run)


def assert_history(shown: Offline, run: Run) -> None:
    rows = {row["step"]: row for row in shown.history if "val/acc" in row}
    assert {step: {key: row[key] for key in run.history()[0]} for step, row in rows.items()} == {
        row["step"]: row for row in run.history()
    }
    assert [row["step"] for row in shown.history if "step/loss" in row] == [2, 4, 6, 8, 10, 12]
    steps = [row["_step"] for row in shown.history]
    assert steps == sorted(set(steps))


def assert_result(shown: Offline, run: Run) -> None:
    result = run.result
    assert result is not None
    test, names = result["test"], result["classes"]
    assert shown.summary["test/acc"] == test["acc"]
    cells = {(true, said): count for true, said, count in shown.table("test/confusion_table")}
    wanted = test["confusion"]
    assert cells == {(a, b): wanted[i][j] for i, a in enumerate(names) for j, b in enumerate(names)}
    classes = shown.table("test/classes")
    assert [row[0] for row in classes] == names
    assert [row[3] for row in classes] == test["classes"]["recall"]
    samples = shown.table("test/samples")
    right = [row for row in samples if row[4]]
    assert len(right) == min(40, round(test["acc"] * test["n"])) and all(row[1] == row[2] for row in right)
    assert all(row[1] != row[2] for row in samples if not row[4])
    pictures = {key.split(".")[0] for row in shown.history for key in row if key.startswith("pictures/")}
    assert pictures == {f"pictures/{name}" for name in ("confusion", "curves", "per_class", "right", "wrong")}
    weights = [r.artifact for r in shown.records if r.HasField("artifact") and r.artifact.type == "model"]
    assert [(a.name, [e.path for e in a.manifest.contents]) for a in weights] == [("run", ["best.ckpt"])]


def test_no_secret_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by its key, nor as a part of a text; what only sounds like one stays."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    config = {
        "hub_token": "abc",
        "dataset": {"root": f"https://me:{KEY}@host", "password": "x", "names": [KEY, "b"]},
        "model": {"class_token": True, "tokens": 7, "token_size": "big"},
    }
    assert public(config) == {
        "hub_token": "(hidden)",
        "dataset": {"root": "(hidden)", "password": "(hidden)", "names": ["(hidden)", "b"]},
        "model": {"class_token": True, "tokens": 7, "token_size": "big"},
    }


@pytest.mark.slow
def test_a_dead_training_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose: Any) -> None:
    """The process ends by itself when the one that started it was killed, and says that the run failed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(compose("logger=wandb")))
    code = (
        "import json, os, pathlib; from imgcls.runs import Run; from imgcls.dashboards.wandb import WandB;"
        f"folder = pathlib.Path({str(tmp_path)!r});"
        "logger = WandB(Run(folder), json.loads((folder / 'config.json').read_text()));"
        "logger.start(0, None, None); logger.epoch({'epoch': 1, 'step': 4}); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    shown = offline(Run(tmp_path))
    assert (shown.exit, [row["step"] for row in shown.history]) == ([1], [4])


def test_a_process_that_dies_switches_the_logger_off(alone: Callable[..., WandB]) -> None:
    with dead() as url:
        logger = alone(url)
        assert logger.process
        logger.process.kill()
        logger.process.wait()
        with pytest.raises(RuntimeError, match="its process has ended"):
            logger.epoch({"epoch": 1, "step": 4})


def test_a_sweep_has_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its jobs share the words that it was started with, less what changes no number."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from imgcls.dashboards import facts

    assert facts.sweep() is None
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: SimpleNamespace(mode=RunMode.MULTIRUN))
    words = [
        "imgcls",
        "-m",
        "optimizer.lr=0.1,0.01",
        "seed=1,2",
        "output=x",
        "logger=wandb",
        "logger.every=9",
    ]
    monkeypatch.setattr("sys.argv", words)
    assert facts.sweep() == "optimizer.lr=0.1,0.01 seed=1,2"
