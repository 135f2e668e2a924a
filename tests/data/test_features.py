"""Training a head on kept features ends with the bits of training it on images."""

from pathlib import Path
from typing import Any

import pytest
import torch
from same import assert_same
from torch import nn

from imgcls.data import features
from imgcls.data.features import trained_part
from imgcls.errors import ConfigError, ResourceError
from imgcls.models.freeze import freeze
from imgcls.models.vgg import vgg11
from imgcls.runs import LAST, Run
from imgcls.tasks import train

# 128 images train: 3 full batches of 36 and a ragged one of 20
SMALL = [
    *("dataset.limit=160", "dataset.val_fraction=0.2", "batch_size=36", "epochs=2", "augmentation=none"),
    *("progress=none", "trainer.threads=1", "model=resnet20", "model.width=4"),
]


def run(compose: Any, folder: Path, kind: str, *more: str, what: str = "backbone") -> Run:
    """Train a frozen network; the front end would ask for pretrained weights."""
    config = compose(*SMALL, f"output={folder}", *more) | {"freeze": what, "features": kind}
    made = Run(folder / kind)
    made.claim(config)
    train.train(config, made)
    made.release()
    return made


def same(live: Run, cached: Run) -> None:
    """Final checkpoints but for the seconds that they took, and all rows."""
    assert_same(*(_without_seconds(each) for each in (live, cached)))
    rows = [[row | {"seconds": 0} for row in each.history()] for each in (live, cached)]
    assert rows[0] == rows[1]


def _without_seconds(made: Run) -> Path:
    checkpoint = torch.load(made / LAST, weights_only=True)
    checkpoint["callbacks"] = {}
    torch.save(checkpoint, made / "bare.ckpt")
    return made / "bare.ckpt"


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(["trainer.precision=32-true"], marks=pytest.mark.slow),
        ["trainer.precision=bf16-mixed"],
        ["trainer.precision=32-true", "accumulate=3", "ema=0.9", "model.dropout=0.3"],
    ],
)
def test_bit_equal_to_the_run_on_images(compose: Any, tmp_path: Path, more: list[str]) -> None:
    same(run(compose, tmp_path, "live", *more), run(compose, tmp_path, "cached", *more))


def test_a_head_of_several_layers_with_dropout(compose: Any, tmp_path: Path) -> None:
    net = ["model=vgg7", "model.width=8", "model.fc=[32,32]", "model.dropout=0.5", "scaling=to32"]
    what = "all_but=classifier"
    same(*(run(compose, tmp_path, kind, *net, what=what) for kind in ("live", "cached")))


def test_the_next_run_computes_nothing(compose: Any, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level("INFO")
    run(compose, tmp_path, "cached")
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "features").glob("*.pt")}
    assert len(kept) == 3  # train, hold-out, test
    assert caplog.text.count("computed in") == 3
    other = compose(*SMALL, f"output={tmp_path}", "optimizer.lr=0.5") | {
        "freeze": "backbone",
        "features": "cached",
    }
    train.train(other, Run(tmp_path))
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "features").glob("*.pt")} == kept
    assert caplog.text.count("computed in") == 3


def test_other_weights_are_other_features(compose: Any, tmp_path: Path) -> None:
    run(compose, tmp_path, "cached")
    train.train(
        compose(*SMALL, f"output={tmp_path}", "seed=1") | {"freeze": "backbone", "features": "cached"},
        Run(tmp_path),
    )
    assert len(list((tmp_path / "features").glob("*.pt"))) == 6


@pytest.mark.parametrize(
    ("what", "part"),
    [
        ("backbone", "classifier.6"),
        ("all_but=classifier", "classifier"),
        ("until=classifier.2", "classifier"),
    ],
)
def test_the_trained_part(what: str, part: str) -> None:
    net = vgg11(num_classes=10, in_channels=1, image_size=32, width=8)
    freeze(net, what)
    assert trained_part(net) is net.get_submodule(part)


def test_two_trained_parts_are_refused() -> None:
    net = vgg11(num_classes=10, in_channels=1, image_size=32, width=8)
    freeze(net, "until=features.0")
    with pytest.raises(ConfigError, match="features=cached needs one trained part"):
        trained_part(net)


def test_what_computes_on_after_the_head_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def prepare(x: torch.Tensor) -> torch.Tensor:
        return x.float()

    prepare.mean = torch.zeros(1)  # type: ignore[attr-defined]
    backbone = features.Backbone(net, net[0], prepare, torch.no_grad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"computes on after its trained part\. Use features=live"):
        backbone.check(torch.zeros(2, 4, 4, 1, dtype=torch.uint8))


def test_too_many_for_memory_are_refused() -> None:
    with pytest.raises(ResourceError, match="features=live"):
        features._check_room(1 << 60)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("freeze=none", "needs a frozen backbone. Add freeze=backbone"),
        ("freeze=backbone augmentation=flip", "augmentation (hflip) makes every epoch's images new"),
        ("freeze=backbone trainer.compile=true", "cannot go with trainer.compile=true"),
    ],
)
def test_what_it_cannot_go_with(words: str, line: str) -> None:
    from imgcls.cli.command import check

    base = "model=torchvision model.pretrained=true augmentation=none features=cached"
    assert any(line in problem for problem in check([*base.split(), *words.split()])[1])
