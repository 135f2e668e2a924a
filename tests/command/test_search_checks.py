"""A search is checked before it begins: its settings, and the ends and choices of what is swept."""

from pathlib import Path
from typing import Any

import pytest

from imgcls.cli.command import examine

SEARCH = ["-m", "hydra/sweeper=optuna"]
RATE = "optimizer.lr=interval(0.01,1)"
MISTAKES = [
    ([], ["hydra/sweeper=optuna has nothing to choose from. Add KEY=interval(A,B) or KEY=A,B."]),
    (["optimizer.lr=interval(0,1)"], ["optimizer.lr=0.0 must be a number > 0."]),
    (["optimizer.momentum=interval(0,1)"], ["optimizer.momentum=1.0 must be a number >= 0 and < 1."]),
    (["epochs=interval(0.5,3)"], ["epochs=0.5 must be a whole number >= 1."]),
    (["batch_size=choice(32,0)"], ["batch_size=0 must be a whole number >= 1."]),
    (["optimizer.lrr=interval(1,2)"], ["unknown key optimizer.lrr=1.0. Did you mean optimizer.lr=1.0?", "…"]),
    (["model=resnet20,resnet21"], ["model=resnet21 is not known. Choose from: resnet…"]),
    ([RATE, "hydra.sweeper.sampler=tpes"], ["hydra.sweeper.sampler=tpes must be one of tpe, …"]),
    ([RATE, "hydra.sweeper.n_trials=0"], ["hydra.sweeper.n_trials=0 must be a whole number >= 1."]),
    ([RATE, "hydra.sweeper.n_trails=9"], ["unknown key hydra.sweeper.n_trails=9. Did you mean …"]),
    ([RATE, "hydra/launcher=basic"], ["hydra/sweeper=optuna cannot go with hydra/launcher=basic. …"]),
    ([RATE, "dataset.val_fraction=0"], ["hydra/sweeper=optuna would choose on the test set. …"]),
    ([RATE, "hydra/sweeper/sampler=tpe"], ["unknown key hydra/sweeper/sampler=tpe. Did you mean …"]),
    (
        ["optimizer.lr=interval(1,0.1)"],
        ["optimizer.lr: interval(1,0.1) is empty. Put the lower end first."],
    ),
    (
        ["optimizer.weight_decay=tag(log,interval(0,0.1))"],
        ["optimizer.weight_decay: interval(0,0.1) cannot be on a log scale. Use a lower end > 0."],
    ),
    (
        [RATE, "hydra.sweeper.sampler=grid"],
        [
            "optimizer.lr: interval(0.01,1) has no values for hydra.sweeper.sampler=grid. "
            "Name some: optimizer.lr=A,B."
        ],
    ),
]


@pytest.mark.parametrize(("words", "lines"), MISTAKES)
def test_mistakes(answer: Any, words: list[str], lines: list[str]) -> None:
    code, said, _ = answer(*SEARCH, *words)
    assert code == 2
    assert len(said) >= len(lines)
    for line, found in zip(lines, said, strict=False):
        assert f"{found}…".startswith(f"imgcls: error: {line.rstrip('…')}")


def test_a_search_without_m(answer: Any) -> None:
    code, said, _ = answer("hydra/sweeper=optuna", "optimizer.lr=0.1")
    assert code == 2
    assert "imgcls: error: hydra/sweeper=optuna makes many runs. Add -m." in said


def test_without_optuna(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgcls.sweeps.space.find_spec", lambda name: None)
    code, said, _ = answer(*SEARCH, RATE)
    assert code == 2
    assert said == [
        "imgcls: error: hydra/sweeper=optuna needs the package optuna. pip install 'imgcls[optuna]'"
    ]


def test_an_interval_without_a_search(answer: Any) -> None:
    code, said, _ = answer("-m", "optimizer.lr=tag(log,interval(0.1,1))")
    assert code == 2
    assert said == [
        "imgcls: error: optimizer.lr=tag(log,interval(0.1,1)) is for a search. "
        "Add hydra/sweeper=optuna, or name the values: optimizer.lr=0.1,1.0."
    ]


def test_the_ready_made_search_is_fine_and_what_is_typed_wins(here: Path) -> None:
    done = examine(["sweep=search", "batch_size=16,32", "+experiment=null"], sweeps=True)
    assert done.problems == []
    assert [line for line in done.overrides if "batch_size" in line] == ["batch_size=16,32"]
    assert "optimizer.lr=tag(log, interval(0.001, 1.0))" in done.overrides
