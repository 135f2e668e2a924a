"""A frozen part does not move, by gradients or by statistics; the rest does."""

import pytest
import torch
from torch import nn

from imgcls.errors import ConfigError
from imgcls.models.freeze import freeze, hold
from imgcls.models.resnet_cifar import resnet20


def net() -> nn.Module:
    torch.manual_seed(0)
    return resnet20(num_classes=10, in_channels=1, image_size=8, width=4, dropout=0.5)


def trained(network: nn.Module) -> set[str]:
    return {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}


def step(network: nn.Module, frozen: list[nn.Module]) -> dict[str, torch.Tensor]:
    """The state after one training step."""
    network.train()
    hold(frozen)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network(torch.randn(8, 1, 8, 8)).square().sum().backward()
    optimizer.step()
    return network.state_dict()


def test_backbone_leaves_only_the_last_layer() -> None:
    network = net()
    frozen = freeze(network, "backbone")
    assert trained(network) == {"fc"}
    before = {k: v.clone() for k, v in network.state_dict().items()}
    after = step(network, frozen)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"fc.weight", "fc.bias"}  # and no running mean or variance


def test_all_but_names_trains_what_is_named() -> None:
    network = net()
    freeze(network, "all_but=layer3,fc")
    assert trained(network) == {"layer3", "fc"}


def test_until_freezes_up_to_a_part() -> None:
    network = net()
    freeze(network, "until=layer2")
    assert trained(network) == {"layer3", "fc"}


def test_none_freezes_nothing() -> None:
    network = net()
    assert freeze(network, "none") == []
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("what", ["all", "until=", "all_but=layer9", "until=fc", "until=lauer2"])
def test_a_wrong_word_is_answered(what: str) -> None:
    with pytest.raises(ConfigError, match="freeze"):
        freeze(net(), what)
