"""A folder of images as a source: the same pixels however they come, and decoded no more than once."""

import logging
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import noise, photos, save
from PIL import Image
from test_datamodule import attach
from torchvision.datasets import ImageFolder

from imgcls import build
from imgcls.data import cache, sources
from imgcls.data import folder as module
from imgcls.data.cache import Undecoded
from imgcls.data.datamodule import ImageData
from imgcls.data.folder import folder
from imgcls.data.images import read_image
from imgcls.data.sources import Images, Source
from imgcls.errors import ConfigError, DataError, ResourceError


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, for images in a place that cannot be written to."""
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))
    return path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded, as it happens."""
    names: list[str] = []

    def counted(path: str, *settings: Any) -> np.ndarray:
        names.append(Path(path).name)
        return read_image(path, *settings)

    monkeypatch.setattr(cache, "read_image", counted)
    return names


def open_folder(root: Path, **options: Any) -> Source:
    return folder(str(root), **{"image_size": 8, **options})


def same(first: Source, second: Source) -> bool:
    pairs = [(first.train, second.train), (first.test, second.test)]
    return first.classes == second.classes and all(
        np.array_equal(a.pixels.numpy(), b.pixels.numpy()) and torch.equal(a.labels, b.labels)
        for a, b in pairs
    )


def pixels_file(root: Path) -> Path:
    (found,) = root.glob("*.u8")
    return found


def kept(root: Path) -> list[str]:
    """What kinds of files are beside the images."""
    return sorted(path.suffix for path in root.iterdir() if path.name.startswith(".imgcls-"))


def truncate(path: Path) -> None:
    """A file whose header is whole."""
    image = Image.fromarray(noise(9, (64, 64)))
    image.save(path)
    path.write_bytes(path.read_bytes()[:900])


def write_digits(root: Path) -> Source:
    """scikit-learn's digits as files: train/<digit>/<row>.png and test/…, and the same as list.csv."""
    source, lines = sources.digits(), ["path,label,split"]
    for part, images in (("train", source.train), ("test", source.test)):
        for row, (pixels, label) in enumerate(zip(images.pixels, images.labels.tolist(), strict=True)):
            name = f"{part}/{label}/{row:04d}.png"
            save(root / name, pixels[..., 0].numpy())
            lines.append(f"{name},{label},{part}")
    (root / "list.csv").write_text("\n".join(lines))
    return source


def test_digits_written_to_files_are_the_digits(tmp_path: Path) -> None:
    digits = write_digits(tmp_path)
    listed = open_folder(tmp_path / "list.csv")
    assert same(listed, digits) and listed.digest == digits.digest
    tree = open_folder(tmp_path)
    assert (tree.name, tree.title, tree.classes) == ("folder", tmp_path.name, digits.classes)
    for images, expected in ((tree.train, digits.train), (tree.test, digits.test)):
        order = expected.labels.argsort(stable=True)  # by class folder
        assert torch.equal(images.pixels, expected.pixels[order])
        assert torch.equal(images.labels, expected.labels[order])


def test_pixels_are_those_of_read_image(tmp_path: Path) -> None:
    """Upright, of every mode: what a network is trained on is what it predicts on."""
    turned = Image.Exif()
    turned[0x0112] = 6
    files = [
        save(tmp_path / "train/ant/turned.jpg", noise(1, (30, 20)), exif=turned),
        save(tmp_path / "train/ant/x.png", noise(2, channels=4)),
        save(tmp_path / "train/bee/deep.png", noise(3, channels=1).astype(np.uint16) * 257),
        save(tmp_path / "train/bee/wide.gif", noise(4, (40, 10), channels=1)),
        save(tmp_path / "test/ant/1.bmp", noise(5)),
    ]
    for fit in ("crop", "pad", "stretch"):
        source = open_folder(tmp_path, fit=fit, image_size=16)
        both = torch.cat([source.train.pixels, source.test.pixels]).numpy()
        assert np.array_equal(both, np.stack([read_image(path, 3, 16, fit) for path in files]))


@pytest.mark.parametrize(
    ("grey", "channels", "expected"), [(True, None, 1), (False, None, 3), (True, 3, 3), (False, 1, 1)]
)
def test_channels_come_from_the_files(
    tmp_path: Path, grey: bool, channels: int | None, expected: int
) -> None:
    for number in range(8):
        save(
            tmp_path / f"{'ant' if number % 2 else 'bee'}/{number}.png",
            noise(number, channels=1 if grey else 3),
        )
    assert open_folder(tmp_path, channels=channels, test_fraction=0.3).train.pixels.shape[-1] == expected


