"""Muon turns a gradient into the nearest orthogonal matrix, and leaves the rest to SGD."""

import pytest
import torch
from torch import nn

from imgcls.optim.decay import groups
from imgcls.optim.muon import Muon, orthogonal


def network() -> nn.Sequential:
    """Two filters, a norm, a hidden matrix and a head, each with a bias."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 8, 3), nn.Flatten()),
        *(nn.Linear(32, 24), nn.Linear(24, 5)),
    )


def give_gradients(made: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in made.parameters():
        parameter.grad = torch.randn_like(parameter)


@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (64, 64)])
def test_singular_values_are_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    """The polynomial is made to end between 0.68 and 1.13; bfloat16 adds to that."""
    torch.manual_seed(0)
    gradient = torch.randn(shape)
    made = orthogonal(gradient, 5).float()
    values = torch.linalg.svdvals(made)
    if shape != (64, 64):  # a square one has singular values near zero, which need more steps
        assert values.min() > 0.6 and values.max() < 1.25
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    cosine = torch.cosine_similarity((u @ v).flatten(), made.flatten(), 0)
    assert cosine > 0.95


def test_a_scaled_gradient_turns_into_the_same() -> None:
    gradient = torch.randn(8, 30)
    assert torch.equal(orthogonal(gradient, 5), orthogonal(gradient * 2**10, 5))


def test_a_matrix_moves_as_torch_moves_it() -> None:
    """Ten steps of torch.optim.Muon, with decay and momentum, tall and wide."""
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for shape in ((6, 20), (20, 6))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    weights = [{"params": ours, "weight_decay": 0.1, "orthogonal": True}]
    one = Muon(weights, lr=0.05, momentum=0.8, steps=4)
    two = torch.optim.Muon(theirs, lr=0.05, momentum=0.8, weight_decay=0.1, ns_steps=4)
    for _ in range(10):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        one.step()
        two.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_filter_moves_as_its_matrix(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    start, gradient = torch.randn(8, 4, 3, 3), torch.randn(8, 4, 3, 3)
    made = []
    for shape in ((8, 4, 3, 3), (8, 36)):
        weight = nn.Parameter(start.clone().view(shape))
        if weight.ndim == 4:
            weight = nn.Parameter(weight.detach().to(memory_format=layout))
        weight.grad = gradient.view(shape).clone(memory_format=torch.preserve_format)
        Muon([{"params": [weight], "weight_decay": 0.0, "orthogonal": True}], lr=0.1).step()
        made.append(weight.detach().reshape(start.shape))
    assert torch.equal(*made)


def test_unit_norm_scales_before_the_update() -> None:
    """To the square root of the rows, whatever the decay."""
    weight = nn.Parameter(torch.randn(16, 144) * 7)
    gradient = weight.grad = torch.randn(16, 144)
    options = {"params": [weight], "weight_decay": 9.0, "orthogonal": True}
    start = weight.detach() * (4 / weight.detach().norm())
    Muon([options], lr=0.1, unit_norm=True).step()
    assert torch.allclose(weight, start - 0.1 * orthogonal(gradient, 5).float(), atol=1e-3)  # bfloat16's


def test_what_is_hidden_and_has_rows_and_columns_is_turned_and_the_rest_moves_as_by_sgd() -> None:
    made, copy = network(), network()
    split = groups(made, 0.01, bias_lr=3.0, head_lr=2.0, muon=True)
    turned = {id(p) for g in split if g["orthogonal"] for p in g["params"]}
    names = {name for name, p in made.named_parameters() if id(p) in turned}
    assert names == {"0.weight", "2.weight", "4.weight"}
    for group in split:
        group["lr"] = 0.1 * group.pop("times", 1.0)
    one = Muon(split, lr=0.1, sgd_momentum=0.8)
    head = [copy[5].weight]
    vectors = [p for name, p in copy.named_parameters() if p.ndim == 1 and not name.startswith("5")]
    rest = [
        {"params": head, "lr": 0.2, "weight_decay": 0.01 / 2},
        {"params": vectors, "lr": 0.3, "weight_decay": 0.0},
        {"params": [copy[5].bias], "lr": 0.6, "weight_decay": 0.0},
    ]
    two = torch.optim.SGD(rest, lr=0.1, momentum=0.8, nesterov=True)
    for step in range(5):
        for model, optimizer in ((made, one), (copy, two)):
            give_gradients(model, step)
            optimizer.step()
    for (name, a), (_, b) in zip(made.named_parameters(), copy.named_parameters(), strict=True):
        assert torch.equal(a, b) == (name not in names), name


def test_the_closure_is_called_once_before_the_step() -> None:
    weight = nn.Parameter(torch.ones(2, 3))
    optimizer = Muon([{"params": [weight], "weight_decay": 0.0, "orthogonal": True}], lr=0.1)
    called = []

    def closure() -> float:
        called.append(weight.detach().clone())
        weight.square().sum().backward()
        return 7.0

    assert optimizer.step(closure) == 7.0
    assert len(called) == 1 and torch.equal(called[0], torch.ones(2, 3))
    assert not torch.equal(weight, torch.ones(2, 3)) and weight.grad is None
