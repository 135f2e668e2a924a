"""task=explain: Grad-CAM by hand, where the feature maps are, and the pictures of a run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from imgcls import build, figures
from imgcls.__main__ import register_resolvers
from imgcls.cli import conflicts
from imgcls.data.sources import digits
from imgcls.errors import ConfigError
from imgcls.explain import embedding, maps
from imgcls.runs import Run
from imgcls.tasks import explain, train

QUICK = ["epochs=1", "dataset.limit=120", "progress=none", "trainer.threads=1", "trainer.precision=32-true"]


def network(*words: str, compose: Any, size: int, channels: int = 3) -> nn.Module:
    model = compose(*words)["model"]
    made: nn.Module = build.call(model, num_classes=10, in_channels=channels, image_size=size)
    return made.eval()


# --------------------------------------------------------------------------------------------- Grad-CAM


def by_hand() -> tuple[nn.Sequential, torch.Tensor]:
    """Two maps, the image and its negative, and a last layer that looks at every cell."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(2 * 16, 3)).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        net[0].bias.copy_(torch.tensor([0.0, 1.0]))
        net[2].weight.copy_(torch.randn(3, 32, generator=torch.Generator().manual_seed(0)))
        net[2].bias.zero_()
    return net, torch.linspace(-1, 2, 32).view(2, 1, 4, 4)


def test_grad_cam_is_equations_1_and_2() -> None:
    """The logit is linear in the maps, so its gradients are the weights: their means are Grad-CAM's alpha."""
    net, images = by_hand()
    classes = torch.tensor([2, 0])
    found = maps.grad_cam(net, net[0], images, classes)
    for image, label, heat in zip(images, classes, found, strict=True):
        alpha = net[2].weight[label].detach().view(2, 4, 4).mean((1, 2))
        expected = (alpha[0] * image[0] + alpha[1] * (1 - image[0])).clamp_min(0)
        torch.testing.assert_close(heat, expected)
    assert found.shape == (2, 4, 4)
    assert (found == 0).any()
    assert (found > 0).any()


def test_grad_cam_of_frozen_weights_and_layers_in_place() -> None:
    """A backbone without gradients, and a ReLU that overwrites what was looked at."""
    net, images = by_hand()
    classes = torch.tensor([1, 1])
    expected = maps.grad_cam(net, net[0], images, classes)
    torch.testing.assert_close(maps.grad_cam(net.requires_grad_(False), net[0], images, classes), expected)
    shifted = nn.Sequential(net[0], nn.ReLU(inplace=True), net[1], net[2]).eval()
    alike = nn.Sequential(net[0], nn.ReLU(), net[1], net[2]).eval()
    torch.testing.assert_close(
        maps.grad_cam(shifted, shifted[0], images, classes), maps.grad_cam(alike, alike[0], images, classes)
    )


# --------------------------------------------------------------------------------------------- feature maps


@pytest.mark.parametrize(
    ("words", "size", "name", "side"),
    [
        (["model=convnet", "model.padding=same"], 8, "relu2", 4),  # the last has 2 x 2 cells
        (["model=resnet20"], 32, "layer3", 8),
        (["model=resnet18"], 32, "layer4", 4),
        (["model=nin"], 32, "classes.5", 8),  # what goes into the layer that gives the classes
        (["model=torchvision", "model.net=mobilenet_v3_small"], 64, "features.8", 4),
        (["model=timm", "model.net=convnext_atto"], 64, "stages.2", 4),
    ],
)
def test_the_last_map_of_some_cells(words: list[str], size: int, name: str, side: int, compose: Any) -> None:
    net = network(*words, compose=compose, size=size)
    at = maps.target(maps.feature_maps(net, torch.zeros(1, 3, size, size)))
    assert at is not None
    assert (at.name, at.side) == (name, side)
    assert maps.grad_cam(net, at.module, torch.rand(2, 3, size, size), torch.tensor([0, 1])).shape == (
        2,
        side,
        side,
    )


