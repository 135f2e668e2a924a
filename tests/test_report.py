"""What a run folder says of a tested network: scikit-learn's numbers, the right images, the result last."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics

from imgcls import figures, report, runs
from imgcls.__main__ import register_resolvers
from imgcls.cli import command
from imgcls.data.sources import Images
from imgcls.scores import Scores
from imgcls.tasks import evaluate, train

NAMES = ["cat", "dog", "a bird that sings", "fish"]


def said(count: int = 120, wrong: float = 1.0, absent: int | None = None) -> tuple[Any, Any]:
    """Logits and labels of four classes; the last is rare and never predicted."""
    draw = torch.Generator().manual_seed(3)
    labels = torch.multinomial(torch.tensor([5.0, 3.0, 2.0, 0.5]), count, replacement=True, generator=draw)
    logits = wrong * torch.randn(count, 4, generator=draw)
    logits[torch.arange(count), labels] += 1.0
    logits[:, 3] -= 9.0
    if absent is not None:
        keep = labels != absent
        logits, labels = logits[keep], labels[keep]
        logits[:, absent] = -9
    return logits, labels


def scored(logits: torch.Tensor, labels: torch.Tensor) -> Scores:
    scores = Scores(logits.shape[1])
    scores.update(logits, labels, keep=True)
    return scores


def theirs(logits: torch.Tensor, labels: torch.Tensor, **options: Any) -> Any:
    return metrics.classification_report(
        labels.numpy(),
        logits.argmax(1).numpy(),
        labels=range(4),
        target_names=NAMES,
        zero_division=0,
        digits=4,
        **options,
    )


def parsed(text: str) -> dict[str, list[float]]:
    """Each line's numbers by its name."""
    rows = [line.rsplit(maxsplit=4 - 2 * ("accuracy" in line)) for line in text.splitlines()[2:] if line]
    return {row[0].strip(): [float(value) for value in row[1:]] for row in rows}


def test_the_report_has_scikit_learns_numbers() -> None:
    logits, labels = said()
    expected = theirs(logits, labels, output_dict=True)
    rows = parsed(report.classification_report(scored(logits, labels).full(), NAMES))
    assert rows.pop("accuracy") == [pytest.approx(expected.pop("accuracy"), abs=5e-5), len(labels)]
    assert rows.keys() == expected.keys() == {*NAMES, "macro avg", "weighted avg"}
    for name, row in rows.items():
        assert row == pytest.approx(list(expected[name].values()), abs=5.1e-5), name
    assert rows["fish"][:3] == [0, 0, 0] and rows["fish"][3] > 0


def test_the_report_is_scikit_learns_to_the_letter() -> None:
    logits, labels = said()
    assert report.classification_report(scored(logits, labels).full(), NAMES) == theirs(logits, labels)


def test_a_class_in_neither_is_listed_but_left_out_of_the_mean() -> None:
    logits, labels = said(absent=2)
    rows = parsed(report.classification_report(scored(logits, labels).full(), NAMES))
    assert rows["a bird that sings"] == [0, 0, 0, 0]
    means = metrics.precision_recall_fscore_support(
        labels, logits.argmax(1), average="macro", zero_division=0
    )
    assert rows["macro avg"][:3] == pytest.approx(means[:3], abs=5.1e-5)
    assert rows["weighted avg"] == pytest.approx(
        list(theirs(logits, labels, output_dict=True)["weighted avg"].values()), abs=5.1e-5
    )


@pytest.fixture
def case() -> tuple[dict[str, Any], dict[str, np.ndarray], Images]:
    """A result, what was said of each image, and the images: each is full of its own row number."""
    logits, labels = said()
    scores = scored(logits, labels)
    result = {"title": "net on data", "test": scores.full(), "classes": NAMES, "seconds": 1.5}
    pixels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 4, 4, 1).contiguous()
    return result, scores.kept(), Images(pixels, labels)


def test_all_files_are_written(tmp_path: Path, case: Any) -> None:
    result, kept, images = case
    run = runs.Run(tmp_path)
    rows = [{"epoch": 1.0, "lr": 0.1, "train/loss": 1.0, "train/acc": 0.5, "val/loss": 1.1, "val/acc": 0.4}]
    run.write_history(rows)
    report.write(run, result, kept, images)
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"metrics.csv", "result.json", "report.txt", "predictions.npz", *report.PICTURES}
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert (tmp_path / "report.txt").read_text() == report.classification_report(result["test"], NAMES)
    with np.load(tmp_path / "predictions.npz") as arrays:
        assert set(arrays) == set(kept) == {"labels", "top", "confidence"}
        assert all(np.array_equal(arrays[key], kept[key]) for key in kept)
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in report.PICTURES)