def test_a_test_set_is_held_out_of_class_folders(tmp_path: Path) -> None:
    root = photos(tmp_path, ("ant", "bee"), 40)
    source = open_folder(root)
    assert (len(source.train), len(source.test)) == (68, 12)
    assert (
        source.test.labels.bincount().tolist()
        == source.train.labels.bincount().div(17 / 3).tolist()
        == [6, 6]
    )
    assert same(source, open_folder(root)) and source.held is None
    assert not same(source, open_folder(root, test_seed=1))
    assert len(open_folder(root, test_fraction=0.25).test) == 20
    names = {image.tobytes() for part in (source.train, source.test) for image in part.pixels.numpy()}
    assert len(names) == 80


def test_the_run_seed_leaves_the_test_set_alone(tmp_path: Path) -> None:
    root = photos(tmp_path, count=20)
    first, second = (ImageData(open_folder(root), batch_size=4, seed=seed) for seed in (0, 1))
    assert torch.equal(first.tested.pixels, second.tested.pixels)
    assert not torch.equal(first.val_rows, second.val_rows)


@pytest.mark.parametrize("fraction", [0.5, 0.9])
def test_no_class_is_held_out_as_a_whole(tmp_path: Path, fraction: float) -> None:
    root = photos(photos(photos(tmp_path, ("ant",), 6), ("bee",), 2), ("cow",), 1)
    for seed in range(5):
        source = open_folder(root, test_fraction=fraction, test_seed=seed)
        assert set(source.train.labels.tolist()) == {0, 1, 2} and len(source.test) >= 3


def test_nothing_to_test_on_is_refused(tmp_path: Path) -> None:
    root = photos(tmp_path, count=3)
    with pytest.raises(ConfigError) as caught:
        open_folder(root, test_fraction=0.1)
    what = "dataset.test_fraction=0.1 holds out none of 6 images, and there is no test set."
    assert str(caught.value) == f"{what} Use more, or make one."


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        (("train", "val", "test"), (20, 20, 20)),
        (("train", "test"), (18, 2, 20)),
        (("train", "val"), (17, 20, 3)),
        (("train",), (16, 1, 3)),
    ],
)
def test_missing_parts_are_held_out_of_train(
    tmp_path: Path, parts: tuple[str, ...], sizes: tuple[int, ...]
) -> None:
    for part in parts:
        photos(tmp_path, below=part)
    images = ImageData(open_folder(tmp_path), batch_size=4)
    rows = images.train_rows, images.val_rows, images.test_rows
    assert tuple(len(part) for part in rows) == sizes


def test_a_validation_folder_is_what_is_validated_on(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        photos(tmp_path, below=part)
    source = open_folder(tmp_path)
    images = ImageData(source, batch_size=4, val_fraction=0.1)
    expected = [read_image(path, 3, 8) for path in sorted((tmp_path / "val").rglob("*.png"))]
    assert np.array_equal(source.train.pixels[images.val_rows].numpy(), np.stack(expected))
    assert not set(images.train_rows.tolist()) & set(images.val_rows.tolist())
    none = ImageData(source, batch_size=4, val_fraction=0.0)
    assert len(none.val_rows) == 0 and torch.equal(none.train_rows, images.train_rows)
    few = ImageData(source, batch_size=4, limit=20)
    assert len(few.train_rows) + len(few.val_rows) == 20 and len(few.val_rows) > 5


def ways(root: Path) -> dict[str, Source]:
    """The same images, come by in every way there is."""
    return {
        "memory": open_folder(root, cache=False),
        "workers": open_folder(root, cache=False, resident=False),
        "limit": open_folder(root, cache=False, limit=4),
        "disk": open_folder(root, cache=True, resident=False),
        "again": open_folder(root),
    }


def batches(images: ImageData) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loaders = images.train_dataloader(), images.val_dataloader(), images.test_dataloader()
    return [batch for loader in loaders for batch in loader]  # type: ignore[union-attr]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_way_to_the_pixels_gives_the_same_batches(tmp_path: Path, workers: int) -> None:
    root = photos(tmp_path, ("ant", "bee"), 20)
    found = ways(root)
    assert {isinstance(found[name].test.pixels, Undecoded) for name in ("workers", "limit")} == {True}
    assert {type(found[name].test.pixels) for name in ("memory", "disk", "again")} == {torch.Tensor}
    assert len({source.digest for name, source in found.items() if name not in ("workers", "limit")}) == 1
    expected = batches(attached(found["memory"], True))
    for name, source in found.items():
        for pair in zip(batches(attached(source, "auto", workers)), expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True)), name


