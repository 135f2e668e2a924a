"""The main job as a user has it: train, look, evaluate, predict."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics
from sklearn.datasets import load_digits

from imgcls import runs, summary
from imgcls.__main__ import register_resolvers
from imgcls.cli import command
from imgcls.errors import CheckpointError, ConfigError, DataError
from imgcls.tasks import evaluate, predict, train

BASE = ["model=resnet20", "model.width=8", "epochs=8", "progress=none", "trainer.threads=1"]


def config_of(*more: str) -> dict[str, Any]:
    register_resolvers()
    config, problems = command.check([*BASE, *more])
    assert not problems, problems
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A small network trained on all digits, once for this file."""
    folder = tmp_path_factory.mktemp("outputs") / "run"
    train.main(config_of(), folder)
    return runs.Run(folder)


def result_of(run: runs.Run) -> dict[str, Any]:
    result = run.result
    assert result is not None
    return result


def test_it_learns(trained: runs.Run) -> None:
    """Eight epochs of a narrow ResNet-20: nine digits in ten."""
    assert result_of(trained)["test"]["acc"] > 0.9


def test_the_folder_explains_itself(trained: runs.Run) -> None:
    """Every file is there, and whole."""
    files = {path.name for path in trained.path.iterdir()} - {".lock"}
    assert files == {
        *(
            "config.yaml",
            "metrics.csv",
            "last.ckpt",
            "best.ckpt",
            "result.json",
            "report.txt",
            "predictions.npz",
            "manifest.json",
        ),
        *("curves.png", "confusion.png", "per_class.png", "right.png", "wrong.png"),
    }
    result = result_of(trained)
    known = {"seed", "parameters", "multiply_adds", "seconds", "images_per_second", "peak_memory_mb", "data"}
    assert known | {"versions", "commit", "device_name", "precision", "threads", "finished"} <= result.keys()
    assert result["data"]["train"] + result["data"]["val"] == 1437
    assert [row["epoch"] for row in trained.history()] == list(range(1, 9))
    for path in trained.path.glob("*.png"):
        Image.open(path).verify()


def test_scores_equal_scikit_learns_on_the_kept_predictions(trained: runs.Run) -> None:
    """360 test images in batches of 256: the last one is ragged."""
    kept, test = np.load(trained / "predictions.npz"), result_of(trained)["test"]
    labels, said = kept["labels"], kept["top"][:, 0]
    assert test["n"] == len(labels) == 360
    assert test["acc"] == pytest.approx(metrics.accuracy_score(labels, said), abs=1e-6)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, said, average="macro", zero_division=0
    )
    assert (test["precision"], test["recall"], test["f1"]) == pytest.approx((precision, recall, f1), abs=1e-6)
    assert test["confusion"] == metrics.confusion_matrix(labels, said).tolist()
    in_top = (kept["top"] == labels[:, None]).any(1).mean()
    assert test["top5"] == pytest.approx(in_top, abs=1e-6)


def test_checkpoints_hold_tensors_and_plain_values_only(trained: runs.Run) -> None:
    """Nothing in them needs trust."""
    for file in ("last.ckpt", "best.ckpt"):
        assert torch.serialization.get_unsafe_globals_in_checkpoint(trained / file) == []


def test_evaluate_gives_the_accuracy_that_training_did(trained: runs.Run) -> None:
    """From the folder alone: no model, no dataset is named."""
    config = config_of("task=evaluate", f"run={trained.path}")
    accuracy = evaluate.main(config, trained / "evaluate", ["task", "run"])
    assert accuracy == result_of(trained)["test"]["acc"]
    again = json.loads((trained / "evaluate" / "result.json").read_text())
    assert again["test"] == result_of(trained)["test"]


