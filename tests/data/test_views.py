"""Views of a test image, and that testing averages their logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from imgcls import build, runs
from imgcls.data.views import VIEWS, views
from imgcls.tasks import evaluate, predict, train


def by_hand(images: torch.Tensor) -> dict[str, list[tuple[float, torch.Tensor]]]:
    """By torchvision-like indexing: a row or column beyond the edge is the second from it."""
    down = torch.tensor([1, *range(images.shape[-1] - 1)])
    up = torch.tensor([*range(1, images.shape[-1]), images.shape[-1] - 2])
    moved = [images[:, :, to][:, :, :, to] for to in (down, up)]
    shift = [(0.5, images), (0.25, moved[0]), (0.25, moved[1])]
    return {
        "none": [(1.0, images)],
        "mirror": [(0.5, images), (0.5, images.flip(-1))],
        "shift": shift,
        "mirror_shift": [(w / 2, view) for w, x in shift for view in (x, x.flip(-1))],
    }


@pytest.mark.parametrize("kind", VIEWS)
def test_views_are_those_by_hand(kind: str) -> None:
    x = torch.randn(3, 2, 6, 6)
    found, expected = list(views(x, kind)), by_hand(x)[kind]
    assert [weight for weight, _ in found] == [weight for weight, _ in expected]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(found, expected, strict=True))


QUICK = [
    *("model=resnet20", "model.width=4", "epochs=1", "batch_size=32", "dataset.limit=100"),
    *("progress=none", "trainer.threads=1", "trainer.precision=32-true", "augmentation.hflip=0.5"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A configuration with views and its finished run."""
    from imgcls.__main__ import register_resolvers
    from imgcls.cli import command

    register_resolvers()
    folder = tmp_path_factory.mktemp("views") / "run"
    config, problems = command.check([*QUICK, "tta=mirror_shift", f"output={folder.parent}"])
    assert problems == []
    train.main(config, folder)
    return config, folder


def test_tested_logits_are_the_mean_of_the_views(trained: tuple[dict[str, Any], Path]) -> None:
    """Of the final test, of evaluate and of predict; validation takes one view."""
    config, folder = trained
    run = runs.Run(folder)
    made = build.restored(config, torch.load(folder / "best.ckpt", weights_only=True)).eval()
    data = build.data(config)
    pixels, labels = data.tested.pixels.permute(0, 3, 1, 2), data.tested.labels
    with torch.no_grad():
        x = made.prepare(pixels)
        logits = sum(weight * made.network(view) for weight, view in by_hand(x)["mirror_shift"])
        assert torch.allclose(made.predict_step(pixels, 0), logits, atol=1e-4)
    assert run.result is not None
    assert run.result["test"]["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-4)
    again = evaluate.main({**config, "task": "evaluate", "run": str(folder)}, folder / "evaluate", ["run"])
    assert again == run.result["test"]["acc"]
    assert runs.Run(folder / "evaluate").result["test"]["loss"] == run.result["test"]["loss"]


def test_evaluate_takes_other_views_when_asked(trained: tuple[dict[str, Any], Path]) -> None:
    config, folder = trained
    asked = {**config, "task": "evaluate", "run": str(folder), "tta": "none"}
    evaluate.main(asked, folder / "plain", ["run", "tta"])
    made = build.restored(config, torch.load(folder / "best.ckpt", weights_only=True)).eval()
    tested = build.data(config).tested
    with torch.no_grad():
        loss = F.cross_entropy(made(tested.pixels.permute(0, 3, 1, 2)), tested.labels).item()
    assert runs.Run(folder / "plain").result["test"]["loss"] == pytest.approx(loss, abs=1e-4)
    assert predict.settings_of(runs.Run(folder), asked, ["tta"])["tta"] == "none"
