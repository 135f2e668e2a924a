"""The learning rate at every step, against values worked out by hand and against torch's own schedulers."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from imgcls.optim import schedules


def factors(steps: int, **schedule: Any) -> list[float]:
    """The factor at every step of training."""
    factor = schedules.factor(schedule, steps)
    assert factor is not None
    return [factor(step) for step in range(steps)]


def test_onecycle_goes_straight_up_and_straight_down() -> None:
    """10 steps, 4 of them up: fifths of the way, the whole of it at step 4, then sixths."""
    expected = [1 / 5, 2 / 5, 3 / 5, 4 / 5, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert factors(10, name="onecycle", warmup=0.4, final=0.0) == pytest.approx(expected, abs=1e-12)


def test_onecycle_ends_above_a_final_share() -> None:
    expected = [1, 0.1 + 0.9 * 3 / 4, 0.1 + 0.9 * 2 / 4, 0.1 + 0.9 / 4]
    assert factors(4, name="onecycle", warmup=0.0, final=0.1) == pytest.approx(expected, abs=1e-12)


def test_cosine_warms_up_then_falls_as_half_a_cosine() -> None:
    """8 steps, 2 of them up; then cosines of 0, 30, 60, … degrees."""
    root = 3**0.5 / 2
    expected = [1 / 3, 2 / 3, 1, (1 + root) / 2, 0.75, 0.5, 0.25, (1 - root) / 2]
    assert factors(8, name="cosine", warmup=0.25, final=0.0) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("final", [0.0, 0.2])
def test_cosine_without_warm_up_is_torchs(final: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    theirs = CosineAnnealingLR(optimizer, T_max=37, eta_min=final * 0.4)
    rates = []
    for _ in range(37):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    ours = [0.4 * f for f in factors(37, name="cosine", warmup=0.0, final=final)]
    assert ours == pytest.approx(rates, abs=1e-9)


def test_steps_drop_at_shares_of_training() -> None:
    expected = [1.0] * 4 + [0.1] * 2 + [0.1**2] * 2
    assert factors(8, name="step", at=[0.5, 0.75], gamma=0.1) == pytest.approx(expected, abs=1e-12)


def test_a_drop_between_two_steps_acts_at_the_later() -> None:
    assert factors(5, name="step", at=[0.5], gamma=0.5) == [1, 1, 1, 0.5, 0.5]


@pytest.mark.parametrize("name", ["constant", "plateau"])
def test_constant_and_plateau_do_not_move_by_step(name: str) -> None:
    assert schedules.factor({"name": name}, 100) is None


@pytest.mark.parametrize("name", ["onecycle", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.2, 0.33, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100, 1003])
def test_up_once_then_down_and_never_zero_nor_above_one(name: str, warmup: float, steps: int) -> None:
    found = factors(steps, name=name, warmup=warmup, final=0.0)
    top = found.index(max(found))
    assert all(a < b for a, b in pairwise(found[: top + 1]))
    assert all(a > b for a, b in pairwise(found[top:]))
    assert min(found) > 0 and max(found) <= 1
    assert abs(top - warmup * steps) <= 1


@pytest.mark.parametrize("name", ["onecycle", "cosine"])
def test_without_warm_up_training_starts_at_the_top(name: str) -> None:
    for steps in (1, 2, 50):
        assert factors(steps, name=name, warmup=0.0, final=0.0)[0] == 1


@pytest.mark.parametrize("name", ["onecycle", "cosine"])
def test_a_single_step_has_a_rate(name: str) -> None:
    assert factors(1, name=name, warmup=0.2, final=0.0) == [pytest.approx(1 / 1.2)]


def rates_on_plateau(losses: list[float], **changes: Any) -> list[float]:
    """The learning rate after each epoch's loss, from 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = {"name": "plateau", "factor": 0.5, "patience": 3, "min_delta": 1e-4, **changes}
    scheduler = schedules.plateau(optimizer, schedule)
    assert scheduler is not None
    rates = []
    for loss in losses:
        scheduler.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_plateau_halves_after_exactly_three_epochs_without_improvement_and_again_after_three() -> None:
    losses = [1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]
    assert rates_on_plateau(losses) == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_plateau_counts_anew_after_an_improvement() -> None:
    losses = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    assert rates_on_plateau(losses) == [1, 1, 1, 1, 1, 1, 0.5]


def test_plateau_asks_for_a_fall_by_more_than_min_delta() -> None:
    """Below it the best loss stays the first one; it is absolute, not a share of the loss."""
    small = [1.0, 1 - 0.9e-4, 1 - 0.95e-4, 1 - 0.99e-4]
    large = [1.0, 1 - 1.1e-4, 1 - 2.2e-4, 1 - 3.3e-4]
    assert rates_on_plateau(small)[-1] == 0.5
    assert rates_on_plateau(large)[-1] == 1
    assert rates_on_plateau([100.0, 99.9998, 99.9996, 99.9994])[-1] == 1
    assert rates_on_plateau([9.0, 8.5, 8.2, 7.6], min_delta=1.5)[-1] == 0.5


def test_plateau_with_patience_one_acts_at_once() -> None:
    assert rates_on_plateau([1.0, 1.0, 1.0], patience=1) == [1, 0.5, 0.25]


def test_other_schedules_have_no_plateau() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    assert schedules.plateau(optimizer, {"name": "onecycle"}) is None
