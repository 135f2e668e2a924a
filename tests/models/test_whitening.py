"""A whitened first convolution: what leaves it has the identity as its matrix of second moments."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from imgcls import build
from imgcls.errors import ConfigError
from imgcls.models import whitening


def images(count: int = 64, channels: int = 3) -> torch.Tensor:
    """Smooth noise with unequal, dependent channels, as photos have."""
    torch.manual_seed(0)
    made = F.avg_pool2d(torch.randn(count, channels, 18, 18), 3, stride=1) * 3
    return made.cumsum(1) + 0.5


def test_whitened_patches_have_the_identity_as_second_moments() -> None:
    layer = nn.Conv2d(3, 24, 2)
    whitening.whiten(nn.Sequential(layer), images().split(10))
    out = (layer(images()) - layer.bias.view(1, -1, 1, 1)).transpose(0, 1).flatten(1)
    first, negative = out[:12], out[12:]
    second = first @ first.T / first.shape[1]
    # Each variance v comes to v / (v + EPS)
    assert torch.allclose(second, torch.eye(12), atol=0.02)
    assert torch.allclose(negative, -first, atol=1e-5)


def test_moments_are_those_of_all_patches() -> None:
    """Of every 2x2 window, counted by hand, in any parts."""
    x = images(5, 1)
    patches = torch.stack(
        [x[n, :, i : i + 2, j : j + 2].flatten() for n in range(5) for i in range(15) for j in range(15)]
    ).double()
    layer = nn.Conv2d(1, 8, 2)
    for size in (1, 2, 5):
        found = whitening.moments(x.split(size), layer)
        assert torch.allclose(found, patches.T @ patches / len(patches), atol=1e-10)


def test_too_few_filters_take_the_strongest_directions() -> None:
    """Of variances 1, 4, 9 the filters for 9 and 4, and their negatives."""
    made = whitening.filters(torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)), 4)
    expected = torch.tensor([[0, 0, 1 / 3], [0, 1 / 2, 0]], dtype=torch.float64)
    assert torch.allclose(made[:2].abs(), expected, atol=1e-4)
    assert torch.equal(made[2:], -made[:2])


def test_what_is_left_over_stays_as_drawn_and_nothing_trains_but_the_bias() -> None:
    layer = nn.Conv2d(1, 11, 2)
    drawn = layer.weight.detach().clone()
    whitening.whiten(nn.Sequential(layer), [images(8, 1)])
    assert torch.equal(layer.weight[8:], drawn[8:])
    assert not torch.equal(layer.weight[:8], drawn[:8])
    assert not layer.weight.requires_grad and layer.bias.requires_grad


def test_a_network_without_convolutions_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"init\.first=whitened: .* Use init\.first=default"):
        whitening.whiten(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), [])


WORDS = ["init=whitened", "dataset.limit=200"]


NETWORKS = [["model=airbench94", "scaling=to32"], ["model=resnet20", "trainer.compile=true"]]


@pytest.mark.parametrize("words", NETWORKS)
def test_it_is_set_from_training_images_and_kept_in_the_checkpoint(words: list[str], compose: Any) -> None:
    """Twice the same bits; and a classifier made from a checkpoint needs no images for it."""
    config = compose(*WORDS, *words)
    images = build.data(config)
    one, two = build.classifier(config, images), build.classifier(config, images)
    first = whitening.first(one.network)
    assert torch.equal(first.weight, whitening.first(two.network).weight)
    seen = one.prepare(images.sample(200, "whitening"))
    variance = (F.conv2d(seen, first.weight.detach(), stride=first.stride) ** 2).mean((0, 2, 3))
    assert (variance[: first.out_channels // 4] - 1).abs().max() < 0.05  # strongest first
    checkpoint: dict[str, Any] = {"state_dict": one.state_dict()}
    one.trainer = None  # type: ignore[assignment]
    checkpoint["imgcls"] = {"domain": one.domain.__dict__}
    again = build.restored(config, checkpoint)
    assert torch.equal(whitening.first(again.network).weight, first.weight)


def test_other_images_set_other_filters_and_other_seeds_the_same_sort(compose: Any, tmp_path: Path) -> None:
    def weight(*words: str) -> torch.Tensor:
        config = compose(*WORDS, "model=resnet20", *words)
        return whitening.first(build.classifier(config, build.data(config)).network).weight

    assert not torch.equal(weight(), weight("scaling=x2"))
    assert not torch.equal(weight(), weight("seed=1"))
