"""Images from shards: those of the folder, each once an epoch, in the same order for all who read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from pictures import noise, photos, save
from sharded import convert, some
from test_datamodule import attach
from test_datamodule import same as same_batches
from torch.multiprocessing import start_processes

from imgcls.data.datamodule import ImageData
from imgcls.data.folder import folder
from imgcls.data.loader import Rows
from imgcls.data.shards import OFFSET, SHARD
from imgcls.data.streaming import streaming
from imgcls.errors import DataError


def data(root: Path, workers: int = 0, batch_size: int = 8, **options: Any) -> ImageData:
    source = streaming(str(root), image_size=8, window=options.pop("window", 2))
    return ImageData(source, batch_size=batch_size, num_workers=workers, **options)


def epoch(images: ImageData, number: int = 0, done: int = 0, rank: int = 0, ranks: int = 1) -> list[Any]:
    return list(attach(images, number, done, rank, ranks).train_dataloader())


def test_they_are_the_folders_images(tmp_path: Path) -> None:
    """Pixels, labels, classes, title, hold-out and statistics."""
    root, target = some(tmp_path)
    plain = folder(str(root), image_size=8, test_fraction=0.2)
    both = [plain, streaming(str(target), image_size=8)]
    assert both[0].classes == both[1].classes and both[0].title == both[1].title
    for first, second in ((both[0].train, both[1].train), (both[0].test, both[1].test)):
        assert np.array_equal(first.pixels.numpy(), second.pixels.numpy())
        assert torch.equal(first.labels, second.labels)
    one, two = (ImageData(source, batch_size=8, seed=3, val_fraction=0.25) for source in both)
    assert torch.equal(one.train_rows, two.train_rows) and torch.equal(one.val_rows, two.val_rows)
    means = [images.prepare("mean_std", None, 1, None, "bilinear").mean for images in (one, two)]
    assert torch.equal(*means)
    assert same_batches(list(attach(one).test_dataloader()), list(attach(two).test_dataloader()))


def test_grey_images_have_one_channel_unless_asked(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", noise(number, channels=1))
    target = convert(tmp_path / "photos", tmp_path / "shards", test_fraction=0.5)
    assert streaming(str(target), image_size=8).train.pixels.shape == (4, 8, 8, 1)
    assert streaming(str(target), image_size=8, channels=3).train.pixels.shape == (4, 8, 8, 3)


def test_every_image_comes_exactly_once_an_epoch_in_another_order(tmp_path: Path) -> None:
    images = data(some(tmp_path)[1], val_fraction=0.25)
    wanted = sorted(
        p.numpy().tobytes() for p in images.source.train.pixels.index_select(0, images.train_rows)
    )
    orders = []
    for number in range(3):
        pixels = torch.cat([batch[0] for batch in epoch(images, number)]).permute(0, 2, 3, 1)
        orders.append([p.contiguous().numpy().tobytes() for p in pixels])
        assert sorted(orders[-1]) == wanted
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("window", [1, 3, 100])
def test_a_window_of_shards_is_read_before_the_next(window: int) -> None:
    """Shards are shuffled, and images within a window; no shard is come back to."""
    shards = torch.arange(100) // 10 + 4  # shards of other parts have numbers, too
    rows = Rows(torch.arange(100), 8, seed=1, shards=shards, window=window)
    orders = [torch.cat(list(rows.epoch(number))) for number in (0, 1)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(100))
        parts = [set(part.tolist()) for part in (shards[order]).split(10 * window)]
        assert sum(map(len, parts)) == 10  # each in one window only
        assert (order.diff() == 1).sum() < 30  # in order they would be 90
    turns = [shards[order].unique_consecutive().tolist() for order in orders]
    assert not torch.equal(*orders) and turns[0] != turns[1] and turns[0] != sorted(turns[0])


@pytest.mark.parametrize("position", [(0, 0), (1, 3)])
def test_any_number_of_workers_gives_the_same_batches(position: tuple[int, int], tmp_path: Path) -> None:
    target = some(tmp_path)[1]
    found = [epoch(data(target, workers, val_fraction=0), *position) for workers in (0, 1, 2)]
    assert len(found[0]) == 6 - position[1]
    assert same_batches(found[0], found[1]) and same_batches(found[0], found[2])


@pytest.mark.parametrize("done", [0, 1, 5])
def test_an_epoch_goes_on_where_it_stood(done: int, tmp_path: Path) -> None:
    images = data(some(tmp_path)[1], val_fraction=0)
    assert same_batches(epoch(images, 2)[done:], epoch(images, 2, done))


CASES = [(7, 7, 0), (101, 12, 4)]  # images, of a batch, batches done: last ones of 7 and 5


def _rank(rank: int, folder: Path) -> None:
    """One of two processes: what it sees of two epochs of each case; the first writes down what both saw."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = []
    for count, size, done in CASES:
        images = data(folder / f"shards{count}", workers=1, batch_size=size, val_fraction=0)
        found.append([epoch(images, n, done, dist.get_rank(), dist.get_world_size()) for n in (0, 1)])
    shares: list[Any] = [None, None]
    dist.all_gather_object(shares, found)
    if rank == 0:
        torch.save(shares, folder / "shares")
    dist.destroy_process_group()


