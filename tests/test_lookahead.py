"""Lookahead: every fifth step the network returns to its average, and at last to nothing else."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from imgcls.optim.lookahead import EVERY, Lookahead


def train(decay: float, steps: int, moves: list[torch.Tensor]) -> list[torch.Tensor]:
    """A network that drifts by `moves`, and where it is after each step."""
    module: Any = SimpleNamespace(network=nn.BatchNorm1d(3), steps=steps)
    weight = module.network.weight.data.zero_()
    look, seen = Lookahead(decay), []
    trainer: Any = SimpleNamespace(global_step=0)
    look.on_train_start(trainer, module)
    for move in moves:
        weight.add_(move)
        trainer.global_step += 1
        look.on_train_batch_end(trainer, module)
        seen.append(weight.clone())
    return seen


def test_the_network_returns_to_the_average_by_hand() -> None:
    steps, decay = 13, 0.9
    moves = list(torch.randn(steps, 3, generator=torch.Generator().manual_seed(0)))
    seen = train(decay, steps, moves)
    fast, slow = torch.zeros(3), torch.zeros(3)
    for step, (move, found) in enumerate(zip(moves, seen, strict=True), 1):
        fast = fast + move
        if step % EVERY == 0:
            kept = decay**EVERY * (step / steps) ** 3
            slow = kept * slow + (1 - kept) * fast
            fast = slow
        if step == steps:
            fast = slow
        assert torch.allclose(found, fast, atol=1e-6)


def test_a_state_goes_on() -> None:
    """Statistics of batch norm are averaged too, but not their count."""
    one, two = Lookahead(0.9), Lookahead(0.9)
    one.slow = {"weight": torch.ones(3)}
    two.load_state_dict(one.state_dict())
    module: Any = SimpleNamespace(network=nn.Linear(1, 3, bias=False), steps=5)
    trainer: Any = SimpleNamespace()
    two.on_train_start(trainer, module)
    assert torch.equal(two.slow["weight"], torch.ones(3))
    norm: Any = SimpleNamespace(network=nn.BatchNorm1d(2), steps=5)
    fresh = Lookahead(0.9)
    fresh.on_train_start(trainer, norm)
    assert set(fresh.slow) == {"weight", "bias", "running_mean", "running_var"}


@pytest.mark.parametrize("words", ["lookahead=1", "lookahead=0", "freeze_after=layer1", "tta=flip"])
def test_bad_words_are_refused(words: str) -> None:
    from imgcls.__main__ import register_resolvers
    from imgcls.cli import command

    register_resolvers()
    assert len(command.check([words])[1]) == 1
