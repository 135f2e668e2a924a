"""task=study: the best value of each setting goes into all that follow."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imgcls import papers
from imgcls.errors import ConfigError
from imgcls.reproduce import axes
from imgcls.reproduce.axes import Axis
from imgcls.sweeps.job import Job

SMALL = [
    *("dataset.limit=200", "model=resnet20", "model.width=4", "augmentation=none", "trainer.threads=1"),
    *("batch_size=32", "epochs=1"),
]


def test_both_spellings_are_values(composer: Any) -> None:
    typed = ["task=study", "axes.lr=0.1,0.01", "axes.epochs=[1,3]", "axes.model.fc=[[64],null]"]
    with composer() as made:
        found = axes.read(typed, None, made)
    assert [axis.words for axis in found] == [
        ["optimizer.lr=0.1", "optimizer.lr=0.01"],
        ["epochs=1", "epochs=3"],
        ["model.fc=[64]", "model.fc=null"],
    ]


def test_a_paper_brings_its_axes_but_what_is_fixed(composer: Any) -> None:
    study = papers.paper("gilbert").study
    with composer() as made:
        found = axes.read(["task=study", "paper=gilbert", "epochs=2"], study, made)
    assert [axis.key for axis in found] == ["optimizer.lr", "batch_size"]
    assert found[0].values == ["0.1", "0.01", "0.001", "0.0001", "1e-05", "1e-06"]


@pytest.mark.parametrize(
    "paper", [paper for paper in papers.papers() if paper.study], ids=lambda paper: paper.name
)
def test_every_value_of_a_paper_is_a_good_command(paper: papers.Paper, composer: Any) -> None:
    assert paper.study
    with composer() as made:
        axes.check(axes.read([], paper.study, made), paper.study.base, made)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["axes.epochz=1,2"], "unknown key epochz=1"),
        (["axes.epochs=1,0"], "epochs=0 must be a whole number >= 1."),
        (["axes.model=resnet20,resnit"], "model=resnit is not known"),
        (["axes.batch_size=32,1437"], "batch_size=1437 is larger than the training set"),
        (["axes.epochs=1,2", "epochs=3"], "epochs=… and axes.epochs=… are both typed."),
        ([], "task=study needs settings to try. Add axes.KEY=VALUE,VALUE, or one of paper=gilbert, "),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(typed: list[str], message: str, composer: Any) -> None:
    with composer() as made, pytest.raises(ConfigError) as caught:
        axes.check(axes.read(typed, None, made), [], made)
    assert message in str(caught.value)


def test_the_best_is_carried_on(composer: Any, finish: Any, tmp_path: Path) -> None:
    """By the test set, where nothing is held out; what fails is never the best."""
    scores = {
        "epochs=1": 0.7,
        "epochs=2": None,
        "epochs=3": 0.8,
        "batch_size=16": 0.81,
        "batch_size=32": 0.81,
    }
    seen: list[list[str]] = []

    def run(axis: Axis) -> bool:
        for job in axis.jobs:
            seen.append(job.overrides)
            if (acc := scores[job.label]) is not None:
                finish(job, acc=acc)
        return True

    with composer(f"output={tmp_path}", "dataset.val_fraction=0") as made:
        along = axes.read(["axes.epochs=1,2,3", "axes.batch_size=16,32"], None, made)
        path = axes.walk(along, [], made, run)
    assert path == ["epochs=3", "batch_size=16"]  # of equals, the first
    assert seen[-1] == ["epochs=3", "batch_size=32", f"output={tmp_path}", "dataset.val_fraction=0"]
    assert axes.scored(along[0].jobs[0]) == (axes.TEST, 0.7)


@pytest.mark.parametrize(("select", "score"), [("best", 0.9), ("last", 0.6)])
def test_where_something_is_held_out_it_chooses(
    select: str, score: float, composer: Any, finish: Any, tmp_path: Path
) -> None:
    with composer(f"output={tmp_path}", f"select={select}") as made:
        job: Job = made.make("x", [])[0]
    finish(job, best={"val/acc": 0.9, "epoch": 1} if select == "best" else None)
    job.run.write_history([{"epoch": 1, "val/acc": 0.9}, {"epoch": 2, "val/acc": 0.6}])
    assert axes.scored(job) == (axes.VALIDATION, score)


@pytest.mark.slow
def test_a_study_ends_with_a_command_that_has_run(tmp_path: Path) -> None:
    words = ["task=study", *SMALL, f"output={tmp_path}", "axes.lr=0.01,0.1", "axes.epochs=1,2"]
    words.remove("epochs=1")
    run = [sys.executable, "-m", "imgcls", *words]
    done = subprocess.run(run, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("digits-*/result.json"))) == 4
    (folder,) = tmp_path.glob("papers/study-*")
    with (folder / "study.csv").open(newline="") as text:
        lines = list(csv.DictReader(text))
    assert [line["setting"] for line in lines] == ["optimizer.lr"] * 2 + ["epochs"] * 2
    assert sum(line["best"] == "best" for line in lines) == 2
    best = lines[2:][[line["best"] for line in lines[2:]].index("best")]
    last = next(line for line in done.stdout.splitlines() if line.startswith("python -m imgcls"))
    single = subprocess.run([sys.executable, *last.split()[1:]], capture_output=True, text=True, timeout=100)
    assert "finished already" in single.stdout and best["run"] in single.stdout
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("digits-*/*.ckpt")}
    again = subprocess.run(run, capture_output=True, text=True, timeout=200)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("digits-*/*.ckpt")} == stamps
    assert again.stdout.splitlines()[-4:] == done.stdout.splitlines()[-4:]
