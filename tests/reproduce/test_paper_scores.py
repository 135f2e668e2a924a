"""Ours beside the paper's: which figure it is, how much it varies, and what follows."""

from collections.abc import Callable
from math import sqrt
from statistics import stdev
from typing import Any

import pytest

from imgcls.reproduce.rows import Entry
from imgcls.reproduce.scores import Score, line, measured, scores, seconds

Entries = Callable[..., list[Entry]]


@pytest.mark.parametrize(
    ("metric", "paper", "ours", "spread", "verdict"),
    [
        ("test_acc", 0.8, 0.805, 0.01, "within"),
        ("test_acc", 0.8, 0.82, 0.01, "better"),
        ("test_acc", 0.8, 0.78, 0.01, "worse"),
        ("loss", 0.8, 0.78, 0.01, "better"),
        ("test_acc", 0.1135, 0.1135, 0.0, "within"),
        ("test_acc", None, 0.78, 0.01, ""),
        ("test_acc", 0.8, None, None, ""),
        ("test_acc", 0.8, 0.78, None, ""),
        ("parameters", 10, 12, None, ""),
    ],
)
def test_verdicts(
    metric: str, paper: float | None, ours: float | None, spread: float | None, verdict: str
) -> None:
    assert Score(metric, paper, ours, spread).verdict == verdict


def test_half_a_unit_of_the_papers_last_digit_is_no_difference() -> None:
    """0.1124 in the paper is 0.11237, the share of ones, to four digits."""
    assert Score("train_acc", 0.1124, 0.11236667, 0.0).verdict == "worse"
    assert Score("train_acc", 0.1124, 0.11236667, 0.0, rounding=0.00005).verdict == "within"


def test_times_have_no_difference() -> None:
    score = Score("minutes", 14, 1.5)
    assert score.difference is None
    assert line(score) == "14 min → 90 s"


def test_figures_of_a_row(entries: Entries, finish: Any) -> None:
    (entry,) = entries("ma.table2.01")
    finish(entry.jobs[0], acc=0.76)
    train, test = scores(entry)
    assert (train.metric, train.paper, train.ours) == ("train_acc", 0.9854, 0.9)  # the best epoch's
    assert (test.metric, test.paper, test.ours) == ("test_acc", 0.769, 0.76)
    assert train.spread == pytest.approx(sqrt(0.9 * 0.1 / 50_000))
    assert test.spread == pytest.approx(sqrt(0.76 * 0.24 / 10_000))  # 0.43 points
    assert test.rounding == pytest.approx(0.00005)
    assert (train.verdict, test.verdict) == ("worse", "worse")
    assert line(test) == "76.90 → 76.00 ± 0.43 (-0.90) worse"
    assert seconds(entry) == 90


def test_seeds_give_mean_and_deviation(entries: Entries, finish: Any) -> None:
    (entry,) = entries("ma.table2.01", seeds=3)
    for job, acc in zip(entry.jobs, (0.76, 0.77, 0.78), strict=True):
        finish(job, acc=acc)
    test = scores(entry)[1]
    assert test.ours == pytest.approx(0.77)
    assert test.spread == pytest.approx(stdev((0.76, 0.77, 0.78)))
    assert test.verdict == "within"


def test_without_a_judge_there_is_no_verdict(entries: Entries, finish: Any) -> None:
    (entry,) = entries("ma.table2.01")
    finish(entry.jobs[0], acc=0.76)
    assert [(s.spread, s.verdict) for s in scores(entry, judge=False)] == [(None, ""), (None, "")]


def test_every_metric_is_measured(entries: Entries, finish: Any) -> None:
    (entry,) = entries("clark.text.01")
    job = entry.jobs[0]
    assert measured(job, "test_acc") is None
    finish(job, acc=0.6, best={"epoch": 2.0})
    found = {name: measured(job, name) for name in ("train_acc", "f1", "loss", "minutes", "best_epoch")}
    assert found == {"train_acc": 0.7, "f1": 0.6, "loss": 0.5, "minutes": 1.5, "best_epoch": 2}  # last epoch
    assert measured(job, "train_acc", "best") == 0.9
    assert measured(job, "parameters") == 1234