def test_the_result_comes_last(tmp_path: Path, case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that the run is finished: when it is written, all else is there."""
    before: dict[str, set[str]] = {}

    def note(path: Path, text: str) -> None:
        before[path.name] = {other.name for other in tmp_path.iterdir()}
        path.write_text(text)

    monkeypatch.setattr(report, "write_text", note)
    report.write(runs.Run(tmp_path), *case)
    assert before["result.json"] == {"report.txt", "predictions.npz", *report.PICTURES} - {"curves.png"}


def test_a_failure_on_the_way_leaves_no_result(
    tmp_path: Path, case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(figures, "per_class", fail)
    with pytest.raises(OSError, match="no space left"):
        report.write(runs.Run(tmp_path), *case)
    assert {path.name for path in tmp_path.iterdir()} == {"report.txt", "predictions.npz", "confusion.png"}


def test_wrong_answers_come_surest_first(tmp_path: Path, case: Any) -> None:
    result, kept, images = case
    sheet = report.ending(runs.Run(tmp_path), result, kept, images).sheets["wrong"]
    pixels, true, predicted, confidence, title = sheet.values()
    rows = pixels[:, 0, 0, 0]
    wrong = np.flatnonzero(kept["labels"] != kept["top"][:, 0])
    assert set(rows) <= set(wrong) and len(rows) == min(40, len(wrong))
    assert true == [NAMES[k] for k in kept["labels"][rows]]
    assert predicted == [NAMES[k] for k in kept["top"][rows, 0]]
    assert confidence == kept["confidence"][rows, 0].tolist() == sorted(confidence, reverse=True)
    assert confidence[-1] >= max(kept["confidence"][sorted(set(wrong) - set(rows)), 0], default=0)
    assert title == f"net on data: {len(rows)} of {len(wrong)} wrong, surest first"


def test_right_answers_are_spread_over_the_set(tmp_path: Path, case: Any) -> None:
    result, kept, images = case
    sheet = report.ending(runs.Run(tmp_path), result, kept, images).sheets["right"]
    pixels, true, predicted, confidence, title = sheet.values()
    rows = pixels[:, 0, 0, 0]
    right = np.flatnonzero(kept["labels"] == kept["top"][:, 0])
    assert len(right) > 40 == len(rows)
    assert rows.tolist() == right[np.linspace(0, len(right) - 1, 40).astype(int)].tolist()
    assert true == predicted == [NAMES[k] for k in kept["labels"][rows]]
    assert confidence == kept["confidence"][rows, 0].tolist()
    assert title == f"net on data: 40 of {len(right)} right"


@pytest.mark.parametrize("wrong", [0.0, 30.0])
def test_a_sheet_may_be_empty_or_short(wrong: float, tmp_path: Path, case: Any) -> None:
    result, _, images = case
    logits, labels = said(wrong=wrong)
    logits[labels == 3, 3] = 100 if wrong == 0 else -100
    scores = scored(logits, labels)
    last = report.ending(runs.Run(tmp_path), result | {"test": scores.full()}, scores.kept(), images)
    last.write()
    assert (tmp_path / "wrong.png").exists()
    right = round(scores.full()["acc"] * len(labels))
    assert [len(sheet["images"]) for sheet in last.sheets.values()] == [
        min(40, right),
        min(40, len(labels) - right),
    ]
    assert (right == len(labels)) == (wrong == 0)


def test_without_epochs_there_are_no_curves(tmp_path: Path, case: Any) -> None:
    report.ending(runs.Run(tmp_path), *case).write()
    assert {path.name for path in tmp_path.iterdir()} == {"result.json", *report.PICTURES} - {"curves.png"}


def test_what_has_time_is_left_to_whoever_has_it(
    tmp_path: Path, case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep draws while the next job trains; result.json still comes last."""
    monkeypatch.setattr(report, "left", [])
    report.write(runs.Run(tmp_path), *case, now=False)
    assert {path.name for path in tmp_path.iterdir()} == {"report.txt", "predictions.npz"}
    [last] = report.left
    pickle.loads(pickle.dumps(last)).write()
    assert json.loads((tmp_path / "result.json").read_text()) == case[0]
    assert (tmp_path / "wrong.png").exists()


@pytest.mark.parametrize("more", [(), ("dataset.overfit=true",)], ids=["limit", "overfit"])
def test_the_sheets_are_given_the_images_that_were_tested(
    more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a limit leaves only some of them."""
    given: list[tuple[Any, ...]] = []
    monkeypatch.setattr(report, "write", lambda *args, **options: given.append(args))
    register_resolvers()
    words = ["model=resnet20", "model.width=2", "epochs=1", "batch_size=16", "dataset.limit=40", *more]
    config, problems = command.check([*words, "progress=none", "trainer.threads=1"])
    assert not problems
    run = runs.Run(tmp_path)
    run.claim(config)
    train.train(config, run)
    evaluate.evaluate(run, run.config, runs.Run(tmp_path))
    run.release()
    assert len(given) == 2
    for _, result, kept, images in given:
        assert len(images) == result["test"]["n"]
        assert np.array_equal(images.labels.numpy(), kept["labels"])