def attached(source: Source, resident: bool | str, workers: int = 0) -> ImageData:
    options: dict[str, Any] = {"resident": resident, "num_workers": workers}
    return attach(ImageData(source, batch_size=8, val_fraction=0.2, seed=3, **options))


def test_the_second_start_decodes_nothing(tmp_path: Path, decoded: list[str]) -> None:
    root = photos(tmp_path, count=10)
    first = open_folder(root)
    assert len(decoded) == 20
    assert same(open_folder(root), first) and len(decoded) == 20
    assert pixels_file(root).stat().st_size == 20 * 8 * 8 * 3
    assert kept(root) == [".json", ".lock", ".u8"]
    assert ImageFolder(str(root)).classes == ["ant", "bee"]  # which would take a hidden folder for a class


def test_one_of_several_processes_decodes(tmp_path: Path, decoded: list[str]) -> None:
    root, found = photos(tmp_path), []
    threads = [threading.Thread(target=lambda: found.append(open_folder(root).digest)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 3 and len(decoded) == 20


def test_the_headers_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(tmp_path)
    open_folder(root)
    monkeypatch.setattr(module, "scan", None)
    open_folder(root)
    (next(root.glob("*.json"))).write_text("{")
    with pytest.raises(TypeError):  # it would have scanned again
        open_folder(root)


@pytest.mark.parametrize("change", ["content", "time", "new", "gone", "moved"])
def test_a_change_of_a_file_is_noticed(tmp_path: Path, decoded: list[str], change: str) -> None:
    root = photos(tmp_path)
    before, file = pixels_file_after(root), root / "ant/3.png"
    decoded.clear()
    if change == "content":
        save(file, 77)
    elif change == "time":
        os.utime(file, ns=(1, 1))
    elif change == "new":
        save(root / "ant/new.png", 77)
    elif change == "gone":
        file.unlink()
    else:
        file.rename(root / "bee/x.png")
    source = open_folder(root)
    assert len(decoded) == len(source.train) + len(source.test) == {"new": 21, "gone": 19}.get(change, 20)
    assert pixels_file(root) != before  # and the old one is gone


def pixels_file_after(root: Path) -> Path:
    open_folder(root)
    return pixels_file(root)


@pytest.mark.parametrize("options", [{"image_size": 9}, {"fit": "pad"}, {"channels": 1}, {"test_seed": 1}])
def test_a_change_of_settings_is_noticed(tmp_path: Path, decoded: list[str], options: dict[str, Any]) -> None:
    root = photos(tmp_path)
    first = open_folder(root)
    assert not same(open_folder(root, **options), first) and len(decoded) == 40
    again = "test_seed" in options  # another order replaces the pixels, another look lies beside them
    assert same(open_folder(root), first) and len(decoded) == (60 if again else 40)


def test_a_cache_cut_short_is_made_again(tmp_path: Path, decoded: list[str]) -> None:
    root = photos(tmp_path)
    digest = open_folder(root).digest
    os.truncate(pixels_file(root), 100)
    assert open_folder(root).digest == digest and len(decoded) == 40


def test_what_is_written_to_pixels_stays_in_memory(tmp_path: Path) -> None:
    root = photos(tmp_path)
    first = open_folder(root)
    digest = first.digest
    first.train.pixels.zero_()
    assert open_folder(root).digest == digest


def test_cache_false_writes_nothing(tmp_path: Path, own_cache: Path, decoded: list[str]) -> None:
    root = photos(tmp_path)
    assert same(open_folder(root, cache=False), open_folder(root, cache=False)) and len(decoded) == 40
    assert not kept(root) and not list(own_cache.iterdir())


def test_a_closed_folder_is_cached_elsewhere(
    tmp_path: Path, own_cache: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, access = photos(tmp_path), os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: not Path(path).is_relative_to(tmp_path) and access(path, mode)
    )
    first = open_folder(root)
    assert same(open_folder(root), first) and len(decoded) == 20
    assert len(list(own_cache.rglob("*.u8"))) == 1


def memory(monkeypatch: pytest.MonkeyPatch, free: int, disk: int = 10**12) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": free}))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Disk", (), {"free": disk}))


