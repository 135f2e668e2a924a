"""The networks of the CIFAR-10 speed records, against a second way to compute them."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from imgcls.errors import ConfigError
from imgcls.models.airbench import airbench94, airbench96

CIFAR = {"num_classes": 10, "in_channels": 3, "image_size": 32}
State = dict[str, Tensor]


def by_hand(state: State, x: Tensor, convolutions: int, scale: float) -> Tensor:
    """Logits in training mode from weights: whiten, three blocks, the greatest of each map, the head."""

    def turn(x: Tensor, name: str, number: int, pooled: bool = False) -> Tensor:
        x = F.conv2d(x, state[f"{name}.conv{number}.weight"], padding="same")
        x = F.max_pool2d(x, 2) if pooled else x
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
        return (x - mean) / variance.sqrt() + state[f"{name}.norm{number}.bias"].view(1, -1, 1, 1)

    x = F.gelu(F.conv2d(x, state["whiten.weight"], state["whiten.bias"]))
    for name in ("block1", "block2", "block3"):
        short = F.gelu(turn(x, name, 1, pooled=True))
        x = F.gelu(turn(short, name, 2))
        if convolutions == 3:
            x = F.gelu(turn(x, name, 3) + short)
    return x.amax((2, 3)) @ state["head.weight"].T * scale


@pytest.mark.parametrize(
    ("network", "convolutions", "scale"), [(airbench94, 2, 1 / 32), (airbench96, 3, 1 / 9)]
)
def test_logits_are_those_by_hand(network: type, convolutions: int, scale: float) -> None:
    torch.manual_seed(0)
    made = network(**CIFAR, widths=[8, 16, 32])
    state = {name: torch.randn_like(v) for name, v in made.state_dict().items() if v.is_floating_point()}
    for name in state:  # the scales of the norms are fixed at 1
        if "norm" in name and name.endswith("weight"):
            state[name].fill_(1)
    made.load_state_dict(state, strict=False)
    x = torch.randn(4, 3, 32, 32)
    assert torch.allclose(made.train()(x), by_hand(state, x, convolutions, scale), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("network", "count"), [(airbench94, 1_972_792), (airbench96, 9_918_776)])
def test_published_number_of_parameters(network: type, count: int) -> None:
    """As the published scripts count them, with the scales of the norms, which do not train."""
    parameters = dict(network(**CIFAR).named_parameters())
    assert sum(p.numel() for p in parameters.values()) == count
    frozen = {name for name, p in parameters.items() if not p.requires_grad}
    assert frozen == {name for name in parameters if "norm" in name and name.endswith("weight")}


def test_first_filters_of_a_convolution_pass_their_input_on() -> None:
    made = airbench94(**CIFAR)
    x = torch.randn(2, 64, 7, 7)
    assert torch.allclose(made.block2.conv1(x)[:, :64], x, atol=1e-6)
    assert made.head.weight.std().item() == pytest.approx(1, abs=1e-6)


def test_statistics_of_norms_follow_as_published() -> None:
    """0.6 and 0.9 of what they were stay with each batch; nothing is added to a variance."""
    for network, momentum in ((airbench94, 0.4), (airbench96, 0.1)):
        norm = network(**CIFAR).block1.norm1
        assert (norm.momentum, norm.eps) == (momentum, 1e-12)


def test_widths_are_three() -> None:
    with pytest.raises(ConfigError, match=r"widths=\[64, 256\] .* \[64,256,256\]"):
        airbench94(**CIFAR, widths=[64, 256])
    with pytest.raises(ConfigError, match=r"widths=0 "):
        airbench94(**CIFAR, widths=[64, 0, 256])


def test_too_small_images_name_what_is_enough() -> None:
    with pytest.raises(ConfigError, match=r"scaling\.size=9"):
        airbench94(num_classes=10, in_channels=1, image_size=8)
    assert airbench94(num_classes=10, in_channels=1, image_size=9)(torch.zeros(2, 1, 9, 9)).shape == (2, 10)
