"""task=verify: what a finished run is checked for, and that one flipped bit in any file is found."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgcls import __main__ as entry
from imgcls import checkpoints
from imgcls.errors import CheckpointError
from imgcls.runs import Run
from imgcls.tasks import train, verify

FILES = (
    "last.ckpt",
    "best.ckpt",
    "config.yaml",
    "metrics.csv",
    "result.json",
    "predictions.npz",
    "report.txt",
)
Verify = Callable[..., str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    from imgcls.cli import command

    words = ["model.width=4", "epochs=2", "progress=none", "trainer.threads=1"]
    folder = tmp_path_factory.mktemp("outputs") / "run"
    train.main(command.check(words)[0], folder)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    """A copy of it, to be damaged."""
    return Run(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def verified(run: Run, compose: Any, capsys: pytest.CaptureFixture[str]) -> Verify:
    """Verify the copy; gives what is printed."""

    def verified(*words: str) -> str:
        typed = ["task", "run", *(word.partition("=")[0] for word in words)]
        verify.main(compose("task=verify", f"run={run.path}", *words), None, typed)
        return capsys.readouterr().out

    return verified


def test_what_training_left_is_good(verified: Verify, run: Run) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()}
    out = verified()
    assert all(f"ok\t{file}\t" in out for file in FILES)
    assert "(epoch 2, step 42)" in out
    assert "360 images, as in result.json" in out
    assert "2 epochs, as in result.json" in out
    assert out.endswith(f"{run.path}: 10 checks, everything as it was written\n")
    assert {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()} == before


@pytest.mark.parametrize("place", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("file", [*FILES, "manifest.json"])
def test_one_flipped_bit_is_found_in_every_file(file: str, place: float, verified: Verify, run: Run) -> None:
    """And named in the one line of the error; nothing else is."""
    data = bytearray((run / file).read_bytes())
    data[int(place * len(data))] ^= 16
    (run / file).write_bytes(data)
    with pytest.raises(CheckpointError) as error:
        verified()
    assert str(error.value).startswith(f"{run / file}: damaged")
    assert "and " not in str(error.value)
    assert error.value.exit_code == 6


def test_the_command_exits_with_6(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stderr; 0 for a good folder."""
    entry.main(["task=verify", f"run={run.path}"])
    assert capsys.readouterr().err == ""
    (run / "best.ckpt").write_bytes((run / "last.ckpt").read_bytes())
    with pytest.raises(SystemExit) as end:
        entry.main(["task=verify", f"run={run.path}"])
    out, err = capsys.readouterr()
    assert end.value.code == 6
    assert err.startswith(f"imgcls: error: {run / 'best.ckpt'}: damaged (its SHA-256 is not that of the ")
    assert err.count("\n") == 1
    assert out.count("BAD") == 1


def test_several_are_named(verified: Verify, run: Run) -> None:
    (run / "best.ckpt").unlink()
    (run / "result.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"best\.ckpt: missing \(and result\.json\)\. Restore it from"):
        verified()


def test_a_run_of_an_older_version(verified: Verify, run: Run) -> None:
    """Without digests its checkpoints have their CRC-32, and its numbers each other."""
    (run / "manifest.json").unlink()
    out = verified()
    assert out.count("no digest is recorded; its CRC-32 is right") == 2
    assert "360 images, as in result.json" in out
    data = bytearray((run / "last.ckpt").read_bytes())
    data[len(data) // 2] ^= 1
    (run / "last.ckpt").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: damaged \(CRC-32 of "):
        verified()


def test_a_run_that_is_not_finished(verified: Verify, run: Run) -> None:
    (run / "manifest.json").unlink()
    (run / "result.json").unlink()
    assert "ok\tresult.json\tis not there: the run is not finished" in verified()


def changed(run: Run, change: Callable[[dict[str, Any]], object]) -> None:
    """Another result, of which no digest tells."""
    (run / "manifest.json").unlink()
    result = run.result
    assert result
    change(result)
    (run / "result.json").write_text(json.dumps(result))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda r: r["test"].update(n=361), r"predictions\.npz: 360 images, but 361, 360, 360 in result"),
        (lambda r: r["data"].update(test=359), r"predictions\.npz: 360 images, but 360, 359, 360 in result"),
        (
            lambda r: r["test"].update(acc=r["test"]["acc"] + 1 / 360),
            r"of them right, which is the accuracy, but",
        ),
        (lambda r: r.update(epochs=3), r"metrics\.csv: 2 epochs, but 3 in result\.json"),
        (lambda r: r.pop("test"), r"result\.json: cannot be read, or predictions\.npz beside it \('test'\)"),
    ],
)
def test_numbers_that_do_not_agree(change: Any, what: str, verified: Verify, run: Run) -> None:
    changed(run, change)
    with pytest.raises(CheckpointError, match=what):
        verified()


def test_predictions_of_fewer_images(verified: Verify, run: Run) -> None:
    with np.load(run / "predictions.npz") as kept:
        fewer = {name: values[:-1] for name, values in kept.items()}
    np.savez_compressed(run / "predictions.npz", **fewer)
    changed(run, lambda result: None)
    with pytest.raises(
        CheckpointError, match=r"predictions\.npz: 359 images, but 360, 360, 360 in result\.json"
    ):
        verified()


def test_the_score_is_found_again(verified: Verify) -> None:
    assert "360 of 360 answers the same" in verified("score=true")


def test_other_weights_do_not_have_the_score(verified: Verify, run: Run) -> None:
    """Though every file is as it was written."""
    checkpoint = checkpoints.load(run / "best.ckpt")
    for name, weights in checkpoint["state_dict"].items():
        if weights.ndim == 2:
            checkpoint["state_dict"][name] = -weights
    checkpoints.AtomicIO().save_checkpoint(checkpoint, run / "best.ckpt")
    verified()
    with pytest.raises(CheckpointError, match=r"result\.json: tested again: accuracy .*; it says "):
        verified("score=true")


def test_without_the_score_it_needs_no_torch(trained: Path) -> None:
    code = (
        "import sys; from imgcls import __main__ as entry; "
        f"entry.main(['task=verify', 'run={trained}']); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