def test_what_does_not_fit_in_memory_is_decoded_by_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = photos(tmp_path)
    whole = open_folder(root, cache=False)
    memory(monkeypatch, free=2 * 20 * 8 * 8 * 3)
    with caplog.at_level(logging.INFO, "imgcls"):
        source = open_folder(root)
    assert isinstance(source.train.pixels, Undecoded) and same(source, whole)
    assert (
        caplog.messages[-1]
        == "images are decoded whenever they are used (0 MB; dataset.cache=true would keep them)"
    )
    assert not ImageData(source, batch_size=4).resident
    assert isinstance(open_folder(root, resident=True).train.pixels, torch.Tensor)
    kept = open_folder(root, cache=True)
    assert isinstance(kept.train.pixels, torch.Tensor) and pixels_file(root).is_file()
    assert not ImageData(kept, batch_size=4).resident  # mapped from the disk, and read by workers


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(tmp_path)
    memory(monkeypatch, free=10**12, disk=1000)
    assert isinstance(open_folder(root).train.pixels, torch.Tensor)
    assert not list(root.rglob("*.u8"))
    with pytest.raises(ResourceError) as caught:
        open_folder(root, cache=True)
    why = f"0 MB are free in {root}"
    what = f"{root.name}: cannot keep 0 MB of decoded images ({why}). Make room, or set dataset.cache=false."
    assert str(caught.value) == what


def test_trouble_while_writing_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    with pytest.raises(ResourceError, match=r"cannot keep .*\.json \(No space left on device\)\. Make room"):
        open_folder(root)
    assert set(kept(root)) <= {".lock"}


@pytest.mark.parametrize("options", [{}, {"cache": False}])
def test_files_that_break_while_decoding_are_named(tmp_path: Path, options: dict[str, Any]) -> None:
    root = photos(tmp_path)
    truncate(root / "ant/0.png")
    truncate(root / "bee/7.png")
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            open_folder(root, **options)
        assert str(caught.value).startswith(f"{root}: 2 of 20 images cannot be read: ")
        assert "ant/0.png (image file is truncated" in str(caught.value)
    assert not list(root.rglob("*.u8*"))


