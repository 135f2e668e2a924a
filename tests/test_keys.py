"""Keys: another purpose, another seed; the same purpose, the same draws, on any machine."""

import itertools

import torch

from imgcls import keys


def test_every_part_counts() -> None:
    parts = [(0,), (1,), (0, 1), (1, 0), (0, "step"), ("step", 0), (0, "order"), (1, 23), (12, 3), (0, 0), ()]
    assert len({keys.key(*p) for p in parts}) == len(parts)


def test_neighbours_do_not_collide() -> None:
    grid = itertools.product(range(3), ("order", "step"), range(30), range(30))
    seeds = [keys.key(*parts) for parts in grid]
    assert len(set(seeds)) == len(seeds) == 5400


def test_the_value_is_pinned() -> None:
    """Another value would give every finished run another order, augmentation and hold-out."""
    assert keys.key(0, "order", 3) == 5464515209027428490
    assert keys.key(7, "hold-out") == 6026380561239147063


def test_a_key_has_63_bits() -> None:
    seeds = [keys.key(k) for k in range(1000)]
    assert min(seeds) >= 0 and 2**62 < max(seeds) < 2**63  # what manual_seed takes, all of it used


def test_a_generator_is_a_function_of_its_parts() -> None:
    first, again, other = (
        torch.rand(5, generator=keys.generator(*p)) for p in [(0, "a"), (0, "a"), (0, "b")]
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_generator_leaves_the_default_one_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    torch.rand(9, generator=keys.generator(1))
    assert torch.equal(torch.rand(3), expected)


def test_seed_default_fixes_the_draws_whatever_was_drawn_before() -> None:
    draws = []
    for scramble in (1, 2):
        torch.manual_seed(scramble)
        torch.rand(scramble)
        keys.seed_default(torch.device("cpu"), 0, "step", 4, 2)
        draws.append((torch.rand(8), torch.randint(1000, (8,)), torch.nn.functional.dropout(torch.ones(64))))
    assert all(torch.equal(a, b) for a, b in zip(*draws, strict=True))


def test_seed_default_draws_differently_for_another_step() -> None:
    keys.seed_default(torch.device("cpu"), 0, "step", 4, 2)
    first = torch.rand(8)
    keys.seed_default(torch.device("cpu"), 0, "step", 4, 3)
    assert not torch.equal(first, torch.rand(8))
