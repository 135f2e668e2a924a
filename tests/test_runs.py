"""A run folder: one process at a time, one configuration for ever, no half files."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from imgcls import runs
from imgcls.errors import CheckpointError, ResourceError
from imgcls.runs import Run

CONFIG: dict[str, Any] = {
    "task": "train",
    "seed": 0,
    "debug": None,
    "restart": False,
    "dataset": {"name": "digits", "root": "data"},
    "model": {"name": "ü", "width": 16},
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A folder in which a run has been."""
    run = Run(tmp_path / "run")
    run.claim(CONFIG)
    for file in ("last.ckpt", "best.ckpt", "result.json", "metrics.csv", "curves.png"):
        (run / file).write_text(file)
    (run / "evaluate").mkdir()
    run.release()
    return run


def files(path: Path) -> set[str]:
    return {file.name for file in path.iterdir()} - {".lock"}


EVERYTHING = {"config.yaml", "last.ckpt", "best.ckpt", "result.json", "metrics.csv", "curves.png", "evaluate"}


def test_a_new_run_leaves_its_configuration(tmp_path: Path) -> None:
    run = Run(tmp_path / "a" / "b")
    run.claim(CONFIG)
    assert files(run.path) == {"config.yaml"}
    assert run.config == CONFIG
    assert yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) == CONFIG
    assert run.result is None
    assert run.history() == []


def test_the_same_run_goes_on(run: Run) -> None:
    """Settings that change no number may differ; the folder keeps the first."""
    run.claim(CONFIG | {"dataset": {"name": "digits", "root": "elsewhere"}})
    assert files(run.path) == EVERYTHING
    assert run.config == CONFIG


def test_other_settings_are_refused(run: Run) -> None:
    """With both values, and without touching a file or keeping the lock."""
    with pytest.raises(CheckpointError) as error:
        run.claim(CONFIG | {"seed": 1, "model": {"name": "x", "depth": 2}})
    assert str(error.value) == (
        f"{run.path} holds a run with other settings (model.depth: None → 2; model.width: 16 → None; "
        "seed: 0 → 1). Choose another name=…, or restart=true to train anew."
    )
    assert files(run.path) == EVERYTHING
    run.claim(CONFIG)


def test_restart_keeps_the_old_files_aside(run: Run) -> None:
    (run / "imgcls.log").write_text("of this start")
    (run / ".hydra").mkdir()
    for number in (1, 2):
        run.claim(CONFIG | {"restart": True, "seed": number})
        assert files(run.path) == {"config.yaml", "imgcls.log", ".hydra"}
        assert run.config["seed"] == number
        run.release()
    assert files(run.path.with_name("run.1")) == EVERYTHING
    assert files(run.path.with_name("run.2")) == {"config.yaml"}
    assert Run(run.path.with_name("run.1")).config == CONFIG
    assert (run.path.with_name("run.1") / "last.ckpt").read_text() == "last.ckpt"