@pytest.mark.parametrize(
    "words", [["model=torchvision", "model.net=vit_b_32"], ["model=timm", "model.net=vit_tiny_patch16_224"]]
)
def test_a_vision_transformer_has_none(words: list[str], compose: Any) -> None:
    net = network(*words, compose=compose, size=64)
    assert maps.feature_maps(net, torch.zeros(1, 3, 64, 64)) == []


def test_one_map_of_each_size(compose: Any) -> None:
    net = network("model=resnet50", compose=compose, size=64)
    found = maps.stages(maps.feature_maps(net, torch.zeros(1, 3, 64, 64)))
    assert [(each.name, each.side) for each in found] == [(f"layer{n}", 128 >> n) for n in (1, 2, 3, 4)]


def test_a_layer_that_is_named(compose: Any) -> None:
    found = maps.feature_maps(network("model=resnet20", compose=compose, size=32), torch.zeros(1, 3, 32, 32))
    at = maps.target(found, "layer1.2")  # gives the same tensor as layer1
    assert at is not None
    assert (at.name, at.side) == ("layer1.2", 32)
    with pytest.raises(ConfigError, match=r"layer=layr2 gives no feature map. Choose from: layer2"):
        maps.target(found, "layr2")
    with pytest.raises(
        ConfigError, match=r"layer=fc gives no feature map. Choose from: layer1, layer2, layer3\."
    ):
        maps.target(found, "fc")


def test_filters_of_single_pixels_are_left_out() -> None:
    assert maps.filters(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3))) is None
    assert maps.filters(nn.Linear(2, 2)) is None
    conv = nn.Conv2d(1, 4, 3)
    assert torch.equal(maps.filters(nn.Sequential(nn.ReLU(), conv)), conv.weight)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------- the plane


def test_what_enters_the_last_layer(compose: Any) -> None:
    """As vectors, also where it is a map: then the mean over its cells."""
    net = network("model=nin", compose=compose, size=32)
    seen: list[torch.Tensor] = []
    handle = maps.head(net).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with embedding.kept(net) as found, torch.no_grad():
        net(torch.rand(3, 3, 32, 32))
    handle.remove()
    torch.testing.assert_close(found[0], seen[0].mean((2, 3)))


@pytest.mark.parametrize(("count", "points"), [(1, 1), (7, 7), (2000, 2000), (10_000, 2000)])
def test_at_most_so_many_points(count: int, points: int) -> None:
    rows = embedding.chosen(count)
    assert len(rows) == points
    assert (rows[0], rows[-1]) == (0, count - 1)
    assert (np.diff(rows) > 0).all()


def test_planes_keep_groups_apart() -> None:
    """Three clouds in 64 dimensions: in both planes every point is nearest to its own middle."""
    labels = np.arange(90) % 3
    centres = np.random.default_rng(0).normal(0, 5, (3, 64))
    features = centres[labels] + np.random.default_rng(1).normal(0, 1, (90, 64))
    planes = embedding.planes(features)
    assert [title.split(":")[0] for title in planes] == ["PCA", "t-SNE"]
    for points in planes.values():
        assert points.shape == (90, 2)
        middles = np.stack([points[labels == k].mean(0) for k in range(3)])
        assert (np.linalg.norm(points[:, None] - middles, axis=2).argmin(1) == labels).all()


@pytest.mark.parametrize("classes", [3, 15, 30])
def test_every_point_is_drawn_once(classes: int) -> None:
    labels, right = np.arange(60) % classes, np.arange(60) % 4 > 0
    points = {"a": np.random.default_rng(0).normal(size=(60, 2))}
    figure = figures.plane(points, labels, right, [f"class {k}" for k in range(classes)], "title")
    sizes = [len(dots.get_offsets()) for dots in figure.axes[0].collections]
    assert sizes == [45, 15]
    assert len(figure.axes[0].texts) == (classes if classes <= figures.FEW else 0)


