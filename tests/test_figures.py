"""The pictures carry the numbers they were given and come out as PNGs of the expected size."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgcls import figures


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    """A warning while drawing (NaN, layout, missing glyph) is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def saved_size(figure: Any, folder: Path) -> tuple[int, int]:
    """Width and height in pixels as the header of the saved PNG states them."""
    path = folder / "figure.png"
    figures.save(figure, path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert [entry.name for entry in folder.iterdir()] == ["figure.png"]  # nothing unfinished is left
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def expected_size(figure: Any) -> tuple[int, int]:
    width, height = figure.get_size_inches() * figures.DPI
    return int(width), int(height)


def history(epochs: int, val: bool = True) -> list[dict[str, float]]:
    rows = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "train/loss": 2 / epoch, "train/acc": 1 - 0.9 / epoch, "lr": 0.1 / epoch**2}
        if val:
            row |= {"val/loss": 2.2 / epoch, "val/acc": 0.9 - 0.8 / epoch}
        rows.append(row)
    return rows


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(("epochs", "val"), [(0, True), (1, True), (1, False), (5, True), (300, False)])
def test_curves_carry_the_history(epochs: int, val: bool, tmp_path: Path) -> None:
    rows = history(epochs, val)
    figure = figures.curves(rows, "a run")
    assert saved_size(figure, tmp_path) == expected_size(figure) == (1500, 750)
    loss, accuracy, rate = figure.axes
    for axes, key in ((loss, "loss"), (accuracy, "acc")):
        lines = {line.get_label(): line for line in axes.get_lines()}
        for part in ("train", "val"):
            given = [(row["epoch"], row[f"{part}/{key}"]) for row in rows if f"{part}/{key}" in row]
            assert [tuple(point) for point in lines[part].get_xydata()] == given
    assert list(rate.get_lines()[0].get_ydata()) == [row["lr"] for row in rows]
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks and all(tick == int(tick) >= 1 for tick in ticks)


def test_curves_mark_the_best_epoch_and_use_a_log_axis_for_a_wide_rate() -> None:
    rows = history(20)
    rows[4]["val/acc"] = rows[6]["val/acc"] = 0.95  # equals: the lower loss is better
    loss, accuracy, rate = figures.curves(rows, "a run").axes
    assert "val 95.0 % at best epoch 7" in accuracy.get_title(loc="left")
    assert f"val {2.2 / 7:.3g} at best epoch 7" in loss.get_title(loc="left")
    assert (rate.get_yscale(), accuracy.get_yscale()) == ("log", "linear")


def test_curves_take_gaps_and_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    rows = history(6)
    for row in rows[::2]:
        del row["val/loss"], row["val/acc"]
    rows[-1]["train/loss"] = float("nan")
    figure = figures.curves(rows, "a run")
    saved_size(figure, tmp_path)
    assert list(figure.axes[0].get_lines()[1].get_xdata()) == [2, 4, 6]


@pytest.mark.parametrize("size", [2, 10, 40])
def test_confusion_shows_the_shares_of_each_row(size: int, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (size, size)) + 50 * np.eye(size, dtype=int)
    counts[1] = 0  # a class without samples
    counts[0] = np.arange(size) + 1
    figure = figures.confusion(counts, [f"class {index}" for index in range(size)], "a run")
    assert saved_size(figure, tmp_path) == expected_size(figure)
    cells = figure.axes[0]
    right, wrong = (image.get_array() for image in cells.images)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    assert np.array_equal(np.where(np.eye(size, dtype=bool), right.data, wrong.data), shares)
    assert np.array_equal(np.asarray(right.mask), ~np.eye(size, dtype=bool))
    assert np.array_equal(np.asarray(wrong.mask), np.eye(size, dtype=bool))
    written = sorted(map(str, counts[counts > 0])) if size <= figures.FEW else []
    assert sorted(texts(cells)) == written


def test_confusion_of_many_classes_names_the_worst_errors_and_fewer_ticks() -> None:
    counts = 90 * np.eye(100, dtype=int)
    counts[3, 7] = 10
    figure = figures.confusion(counts, [f"c{index}" for index in range(100)], "a run")
    assert texts(figure.axes[1])[1:] == ["c3 → c7  10 (10 %)"]
    assert 20 <= len(figure.axes[0].get_xticks()) <= 60


