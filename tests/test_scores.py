"""Every score against scikit-learn's, on labels that are unbalanced and batches that are ragged."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch.nn import functional as F

from imgcls.scores import Running, Scores, one_class

MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # images of each class


def guesses(count: int, classes: int, absent: int | None = None, silent: int | None = None) -> Any:
    """Logits and unbalanced labels: one class that no image has, one that is never predicted."""
    draw = torch.Generator().manual_seed(classes)
    weights = torch.arange(1, classes + 1, dtype=torch.float64) ** 2
    if absent is not None:
        weights[absent] = 0
    labels = torch.multinomial(weights, count, replacement=True, generator=draw)
    logits = torch.randn(count, classes, generator=draw)
    logits[torch.arange(count), labels] += 1.5
    if silent is not None:
        logits[:, silent] = -9
    return logits, labels


def scored(logits: torch.Tensor, labels: torch.Tensor, batch: int = 37) -> Scores:
    scores = Scores(logits.shape[1])
    for some, their in zip(logits.split(batch), labels.split(batch), strict=True):
        scores.update(some, their, keep=True)
    return scores


def sklearns(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """The same scores from scikit-learn; its default macro average is over the classes that occur."""
    classes, k = range(logits.shape[1]), min(5, logits.shape[1])
    said, shares = logits.argmax(1).numpy(), logits.double().softmax(1).numpy()
    y = labels.numpy()
    macro = metrics.precision_recall_fscore_support(y, said, average="macro", zero_division=0)
    single = metrics.precision_recall_fscore_support(y, said, labels=list(classes), zero_division=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the top 2 of 2 classes are always right
        top5 = metrics.top_k_accuracy_score(
            y, shares if len(classes) > 2 else shares[:, 1], k=k, labels=classes
        )
    return {
        "n": len(y),
        "loss": metrics.log_loss(y, shares, labels=list(classes)),
        "acc": metrics.accuracy_score(y, said),
        "top5": top5,
        **dict(zip(("precision", "recall", "f1"), macro, strict=False)),
        "classes": dict(
            zip(("precision", "recall", "f1", "images"), (s.tolist() for s in single), strict=True)
        ),
        "confusion": metrics.confusion_matrix(y, said, labels=list(classes)).tolist(),
    }


CASES = {
    "two classes": (100, 2, None, None),
    "three classes": (100, 3, None, None),
    "ten classes": (500, 10, None, None),
    "a class without images": (500, 10, 6, None),
    "a class never predicted": (500, 10, None, 9),
    "both": (500, 10, 6, 9),
    "a class that is in neither": (500, 10, 6, 6),
    "a class of two that is never predicted": (50, 2, None, 1),
    "a hundred classes, some rare": (700, 100, 99, 98),
}


@pytest.mark.parametrize("case", CASES)
def test_every_score_is_scikit_learns(case: str) -> None:
    logits, labels = guesses(*CASES[case])
    ours, theirs = scored(logits, labels).full(), sklearns(logits, labels)
    assert ours.keys() == theirs.keys()
    assert ours["confusion"] == theirs["confusion"]
    assert ours["n"] == theirs["n"]
    for key in ("loss", "acc", "top5", "precision", "recall", "f1"):
        assert ours[key] == pytest.approx(theirs[key], abs=1e-6), key
    for key, values in theirs["classes"].items():
        assert ours["classes"][key] == pytest.approx(values, abs=1e-6), key


def test_the_cases_are_what_they_say() -> None:
    logits, labels = guesses(*CASES["both"])
    assert 6 not in labels and 6 in logits.argmax(1)
    assert 9 in labels and 9 not in logits.argmax(1)
    logits, labels = guesses(*CASES["a class that is in neither"])
    assert 6 not in labels and 6 not in logits.argmax(1)


def test_a_class_in_neither_is_left_out_of_the_mean() -> None:
    """All right on classes 0 and 2, nothing of class 1: a mean of 1, not of 2/3."""
    labels = torch.tensor([0, 2, 2])
    full = scored(torch.eye(3)[labels], labels).full()
    assert (full["precision"], full["recall"], full["f1"]) == (1, 1, 1)
    assert full["classes"]["f1"] == [1, 0, 1]


@pytest.mark.parametrize("batch", [1, 7, 64, 500])
def test_batches_do_not_matter(batch: int) -> None:
    logits, labels = guesses(500, 10, 6, 9)
    ours, whole = scored(logits, labels, batch).full(), scored(logits, labels, 1000).full()
    assert ours.pop("loss") == pytest.approx(whole.pop("loss"), rel=1e-6)
    assert ours == whole


def test_an_empty_batch_counts_nothing() -> None:
    """A rank's share of a ragged last batch may be empty."""
    logits, labels = guesses(50, 10)
    scores = scored(logits, labels)
    before = scores.full()
    scores.update(logits[:0], labels[:0], keep=True)
    assert scores.full() == before


def test_brief_is_the_exact_part_of_the_full_scores() -> None:
    logits, labels = guesses(90, 7)
    brief, full = scored(logits, labels).brief(), scored(logits, labels).full()
    assert brief == {key: full[key] for key in ("n", "loss", "acc", "top5")}
    assert brief["acc"] == int((logits.argmax(1) == labels).sum()) / 90  # to the last bit


