"""Initial weights are drawn as the formulas say, and only where asked."""

import math

import pytest
import torch
from torch import nn

from imgcls.errors import ConfigError
from imgcls.models.init import initialise


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(16, 64, 3), nn.BatchNorm2d(64), nn.Flatten(), nn.Linear(400, 200))


def test_default_leaves_every_bit() -> None:
    drawn, kept = net(), net()
    initialise(drawn)
    for a, b in zip(drawn.parameters(), kept.parameters(), strict=True):
        assert torch.equal(a, b)


def test_xavier_is_uniform_within_its_bound() -> None:
    """sqrt(6 / (fan in + fan out)): 9 * (16 + 64) for the filters, 400 + 200 for the dense layer."""
    network = net()
    initialise(network, conv="xavier", linear="xavier", bias="zero")
    for layer, fans in ((network[0], 9 * 80), (network[3], 600)):
        bound = math.sqrt(6 / fans)
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
        assert not layer.bias.any()


def test_he_is_normal_by_fan_out() -> None:
    """sqrt(2 / fan out): 9 * 64 for the filters."""
    network = net()
    initialise(network, conv="he")
    assert network[0].weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.03)
    assert torch.equal(network[3].weight, net()[3].weight)
    assert torch.equal(network[0].bias, net()[0].bias)


def test_norms_are_left_alone() -> None:
    network = net()
    initialise(network, conv="he", linear="he", bias="zero")
    assert torch.equal(network[1].weight, torch.ones(64))


def test_a_wrong_word_names_the_right_ones() -> None:
    with pytest.raises(ConfigError, match=r"init\.conv=glorot .* default, xavier, he"):
        initialise(net(), conv="glorot")
