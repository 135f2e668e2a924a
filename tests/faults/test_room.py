"""Room for checkpoints is looked at before training begins."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imgcls import build
from imgcls.errors import ResourceError
from imgcls.health import run as needs
from imgcls.tasks import train

QUICK = ("dataset.limit=100", "epochs=1", "progress=none", "trainer.threads=1")
Free = Callable[[float], None]


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Free:
    """Say that so many bytes are free."""

    def say(count: float) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=count))

    return say


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (("optimizer=sgd",), 2),  # weights and momentum
        (("optimizer=adamw",), 3),
        (("optimizer=sgd", "optimizer.momentum=0", "optimizer.nesterov=false"), 1),
        (("optimizer=sgd", "ema=0.9"), 3),
    ],
)
@pytest.mark.parametrize(("epochs", "copies"), [(1, 2), (2, 3), (90, 3)])
def test_copies_of_weights_and_of_what_the_optimizer_keeps(
    words: tuple[str, ...], numbers: int, epochs: int, copies: int, compose: Any, free: Free, tmp_path: Path
) -> None:
    """In single precision, to a thousandth: Adam also counts its steps. Less what is there already."""
    config = compose(*QUICK, *words) | {"epochs": epochs}
    classifier = build.classifier(config, build.data(config))
    weights = sum(p.numel() for p in classifier.network.parameters())
    needed = copies * numbers * 4 * weights
    free(1.001 * needed)
    needs.require_room(config, classifier, tmp_path)
    free(0.999 * needed)
    with pytest.raises(
        ResourceError, match=r"free, the run's checkpoints take \d+ MB more \(\d+ MB each\)\. Free"
    ):
        needs.require_room(config, classifier, tmp_path)
    (tmp_path / "last.ckpt").write_bytes(bytes(needed // 500))
    needs.require_room(config, classifier, tmp_path)


def test_nothing_is_trained_without_room(compose: Any, free: Free, tmp_path: Path) -> None:
    """Exit code 4, before the first batch; with room, the file has the size that was foreseen."""
    config = compose(*QUICK, "model.width=32")
    free(5_000_000)
    with pytest.raises(ResourceError) as error:
        train.main(config, tmp_path / "run")
    assert error.value.exit_code == 4
    assert f"{tmp_path / 'run'}: 5 MB free, the run's checkpoints take 17 MB more (9 MB each)." in str(
        error.value
    )
    assert not list((tmp_path / "run").glob("*.ckpt"))
    free(1e12)
    train.main(config, tmp_path / "run")
    assert 8.6e6 < (tmp_path / "run" / "last.ckpt").stat().st_size < 8.9e6
