"""Numbers against published cases, scikit-learn and torchmetrics."""

from pathlib import Path
from typing import Any

import fabricate
import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics
from torchmetrics.classification import MulticlassCalibrationError

from imgcls.compare import answers, collect, pairs, prepare
from imgcls.compare.answers import Answers


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        (0, 6, 2 / 64),
        (1, 7, 2 * (1 + 8) / 256),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
        (121, 59, 4.434e-06),  # as statsmodels' mcnemar(exact=True) says
    ],
)
def test_mcnemar_is_exact_and_symmetric(only_a: int, only_b: int, p: float) -> None:
    assert pairs.mcnemar(only_a, only_b) == pytest.approx(p, rel=1e-3)
    assert pairs.mcnemar(only_b, only_a) == pairs.mcnemar(only_a, only_b)


def test_a_large_sample_comes_near_to_chi_square() -> None:
    """With the continuity correction of Edwards (1948)."""
    near = stats.chi2.sf((abs(1100 - 1000) - 1) ** 2 / 2100, 1)
    assert pairs.mcnemar(1100, 1000) == pytest.approx(near, rel=0.01)


def test_holm() -> None:
    """Smallest times 4, next times 3 …, and none below one before it."""
    assert pairs.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert pairs.holm([0.9, 0.8]) == [1, 1]
    assert pairs.holm([]) == []


def said(right: str, confidence: float = 0.9) -> Answers:
    """Answers that are right where there is a 1."""
    mask = np.array([mark == "1" for mark in right])
    return Answers(np.zeros(len(mask), int), np.where(mask, 0, 1), np.full(len(mask), confidence))


def test_counts_and_overlap() -> None:
    a, b = said("11110000"), said("11001100")
    (pair,) = pairs.all_pairs([a, b])
    assert pair == (0, 1, 2, 2, 1.0, 1.0, 2 / 6)
    assert pair.jaccard == metrics.jaccard_score(~a.right, ~b.right)
    assert pairs.jaccard(np.array([True]), np.array([True])) is None


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        ("1" * 20, "1" * 5 + "0" * 15, "x alone is right on 15 and y alone on 0: 75.00 points of accuracy."),
        ("1" * 5 + "0" * 15, "1" * 20, "This is not noise of the test set: y is better."),
        ("1111" * 5, "1110" * 5, "p = 0.062 by the exact McNemar test. This may well be noise"),
        ("10", "01", "x alone is right on 1 and y alone on 1: the same accuracy."),
        ("10", "10", "the same images right and wrong"),
    ],
)
def test_the_verdict(a: str, b: str, says: str) -> None:
    (pair,) = pairs.all_pairs([said(a), said(b)])
    assert says in pairs.verdict(pair, ["x", "y"], len(a), 1)


def test_the_correction_decides() -> None:
    """p = 0.031 is no more than noise among ten pairs."""
    pair = pairs.Pair(0, 1, 6, 0, 0.03125, 0.3125, 0.0)
    text = pairs.verdict(pair, ["x", "y"], 100, 10)
    assert "p = 0.031 (p = 0.31 after Holm's correction for 10 pairs)" in text and "may well be noise" in text


def test_images_that_one_has_right_come_surest_first() -> None:
    a, b = said("1110"), said("0001")
    b.confidence[:] = [0.3, 0.9, 0.5, 0.8]
    assert pairs.only_right([a, b], 0, 1).tolist() == [1, 2, 0]
    assert pairs.only_right([a, b], 1, 0).tolist() == [3]


def test_ece_by_hand() -> None:
    """Two bins of two: |0.5 - 0.95| and |1 - 0.65|, each of half the images."""
    kept = Answers(np.zeros(4, int), np.array([0, 1, 0, 0]), np.array([0.96, 0.94, 0.66, 0.64]))
    assert answers.ece(kept, bins=2) == pytest.approx(abs(0.75 - 0.8))
    assert answers.ece(kept, bins=10) == pytest.approx(0.5 * 0.45 + 0.5 * 0.35)
    bins = answers.reliability(kept, bins=10)
    assert bins["count"] == [0, 0, 0, 0, 0, 0, 2, 0, 0, 2]
    assert bins["accuracy"][6] == 1.0 and bins["confidence"][9] == pytest.approx(0.95)
    assert bins["accuracy"][0] is None


def test_ece_is_torchmetrics() -> None:
    labels = torch.randint(0, 10, (2000,), generator=torch.Generator().manual_seed(0))
    shares = fabricate.answers(labels, 0.7, seed=1).softmax(1)
    top = shares.max(1)
    kept = Answers(labels.numpy(), top.indices.numpy(), top.values.numpy())
    theirs = MulticlassCalibrationError(10, n_bins=15, norm="l1")(shares, labels)
    assert answers.ece(kept) == pytest.approx(float(theirs), abs=1e-6)


def test_only_equal_test_sets_are_paired(tmp_path: Path, compose: Any) -> None:
    labels = fabricate.digits().test.labels
    fabricate.write(tmp_path / "a", compose(), 0.8)
    fabricate.write(tmp_path / "b", compose("seed=1"), 0.7)
    fabricate.write(tmp_path / "other_data", compose("seed=2"), 0.9, digest="f" * 64)
    fabricate.write(tmp_path / "other_rows", compose("seed=3", "dataset.limit=200"), 0.9, labels=labels[:40])
    found = prepare.compare(collect.load(collect.find(None, str(tmp_path))).entries)
    assert [(tests.images, len(tests.runs), len(tests.pairs)) for tests in found.sets[:1]] == [(360, 2, 1)]
    assert [len(tests.pairs) for tests in found.sets[1:]] == [0, 0]
    assert [row["run"] for row in found.rows[:2]] == ["a", "b"]  # though both others are better
    titles = {row["run"]: row["test_set"] for row in found.rows}
    assert titles["a"] == titles["b"] != titles["other_data"]
    assert "Digits, 40 images" in titles["other_rows"]


def test_a_limit_with_another_seed_draws_other_images(tmp_path: Path, compose: Any) -> None:
    labels = fabricate.digits().test.labels[:40]
    for seed in (0, 1):
        fabricate.write(
            tmp_path / f"{seed}", compose(f"seed={seed}", "dataset.limit=200"), 0.8, labels=labels
        )
    assert len(prepare.compare(collect.load(collect.find(None, str(tmp_path))).entries).sets) == 2


def test_a_run_without_answers_is_in_no_pair(tmp_path: Path, compose: Any) -> None:
    for seed in (0, 1):
        run = fabricate.write(tmp_path / f"{seed}", compose(f"seed={seed}"), 0.8)
    (run / "predictions.npz").write_bytes(b"PK damaged")
    found = prepare.compare(collect.load(collect.find(None, str(tmp_path))).entries)
    assert len(found.rows) == 2 and all(not tests.pairs for tests in found.sets)
    assert next(row for row in found.rows if row["run"] == "1")["ece"] is None