def test_of_equal_logits_the_first_class_wins() -> None:
    """bfloat16 makes ties; what is said of an image must not depend on the batch it came in."""
    logits = torch.tensor([[0, 2, 2, 1, 2, 0, 0], [1, 1, 1, 1, 1, 1, 1]], dtype=torch.float32)
    scores = Scores(7)
    scores.update(logits, torch.tensor([2, 0]), keep=True)
    assert scores.kept()["top"].tolist() == [[1, 2, 4, 3, 0], [0, 1, 2, 3, 4]]
    assert scores.full()["confusion"][2][1] == scores.full()["confusion"][0][0] == 1
    assert (scores.brief()["acc"], scores.brief()["top5"]) == (0.5, 1)


def test_reset_counts_from_zero() -> None:
    scores = scored(*guesses(90, 4, None, 3))
    scores.update(*guesses(9, 4), keep=True)
    scores.reset()
    logits, labels = guesses(20, 4, 2)
    scores.update(logits, labels, keep=True)
    assert scores.full() == scored(logits, labels).full()
    assert len(scores.kept()["labels"]) == 20


def test_a_loss_that_is_not_a_number_is_not_left_out() -> None:
    logits, labels = guesses(40, 4)
    logits[3] = float("nan")
    assert np.isnan(scored(logits, labels, 10).brief()["loss"])


def test_the_mean_loss_keeps_double_precision() -> None:
    """After a loss of 2^26 a sum in float32 would not see one of 0.69; also not after a reset."""
    scores, huge = Scores(2), torch.tensor([[0.0, 2.0**26]])
    first = torch.tensor([0])
    for _ in range(2):
        scores.reset()
        scores.update(huge, first)
        for _ in range(15):
            scores.update(torch.zeros(1, 2), first)
    assert scores.brief()["loss"] * 16 - 2.0**26 == pytest.approx(15 * np.log(2), abs=1e-5)


def test_what_was_said_of_each_image_is_kept_in_order() -> None:
    logits, labels = guesses(70, 10)
    scores = Scores(10)
    for some, their in zip(logits.split(32), labels.split(32), strict=True):
        scores.update(some, their, keep=True)
    kept = scores.kept()
    order = np.argsort(-logits.numpy(), axis=1)[:, :5]
    shares = np.take_along_axis(logits.double().softmax(1).numpy(), order, axis=1)
    assert np.array_equal(kept["labels"], labels.numpy())
    assert np.array_equal(kept["top"], order)
    assert np.allclose(kept["confidence"], shares, atol=1e-6)


@pytest.mark.parametrize(("classes", "width"), [(2, 2), (3, 3), (5, 5), (10, 5)])
def test_as_many_guesses_are_kept_as_there_are_classes(classes: int, width: int) -> None:
    scores = Scores(classes)
    scores.update(*guesses(6, classes), keep=True)
    assert scores.kept()["top"].shape == scores.kept()["confidence"].shape == (6, width)


def test_only_what_is_asked_for_is_kept() -> None:
    scores = scored(*guesses(7, 4))
    scores.update(*guesses(30, 4))
    assert len(scores.kept()["labels"]) == 7
    assert scores.brief()["n"] == 37


def test_always_the_same_class_is_called_out_with_its_share() -> None:
    labels = np.repeat(np.arange(10), MNIST_TEST)
    names = [f"digit {k}" for k in range(10)]
    kept = {"labels": labels, "top": np.ones((10_000, 5), int)}
    assert one_class(kept, names) == "predicts only class digit 1: 11.35% is chance"


def test_two_predicted_classes_are_not_called_out() -> None:
    labels, said = np.array([0, 0, 1]), np.array([[0], [0], [1]])
    assert one_class({"labels": labels, "top": said}, ["a", "b"]) is None


def test_ten_thousand_classes_have_scores_and_no_matrix() -> None:
    """100 million cells would take minutes and gigabytes."""
    labels = torch.randint(10_000, (300,), generator=torch.Generator().manual_seed(0))
    full = scored(torch.nn.functional.one_hot(labels, 10_000).float(), labels).full()
    assert full["confusion"] is None
    assert (full["acc"], full["f1"], sum(full["classes"]["images"])) == (1, 1, 300)


def test_a_device_without_float64_gets_none() -> None:
    """Counts are exact all the same; the loss is to single precision."""
    logits, labels = guesses(500, 10)
    double, single = scored(logits, labels), Scores(10)
    single.in_single_precision()
    single.update(logits, labels)
    states = [state for m in single.sums.values() for state in m.metric_state.values()]  # type: ignore[operator]
    assert {state.dtype for state in states} == {torch.float32}
    expected = double.brief()
    assert single.brief() == expected | {"loss": pytest.approx(expected["loss"], rel=1e-6)}


@pytest.mark.parametrize("classes", [10, 1000])  # counted some batches at a time, and each at once
def test_running_sums_do_not_depend_on_when_they_are_asked_for(classes: int) -> None:
    draw = torch.Generator().manual_seed(0)
    asked, left = Running(), Running()
    loss, right = torch.zeros((), dtype=torch.float64), 0
    for size in [32] * 60 + [7]:
        logits = torch.randn(size, classes, generator=draw, requires_grad=True)
        labels = torch.randint(classes, (size,), generator=draw)
        mean = F.cross_entropy(logits, labels)
        for running in (asked, left):
            running.note(mean, logits, labels)
        loss += mean.detach() * size
        right += int((logits.argmax(1) == labels).sum())
        asked.so_far()
    assert torch.equal(asked.so_far(), left.so_far())
    assert left.so_far()[1:].tolist() == [right, 60 * 32 + 7]
    assert left.so_far()[0].item() == pytest.approx(loss.item(), rel=1e-6)
    assert not left.so_far().requires_grad
