"""Image files of every kind become the pixels a person sees in them, or one line that says why not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgcls.data.images import SUFFIXES, find_images, read_image
from imgcls.errors import ConfigError, DataError

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def pixels(*colours: object, mode: str = "RGB") -> Image.Image:
    """An image of 2 x 2 pixels."""
    image = Image.new(mode, (2, 2))
    for index, colour in enumerate(colours):
        image.putpixel((index % 2, index // 2), colour)  # type: ignore[arg-type]
    return image


def read(
    tmp_path: Path, image: Image.Image, suffix: str = "png", channels: int = 3, **options: Any
) -> list[tuple[int, ...]]:
    """Colours of a 2 x 2 image after a trip through a file, row by row."""
    if suffix == "webp":
        options["lossless"] = True
    path = tmp_path / f"image.{suffix}"
    image.save(path, **options)
    result = read_image(path, channels, 2)
    assert (result.shape, result.dtype) == ((2, 2, channels), np.uint8)
    return [tuple(map(int, colour)) for colour in result.reshape(4, channels)]


def error(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_image(path, 3, 8)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp", "gif"])
def test_rgb_is_exact(tmp_path: Path, suffix: str) -> None:
    colours = [RED, GREEN, BLUE, WHITE]
    assert read(tmp_path, pixels(*colours), suffix) == colours


def test_grey_and_colour_become_what_the_network_takes(tmp_path: Path) -> None:
    assert read(tmp_path, pixels(0, 1, 128, 255, mode="L")) == [(v, v, v) for v in (0, 1, 128, 255)]
    assert read(tmp_path, pixels(0, 1, 128, 255, mode="L"), channels=1) == [(0,), (1,), (128,), (255,)]
    assert read(tmp_path, pixels(RED, GREEN, BLUE, WHITE), channels=1) == [(76,), (150,), (29,), (255,)]


def test_one_bit(tmp_path: Path) -> None:
    assert read(tmp_path, pixels(0, 1, 1, 0, mode="1"), channels=1) == [(0,), (255,), (255,), (0,)]


def test_transparent_is_white(tmp_path: Path) -> None:
    half = (0, 0, 0, 128)
    colours = [(*RED, 255), (*RED, 0), half, (*BLACK, 0)]
    assert read(tmp_path, pixels(*colours, mode="RGBA")) == [RED, WHITE, (127, 127, 127), WHITE]
    assert read(tmp_path, pixels((9, 255), (9, 0), (0, 128), (255, 0), mode="LA"), channels=1) == [
        (9,),
        (255,),
        (127,),
        (255,),
    ]


def test_transparent_palette_and_key_colour(tmp_path: Path) -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2, 1])
    assert read(tmp_path, image, "gif", transparency=1) == [RED, WHITE, BLUE, WHITE]
    assert read(tmp_path, image, "png", transparency=b"\xff\x00\xff") == [RED, WHITE, BLUE, WHITE]
    assert read(tmp_path, image.convert("RGB"), "png", transparency=GREEN) == [RED, WHITE, BLUE, WHITE]


def test_cmyk(tmp_path: Path) -> None:
    inks = [(0, 255, 255, 0), (255, 0, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0)]
    assert read(tmp_path, pixels(*inks, mode="CMYK"), "tif") == [RED, GREEN, BLACK, WHITE]
    # As Photoshop writes JPEG: inverted, which Pillow knows from the Adobe marker.
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    image.save(tmp_path / "cmyk.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "cmyk.jpg", 3, 16).astype(int) - RED).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 256], [32768, 65535]], np.uint16)
    assert read(tmp_path, Image.fromarray(values), suffix, channels=1) == [(0,), (1,), (128,), (255,)]
    # A dark image stays dark: the range is the type's, not the image's.
    assert read(tmp_path, Image.fromarray(values // 256), suffix, channels=1) == [(0,), (0,), (0,), (1,)]


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.float32, [0, 0.25, 0.5, 1], [0, 64, 128, 255]),
        (np.float32, [0, 1, 100, 255], [0, 1, 100, 255]),
        (np.float32, [0, 257, 32896, 65535], [0, 1, 128, 255]),
        (np.float32, [-1, 0, 0.2, 1], [0, 128, 153, 255]),
        (np.float32, [np.nan, np.inf, 0.2, 1], [0, 0, 51, 255]),
        (np.float32, [7e9, 7e9, 7e9, 7e9], [0, 0, 0, 0]),
        (np.int32, [0, 1, 100, 200], [0, 1, 100, 200]),
        (np.int32, [0, 257, 32896, 65535], [0, 1, 128, 255]),
        (np.int32, [-100, 0, 0, 155], [0, 100, 100, 255]),
    ],
)
def test_ints_and_floats(tmp_path: Path, dtype: type, values: list, expected: list[int]) -> None:
    image = Image.fromarray(np.array(values, dtype).reshape(2, 2))
    assert read(tmp_path, image, "tif", channels=1) == [(value,) for value in expected]


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, [RED, GREEN, BLUE, WHITE]),
        (2, [GREEN, RED, WHITE, BLUE]),
        (3, [WHITE, BLUE, GREEN, RED]),
        (6, [BLUE, RED, WHITE, GREEN]),  # a quarter turn to the right
        (8, [GREEN, WHITE, RED, BLUE]),
    ],
)
def test_upright(tmp_path: Path, orientation: int, turned: list) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert read(tmp_path, pixels(RED, GREEN, BLUE, WHITE), "png", exif=exif) == turned
    values = np.array([[0, 0], [0, 65535]], np.uint16)
    corner = turned.index(WHITE)
    assert read(tmp_path, Image.fromarray(values), "png", channels=1, exif=exif)[corner] == (255,)


def test_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in (RED, GREEN, BLUE)]
    for suffix in ("gif", "webp", "png", "tif"):
        assert read(tmp_path, frames[0], suffix, save_all=True, append_images=frames[1:]) == [RED] * 4


def test_phones_that_pack_two_images(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((200, 0, 0), (0, 200, 0))]
    frames[0].save(tmp_path / "mpo.jpg", format="MPO", save_all=True, append_images=frames[1:], quality=100)
    assert np.abs(read_image(tmp_path / "mpo.jpg", 3, 16).astype(int) - (200, 0, 0)).max() <= 2


@pytest.mark.parametrize(
    ("mode", "options"),
    [("RGB", {"subsampling": n}) for n in ("4:4:4", "4:2:2", "4:2:0")]
    + [("RGB", {"progressive": True}), ("L", {})],
)
def test_jpeg_is_as_pillow_has_it(tmp_path: Path, mode: str, options: dict[str, Any]) -> None:
    channels = len(mode) if mode == "RGB" else 1
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, channels), dtype=np.uint8)
    image = Image.fromarray(noise.squeeze()).resize((70, 50))
    image.save(tmp_path / "image.jpg", quality=80, **options)
    with Image.open(tmp_path / "image.jpg") as file:
        expected = np.array(file.crop((10, 0, 60, 50))).reshape(50, 50, channels)
        small = np.array(file.resize((20, 20), Image.Resampling.BILINEAR)).reshape(20, 20, channels)
    assert np.array_equal(read_image(tmp_path / "image.jpg", channels, 50), expected)
    found = read_image(tmp_path / "image.jpg", channels, 20, "stretch")
    assert np.abs(found.astype(int) - small).max() <= 1


def test_fit(tmp_path: Path) -> None:
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, :4], wide[:, 4:12], wide[:, 12:] = RED, GREEN, BLUE
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert np.array_equal(read_image(tmp_path / "wide.png", 3, 8), wide[:, 4:12])
    padded = read_image(tmp_path / "wide.png", 3, 16, "pad")
    assert np.array_equal(padded[4:12], wide)
    assert not padded[:4].any()
    assert not padded[12:].any()
    stretched = read_image(tmp_path / "wide.png", 3, 4, "stretch")
    # Bilinear over the 8 source pixels around each centre, weights 1 3 5 7 7 5 3 1.
    row = [[219, 36, 0], [32, 223, 0], [0, 223, 32], [0, 36, 219]]
    assert np.array_equal(stretched, [row] * 4)
    with pytest.raises(ConfigError, match=r"fit=fill is unknown\. Use crop, pad or stretch\."):
        read_image(tmp_path / "wide.png", 3, 8, "fill")


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_shrinking_averages_and_extremes_hold(tmp_path: Path, fit: str) -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / "board.png")
    shrunk = read_image(tmp_path / "board.png", 1, 4, fit).astype(int)
    assert np.abs(shrunk - 127.5).max() < 4
    Image.new("L", (3000, 1), 255).save(tmp_path / "line.png")
    assert read_image(tmp_path / "line.png", 1, 8, fit).max() == 255
    assert read_image(tmp_path / "line.png", 1, 1, fit).shape == (1, 1, 1)


def test_unreadable_files(tmp_path: Path) -> None:
    remedy = "Remove or replace it."
    text, empty, cut = tmp_path / "text.png", tmp_path / "empty.jpg", tmp_path / "cut.jpg"
    text.write_text("no image")
    empty.touch()
    Image.effect_noise((64, 64), 50).save(cut)
    cut.write_bytes(cut.read_bytes()[:900])
    unknown = "cannot be read as an image (not in a known image format)"
    assert error(text) == f"{text} {unknown}. {remedy}"
    assert error(empty) == f"{empty} {unknown}. {remedy}"
    assert error(cut).startswith(f"{cut} cannot be read as an image (")
    none = tmp_path / "none.png"
    there = "See that it is there, and its disk."
    assert error(none) == f"{none} cannot be read (No such file or directory). {there}"


@pytest.mark.parametrize("suffix", ["png", "gif", "bmp", "webp", "tif", "jpg"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert error(path).startswith(f"{path} cannot be read as an image (")


def test_postscript_is_not_run(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "drawing.eps")
    path = (tmp_path / "drawing.eps").rename(tmp_path / "drawing.png")
    assert "not in a known image format" in error(path)


def test_huge_images_are_refused_from_the_header(tmp_path: Path) -> None:
    path = tmp_path / "huge.pgm"
    path.write_bytes(b"P5 10000 5001 255\n")
    size = "10,000 x 5,001 pixels, over the limit of 50 million"
    assert error(path) == f"{path} has {size}. Make it smaller."
    path.write_bytes(b"P5 100000 100000 255\n")  # beyond Pillow's own limit
    assert error(path) == f"{path} cannot be read as an image (over 50 million pixels). Remove or replace it."
    path.write_bytes(b"P5 10000 5000 255\n")
    assert "million" not in error(path)


def test_names_are_found_in_natural_order(tmp_path: Path) -> None:
    names = ["2.png", "10.JPG", "a/1.png", "a/b/x2.gif", "a/b/x10.gif", "B.tiff", "c.webp"]
    hidden = [".secret.png", ".cache/1.png", "__MACOSX/1.png", "a/._1.png", "notes.txt", "1.png.part"]
    for name in names + hidden:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(str(tmp_path)) == [tmp_path / name for name in names]
    top = ("2.png", "10.JPG", "B.tiff", "c.webp")
    assert find_images(f"{tmp_path}/*.*") == [tmp_path / name for name in top]
    assert find_images(f"{tmp_path}/a*") == [tmp_path / name for name in names[2:5]]
    assert find_images(f"{tmp_path}/**/x?.gif") == [tmp_path / "a/b/x2.gif"]
    assert find_images(str(tmp_path / "notes.txt")) == [tmp_path / "notes.txt"]


def test_brackets_in_a_name_are_no_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run [1]").mkdir()
    (tmp_path / "run [1]/x.png").touch()
    monkeypatch.chdir(tmp_path)
    assert find_images("run [1]") == [Path("run [1]/x.png")]
    assert find_images("run [1]/x.png") == [Path("run [1]/x.png")]


def test_nothing_found(tmp_path: Path) -> None:
    accepted = f"Accepted are {', '.join(SUFFIXES)}."
    (tmp_path / "notes.txt").touch()
    for source, what in {
        str(tmp_path): "has no images in it",
        f"{tmp_path}/*.txt": "has no images in it",
        f"{tmp_path}/none": "is no file, folder or glob that matches one",
        f"{tmp_path}/*.png": "is no file, folder or glob that matches one",
    }.items():
        with pytest.raises(DataError) as caught:
            find_images(source)
        assert str(caught.value) == f"source={source} {what}. {accepted}"