def test_evaluate_on_another_dataset_asks_for_the_same_kind(trained: runs.Run) -> None:
    """A hundred classes, or three channels, cannot be scored by a network of ten and one."""
    from imgcls.data.sources import Images, Source

    class Fake:
        def __init__(self, channels: int, classes: int) -> None:
            part = Images(
                torch.zeros(4, 8, 8, channels, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
            )
            self.source = Source("fake", "Fake", tuple(map(str, range(classes))), part, part)
            self.classes, self.shape = self.source.classes, (8, 8, channels)

    class Domain:
        classes, image_channels = tuple("0123456789"), 1

    with pytest.raises(ConfigError, match="100 classes, the run knows 10"):
        evaluate.fits(Domain, Fake(1, 100))
    with pytest.raises(ConfigError, match="3 channels, the run was trained on 1"):
        evaluate.fits(Domain, Fake(3, 10))


def test_what_the_run_has_settled_cannot_be_said_again(trained: runs.Run) -> None:
    """The refusal names both values."""
    config = config_of("task=evaluate", f"run={trained.path}", "model.dropout=0.5")
    with pytest.raises(ConfigError, match=r"model.dropout=0.0, not 0.5"):
        evaluate.main(config, trained / "evaluate", ["task", "run", "model.dropout"])


def digit_files(folder: Path, count: int) -> list[int]:
    """The first digits as PNG files of another size; returns their labels."""
    digits = load_digits()
    for index in range(count):
        image = Image.fromarray((digits.images[index] * 15.9).astype(np.uint8))
        image.resize((64, 64), Image.Resampling.BILINEAR).save(folder / f"{index:02}.png")
    return digits.target[:count].tolist()


def test_predict_labels_files_and_names_the_broken_one(
    trained: runs.Run, tmp_path: Path, capsys: Any
) -> None:
    """All others are predicted; the error, and so the exit code 3, comes at the end."""
    labels = digit_files(tmp_path, 20)
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    config = config_of("task=predict", f"run={trained.path}", f"source={tmp_path}")
    with pytest.raises(DataError, match="1 of 21 files"):
        predict.main(config, trained / "predict", ["task", "run", "source"])
    assert "broken.jpg" in capsys.readouterr().err
    with (trained / "predict" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]).name for row in rows] == [f"{k:02}.png" for k in range(20)]
    right = sum(int(row["class_1"]) == label for row, label in zip(rows, labels, strict=True))
    assert right >= 16
    for row in rows:
        shares = [float(row[f"confidence_{place}"]) for place in range(1, 6)]
        assert shares == sorted(shares, reverse=True)
    Image.open(trained / "predict" / "predictions.png").verify()


def test_one_class_predictor_is_called_out(tmp_path: Path, capsys: Any) -> None:
    """In the summary, in words."""
    test = {"acc": 0.1135, "n": 10_000, "top5": 0.5, "precision": 0.0, "recall": 0.1, "f1": 0.02, "loss": 2.3}
    said = "predicts only class 1: 11.35% is chance"
    summary.show("vgg16 on MNIST", {"test": test, "warnings": [said]}, tmp_path, [])
    assert said in capsys.readouterr().out


def test_no_hold_out_tests_the_last_weights(tmp_path: Path) -> None:
    """val_fraction=0: all images train, there is no best."""
    train.main(config_of("dataset.val_fraction=0", "epochs=1"), tmp_path / "run")
    result = result_of(runs.Run(tmp_path / "run"))
    assert result["data"]["train"] == 1437
    assert result["weights"] == "last"
    assert not (tmp_path / "run" / "best.ckpt").exists()


def test_restart_keeps_the_old_folder_aside(tmp_path: Path) -> None:
    """Nothing is lost by training anew."""
    quick = ("epochs=1", "dataset.limit=100")
    train.main(config_of(*quick), tmp_path / "run")
    old = (tmp_path / "run" / "result.json").read_text()
    train.main(config_of(*quick, "restart=true"), tmp_path / "run")
    assert (tmp_path / "run.1" / "result.json").read_text() == old
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"<html>", "half", "pickle", "foreign"])
def test_a_broken_or_foreign_checkpoint_is_one_line(content: Any, trained: runs.Run, tmp_path: Path) -> None:
    """And no code in it runs."""
    good = (trained / "best.ckpt").read_bytes()
    marker, path = tmp_path / "marker", tmp_path / "run" / "last.ckpt"
    quick = ("epochs=2", "dataset.limit=100")
    path.parent.mkdir()
    if content == "half":
        path.write_bytes(good[: len(good) // 2])
    elif content == "pickle":
        torch.save(_Payload(marker), path)
    elif content == "foreign":
        torch.save({"state_dict": {}}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"last\.ckpt is (damaged or )?not a checkpoint|last\.ckpt is damaged"
    ):
        train.main(config_of(*quick), path.parent)
    assert not marker.exists()
    assert path.exists()


class _Payload:
    """What a hostile checkpoint holds: a call that runs when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)
