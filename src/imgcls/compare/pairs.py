"""Two runs on the same test images: who is right where the other is wrong, and whether that is chance."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from imgcls.compare.answers import Answers

ALPHA = 0.05  # a difference that chance makes less often than this is called one
SHOWN = 12  # images of each kind in a pair


class Pair(NamedTuple):
    """Runs a and b (their places): counts of images that only one has right, and what follows from them."""

    a: int
    b: int
    only_a: int
    only_b: int
    p: float  # exact McNemar
    adjusted: float  # after Holm, over all pairs of a test set
    jaccard: float | None  # of their errors; None if there is none


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p of the exact McNemar test (1947): do the images that only one has right split evenly?

    Where both are equally good, each such image falls to either with probability 1/2.
    """
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979): the k-th smallest of m times m - k + 1, rising."""
    order = np.argsort(values, kind="stable")
    scaled = np.asarray(values, float)[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return [float(value) for value in adjusted]


def jaccard(right_a: np.ndarray, right_b: np.ndarray) -> float | None:
    """Images that both have wrong, as a share of those that at least one has wrong; masks (N,)."""
    either = np.count_nonzero(~(right_a & right_b))
    return np.count_nonzero(~right_a & ~right_b) / either if either else None


def all_pairs(answers: Sequence[Answers]) -> list[Pair]:
    """Every pair of runs on one test set."""
    rights = [each.right for each in answers]
    places = list(combinations(range(len(answers)), 2))
    counts = [
        (int(np.count_nonzero(rights[a] & ~rights[b])), int(np.count_nonzero(rights[b] & ~rights[a])))
        for a, b in places
    ]
    ps = [mcnemar(*count) for count in counts]
    return [
        Pair(a, b, *count, p, adjusted, jaccard(rights[a], rights[b]))
        for (a, b), count, p, adjusted in zip(places, counts, ps, holm(ps), strict=True)
    ]


def verdict(pair: Pair, names: Sequence[str], images: int, tests: int) -> str:
    """The test in words."""
    a, b = names[pair.a], names[pair.b]
    if not pair.only_a + pair.only_b:
        return f"{a} and {b} have the same images right and wrong: there is no difference to test."
    better, worse = (a, b) if pair.only_a >= pair.only_b else (b, a)
    more, fewer = sorted((pair.only_a, pair.only_b), reverse=True)
    holds = f" ({_p(pair.adjusted)} after Holm's correction for {tests} pairs)" if tests > 1 else ""
    facts = (
        f"Of {images:,} test images, {better} alone is right on {more:,} and {worse} alone on {fewer:,}: "
        f"{_points(more - fewer, images)}. Were they equally good, a split as uneven as this would have "
        f"{_p(pair.p)}{holds} by the exact McNemar test. "
    )
    if pair.adjusted < ALPHA:
        return facts + f"This is not noise of the test set: {better} is better."
    return facts + "This may well be noise of the test set: neither is shown to be better."


def _p(value: float) -> str:
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"


def _points(more: int, images: int) -> str:
    return f"{100 * more / images:.2f} points of accuracy" if more else "the same accuracy"


def only_right(answers: Sequence[Answers], a: int, b: int) -> np.ndarray:
    """Rows of images that a has right and b wrong, those first of which b was surest; at most SHOWN."""
    rows = np.flatnonzero(answers[a].right & ~answers[b].right)
    return rows[np.argsort(-answers[b].confidence[rows], kind="stable")][:SHOWN]


def facts(pair: Pair, names: Sequence[str], images: int, tests: int) -> dict[str, Any]:
    """A pair as plain data, with its verdict."""
    return {**pair._asdict(), "words": verdict(pair, names, images, tests)}
