"""Shards at an address, from a real web server: fetched once each, kept while there is room."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sharded import served, some
from test_streaming import damage, data, epoch, same_batches

from imgcls.data.datamodule import ImageData
from imgcls.data.streaming import streaming
from imgcls.errors import ConfigError, DataError


def remote(address: str, folder: Path, workers: int = 0, room: float = 1.0) -> ImageData:
    source = streaming(address, image_size=8, window=2, depot=str(folder), depot_gb=room)
    return ImageData(source, batch_size=8, num_workers=workers, val_fraction=0)


def fetched(asked: list[str]) -> list[str]:
    return sorted(line.split("/")[-1] for line in asked if line.startswith("GET") and ".tar" in line)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_shard_is_fetched_once_and_gives_the_same_batches(workers: int, tmp_path: Path) -> None:
    target = some(tmp_path)[1]
    with served(target) as (address, asked):
        images = remote(address, tmp_path / "depot", workers)
        found = [epoch(images, number) for number in (0, 1)]
        assert fetched(asked) == sorted(path.name for path in target.glob("train-*.tar"))
    local = data(target, val_fraction=0)
    assert all(same_batches(found[number], epoch(local, number)) for number in (0, 1))


def test_little_room_costs_more_fetching_and_changes_nothing(tmp_path: Path) -> None:
    target = some(tmp_path)[1]
    largest = max(path.stat().st_size for path in target.glob("*.tar"))
    with served(target) as (address, asked):
        images = remote(address, tmp_path / "depot", room=3 * largest / 1e9)
        found = epoch(images)
        kept = list((tmp_path / "depot").rglob("*.tar"))
        assert sum(path.stat().st_size for path in kept) <= 3 * largest
        assert len(fetched(asked)) == len(list(target.glob("train-*.tar")))  # a window at a time: once each
    assert same_batches(found, epoch(data(target, val_fraction=0)))


def test_too_little_room_is_refused(tmp_path: Path) -> None:
    target = some(tmp_path)[1]
    with (
        served(target) as (address, _),
        pytest.raises(ConfigError, match="depot_gb=1e-07 is less than two shards"),
    ):
        remote(address, tmp_path / "depot", room=1e-7)


def test_what_is_damaged_or_gone_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgcls.data.depot.TRIES", 1)
    target = some(tmp_path)[1]
    name = damage(target)
    with served(target) as (address, _):
        with pytest.raises(DataError, match=rf"^{address}: {name} is damaged at byte"):
            epoch(remote(address, tmp_path / "depot"))
        (target / name).unlink()
        with pytest.raises(DataError, match=rf"^{address}/{name} cannot be read"):
            epoch(remote(address, tmp_path / "other", workers=1))
        with pytest.raises(DataError, match=rf"^{address}/none/index.json cannot be read"):
            streaming(f"{address}/none")
    with pytest.raises(DataError, match=r"cannot be read .*Check the address"):
        streaming(address)


def test_a_missing_library_and_an_unknown_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(
        ConfigError, match=r"^dataset.root=s3://photos needs .*pip install 'imgcls\[stream\]'\.$"
    ):
        streaming("s3://photos")
    with pytest.raises(ConfigError, match=r"^dataset.root=nosuch://photos: .* Use https, s3 or gs\.$"):
        streaming("nosuch://photos")


def test_it_can_be_sent_to_another_process(tmp_path: Path) -> None:
    """As where processes are spawned."""
    import pickle

    images: Any = streaming(str(some(tmp_path)[1]), image_size=8).train.pixels
    first = images.index_select(0, torch.arange(5))
    assert torch.equal(pickle.loads(pickle.dumps(images)).index_select(0, torch.arange(5)), first)
