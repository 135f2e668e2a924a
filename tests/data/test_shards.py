"""Shards on disk: every image in exactly one, in a format that others read, and damage that is seen."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from pictures import photos, save
from sharded import convert, some

from imgcls.data import folder, shards
from imgcls.data.files import PARTS, TRAIN
from imgcls.data.shards import LABEL, LENGTH, OFFSET, SHARD, Index
from imgcls.errors import DataError


def open_index(path: Path) -> Index:
    return shards.load(lambda name: (path / name).read_bytes(), str(path))


def test_each_row_is_the_file_of_that_row(tmp_path: Path) -> None:
    root, target = some(tmp_path)
    _, files = folder.found(str(root), 0.2)
    index = open_index(target)
    assert index.classes == files.classes and index.counts == [48, 0, 12]
    names = list(index.shards)
    assert len(names) > 5
    for row, path in zip(index.rows, files.paths, strict=True):
        data = (target / names[row[SHARD]]).read_bytes()
        assert data[row[OFFSET] : row[OFFSET] + row[LENGTH]] == Path(path).read_bytes()
    assert index.rows[:, LABEL].tolist() == files.labels.tolist()


def test_other_programs_read_them(tmp_path: Path) -> None:
    """WebDataset's own reader: the same bytes, labels and number of images."""
    root, target = some(tmp_path)
    _, files = folder.found(str(root), 0.2)
    urls = [str(path) for path in sorted(target.glob("*.tar"))]
    found = {
        int(sample["__key__"]): (sample["png"], int(sample["cls"]))
        for sample in webdataset.WebDataset(urls, shardshuffle=False)
    }
    wanted = zip(files.paths, files.labels.tolist(), strict=True)
    assert found == {row: (Path(path).read_bytes(), label) for row, (path, label) in enumerate(wanted)}


def test_parts_have_shards_of_their_own_of_about_the_size(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", below="train")
    for part in ("val", "test"):
        photos(root, below=part)
    index = open_index(convert(root, tmp_path / "shards", 2000))
    assert index.counts == [20, 20, 20]
    names = np.array(list(index.shards))[index.rows[:, SHARD]]
    for number, part in enumerate(PARTS):
        assert {name.split("-")[0] for name in names[index.of(number)]} == {part}
    held = np.bincount(index.rows[:, SHARD], index.rows[:, LENGTH])
    assert held.max() < 2000 + index.rows[:, LENGTH].max()


def test_images_to_train_on_are_mixed_and_the_others_in_order(tmp_path: Path) -> None:
    index = open_index(some(tmp_path, count=100, shard_bytes=10_000)[1])
    train, test = index.rows[index.of(TRAIN)], index.rows[160:]
    for number in range(train[:, SHARD].max()):  # the last one may be small
        labels = train[train[:, SHARD] == number, LABEL]
        assert 0.2 < labels.mean() < 0.8
    assert np.array_equal(np.lexsort((test[:, OFFSET], test[:, SHARD])), np.arange(len(test)))


def test_the_same_images_give_the_same_shards(tmp_path: Path) -> None:
    root, first = some(tmp_path)
    second = convert(root, tmp_path / "again")
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {
        p.name: p.read_bytes() for p in second.iterdir()
    }


def test_odd_names_are_no_hindrance(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", ("a b.c", "ä" * 60))
    save(root / "a b.c" / f"{'x' * 150}.y.z.PNG", 5)
    index = open_index(convert(root, tmp_path / "shards"))
    with tarfile.open(tmp_path / "shards" / next(iter(index.shards))) as tar:
        assert {name.split(".")[1] for name in tar.getnames()} == {"png", "cls"}
    assert index.classes == ("a b.c", "ä" * 60) and len(index.rows) == 21


def change_json(path: Path, **facts: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


@pytest.mark.parametrize("file", [shards.INDEX, shards.ROWS])
@pytest.mark.parametrize("at", [0, 200, -5])
def test_a_damaged_index_is_refused(file: str, at: int, tmp_path: Path) -> None:
    target = some(tmp_path)[1]
    data = bytearray((target / file).read_bytes())
    data[at] ^= 3
    (target / file).write_bytes(data)
    with pytest.raises(DataError, match=r"shards: index\.json or rows\.npy is damaged\. Copy both again"):
        open_index(target)


def test_half_an_index_and_another_versions_are_refused(tmp_path: Path) -> None:
    target = some(tmp_path)[1]
    change_json(target / shards.INDEX, format=9)
    with pytest.raises(DataError, match=r"made by another version of imgcls\. Convert"):
        open_index(target)
    change_json(target / shards.INDEX, format=1, counts=[1, 2, 3])
    with pytest.raises(DataError, match="damaged"):
        open_index(target)
    (target / shards.INDEX).write_text("[]")
    with pytest.raises(DataError, match="damaged"):
        open_index(target)
