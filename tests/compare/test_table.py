"""Columns, and the table as files."""

import csv
from pathlib import Path
from typing import Any

import fabricate
import pytest

from imgcls.compare import collect, export, prepare, swept, table


def settings(compared: prepare.Comparison) -> list[str]:
    return [column.key for column in compared.columns if column.setting]


def test_only_what_differs_has_a_column(compared: prepare.Comparison) -> None:
    """Both models have a width or kernels of their own, which is no difference."""
    assert settings(compared) == ["batch_size", "optimizer.lr", "model.name"]
    labels = [column.label for column in compared.columns]
    assert labels[:5] == ["batch_size", "lr", "model", "val acc", "test acc"]
    assert "device" not in labels and "test set" not in labels


def test_an_options_name_says_its_settings(tmp_path: Path, compose: Any) -> None:
    for place, words in enumerate((["augmentation=none"], ["augmentation=affine", "model.dropout=0.1"])):
        fabricate.write(tmp_path / f"{place}", compose(*words), 0.8)
    found = collect.load(collect.find(None, str(tmp_path)))
    assert settings(prepare.compare(found.entries)) == ["augmentation.name", "model.dropout"]
    fabricate.write(tmp_path / "2", compose("augmentation=affine", "augmentation.rotate=3"), 0.8)
    found = collect.load(collect.find(None, str(tmp_path)))
    assert "augmentation.rotate" in settings(prepare.compare(found.entries))


def test_best_first_by_validation(compared: prepare.Comparison) -> None:
    scores = [row["val_acc"] for row in compared.rows]
    assert compared.metric == "val_acc" and scores == sorted(scores, reverse=True)
    assert compared.rows[0]["model.name"] == "resnet20" and compared.rows[0]["optimizer.lr"] == 0.1
    result = compared.entries[0].result
    assert compared.rows[0]["test_acc"] == result["test"]["acc"]
    assert compared.rows[0]["train_acc"] == result["best"]["train/acc"]


def test_without_a_hold_out_by_test(tmp_path: Path, compose: Any) -> None:
    fabricate.write(tmp_path / "a", compose(), 0.7)
    fabricate.write(tmp_path / "b", compose("dataset.val_fraction=0"), 0.9)
    found = prepare.compare(collect.load(collect.find(None, str(tmp_path))).entries)
    assert found.metric == "test_acc" and found.rows[0]["run"] == "b"
    assert [row["val_acc"] is None for row in found.rows] == [True, False]


def test_csv_and_parquet_hold_the_numbers(compared: prepare.Comparison, tmp_path: Path) -> None:
    with export.write("csv", tmp_path, compared.columns, compared.rows).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert [float(row["test_acc"]) for row in rows] == [row["test_acc"] for row in compared.rows]
    parquet = pytest.importorskip("pyarrow.parquet")
    found = parquet.read_table(export.write("parquet", tmp_path, compared.columns, compared.rows)).to_pylist()
    assert [row["optimizer.lr"] for row in found] == [row["optimizer.lr"] for row in compared.rows]
    assert found[0].keys() == rows[0].keys()
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "table.parquet"}


COLUMNS = [table.Column("model.name", "model", "text", True), table.Column("test_acc", "test acc", "share")]
ROWS = [{"run": "a_1", "model.name": "x|y & 5%", "test_acc": 0.98765, "dir": "out/a_1"}]


def test_markdown(tmp_path: Path) -> None:
    text = export.write("markdown", tmp_path, COLUMNS, ROWS).read_text()
    assert text == "| run | model | test acc |\n| --- | --- | --: |\n| a_1 | x\\|y & 5% | 98.77% |\n"


def test_latex(tmp_path: Path) -> None:
    lines = export.write("latex", tmp_path, COLUMNS, ROWS).read_text().splitlines()
    assert lines[0] == r"\begin{tabular}{llr}"
    assert lines[2] == r"run & model & test acc \\"
    assert lines[4] == r"a\_1 & x|y \& 5\% & 98.77\% \\"


def test_swept_settings(compared: prepare.Comparison) -> None:
    """Accuracies were made to fall by 0.1 with each lr, by 0.05 with the model, by nothing with the batch."""
    axes = {axis.label: axis for axis in swept.axes(compared.columns, compared.rows, "test_acc")}
    assert list(axes) == ["lr", "model", "batch_size"]
    assert axes["lr"].values == (0.001, 0.01, 0.1) and axes["lr"].log
    assert axes["batch_size"].numeric and not axes["batch_size"].log and not axes["model"].numeric


def test_lines_and_grids_hold_the_best_and_the_mean() -> None:
    lr, size = (swept.Axis(k, k, v, True, False) for k, v in (("lr", (0.1, 1)), ("bs", (8,))))
    rows = [{"lr": a, "bs": 8, "acc": b} for a, b in ((0.1, 0.5), (0.1, 0.7), (1, 0.2), (1, None))]
    first, second = {"n": 2, "best": 0.7, "mean": pytest.approx(0.6)}, {"n": 1, "best": 0.2, "mean": 0.2}
    assert swept.lines(rows, lr, size, "acc") == [
        {"name": "bs=8", "points": [first | {"at": 0}, second | {"at": 1}]}
    ]
    assert swept.grid(rows[:2], lr, size, "acc") == [[first, None]]