@pytest.mark.parametrize("options", [{}, {"cache": False}, {"cache": False, "resident": False}])
def test_files_that_break_while_decoding_are_skipped(
    tmp_path: Path, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    root = photos(tmp_path, count=20)
    whole = open_folder(root, cache=False)
    row = int(whole.train.labels.argmin())
    bad = next(
        path for path in sorted((root / "ant").iterdir()) if same_pixels(path, whole.train.pixels[row])
    )
    truncate(bad)
    (root / "bee/0.png").write_bytes(b"")
    for _ in range(2):
        with caplog.at_level(logging.INFO, "imgcls"):
            source = open_folder(root, on_bad_image="skip", **options)
        assert len(source.train) + len(source.test) == 38
        kept = np.delete(whole.train.pixels.numpy(), row, axis=0)
        assert np.array_equal(source.train.pixels.numpy()[:10], kept[:10])  # the split is as it was
        assert "that cannot be" in caplog.text
    (root / "bee/0.png").unlink()
    bad.unlink()
    assert len(open_folder(root, **options).train) > 0


def same_pixels(path: Path, pixels: torch.Tensor) -> bool:
    return np.array_equal(read_image(path, 3, 8), pixels.numpy())


def test_skipped_files_are_known_at_the_next_start(tmp_path: Path, decoded: list[str]) -> None:
    root = photos(tmp_path)
    truncate(root / "ant/0.png")
    first = open_folder(root, on_bad_image="skip")
    assert len(decoded) == 20 and pixels_file(root).stat().st_size == 19 * 8 * 8 * 3
    assert same(open_folder(root, on_bad_image="skip"), first) and len(decoded) == 20
    with pytest.raises(DataError, match=r"1 of 20 images cannot be read: ant/0\.png"):
        open_folder(root)
    assert same(open_folder(root, on_bad_image="skip"), first)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_worker_names_a_broken_file_in_one_line(tmp_path: Path, workers: int) -> None:
    root = photos(tmp_path)
    truncate(root / "ant/0.png")
    source = open_folder(root, cache=False, resident=False)
    with pytest.raises(DataError) as caught:
        batches(attached(source, "auto", workers))
    assert str(caught.value).startswith(
        f"{root}/ant/0.png cannot be read as an image (image file is truncated"
    )
    assert "\n" not in str(caught.value)


def test_statistics_of_many_images_are_those_of_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    root = photos(tmp_path, count=20)
    settings = ("mean_std", None, 1, None, "nearest")
    whole = attached(open_folder(root, cache=False), True).prepare(*settings)
    decoded.clear()
    images = attached(open_folder(root, cache=False, resident=False), "auto")
    all_of_them = images.prepare(*settings)
    assert torch.equal(all_of_them.mean, whole.mean) and torch.equal(all_of_them.std, whole.std)
    assert len(decoded) == len(images.train_rows)
    monkeypatch.setattr("imgcls.data.datamodule.SAMPLE", 7)
    monkeypatch.setattr("imgcls.data.datamodule.MEASURED", 0)
    decoded.clear()
    few = images.prepare(*settings)
    resident = attached(open_folder(root, cache=False), True).prepare(*settings)
    assert torch.equal(few.mean, resident.mean)  # what happens to be decoded changes no number
    decoded.clear()
    images.prepare(*settings)
    assert len(decoded) == 7 and torch.equal(few.mean, images.prepare(*settings).mean)
    assert 0 < (few.mean - whole.mean).abs().max() < 20
    decoded.clear()
    images.prepare("zero_one", None, 1, None, "nearest")
    assert decoded == []


def test_a_limit_decodes_only_what_it_uses(tmp_path: Path, decoded: list[str]) -> None:
    root = photos(tmp_path, count=20)
    images = ImageData(open_folder(root, limit=4), batch_size=2, limit=4, val_fraction=0.25, num_workers=0)
    attach(images)
    images.prepare("mean_std", None, 1, None, "nearest")
    assert len(batches(images)) == 4 and len(set(decoded)) <= 8
    assert len(images.tested.pixels.numpy()) == 4


def test_undecoded_files_stand_in_for_a_tensor(tmp_path: Path, decoded: list[str]) -> None:
    source = open_folder(photos(tmp_path), cache=False, resident=False)
    pixels: Any = source.train.pixels
    assert decoded == [] and source.digest and decoded == []
    assert (pixels.shape, pixels.dtype, pixels.nbytes) == ((17, 8, 8, 3), torch.uint8, 17 * 8 * 8 * 3)
    some = pixels[np.array([3, 1])]
    assert len(some) == 2 and decoded == []
    assert np.array_equal(some.numpy(), pixels.index_select(0, torch.tensor([3, 1])).numpy())
    assert len(pixels[torch.tensor([0])]) == 1 and len(pixels[2:]) == 15
    assert pixels[np.array([], int)].numpy().shape == (0, 8, 8, 3)  # no wrong answers, an idle rank
    assert open_folder(tmp_path, cache=False, resident=False).digest == source.digest
    save(tmp_path / "ant/0.png", noise(5, (30, 30)))
    assert open_folder(tmp_path, cache=False, resident=False).digest != source.digest


def test_names_that_are_no_text(tmp_path: Path) -> None:
    root, name = photos(tmp_path), os.fsdecode(b"ant/\xff.png")
    save(tmp_path / "ant/x.png", 1).rename(root / name)
    for _ in range(2):
        assert len(open_folder(root).train) == 18
    assert open_folder(root, cache=False, resident=False).digest


def test_settings_reach_the_source(tmp_path: Path, compose: Any) -> None:
    photos(tmp_path, count=20)
    overrides = ("dataset=folder", f"dataset.root={tmp_path}", "dataset.image_size=6", "dataset.fit=stretch")
    config = compose(*overrides, "dataset.test_fraction=0.5", "batch_size=4")
    images = build.data(config)
    assert images.shape == (6, 6, 3) and len(images.source.test) == 20
    other = compose("dataset=folder", "dataset.root=elsewhere")
    assert config["dataset"]["images"] != other["dataset"]["images"]


def test_other_sources_get_what_they_ask_for(compose: Any) -> None:
    images = build.data(compose("dataset=digits"))
    assert isinstance(images.source.train, Images) and images.classes == tuple("0123456789")
