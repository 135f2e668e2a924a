"""Published datasets of photos: torchvision's lists of files, our pixels, and what to do where files lack."""

import csv
import hashlib
import io
import json
import shutil
import socket
import tarfile
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from pictures import noise, save
from scipy.io import savemat
from torchvision import datasets
from torchvision.datasets import imagenet as tv_imagenet

from imgcls.data import photos
from imgcls.data.fetch import Published
from imgcls.data.files import TEST, TRAIN, VAL
from imgcls.data.images import read_image
from imgcls.data.sources import Source
from imgcls.errors import ConfigError, DataError

CONF = Path(__file__).parents[2] / "conf"
COUNTS = {TRAIN: 6, VAL: 4, TEST: 4}
READERS = {
    "gtsrb": (datasets.GTSRB, {"split": "train"}, {"split": "test"}),
    "flowers102": (datasets.Flowers102, {"split": "train"}, {"split": "test"}),
    "food101": (datasets.Food101, {"split": "train"}, {"split": "test"}),
    "oxford_pets": (datasets.OxfordIIITPet, {"split": "trainval"}, {"split": "test"}),
    "imagenet": (datasets.ImageNet, {"split": "train"}, {"split": "val"}),
}
WANTED = {
    "gtsrb": "gtsrb/{GTSRB-Training_fixed.zip,GTSRB_Final_Test_Images.zip,GTSRB_Final_Test_GT.zip}",
    "flowers102": "flowers-102/{102flowers.tgz,imagelabels.mat,setid.mat}",
    "food101": "food-101/ (or food-101.tar.gz)",
    "oxford_pets": "oxford-iiit-pet/{images.tar.gz,annotations.tar.gz}",
    "imagenet": "{ILSVRC2012_img_train.tar,ILSVRC2012_img_val.tar,ILSVRC2012_devkit_t12.tar.gz}",
}


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_gtsrb(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(COUNTS[TRAIN]):
        save(
            root / f"gtsrb/GTSRB/Training/{number % 3:05d}/{number:05d}.ppm", noise(number, (20 + number, 17))
        )
    lines = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for number in range(COUNTS[TEST]):
        save(root / f"gtsrb/GTSRB/Final_Test/Images/{number:05d}.ppm", noise(90 + number, (20, 19)))
        lines.append(f"{number:05d}.ppm;20;19;5;5;15;14;{number % 3}")
    (root / "gtsrb/GT-final_test.csv").write_text("\n".join(lines))


def write_flowers102(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, total = root / "flowers-102", sum(COUNTS.values())
    for number in range(1, total + 1):
        save(place / f"jpg/image_{number:05d}.jpg", noise(number, (30, 20)))
    order = np.arange(1, total + 1)[::-1]
    savemat(place / "imagelabels.mat", {"labels": np.arange(total) % 102 + 1})
    ends = np.cumsum([COUNTS[TRAIN], COUNTS[VAL]])
    savemat(place / "setid.mat", dict(zip(("trnid", "valid", "tstid"), np.split(order, ends), strict=True)))
    listed = dict(datasets.Flowers102._file_dict)
    for key in ("label", "setid"):
        listed[key] = (listed[key][0], md5(place / listed[key][0]))
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", listed)


def write_food101(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, key in ((TRAIN, "train"), (TEST, "test")):
        names = [f"{('pizza', 'apple_pie')[n % 2]}/{100 * part + n}" for n in range(COUNTS[part])]
        for seed, name in enumerate(names):
            save(root / f"food-101/images/{name}.jpg", noise(seed + part, (24, 30)))
        classes = {name: [n for n in names if n.startswith(name)] for name in ("pizza", "apple_pie")}
        (root / "food-101/meta").mkdir(exist_ok=True)
        (root / f"food-101/meta/{key}.json").write_text(json.dumps(classes))


def write_oxford_pets(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = root / "oxford-iiit-pet"
    (place / "annotations").mkdir(parents=True)
    for part, key in ((TRAIN, "trainval"), (TEST, "test")):
        lines = []
        for number in range(COUNTS[part]):
            kind, name = number % 2, ("Abyssinian", "great_pyrenees")[number % 2]
            lines.append(f"{name}_{10 * part + number} {kind + 1} {kind + 1} 1")
            save(place / f"images/{name}_{10 * part + number}.jpg", noise(number + 50 * part, (20, 30)))
        (place / f"annotations/{key}.txt").write_text("\n".join(lines))


def write_imagenet(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"n01": ("crane",), "n02": ("tench", "Tinca tinca"), "n03": ("crane",)}
    for part, key in ((TRAIN, "train"), (TEST, "val")):
        for number in range(COUNTS[part]):
            save(
                root / key / f"n0{number % 3 + 1}/{key}_{number}.JPEG",
                noise(number + 20 * part),
                format="JPEG",
            )
    torch.save((names, ["n01"]), root / "meta.bin")


WRITE: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    name: globals()[f"write_{name}"] for name in READERS
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for a few images in each published format; counts are set to fit, and there is no network."""
    (tmp_path / "data").mkdir()

    def small(made: Callable[[], photos.Photos]) -> Callable[[], photos.Photos]:
        return lambda: replace(made(), counts=tuple((part, COUNTS[part]) for part, _ in made().counts))

    monkeypatch.setattr(photos, "KNOWN", {name: small(made) for name, made in photos.KNOWN.items()})

    def urlopen(*_: Any, **__: Any) -> None:
        raise URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return tmp_path / "data"


def opened(name: str, root: Path, **options: Any) -> Source:
    return photos.published(name, str(root), **{"download": False, "image_size": 8, **options})


def listed(name: str, root: Path, arguments: dict[str, Any]) -> list[tuple[str, int]]:
    """Files and labels as torchvision gives them."""
    data, seen = READERS[name][0](str(root), **arguments), []

    def note(file: Any, *_: Any) -> None:
        seen.append(file.name if hasattr(file, "read") else str(file))
        raise KeyError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("PIL.Image.open", note)
        for index in range(len(data)):
            with pytest.raises(KeyError):
                data[index]
    labels = data.targets if hasattr(data, "targets") else [pair[1] for pair in photos._pairs(data)]
    return list(zip(seen, labels, strict=True))


@pytest.mark.parametrize("name", READERS)
def test_files_and_labels_are_torchvisions(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITE[name](root, monkeypatch)
    source = opened(name, root)
    for images, arguments in zip((source.train, source.test), READERS[name][1:], strict=True):
        for row, (path, label) in enumerate(listed(name, root, arguments)):
            assert np.array_equal(images.pixels[row].numpy(), read_image(path, 3, 8))
            assert images.labels[row] == label
    assert (len(source.train), len(source.test)) == (10 if name == "flowers102" else 6, 4)


def test_the_validation_images_of_flowers_are_held_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_flowers102(root, monkeypatch)
    source = opened("flowers102", root)
    assert source.held is not None and source.held.tolist() == [6, 7, 8, 9]
    paths = [path for path, _ in listed("flowers102", root, {"split": "val"})]
    expected = np.stack([read_image(path, 3, 8) for path in paths])
    assert np.array_equal(source.train.pixels[source.held].numpy(), expected)


@pytest.mark.parametrize(
    ("name", "title", "count", "some"),
    [
        (
            "gtsrb",
            "GTSRB",
            43,
            {14: "stop", 2: "speed limit 50", 8: "speed limit 120", 42: "end of no passing for lorries"},
        ),
        ("flowers102", "Flowers-102", 102, {0: "pink primrose", 101: "blackberry lily"}),
        ("food101", "Food-101", 2, {0: "apple_pie", 1: "pizza"}),
        ("oxford_pets", "Oxford-IIIT Pet", 2, {0: "Abyssinian", 1: "Great Pyrenees"}),
        ("imagenet", "ImageNet", 3, {0: "crane (n01)", 1: "tench, Tinca tinca", 2: "crane (n03)"}),
    ],
)
def test_names(
    name: str, title: str, count: int, some: dict[int, str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITE[name](root, monkeypatch)
    source = opened(name, root)
    assert (source.name, source.title) == (name, title)
    assert len(set(source.classes)) == len(source.classes) == count
    assert {label: source.classes[label] for label in some} == some


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("download", [False, True])
def test_missing_files(name: str, download: bool, root: Path) -> None:
    title, empty = photos.KNOWN[name]().title, root / "empty"
    with pytest.raises(DataError) as caught:
        opened(name, empty, download=download)
    why = "could not be downloaded (no network)" if download else "dataset.download=false"
    why = "is to be had from image-net.org only" if name == "imagenet" else why
    place = "there, or set dataset.root to the folder that has it."
    assert str(caught.value) == f"{title} is not in {empty} and {why}. Put {WANTED[name]} {place}"
    assert empty.exists() == (download and name != "imagenet")


@pytest.mark.parametrize("name", ["food101", "oxford_pets", "gtsrb", "flowers102"])
def test_archives_are_unpacked(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITE[name](root, monkeypatch)
    before = opened(name, root, cache=False).digest
    packed = root.with_name("packed")
    pack(name, root, packed, monkeypatch)
    assert opened(name, packed).digest == before
    assert not list(packed.glob(".imgcls-*/*.tar*"))


def pack(name: str, root: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archives that a dataset is published as, with its files in them."""
    made = photos.KNOWN[name]()
    archives: dict[str, str] = {}
    contents = {
        "food-101.tar.gz": ["food-101"],
        "oxford-iiit-pet/images.tar.gz": ["images"],
        "oxford-iiit-pet/annotations.tar.gz": ["annotations"],
        "flowers-102/102flowers.tgz": ["jpg"],
        "gtsrb/GTSRB-Training_fixed.zip": ["GTSRB/Training"],
        "gtsrb/GTSRB_Final_Test_Images.zip": ["GTSRB/Final_Test"],
        "gtsrb/GTSRB_Final_Test_GT.zip": ["GT-final_test.csv"],
    }
    for archive in made.published.archives:
        file, base = packed / archive, root / Path(archive).parent
        file.parent.mkdir(parents=True, exist_ok=True)
        for inner in contents[archive]:
            write_archive(file, base, inner)
        archives[archive] = md5(file)
    for loose in (root / made.place).glob("*.mat"):
        shutil.copy(loose, packed / made.place)
    published = replace(made.published, archives=archives)
    monkeypatch.setitem(photos.KNOWN, name, lambda: replace(made, published=published))


def write_archive(file: Path, base: Path, inner: str) -> None:
    if file.suffix == ".zip":
        with ZipFile(file, "w") as archive:
            for path in sorted(p for p in [base / inner, *(base / inner).rglob("*")] if p.is_file()):
                archive.write(path, path.relative_to(base))
    else:
        with tarfile.open(file, "w:gz") as tar:
            tar.add(base / inner, inner)


def test_imagenet_is_unpacked_as_torchvision_does(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_imagenet(root, monkeypatch)
    before = opened("imagenet", root, cache=False).digest
    packed = root.with_name("packed")
    packed.mkdir()
    pack_imagenet(root, packed)
    marks = {key: (name, md5(packed / name)) for key, (name, _) in tv_imagenet.ARCHIVE_META.items()}
    monkeypatch.setattr(tv_imagenet, "ARCHIVE_META", marks)
    monkeypatch.setattr(tv_imagenet.parse_devkit_archive, "__defaults__", (None,))
    source = opened("imagenet", packed)
    assert source.digest == before and source.classes[1] == "tench, Tinca tinca"
    assert sorted(path.name for path in packed.iterdir() if path.is_dir()) == [
        "train",
        "val",
    ]


def pack_imagenet(root: Path, packed: Path) -> None:
    """Its three archives: images by class in tars of their own, validation images in a heap, and a devkit."""
    with tarfile.open(packed / "ILSVRC2012_img_train.tar", "w") as tar:
        for place in sorted((root / "train").iterdir()):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as own:
                for path in sorted(place.iterdir()):
                    own.add(path, path.name)
            entry = tarfile.TarInfo(f"{place.name}.tar")
            entry.size = len(inner.getvalue())
            tar.addfile(entry, io.BytesIO(inner.getvalue()))
    heap = sorted((root / "val").rglob("*.JPEG"), key=lambda path: path.name)
    with tarfile.open(packed / "ILSVRC2012_img_val.tar", "w") as tar:
        for path in heap:
            tar.add(path, path.name)
    kit = packed / "ILSVRC2012_devkit_t12/data"
    kit.mkdir(parents=True)
    synsets = [(1, "n01", "crane"), (2, "n02", "tench, Tinca tinca"), (3, "n03", "crane")]
    kinds = [
        ("ILSVRC2012_ID", float),
        ("WNID", object),
        ("words", object),
        ("gloss", object),
        ("num_children", float),
    ]
    rows = np.array([(number, wnid, words, "", 0) for number, wnid, words in synsets], dtype=kinds)
    savemat(kit / "meta.mat", {"synsets": rows})
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text(
        "\n".join(path.parent.name[-1] for path in heap)
    )
    with tarfile.open(packed / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        tar.add(kit.parent, kit.parent.name)
    shutil.rmtree(kit.parent)


@pytest.mark.parametrize("name", ["gtsrb", "food101"])
def test_a_wrong_number_of_images(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITE[name](root, monkeypatch)
    monkeypatch.setitem(COUNTS, TEST, 5)
    with pytest.raises(DataError) as caught:
        opened(name, root)
    made = photos.KNOWN[name]()
    remedy = "Delete its files and run again with dataset.download=true."
    assert str(caught.value) == f"{made.title}: {root / made.place} lists 4 images, expected 5. {remedy}"


def test_damaged_lists(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_food101(root, monkeypatch)
    (root / "food-101/meta/test.json").write_text("{")
    with pytest.raises(
        DataError, match=r"Food-101: its files in .*food-101 cannot be read \(JSONDecodeError"
    ):
        opened("food101", root)
    write_flowers102(root, monkeypatch)
    (root / "flowers-102/setid.mat").write_bytes(b"")
    with pytest.raises(DataError, match=r"Flowers-102: .*setid\.mat is damaged \(0 bytes; its md5 is not"):
        opened("flowers102", root)


def test_a_missing_image_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_oxford_pets(root, monkeypatch)
    (root / "oxford-iiit-pet/images/Abyssinian_2.jpg").unlink()
    line = "1 of 10 images cannot be read: images/Abyssinian_2.jpg (is not there)"
    with pytest.raises(DataError, match=line.replace("(", r"\(").replace(")", r"\)")):
        opened("oxford_pets", root)
    assert len(opened("oxford_pets", root, on_bad_image="skip").train) == 5


def test_an_unknown_name(root: Path) -> None:
    known = "gtsrb, flowers102, food101, oxford_pets, imagenet"
    with pytest.raises(ConfigError, match=rf"dataset\.name=cars is not known\. Choose from: {known}\."):
        opened("cars", root)


@pytest.mark.parametrize("name", READERS)
def test_what_is_known_of_the_real_ones(name: str) -> None:
    """Counts, in conf and in code; md5s of all archives; and torchvision's arguments for each part."""
    made = photos.KNOWN[name]()
    assert isinstance(made.published, Published)
    assert all(len(mark) == 32 for mark in made.published.archives.values())
    first = (CONF / "dataset" / f"{name}.yaml").read_text().splitlines()[0]
    assert " + ".join(f"{count:,}" for _, count in made.counts) in first and len(first) <= 80


@pytest.mark.parametrize("name", READERS)
def test_configuration(name: str, compose: Any) -> None:
    config = compose(f"dataset={name}")["dataset"]
    assert config["name"] == name and config["_target_"] == "imgcls.data.photos.published"
    assert config["image_size"] == (48 if name == "gtsrb" else 224)


def test_labels_of_signs_are_those_of_the_csv(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gtsrb(root, monkeypatch)
    with (root / "gtsrb/GT-final_test.csv").open() as file:
        labels = [int(row["ClassId"]) for row in csv.DictReader(file, delimiter=";")]
    assert opened("gtsrb", root).test.labels.tolist() == labels