# --------------------------------------------------------------------------------------------- the task


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A little convnet on digits."""
    from imgcls.cli import command

    register_resolvers()
    config, problems = command.check(["model=convnet", "model.padding=same", *QUICK])
    assert problems == []
    made = Run(tmp_path_factory.mktemp("run"))
    train.main(config, made.path)
    return made


def explained(run: Run, folder: Path, compose: Any, *words: str, typed: list[str] = []) -> set[str]:  # noqa: B006
    register_resolvers()
    config = compose("task=explain", f"run={run.path}", "trainer.threads=1", *words)
    explain.main(config, folder, typed)
    return {path.name for path in folder.iterdir()}


def test_pictures_of_a_run(
    run: Run, tmp_path: Path, compose: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explained(run, tmp_path, compose) == set(explain.PICTURES)
    for picture in explain.PICTURES:
        with Image.open(tmp_path / picture) as image:
            assert image.width >= 900
            assert np.asarray(image.convert("L")).std() > 5
    assert "gradcam.png  maps.png  filters.png  embedding.png" in capsys.readouterr().out


def test_the_run_stays_as_it_is(run: Run, tmp_path: Path, compose: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.iterdir()}
    explained(run, tmp_path, compose)
    assert {path: path.stat().st_mtime_ns for path in run.path.iterdir()} == before


def test_the_surest_mistakes_come_first(run: Run, compose: Any, tmp_path: Path) -> None:
    """As predictions.npz of the run has them."""
    from imgcls import checkpoints

    classifier = build.restored(run.config, checkpoints.load(run / "best.ckpt"))
    shown = explain.tested(run.config, None, classifier, tmp_path)
    kept = np.load(run / "predictions.npz")
    wrong = kept["labels"] != kept["top"][:, 0]
    order = np.flatnonzero(wrong)[np.argsort(-kept["confidence"][wrong, 0], kind="stable")][: explain.IMAGES]
    assert len(order) == explain.IMAGES  # one epoch leaves that many
    assert shown.true == kept["labels"][order].tolist()
    assert shown.names == [str(label) for label in shown.true]


def test_own_images_need_no_data(run: Run, tmp_path: Path, compose: Any) -> None:
    source = tmp_path / "mine"
    source.mkdir()
    for number, pixels in enumerate(digits().test.pixels[:3, ..., 0].numpy()):
        Image.fromarray(pixels).save(source / f"{number}.png")
    words = [f"source={source}", "dataset.root=nowhere"]
    found = explained(run, tmp_path / "out", compose, *words, typed=["source", "dataset.root"])
    assert found == {"gradcam.png", "maps.png", "filters.png"}


def test_a_layer_of_choice_and_one_that_is_not_there(run: Run, tmp_path: Path, compose: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"layer=dense gives no feature map. Choose from: relu1, relu2, relu3"
    ):
        explained(run, tmp_path, compose, "layer=dense", typed=["layer"])


def test_a_transformer_is_said_to_have_no_map(
    tmp_path: Path, compose: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    register_resolvers()
    words = ["model=timm", "model.net=vit_tiny_patch16_224", "scaling.size=32"]
    config = compose(*words, *QUICK)
    images = build.data(config)
    shown = explain.Shown(images.tested.pixels[:2].numpy(), ["a", "b"], [0, 1], "two")
    explain.draw(build.classifier(config, images), shown, None, "vit", tmp_path)
    assert capsys.readouterr().out == "gradcam.png: left out, vit has no feature map at its end\n"
    assert [path.name for path in tmp_path.iterdir()] == ["filters.png"]


# --------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"task": "explain", "run": "x"}, []),
        ({"task": "explain", "run": "x", "layer": "layer2", "source": "photos"}, []),
        ({"task": "explain"}, ["task=explain needs the folder of a run. Add run=outputs/NAME."]),
        ({"layer": "layer2"}, ["layer=layer2 is for task=explain. Add that, or leave it out."]),
    ],
)
def test_conflicts(changes: dict[str, Any], lines: list[str], compose: Any) -> None:
    assert conflicts.conflicts(compose() | changes) == lines


def test_without_captum(compose: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflicts, "find_spec", lambda name: None)
    line = "task=explain needs the package captum. pip install 'imgcls[explain]'."
    assert conflicts.conflicts(compose() | {"task": "explain", "run": "x"}) == [line]