def test_two_processes_share_each_batch_of_one(tmp_path: Path) -> None:
    """Together they see each image once; put together, their shares are the batches of a single process."""
    for count in (7, 101):
        root = photos(tmp_path / f"photos{count}", ("ant",), count // 2, below="train")
        photos(root, ("bee",), count - count // 2, below="train")
        convert(photos(root, count=1, below="test"), tmp_path / f"shards{count}")
    start_processes(_rank, (tmp_path,), nprocs=2, start_method="fork")
    shares = torch.load(tmp_path / "shares")
    for case, (count, size, done) in enumerate(CASES):
        images = data(tmp_path / f"shards{count}", batch_size=size, val_fraction=0)
        for number in (0, 1):
            whole, parts = epoch(images, number, done), [share[case][number] for share in shares]
            assert sum(len(labels) for _, labels in whole) == count - done * size
            for rank in range(2):
                assert same_batches(parts[rank], [(x[rank::2], y[rank::2]) for x, y in whole])


def test_the_hold_out_is_read_shard_by_shard(tmp_path: Path) -> None:
    images = data(some(tmp_path)[1], val_fraction=0.5)
    loader = attach(images).val_dataloader()
    (order,) = loader.rows.epoch(0)  # type: ignore[union-attr]
    assert sorted(order.tolist()) == images.val_rows.tolist()
    shards = images.source.train.shards
    assert (
        shards is not None
        and (shards[order].diff() >= 0).all()
        and (shards[images.val_rows].diff() < 0).any()
    )


def test_statistics_read_a_few_shards_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = data(some(tmp_path)[1], val_fraction=0, window=1)
    monkeypatch.setattr("imgcls.data.datamodule.SAMPLE", 8)
    images.prepare("mean_std", None, 1, None, "bilinear")
    assert 1 <= len(images.source.train.pixels._files) <= 3  # type: ignore[attr-defined]


def test_a_digest_is_of_the_images_and_not_of_how_they_are_cut(tmp_path: Path) -> None:
    root, target = some(tmp_path)
    other = convert(root, tmp_path / "larger", 100_000)
    assert len(list(other.iterdir())) < len(list(target.iterdir()))
    assert streaming(str(target)).digest == streaming(str(other)).digest
    assert streaming(str(target)).digest != streaming(str(target), image_size=32).digest


def damage(target: Path) -> str:
    """Change one byte of the first image to train on."""
    source: Any = streaming(str(target), image_size=8).train.pixels
    name = source.names[source.rows[0, SHARD]]
    content = bytearray((target / name).read_bytes())
    content[source.rows[0, OFFSET] + 40] ^= 1
    (target / name).write_bytes(content)
    return name


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_is_named_in_one_line(workers: int, tmp_path: Path) -> None:
    target = some(tmp_path)[1]
    name = damage(target)
    with pytest.raises(DataError) as caught:
        epoch(data(target, workers, val_fraction=0))
    wanted = rf"{target}: {name} is damaged at byte [\d,]+\. Copy it again, or convert the images again\."
    assert caught.match(f"^{wanted}$")


def test_a_shard_that_is_missing_or_cut_short_is_named_before_training(tmp_path: Path) -> None:
    target = some(tmp_path)[1]
    shard = target / "train-000001.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"^{shard} has [\d,]+ bytes, not [\d,]+\. Copy it again"):
        streaming(str(target))
    shard.unlink()
    with pytest.raises(DataError, match=rf"^{shard} is not there\. Copy it again, or convert"):
        streaming(str(target))


def test_what_is_no_folder_of_shards_says_how_to_make_one(tmp_path: Path) -> None:
    for root, what in ((tmp_path, "has no index.json"), (tmp_path / "none", "is not there")):
        with pytest.raises(DataError, match=rf"^dataset.root={root} {what}\. Make shards .* task=convert"):
            streaming(str(root))
