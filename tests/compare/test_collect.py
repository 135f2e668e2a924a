"""Which folders are compared, and what is said of the others."""

import shutil
from pathlib import Path
from typing import Any

import fabricate
import pytest

from imgcls.compare import collect
from imgcls.errors import CheckpointError


@pytest.fixture
def one(tmp_path: Path, compose: Any) -> Path:
    return fabricate.write(tmp_path / "out" / "one", compose("epochs=2"), 0.8).path


def names(spec: Any, output: Path) -> list[str]:
    return [path.name for path in collect.find(spec, str(output))]


def test_a_glob_a_list_a_folder_and_everything(outputs: Path) -> None:
    assert len(names(None, outputs)) == len(names(str(outputs), Path("nowhere"))) == 12
    assert names(f"{outputs}/convnet-0.1-*", outputs) == ["convnet-0.1-32", "convnet-0.1-64"]
    both = [str(outputs / "convnet-0.1-64"), str(outputs / "resnet20-0.1-32" / "best.ckpt")]
    assert names(both, outputs) == ["convnet-0.1-64", "resnet20-0.1-32"]


def test_a_sweep_stands_for_its_runs(outputs: Path, tmp_path: Path) -> None:
    """By the paths in its table; and by their names, once all has been moved."""
    moved = tmp_path / "moved"
    shutil.copytree(outputs / "convnet-0.1-32", moved / "convnet-0.1-32")
    sweep = moved / "sweeps" / "lr-1234"
    sweep.mkdir(parents=True)
    (sweep / "sweep.csv").write_text(f"lr,run\n0.1,{outputs}/convnet-0.1-64\n0.1,/gone/convnet-0.1-32\n")
    found = collect.find(str(sweep), "outputs")
    assert found == [outputs / "convnet-0.1-64", moved / "convnet-0.1-32"]


def test_a_wrong_path_names_the_nearest(one: Path) -> None:
    (one / "last.ckpt").touch()
    with pytest.raises(CheckpointError, match=r"runs=.*/onne is not there. Runs near: .*/out/one"):
        collect.find(str(one.with_name("onne")), str(one.parent))
    with pytest.raises(CheckpointError, match=r"\*x\*"):
        collect.find(str(one.parent / "*x*"), str(one.parent))


def test_what_cannot_be_compared_is_named_in_one_line(one: Path, compose: Any) -> None:
    output = one.parent
    shutil.copytree(one, output / "copy")
    fabricate.write(output / "half", compose("epochs=3"), 0.8).path.joinpath("result.json").unlink()
    fabricate.write(output / "debug-a", compose("debug=fdr"), 0.8)
    (output / "theirs").mkdir()
    (output / "theirs" / "config.yaml").write_text("lr: 0.1\n")
    (output / "notes").mkdir()
    found = collect.load([*collect.find(f"{output}/*", str(output)), one])  # the last one twice
    assert [entry.run.path.name for entry in found.entries] == ["copy"]
    assert dict(found.left) == {
        "of a rehearsal": ["debug-a"],
        "unfinished": ["half"],
        "without a run": ["notes"],
        "duplicate": ["one of copy"],
        "not of imgcls": ["theirs"],
    }
    assert found.left_out.count("\n") == 0
    assert found.left_out.startswith("left out: 1 of a rehearsal (debug-a); 1 unfinished (half); ")


def test_a_second_try_with_other_scores_is_no_duplicate(one: Path, compose: Any) -> None:
    fabricate.write(one.with_name("again"), compose("epochs=2"), 0.7)
    assert len(collect.load(collect.find(None, str(one.parent))).entries) == 2


def test_nothing_finished_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no finished run to compare \(left out: 1 without a run"):
        collect.load([tmp_path])


def test_what_lies_within_a_run_is_none(one: Path) -> None:
    for inner in ("evaluate", ".hydra"):
        shutil.copytree(one, one / inner)
    shutil.copytree(one / ".hydra", one.parent / "compare" / "x" / ".hydra")
    assert collect.find(None, str(one.parent)) == [one]


def test_names_get_as_many_folders_as_they_need(one: Path, compose: Any) -> None:
    fabricate.write(one.parents[1] / "other" / "one", compose("epochs=2"), 0.7)
    found = collect.load(collect.find(None, str(one.parents[1])))
    assert collect.labels(found.entries) == ["other/one", "out/one"]
