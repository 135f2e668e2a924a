"""Batches: each image once an epoch, in an order that only seed and epoch decide, from any loader."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from imgcls.data.loader import Batch, Loader, ResidentLoader, Rows, WholeBatches, WorkerLoader
from imgcls.data.sources import Images

COUNT = 50


def images(count: int = COUNT, channels: int = 3) -> Images:
    """Noise of 6 x 4 pixels; the label of an image is its row."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 6, 4, channels), dtype=torch.uint8, generator=draw)
    return Images(pixels, torch.arange(count))


def some_rows() -> torch.Tensor:
    """43 of the 50 rows."""
    return torch.cat([torch.arange(20), torch.arange(27, 50)])


def resident(rows: Rows, position: Any = None) -> Loader:
    return ResidentLoader(images(), rows, position)


def workers(count: int) -> Callable[..., Loader]:
    return lambda rows, position=None: WorkerLoader(WholeBatches(images()), rows, position, count)


LOADERS = {"resident": resident, **{f"{k} workers": workers(k) for k in (0, 1, 2)}}


def same(first: list[Batch], second: list[Batch]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


def order(rows: Rows, epoch: int = 0) -> list[int]:
    return torch.cat(list(rows.epoch(epoch))).tolist()


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("position", [(0, 0), (2, 3)])
def test_every_loader_yields_the_planned_batches(name: str, position: tuple[int, int]) -> None:
    rows, data = Rows(some_rows(), 8, seed=5), images()
    found = list(LOADERS[name](rows, lambda: position))
    plan = list(rows.epoch(position[0]))[position[1] :]
    assert len(plan) == 6 - position[1]
    assert same(found, [(data.pixels[k].permute(0, 3, 1, 2), data.labels[k]) for k in plan])


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_bytes_in_channels_last(name: str, channels: int) -> None:
    rows, data = Rows(torch.arange(COUNT), 16, seed=1), images(channels=channels)
    loader = LOADERS[name](rows)
    loader.images = data if name == "resident" else WholeBatches(data)  # type: ignore[attr-defined]
    for pixels, labels in loader:
        assert pixels.dtype == torch.uint8 and labels.dtype == torch.int64
        assert pixels.shape == (len(labels), channels, 6, 4)
        assert pixels.stride() == (24 * channels, 1, 4 * channels, channels)  # one run of bytes per pixel
        assert pixels.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("block", [1, 2, 100])
def test_resident_batches_are_changed_some_at_a_time(block: int) -> None:
    """Each by its own number in the epoch, from wherever the loader begins."""
    seen: list[int] = []

    def change(pixels: torch.Tensor, sizes: Sequence[int], epoch: int, first: int) -> torch.Tensor:
        numbers = torch.arange(first, first + len(sizes)).repeat_interleave(torch.tensor(sizes))
        seen.append(len(sizes))
        return pixels + (10 * epoch + numbers).to(torch.uint8).view(-1, 1, 1, 1)

    rows = Rows(some_rows(), 8, seed=5)
    loader = ResidentLoader(images(), rows, lambda: (2, 1), change)
    loader.block = block
    plain = [x + 20 + number for number, (x, _) in enumerate(resident(rows, lambda: (2, 0)))]
    assert all(torch.equal(x, y) for (x, _), y in zip(loader, plain[1:], strict=True))
    assert seen == {1: [1] * 5, 2: [2, 2, 1], 100: [5]}[block]


@pytest.mark.parametrize("name", ["resident", "2 workers"])
def test_loading_draws_nothing_that_the_order_depends_on(name: str) -> None:
    torch.manual_seed(1)
    first = list(LOADERS[name](Rows(some_rows(), 8, seed=5)))
    torch.manual_seed(2)
    assert same(first, list(LOADERS[name](Rows(some_rows(), 8, seed=5))))


@pytest.mark.parametrize("batch_size", [1, 8, 43, 100])
def test_every_row_comes_exactly_once_an_epoch(batch_size: int) -> None:
    for seed in (None, 0):
        rows = Rows(some_rows(), batch_size, seed)
        assert sorted(order(rows, 3)) == some_rows().tolist()


def test_without_a_seed_the_order_is_kept() -> None:
    rows = Rows(some_rows(), 8)
    assert order(rows, 0) == order(rows, 7) == some_rows().tolist()


def test_epochs_differ_and_seeds_differ_but_the_same_repeats() -> None:
    orders = {(seed, epoch): order(Rows(some_rows(), 8, seed), epoch) for seed in (0, 1) for epoch in (0, 1)}
    assert len({tuple(found) for found in orders.values()}) == 4
    assert all(order(Rows(some_rows(), 8, seed), epoch) == found for (seed, epoch), found in orders.items())


def test_the_order_does_not_depend_on_the_batch_size() -> None:
    assert order(Rows(some_rows(), 8, 0), 2) == order(Rows(some_rows(), 5, 0), 2)


def test_a_shuffle_moves_nearly_every_row() -> None:
    found = order(Rows(torch.arange(1000), 100, seed=0))
    assert sum(a == b for a, b in enumerate(found)) < 10  # one is to be expected


@pytest.mark.parametrize("done", range(7))
def test_a_loader_goes_on_in_mid_epoch(done: int) -> None:
    rows = Rows(some_rows(), 8, seed=5)
    whole = list(resident(rows, lambda: (4, 0)))
    assert len(whole) == 6
    assert same(list(resident(rows, lambda: (4, done))), whole[done:])


def test_the_position_is_asked_for_at_the_first_batch_of_each_pass() -> None:
    """The trainer makes the iterator before it knows its epoch."""
    at, rows = [(0, 0)], Rows(some_rows(), 8, seed=5)
    loader = resident(rows, lambda: at[0])
    batches = iter(loader)
    at[0] = (3, 2)
    assert same(list(batches), list(resident(rows, lambda: (3, 2))))
    at[0] = (1, 0)
    assert same(list(loader), list(resident(rows, lambda: (1, 0))))


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_the_batches_of_one(seed: int | None, ranks: int) -> None:
    """Cut first, share after: put together again, the shares are the very batches of a single process."""
    shares = [list(Rows(some_rows(), 8, seed, rank, ranks).epoch(2)) for rank in range(ranks)]
    whole = list(Rows(some_rows(), 8, seed).epoch(2))
    assert [len(batch) for batch in whole] == [8, 8, 8, 8, 8, 3]
    for step, batch in enumerate(whole):
        again = torch.empty_like(batch)
        for rank in range(ranks):
            again[rank::ranks] = shares[rank][step]
        assert torch.equal(again, batch)
    assert {len(share) for share in shares} == {6}  # as many steps on every rank


def test_ranks_see_every_row_once() -> None:
    seen = [row for rank in range(3) for row in order(Rows(some_rows(), 7, 1, rank, 3))]
    assert sorted(seen) == some_rows().tolist()


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize(("batch_size", "length"), [(8, 6), (43, 1), (44, 1), (42, 2), (1, 43)])
def test_the_length_counts_a_ragged_last_batch(name: str, batch_size: int, length: int) -> None:
    assert len(LOADERS[name](Rows(some_rows(), batch_size, 0))) == length


def test_the_length_is_the_number_of_batches_of_an_epoch() -> None:
    for batch_size in range(1, 45):
        loader = resident(Rows(some_rows(), batch_size, 0))
        sizes = [len(labels) for _, labels in loader]
        assert len(loader) == len(sizes)
        assert sizes[:-1] == [batch_size] * (len(sizes) - 1) and sum(sizes) == 43


def test_a_loader_has_no_state() -> None:
    """All of it follows from the trainer's progress."""
    assert resident(Rows(some_rows(), 8, 0)).state_dict() == {}


def test_a_single_image_is_a_batch_of_one() -> None:
    data = images()
    pixels, labels = WholeBatches(data)[7]
    assert torch.equal(pixels[0], data.pixels[7].permute(2, 0, 1)) and labels.tolist() == [7]
    assert len(WholeBatches(data)) == COUNT
