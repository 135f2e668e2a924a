"""Weight decay acts on filters and matrices, and every trainable parameter is in exactly one group."""

from collections import Counter

import torch
from torch import nn

from imgcls.optim.decay import groups


def network() -> nn.Sequential:
    """A filter, its bias, a norm's scale and shift, a matrix, its bias."""
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def ids(group: dict[str, list[nn.Parameter]]) -> list[int]:
    return [id(p) for p in group["params"]]


def test_filters_and_matrices_decay_vectors_do_not() -> None:
    made = network()
    decaying, plain = groups(made, 0.05)
    assert (decaying["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    assert ids(decaying) == [id(made[0].weight), id(made[3].weight)]
    assert ids(plain) == [id(p) for p in (made[0].bias, made[1].weight, made[1].bias, made[3].bias)]


def test_everything_decays_in_one_group_when_asked_for() -> None:
    made = network()
    (only,) = groups(made, 0.05, everything=True)
    assert only["weight_decay"] == 0.05
    assert ids(only) == [id(p) for p in made.parameters()]


def test_frozen_parameters_are_left_out() -> None:
    made = network()
    made[0].requires_grad_(False)
    for everything in (False, True):
        found = {key for group in groups(made, 0.05, everything) for key in ids(group)}
        assert found == {id(p) for p in (*made[1].parameters(), *made[3].parameters())}


def test_every_parameter_is_there_exactly_once_even_if_shared() -> None:
    made = network()
    made.append(made[3])  # the same layer twice
    counts = Counter(key for group in groups(made, 0.05) for key in ids(group))
    assert counts == {id(p): 1 for p in network_parameters(made)}


def network_parameters(made: nn.Module) -> set[nn.Parameter]:
    return {p for module in made.modules() for p in module.parameters(recurse=False)}


def test_the_optimizer_shrinks_only_what_decays() -> None:
    """Without gradients, SGD leaves 1 - lr * decay of a decaying weight and all of the others."""
    made = network()
    for parameter in made.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    torch.optim.SGD(groups(made, 0.1), lr=0.5).step()
    left = {parameter.ndim: parameter.unique().tolist() for parameter in made.parameters()}
    assert left == {1: [1.0], 2: [0.949999988079071], 4: [0.949999988079071]}
