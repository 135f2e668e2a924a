"""What headers tell: kinds, sizes, broken files and files that are in two parts; no image is decoded."""

import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures import noise, photos, save
from PIL import Image, ImageFile

from imgcls.data import scan
from imgcls.data.files import Files
from imgcls.data.layout import find
from imgcls.data.scan import Scan, usable
from imgcls.errors import DataError


def scanned(root: Path) -> tuple[Files, Scan]:
    """A scan that may not decode an image."""
    files = find(str(root))
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(ImageFile.ImageFile, "load")
        return files, scan.scan(files)


def png_header(path: Path, width: int, height: int) -> None:
    """A PNG of so many pixels, in a few bytes."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))


def test_sizes_and_types(tmp_path: Path) -> None:
    root = photos(tmp_path, count=2)
    save(root / "ant/large.jpg", noise(1, (60, 40)))
    save(root / "bee/small.gif", noise(2, (3, 4)))
    found = scanned(root)[1]
    assert found.sizes == [[3, 4], [12, 10], [60, 40]]
    assert found.types == {"PNG": 4, "JPEG": 1, "GIF": 1}
    assert not (found.grey or found.broken or found.frames or found.twins)


@pytest.mark.parametrize(
    ("mode", "suffix", "grey"),
    [
        *[(mode, "png", True) for mode in ("1", "L", "LA", "I;16")],
        *[(mode, "tif", True) for mode in ("F", "I")],
        *[(mode, "png", False) for mode in ("P", "RGB", "RGBA")],
        ("CMYK", "jpg", False),
    ],
)
def test_grey_is_what_has_no_colour_in_its_mode(tmp_path: Path, mode: str, suffix: str, grey: bool) -> None:
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        image = Image.new("L", (4, 4), 7)
        wide = Image.fromarray(np.full((4, 4), 700, np.uint16)) if mode == "I;16" else image.convert(mode)
        wide.save(tmp_path / name / f"1.{suffix}")
    assert scanned(tmp_path)[1].grey is grey


def test_one_colour_image_makes_colour(tmp_path: Path) -> None:
    root = photos(tmp_path, count=1)
    save(root / "ant/2.png", noise(1, channels=1))
    assert not scanned(root)[1].grey


def test_broken_files_are_named_with_the_reason(tmp_path: Path) -> None:
    root, place = photos(photos(tmp_path, count=2, below="train"), count=1, below="test"), tmp_path / "train"
    (place / "ant/empty.jpg").touch()
    (place / "ant/page.jpg").write_text("<html>not found</html>")
    (place / "bee/gone.png").symlink_to(root / "nothing")
    png_header(place / "bee/huge.png", 12_000, 9_000)
    png_header(place / "bee/bomb.png", 40_000, 30_000)
    (place / "bee/x.jpg").touch()
    files, found = scanned(root)
    assert found.broken == {
        "train/ant/empty.jpg": "is empty",
        "train/ant/page.jpg": "not in a known image format",
        "train/bee/bomb.png": "over 50 million pixels",
        "train/bee/gone.png": "is not there",
        "train/bee/huge.png": "12,000 x 9,000 pixels, over 50 million",
        "train/bee/x.jpg": "is empty",
    }
    with pytest.raises(DataError) as caught:
        usable(files, found, skips=False)
    first = ", ".join(f"{name} ({why})" for name, why in list(found.broken.items())[:5])
    remedy = "Replace or remove them, or leave them out with dataset.on_bad_image=skip."
    assert str(caught.value) == f"{root}: 6 of 12 images cannot be read: {first} … and 1 more. {remedy}"
    good = usable(files, found, skips=True)
    assert good.names == [name for name in files.names if name.endswith(("0.png", "1.png"))]
    assert [len(good.of(part)) for part in range(3)] == [4, 0, 2]


def test_skipping_leaves_no_class_behind(tmp_path: Path) -> None:
    root = photos(tmp_path, count=1)
    (root / "bee/0.png").write_bytes(b"")
    save(root / "ant/test.png", 3)
    files, found = scanned(root)
    with pytest.raises(DataError, match=r"no image of class bee to train on can be read\. Replace them\."):
        usable(files, found, skips=True)


def test_several_frames_are_counted(tmp_path: Path) -> None:
    root = photos(tmp_path, count=1)
    frames = [Image.fromarray(noise(k)) for k in range(3)]
    frames[0].save(root / "ant/film.gif", save_all=True, append_images=frames[1:])
    frames[0].save(root / "bee/pages.tif", save_all=True, append_images=frames[1:])
    frames[0].save(root / "bee/single.gif")
    assert scanned(root)[1].frames == ["ant/film.gif", "bee/pages.tif"]


def test_the_same_content_in_train_and_test(tmp_path: Path) -> None:
    root = photos(photos(photos(tmp_path, below="train"), below="val"), below="test")
    assert scanned(root)[1].twins == []
    for target, source in (("test/ant/x.png", "train/bee/3.png"), ("test/bee/y.png", "val/ant/0.png")):
        (root / target).write_bytes((root / source).read_bytes())
    (root / "train/ant/x.png").write_bytes((root / "train/ant/0.png").read_bytes())  # which is harmless
    found = scanned(root)[1]
    assert found.twins == [["test/ant/x.png", "train/bee/3.png"], ["test/bee/y.png", "val/ant/0.png"]]


def test_only_files_of_the_same_size_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, read = photos(photos(tmp_path, below="train"), below="test", count=1), []
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        path.write_bytes(path.read_bytes() + bytes(min(number, 20)))
    monkeypatch.setattr(scan, "_digest", lambda path: read.append(Path(path).name) or b"")
    scanned(root)
    assert len(read) <= 3


def test_the_report(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    classes = tuple(f"class {k}" for k in range(1, 13))
    root = photos(photos(tmp_path, classes, 3, "train"), classes, 1, "test")
    (root / "train/class 1/notes.txt").touch()
    (root / "train/class 1/0.png").write_bytes(b"")
    (root / "test/class 2/0.png").write_bytes((root / "train/class 2/0.png").read_bytes())
    Image.fromarray(noise(1)).save(
        root / "train/class 3/film.gif", save_all=True, append_images=[Image.fromarray(noise(2))]
    )
    files, found = scanned(root)
    with caplog.at_level(logging.INFO, "imgcls"):
        scan.report("bugs", files, found)
    assert [record.getMessage() for record in caplog.records] == [
        "bugs: 49 images in class folders of train, test (37 train, 12 test)",
        "12 classes to train on: class 1 3, class 2 3, class 3 4, "
        + ", ".join(f"class {k} 3" for k in range(4, 11))
        + " … and 2 more",
        "sizes: 12 x 10 smallest, 12 x 10 median, 12 x 10 largest; 47 PNG, 1 GIF; colour",
        "left out: 1 *.txt, 1 that cannot be read (train/class 1/0.png)",
        "files with several frames, of which the first is used: 1 (train/class 3/film.gif)",
        "tested and trained on: 1 (test/class 2/0.png = train/class 2/0.png), which flatters the score",
    ]
    assert [record.levelname for record in caplog.records] == ["INFO"] * 5 + ["WARNING"]


def test_threads_keep_the_order_and_say_how_far_they_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scan, "SECONDS", 0)
    monkeypatch.setattr(scan, "PART", 3)
    monkeypatch.setattr(scan.torch, "get_num_threads", lambda: 4)
    with caplog.at_level(logging.INFO, "imgcls"):
        assert list(scan.in_threads(lambda k: k * k, range(8), "squaring")) == [k * k for k in range(8)]
    assert caplog.records[-1].getMessage().startswith("squaring: 8 of 8 images, ")
