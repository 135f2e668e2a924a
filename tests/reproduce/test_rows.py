"""Rows as jobs: the same runs as the commands that they stand for, changed by what is typed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgcls import naming, papers
from imgcls.cli import command
from imgcls.errors import ConfigError
from imgcls.reproduce import rows
from imgcls.reproduce.scores import scores

Entries = Callable[..., list[rows.Entry]]


def test_a_job_is_the_run_of_its_command(entries: Entries) -> None:
    (entry,) = entries("ma.table2.05")
    config, problems = command.check([*entry.row.overrides, f"output={entry.jobs[0].config['output']}"])
    assert problems == []
    assert entry.jobs[0].run.path == naming.folder(config)
    assert entry.jobs[0].composed.hydra.mode.name == "MULTIRUN"


def test_what_is_alike_is_one_job(entries: Entries) -> None:
    first, *rest = entries("ma.table[12].*")
    same = next(entry for entry in rest if entry.row.id == "ma.table2.03")
    assert first.row.id == "ma.table1.01"
    assert same.jobs == first.jobs
    assert len(rows.to_run([first, *rest])) == 1 + len(rest) - 1


def test_seeds_are_jobs(entries: Entries) -> None:
    (entry,) = entries("ma.table1.02", seeds=3)
    assert [job.config["seed"] for job in entry.jobs] == [0, 1, 2]
    assert [job.label for job in entry.jobs] == [f"ma.table1.02 seed={n}" for n in range(3)]
    (alone,) = entries("ma.table1.02")
    assert alone.jobs[0].run.path == entry.jobs[0].run.path  # seed 0 is the usual one


def test_changes_win(entries: Entries) -> None:
    (entry,) = entries("ma.table2.09", "epochs=2", "optimizer.lr=0.5")
    config = entry.jobs[0].config
    assert (config["epochs"], config["optimizer"]["lr"], config["batch_size"]) == (2, 0.5, 32)


def test_an_option_chosen_anew_keeps_the_settings_that_it_has(entries: Entries) -> None:
    (entry,) = entries("ma.table2.02", "optimizer=adam", "model=vgg7", "dataset=digits", "scaling=x4")
    config = entry.jobs[0].config
    assert "momentum" not in config["optimizer"]
    assert config["optimizer"]["weight_decay"] == 0  # the row's, for adam has it, too
    assert (config["dataset"]["val_fraction"], config["dataset"]["normalize"]) == (0, "zero_one")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochz=3", "unknown key epochz=3. Did you mean epochs=3?"),
        ("model=resnet", "model=resnet is not known."),
        ("epochs=0", "epochs=0 must be a whole number >= 1."),
        ("accumulate=5", "ma.table1.01: accumulate=5 does not divide batch_size=32."),
    ],
)
def test_a_wrong_change_is_one_line(change: str, message: str, entries: Entries) -> None:
    with pytest.raises(ConfigError) as caught:
        entries("ma.table1.01", change)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fraction", "batch", "limit"),
    [(0.1, 32, 5000), (0.01, 499, 500 + 1), (0.0001, 32, 32)],  # 500 of 499 would leave one image
)
def test_a_fraction_leaves_batches_that_can_be_trained_on(
    fraction: float, batch: int, limit: int, entries: Entries
) -> None:
    (entry,) = entries("ma.table1.01", f"batch_size={batch}", fraction=fraction)
    assert entry.jobs[0].config["dataset"]["limit"] == limit
    assert entry.jobs[0].overrides[-1] == f"dataset.limit={limit}"


def test_a_fraction_of_unknown_images_is_refused(entries: Entries, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fraction=0.1: dataset=folder is of any size. Use dataset.limit"):
        entries("ma.table1.01", "dataset=folder", fraction=0.1)


def test_the_other_rows_are_there_to_be_shown(composer: Any) -> None:
    """But those that a change does not fit: only one of hisariya's networks has a stem."""
    chosen = papers.rows("hisariya.table1.03")
    with composer("model.stem=cifar") as made:
        assert len(rows.entries(made, chosen, 1)) == 1
        found = {entry.row.id for entry in rows.others(made, chosen, 1)}
    assert found == {
        *(f"hisariya.table1.0{n}" for n in (4, 5)),
        *(f"hisariya.table2.0{n}" for n in (2, 3, 4)),
    }


def test_divergence_is_kept_and_not_tried_again(entries: Entries, finish: Any) -> None:
    """It is a result of the run, but none of the row: no scores."""
    (entry,) = entries("ma.table1.01")
    assert entry.jobs[0].config["on_divergence"] == "record"
    assert not entry.jobs[0].done_before
    finish(entry.jobs[0], diverged={"epoch": 1, "step": 3, "lr": 0.1, "why": "the loss is not finite."})
    (again,) = entries("ma.table1.01")
    assert (again.state, again.reason, again.results) == ("diverged", "the loss is not finite.", [])
    assert again.jobs[0].done_before
    assert {score.ours for score in scores(again)} == {None}
    (anew,) = entries("ma.table1.01", "restart=true")
    assert not anew.jobs[0].done_before


def test_other_failures_are_tried_again(entries: Entries) -> None:
    (entry,) = entries("ma.table1.01")
    entry.jobs[0].end(4, "out of memory.")
    assert (entry.state, entry.reason) == ("failed", "out of memory.")
    assert not entry.jobs[0].done_before


def test_a_row_is_as_far_as_its_seeds(entries: Entries, finish: Any) -> None:
    (entry,) = entries("ma.table1.01", seeds=2)
    assert entry.state == "waiting"
    finish(entry.jobs[0])
    assert entry.state == "part"
    finish(entry.jobs[1])
    assert entry.state == "finished"
