"""The range test and the batch sizes, on digits."""

import csv
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgcls import naming
from imgcls.__main__ import register_resolvers
from imgcls.errors import ConfigError
from imgcls.tasks import find
from imgcls.trials import rates, sizes

QUICK = ["model=convnet", "model.padding=same", "progress=none", "trainer.threads=1"]


@pytest.fixture
def config(compose: Any) -> Any:
    register_resolvers()
    return lambda *words: compose(*QUICK, "task=find", *words)


def test_a_rate_to_train_with(config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Between what moves nothing and what diverges, and the same every time."""
    best = find.main(config("what=lr", "optimizer=adam"), tmp_path)
    assert 1e-4 < best < 0.1
    assert f"optimizer.lr={best:.2g} " in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"lr.csv", "lr.png"}
    Image.open(tmp_path / "lr.png").verify()
    with (tmp_path / "lr.csv").open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert rows[0]["lr"] == pytest.approx(rates.LOW)
    growth = [math.log(b["lr"] / a["lr"]) for a, b in pairwise(rows)]
    assert growth == pytest.approx([math.log(rates.HIGH / rates.LOW) / (rates.STEPS - 1)] * len(growth))
    assert rows[0]["loss"] == pytest.approx(math.log(10), rel=0.1)  # ten classes, and no idea
    assert rates.test(config("what=lr", "optimizer=adam")).best == best


def test_the_rate_reaches_the_weights(config: Any) -> None:
    """The first steps at 1e-6 change nothing of ln 10, the later ones teach."""
    points = rates.test(config("what=lr", "optimizer=adam")).points
    loss = [loss for _, loss, _ in points]
    assert abs(np.mean(loss[:10]) - np.mean(loss[10:20])) < 0.1
    assert min(smooth for _, _, smooth in points) < 1.8


def curve(*losses: float) -> list[tuple[float, float, float]]:
    """Points at rates that double, after those that do not count."""
    return [(2.0**k, loss, loss) for k, loss in enumerate([3.0] * rates.WARM + list(losses))]


def test_the_steepest_descent() -> None:
    assert rates.steepest(curve(3, 2.9, 2.5, 1.5, 0.9, 0.8, 2.0)) == 2.0 ** (rates.WARM + 3)


def test_what_falls_after_it_has_diverged_does_not_count() -> None:
    """A loss that blew up to 50 falls faster than any that learns."""
    assert rates.steepest(curve(3, 2.5, 2.0, 1.9, 50, 20, 10)) < 2.0 ** (rates.WARM + 3)


@pytest.mark.parametrize("losses", [[], [3], [3, 3, 3], [1, 2, 3]])
def test_a_loss_that_never_falls_is_said(losses: list[float]) -> None:
    with pytest.raises(ConfigError, match="falls at no rate"):
        rates.steepest(curve(*losses))


def test_smallest_batch_that_is_as_good() -> None:
    points = [
        {"batch_size": size, "images_per_second": speed}
        for size, speed in [(8, 100.0), (16, 900.0), (32, 960.0), (64, 1000.0), (128, 990.0)]
    ]
    assert sizes.smallest(points) == 32


def test_batch_sizes(
    config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Powers of two, up to the training images: 1,437 less the tenth that is held out."""
    monkeypatch.setattr(sizes, "STEPS", 2)
    best = find.main(config("what=batch_size"), tmp_path)
    with (tmp_path / "batch_size.csv").open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert [row["batch_size"] for row in rows] == [8, 16, 32, 64, 128, 256, 512, 1024]
    assert best in {row["batch_size"] for row in rows}
    assert all(row["images_per_second"] > 0 and row["memory_mb"] > 0 for row in rows)
    assert f"batch_size={best} is the smallest" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"batch_size.csv", "batch_size.png"}


def test_it_has_a_room_of_its_own(config: Any) -> None:
    """The weights of the run, if there are any, stay as they are."""
    there = config("what=lr", "output=there", "name=mine")
    assert naming.folder(there) == Path("there/mine/find")
    assert naming.digest(there) == naming.digest(config("what=batch_size"))