def test_per_class_keeps_the_order_of_few_classes(tmp_path: Path) -> None:
    figure = figures.per_class([0.9, 0.7, 1.0], [0.8, 0.9, 1.0], [0.85, 0.75, 1.0], ["a", "b", "c"], "a run")
    assert saved_size(figure, tmp_path) == expected_size(figure)
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.9, 0.7, 1.0]
    precision, f1, mean = axes.get_lines()
    assert list(precision.get_xdata()) == [0.8, 0.9, 1.0]
    assert list(f1.get_xdata()) == [0.85, 0.75, 1.0]
    assert mean.get_xdata()[0] == pytest.approx(2.6 / 3)
    assert axes.get_xlim() == pytest.approx((0.6, 1))
    assert [label.get_text().split() for label in axes.get_yticklabels()][1] == ["b", "70.0", "%"]


def test_per_class_shows_the_worst_forty_of_many() -> None:
    recall = np.random.default_rng(1).permutation(100) / 100
    figure = figures.per_class(
        recall.tolist(), recall.tolist(), recall.tolist(), list(map(str, range(100))), "x"
    )
    assert [bar.get_width() for bar in figure.axes[0].patches] == sorted(recall)[:40]
    assert "worst 40 of 100" in figure.get_suptitle()
    assert figure.axes[0].get_lines()[2].get_xdata()[0] == pytest.approx(recall.mean())  # of all classes


@pytest.mark.parametrize(
    ("count", "shape"), [(0, (8, 8, 1)), (1, (8, 8, 1)), (7, (224, 160, 3)), (60, (32, 32, 3))]
)
def test_predictions_show_up_to_forty_images(count: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    images = np.random.default_rng(2).integers(0, 256, (count, *shape), dtype=np.uint8)
    true, predicted = ["cat"] * count, (["cat", "dog"] * count)[:count]
    figure = figures.predictions(images, true, predicted, [0.97] * count, "a run")
    assert saved_size(figure, tmp_path) == expected_size(figure)
    axes = figure.axes[0]
    assert len(axes.images) == min(count, 40)
    for shown, image in zip(axes.images, images, strict=False):
        assert np.array_equal(shown.get_array(), image[..., 0] if shape[2] == 1 else image)
    captions = [["cat 97 %"], ["is cat →", "dog 97 %"]] * 20
    assert texts(axes) == ([line for caption in captions[:count] for line in caption] or ["none"])


def test_captions_are_cut_and_never_overlap(tmp_path: Path) -> None:
    names = ["W" * 40, "a name that is much too long for one column", "i", "$5 and $6"]
    images = np.zeros((16, 8, 8, 3), np.uint8)
    figure = figures.predictions(images, names * 4, names[::-1] * 4, [1.0] * 16, "a run")
    saved_size(figure, tmp_path)  # also lays the words out
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0
    assert any("…" in text and text.endswith(" 100 %") for text in texts(figure.axes[0]))
    assert "is $5 and $6 →" in texts(figure.axes[0])


def test_a_sheet_without_predictions_shows_the_true_names() -> None:
    images = np.zeros((2, 8, 8, 1), np.uint8)
    assert texts(figures.predictions(images, ["a", "b"], title="seen").axes[0]) == ["a", "b"]
    with pytest.raises(ValueError):
        figures.predictions(images, ["a"], title="seen")


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    path.write_text("old")
    figure = figures.curves(history(2), "a run")
    figure.savefig = lambda file, **_: Path(file).write_text("part") and 1 / 0
    with pytest.raises(ZeroDivisionError):
        figures.save(figure, path)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("figure.png", "old")]


def test_the_house_style_does_not_leak() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.curves(history(2), "a run")
    assert dict(matplotlib.rcParams) == before


def test_importing_the_module_imports_neither_matplotlib_nor_torch() -> None:
    code = "import sys, imgcls.figures; print([m for m in ('matplotlib', 'torch') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