def test_restart_of_what_never_ran(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.claim(CONFIG | {"restart": True})
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_rehearsal_begins_again(run: Run) -> None:
    """Where one was: it neither goes on with a run nor clears one away, nor anybody's other files."""
    rehearsal = CONFIG | {"debug": "limit"}
    with pytest.raises(CheckpointError, match="debug: None → limit"):
        run.claim(rehearsal)
    assert files(run.path) == EVERYTHING
    again = Run(run.path.with_name("debug"))
    again.path.mkdir()
    (again / "notes.txt").write_text("mine")
    for _ in range(2):
        again.claim(rehearsal)
        assert files(again.path) == {"config.yaml", "notes.txt"}
        for file in ("last.ckpt", "best.ckpt", "result.json", "metrics.csv"):
            (again / file).touch()
        again.release()


CLAIM = """
import sys
from imgcls.errors import ResourceError
from imgcls.runs import Run
try:
    Run(sys.argv[1]).claim({"debug": None})
except ResourceError as error:
    print(error, end="")
"""


def test_another_process_is_refused(run: Run) -> None:
    run.claim(CONFIG)
    done = subprocess.run(
        [sys.executable, "-c", CLAIM, str(run.path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{run.path} is in use by another process. Wait for it, or choose name=…"
    with pytest.raises(ResourceError, match="in use by another process"):
        Run(run.path).claim(CONFIG)
    run.release()
    Run(run.path).claim(CONFIG)


def test_what_a_killed_process_was_writing_is_swept(run: Run) -> None:
    """At the next start; nobody's other files, and not while somebody works there."""
    left = ["last.ckpt.part", "manifest.json.part", "result.json.part", ".probe-123"]
    for file in [*left, "notes.partial", "party"]:
        (run / file).touch()
    run.claim(CONFIG)
    assert files(run.path) == EVERYTHING | {"notes.partial", "party"}
    (run / "last.ckpt.part").touch()
    with pytest.raises(ResourceError, match="in use"):
        Run(run.path).claim(CONFIG)
    assert (run / "last.ckpt.part").exists()


def test_release_without_a_claim(run: Run) -> None:
    run.release()


@pytest.mark.parametrize("place", ["/proc/imgcls", "file/below", "file"])
def test_an_unwritable_folder(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError) as error:
        Run(tmp_path / place).claim(CONFIG)
    assert str(error.value).startswith(f"cannot write to {tmp_path / place} (")
    assert error.value.exit_code == 4


def test_a_full_disk_is_noticed_and_left_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ResourceError, match="no space left on device"):
        runs.writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    runs.write_text(path, "old ä")
    assert path.read_text(encoding="utf-8") == "old ä"

    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(ResourceError, match="input/output error"):
        runs.write_text(path, "new")
    assert path.read_text(encoding="utf-8") == "old ä"
    with pytest.raises(TypeError):
        runs.write_text(path, 3)  # type: ignore[arg-type]
    assert path.read_text(encoding="utf-8") == "old ä"


def test_history(run: Run) -> None:
    """Columns may grow; what was not measured stays out."""
    rows = [{"epoch": 1, "train/loss": 0.5}, {"epoch": 2, "train/loss": 0.25, "val/acc": 1.0}]
    run.write_history(rows)
    assert (run / "metrics.csv").read_text() == "epoch,train/loss,val/acc\n1,0.5,\n2,0.25,1.0\n"
    assert run.history() == rows
    run.write_history([*rows, {"epoch": 3, "lr": 1e-07}])
    assert run.history() == [*rows, {"epoch": 3, "lr": 1e-07}]
    (run / "metrics.csv").write_text("epoch\nx\n")
    assert run.history() == []


def test_result(run: Run) -> None:
    assert run.result is None  # its file is not JSON: it was not finished
    runs.write_text(run / "result.json", '{"a": 1}')
    assert run.result == {"a": 1}


@pytest.mark.parametrize("named", ["", "/", "/best.ckpt", "/last.ckpt"])
def test_an_existing_run(named: str, run: Run) -> None:
    assert Run.existing(f"{run.path}{named}").path == run.path


def test_a_missing_run_is_answered_with_the_nearest(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("digits-resnet20-1ac93cc5", "mnist-convnet-00000000"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "last.ckpt").touch()
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").touch()  # a configuration, but of no run
    with pytest.raises(CheckpointError) as error:
        Run.existing(tmp_path / "digits-resnet20-1ac9")
    near = str(error.value).removesuffix(".").partition("Runs near: ")[2].split(", ")
    assert near[0] == f"{tmp_path}/digits-resnet20-1ac93cc5"
    assert set(near[1:]) == {f"{tmp_path}/mnist-convnet-00000000", f"{tmp_path}/run"}


def test_a_missing_run_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as error:
        Run.existing("x")
    assert str(error.value) == "run=x is not a run folder. A run folder holds config.yaml and best.ckpt."


@pytest.mark.parametrize(
    ("text", "what"), [("a: [", "cannot be read"), ("a: 1", "is not a configuration of imgcls")]
)
def test_a_broken_configuration(text: str, what: str, run: Run) -> None:
    (run / "config.yaml").write_text(text)
    with pytest.raises(CheckpointError) as error:
        _ = run.config
    assert str(error.value) == f"{run / 'config.yaml'} {what}. Restore it, or train anew."
