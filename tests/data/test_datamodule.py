"""The images of a run: who is held out, what the limits leave, and what each loader gives."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from imgcls.data import sources
from imgcls.data.datamodule import ImageData, hold_out
from imgcls.data.loader import ResidentLoader, WorkerLoader
from imgcls.data.sources import Images, Source
from imgcls.errors import ConfigError

BALANCED = torch.arange(1000) % 10
UNBALANCED = torch.repeat_interleave(torch.arange(6), torch.tensor([1, 2, 13, 100, 333, 998]))
FRACTIONS = [0.1, 0.15, 0.5]


def counts(labels: torch.Tensor) -> torch.Tensor:
    return torch.bincount(labels, minlength=10).double()


def part(count: int, seed: int) -> Images:
    """Noise of 4 x 4 pixels in three colours and four classes."""
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (count, 4, 4, 3), dtype=torch.uint8, generator=draw)
    return Images(pixels, torch.randint(4, (count,), generator=draw))


def source(train: int = 100, test: int = 30) -> Source:
    return Source("noise", "Noise", tuple("abcd"), part(train, 1), part(test, 2))


def data(**options: Any) -> ImageData:
    """A datamodule of `source()` attached to a trainer at the start of training."""
    images = ImageData(options.pop("source", None) or source(), **{"batch_size": 8, **options})
    return attach(images)


def attach(images: ImageData, epoch: int = 0, done: int = 0, rank: int = 0, ranks: int = 1) -> ImageData:
    ready = SimpleNamespace(current=SimpleNamespace(ready=done))
    images.trainer = SimpleNamespace(  # type: ignore[assignment]
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        global_rank=rank,
        world_size=ranks,
        current_epoch=epoch,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=ready)),
    )
    return images


def same(first: Any, second: Any) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("labels", [BALANCED, UNBALANCED], ids=["balanced", "unbalanced"])
@pytest.mark.parametrize("fraction", FRACTIONS)
def test_the_hold_out_is_the_fraction_of_all_and_of_each_class(labels: torch.Tensor, fraction: float) -> None:
    for seed in range(5):
        _, held = hold_out(labels, fraction, seed)
        assert len(held) == int(len(labels) * fraction + 1e-9)  # rounded down
        assert (counts(labels[held]) - counts(labels) * fraction).abs().max() < 1


@pytest.mark.parametrize("labels", [BALANCED, UNBALANCED], ids=["balanced", "unbalanced"])
@pytest.mark.parametrize("fraction", [0.0, *FRACTIONS])
def test_every_row_is_in_exactly_one_part_and_sorted(labels: torch.Tensor, fraction: float) -> None:
    train, held = hold_out(labels, fraction, 3)
    assert torch.equal(torch.cat([train, held]).sort().values, torch.arange(len(labels)))
    assert torch.equal(train, train.sort().values) and torch.equal(held, held.sort().values)


def test_no_fraction_holds_nothing_out() -> None:
    train, held = hold_out(BALANCED, 0.0, 0)
    assert (len(train), len(held)) == (1000, 0)


@pytest.mark.parametrize("labels", [BALANCED, UNBALANCED], ids=["balanced", "unbalanced"])
@pytest.mark.parametrize("fraction", FRACTIONS)
def test_the_hold_out_follows_from_the_seed(labels: torch.Tensor, fraction: float) -> None:
    first, again, other = (hold_out(labels, fraction, seed)[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_hold_out_is_pinned() -> None:
    """Another one would mix the training and validation images of a run that goes on."""
    _, held = hold_out(torch.arange(40) % 4, 0.25, 0)
    assert held.tolist() == [1, 2, 3, 7, 10, 21, 28, 33, 36, 39]


def test_the_hold_out_is_a_random_choice_not_a_stretch() -> None:
    _, held = hold_out(torch.zeros(1000, dtype=torch.int64), 0.1, 0)
    steps = held.diff()
    assert steps.min() == 1 and steps.max() > 20
    assert 400 < held.double().mean() < 600


def test_train_and_validation_share_no_image() -> None:
    images = data(val_fraction=0.15)
    assert (len(images.train_rows), len(images.val_rows), len(images.test_rows)) == (85, 15, 30)
    assert not set(images.train_rows.tolist()) & set(images.val_rows.tolist())


@pytest.mark.parametrize("limit", [10, 33, 57, 99])
def test_a_limit_leaves_so_many_of_each_part_in_proportion(limit: int) -> None:
    images = data(source=source(400, 100), limit=limit, val_fraction=0.2)
    train, test = images.source.train.labels, images.source.test.labels
    used = torch.cat([images.train_rows, images.val_rows])
    assert len(used.unique()) == len(used) == limit == len(images.test_rows.unique())
    assert len(images.val_rows) == int(limit * 0.2 + 1e-9)
    assert (counts(train[used]) - counts(train) * limit / 400).abs().max() < 1
    assert (counts(test[images.test_rows]) - counts(test) * limit / 100).abs().max() < 1


@pytest.mark.parametrize("options", [{}, {"limit": 20}, {"limit": 20, "overfit": True}])
def test_the_tested_images_are_those_of_the_test_loader(options: dict[str, Any]) -> None:
    images = data(**options)
    pixels, labels = (torch.cat(column) for column in zip(*images.test_dataloader(), strict=True))
    assert torch.equal(images.tested.pixels, pixels.permute(0, 2, 3, 1))
    assert torch.equal(images.tested.labels, labels)
    assert len(images.tested) == {0: 30, 1: 20, 2: 18}[len(options)]


@pytest.mark.parametrize("limit", [None, 100, 5000])
def test_a_limit_beyond_the_data_changes_nothing(limit: int | None) -> None:
    images = data(limit=limit, val_fraction=0.0)
    assert torch.equal(images.train_rows, torch.arange(100))
    assert torch.equal(images.test_rows, torch.arange(30))


def test_overfit_validates_and_tests_on_the_training_images() -> None:
    images = data(limit=32, overfit=True, val_fraction=0.25)
    assert len(images.train_rows) == 24
    assert torch.equal(images.val_rows, images.train_rows) and torch.equal(
        images.test_rows, images.train_rows
    )
    for loader in (images.val_dataloader(), images.test_dataloader()):
        (batch,) = loader
        assert torch.equal(batch[1], images.source.train.labels[images.train_rows])
        assert torch.equal(batch[0], images.source.train.pixels[images.train_rows].permute(0, 3, 1, 2))


def test_a_batch_larger_than_the_training_set_is_refused_with_the_largest() -> None:
    with pytest.raises(ConfigError, match=r"batch_size=91 .*\(90 images\)\. Use at most 90\."):
        data(batch_size=91, val_fraction=0.1)
    assert data(batch_size=90, val_fraction=0.1).steps_per_epoch == 1


def test_a_fraction_that_holds_nothing_out_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"val_fraction=0\.1 holds out no image of 9"):
        data(limit=9, val_fraction=0.1, batch_size=4)


def test_without_a_hold_out_there_is_no_validation() -> None:
    assert data(val_fraction=0.0).val_dataloader() == []


@pytest.mark.parametrize(
    ("batch_size", "part", "size"),
    [(16, None, 64), (64, 16, 64), (300, None, 1000), (1200, None, 1200), (1200, 400, 1000)],
)
def test_evaluation_takes_batches_four_times_as_large_up_to_a_thousand(
    batch_size: int, part: int | None, size: int
) -> None:
    images = data(source=source(2500, 2300), batch_size=batch_size, part=part, val_fraction=0.5)
    for loader, count in ((images.val_dataloader(), 1250), (images.test_dataloader(), 2300)):
        assert [len(labels) for _, labels in loader] == [size] * (count // size) + [count % size]


@pytest.mark.parametrize("resident", [True, False])
def test_evaluation_gives_every_image_once_in_order(resident: bool) -> None:
    images = data(val_fraction=0.15, resident=resident, num_workers=0)
    source = images.source
    for loader, chosen, rows in (
        (images.val_dataloader(), source.train, images.val_rows),
        (images.test_dataloader(), source.test, images.test_rows),
    ):
        pixels, labels = (torch.cat(column) for column in zip(*loader, strict=True))
        assert torch.equal(labels, chosen.labels[rows])
        assert torch.equal(pixels, chosen.pixels[rows].permute(0, 3, 1, 2))


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 90), (8, 12), (45, 2), (89, 2), (90, 1)])
def test_steps_per_epoch_count_a_ragged_last_batch(batch_size: int, steps: int) -> None:
    images = data(batch_size=batch_size)
    assert images.steps_per_epoch == len(images.train_dataloader()) == steps
    assert sum(1 for _ in images.train_dataloader()) == steps


@pytest.mark.parametrize(("resident", "kind"), [(True, ResidentLoader), (False, WorkerLoader)])
def test_resident_says_which_loader(resident: bool, kind: type) -> None:
    images = data(resident=resident)
    loaders = images.train_dataloader(), images.val_dataloader(), images.test_dataloader()
    assert {type(loader) for loader in loaders} == {kind}


@pytest.mark.parametrize(("free", "resident"), [(1.9, False), (2.1, True)])
def test_auto_keeps_images_in_memory_if_half_of_it_holds_them(
    monkeypatch: pytest.MonkeyPatch, free: float, resident: bool
) -> None:
    memory = SimpleNamespace(available=(100 + 30) * 4 * 4 * 3 * free)
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory)
    assert data(resident="auto").resident is resident


@pytest.mark.parametrize("workers", [0, 2])
def test_worker_processes_give_the_batches_of_memory(workers: int) -> None:
    first, second = data(resident=True, seed=4), data(resident=False, num_workers=workers, seed=4)
    for images in (first, second):
        attach(images, epoch=3, done=5)
    batches = list(second.train_dataloader())
    assert len(batches) == 12 - 5
    assert same(first.train_dataloader(), batches)
    assert same(first.val_dataloader(), second.val_dataloader())


def test_training_goes_on_where_the_trainer_stands() -> None:
    images = data(seed=4)
    whole = list(attach(images, epoch=2).train_dataloader())
    assert same(attach(images, epoch=2, done=7).train_dataloader(), whole[7:])
    assert not same(attach(images, epoch=1).train_dataloader(), whole)


def test_two_ranks_split_each_batch_of_one() -> None:
    one = list(attach(data(), epoch=1).train_dataloader())
    shares = [list(attach(data(), epoch=1, rank=rank, ranks=2).train_dataloader()) for rank in (0, 1)]
    for step, batch in enumerate(one):
        for rank in (0, 1):
            assert same([shares[rank][step]], [[tensor[rank::2] for tensor in batch]])


def test_two_ranks_test_each_image_once() -> None:
    shares = [attach(data(), rank=rank, ranks=2).test_dataloader() for rank in (0, 1)]
    assert sum(len(labels) for share in shares for _, labels in share) == 30


def test_training_and_hold_out_share_one_copy_of_the_pixels() -> None:
    images = data()
    train, held = images.train_dataloader(), images.val_dataloader()
    assert train.images is held.images  # type: ignore[attr-defined, union-attr]


def test_statistics_do_not_see_the_hold_out() -> None:
    images = data(val_fraction=0.5)
    chosen = images.source.train.pixels[images.train_rows].double()
    options = (None, 1, None, "nearest")
    before = images.prepare("mean_std", *options)
    assert torch.allclose(before.mean.flatten().double(), chosen.mean((0, 1, 2)), rtol=1e-6)
    images.source.train.pixels[images.val_rows] = 255
    images.source.test.pixels[:] = 255
    after = images.prepare("mean_std", *options)
    assert torch.equal(before.mean, after.mean) and torch.equal(before.std, after.std)
    images.source.train.pixels[images.train_rows[:5]] = 255
    assert not torch.equal(images.prepare("mean_std", *options).mean, before.mean)


@pytest.mark.parametrize(
    ("channels", "factor", "size", "expected"),
    [(None, 1, None, (3, 4)), (1, 3, None, (1, 12)), (3, 1, 10, (3, 10)), (None, 5, 7, (3, 7))],
)
def test_prepare_gives_the_size_and_the_channels(
    channels: int | None, factor: int, size: int | None, expected: tuple[int, int]
) -> None:
    made = data().prepare("zero_one", channels, factor, size, "nearest")
    assert (made.channels, made.size) == expected
    assert made(torch.zeros(2, 3, 4, 4, dtype=torch.uint8)).shape == (
        2,
        expected[0],
        expected[1],
        expected[1],
    )


def test_digits_hold_out_a_tenth_of_each_digit() -> None:
    images = ImageData(sources.digits(), batch_size=64)
    assert (len(images.train_rows), len(images.val_rows), len(images.test_rows)) == (1294, 143, 360)
    labels = images.source.train.labels
    assert (counts(labels[images.val_rows]) - counts(labels) / 10).abs().max() < 1
    assert images.classes == tuple("0123456789") and images.shape == (8, 8, 1)
