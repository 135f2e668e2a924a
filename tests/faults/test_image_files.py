"""Image files that are damaged, hostile or merely odd: read, or refused in one line that names the file.

Faults 87-94. Mutations are drawn by hypothesis; a crash would end pytest, a hang meets the deadline, and
memory is watched. `pytest -m slow` draws twenty times as many.
"""

import io
import resource
import struct
import zlib
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder

from imgcls.data.folder import folder
from imgcls.data.images import read_image
from imgcls.errors import DataError

FUZZ = settings(
    deadline=timedelta(seconds=30),
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF")
MEMORY = 1.0  # GB that a mutated file of a kilobyte may take: a decoder's buffers of 50 million pixels


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def originals(kind: str) -> list[bytes]:
    """Sound files of a format: grey and colour, with palette, several frames, metadata and compressions."""
    grey, colour = Image.fromarray(noise(20, 30)), Image.fromarray(noise(20, 30, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    found = [encoded(grey, kind), encoded(colour, kind)]
    if kind == "PNG":
        found += [encoded(colour.convert("P"), kind, transparency=3), encoded(colour, kind, exif=exif)]
    elif kind == "JPEG":
        found += [encoded(colour.convert("CMYK"), kind), encoded(colour, kind, exif=exif, progressive=True)]
    elif kind == "TIFF":
        found += [encoded(colour, kind, compression=c) for c in ("tiff_lzw", "jpeg", "tiff_deflate")]
    else:
        found.append(encoded(colour, kind, save_all=True, append_images=[colour, colour]))
    return found


ORIGINALS = {kind: originals(kind) for kind in FORMATS}
EDITS = ("flip", "set", "cut", "insert", "drop", "big")


@st.composite
def mutated(draw: st.DrawFn, kind: str) -> bytes:
    """A sound file with some of its bytes flipped, lost or added, or a number in it made huge."""
    data = bytearray(draw(st.sampled_from(ORIGINALS[kind])))
    for edit in draw(st.lists(st.sampled_from(EDITS), min_size=1, max_size=4)):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        if edit == "cut":
            del data[at:]
        elif edit == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=20))
        elif edit == "drop":
            del data[at : at + draw(st.integers(1, 20))]
        elif edit == "big":
            data[at : at + 4] = draw(st.sampled_from((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\xff\xff")))
        elif len(data):
            data[at] = (
                data[at] ^ (1 << draw(st.integers(0, 7))) if edit == "flip" else draw(st.integers(0, 255))
            )
    return bytes(data)


def read_or_refuse(data: bytes) -> None:
    """Pixels of the right shape, or one line that names the file."""
    try:
        assert read_image("odd.png", 3, 16, data=data).shape == (16, 16, 3)
    except DataError as error:
        assert str(error).startswith("odd.png ") and str(error).isprintable()


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        *[pytest.param(kind, 60, id=f"fault-87-88: {kind}") for kind in FORMATS],
        *[
            pytest.param(kind, 1200, id=f"fault-87-88: {kind} (many)", marks=pytest.mark.slow)
            for kind in FORMATS
        ],
    ],
)
def test_mutated_files(kind: str, count: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(FUZZ, max_examples=count)
    @given(mutated(kind))
    def check(data: bytes) -> None:
        read_or_refuse(data)

    check()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MEMORY * 1e6  # kB


@settings(FUZZ, max_examples=200)
@given(
    st.binary(max_size=300)
    | st.sampled_from([x for k in FORMATS for x in ORIGINALS[k]]).map(lambda x: x[:40])
)
def test_what_is_no_image_at_all(data: bytes) -> None:
    read_or_refuse(data)


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("kind", [pytest.param(kind, id=f"fault-87: {kind}") for kind in FORMATS])
def test_a_folder_with_mutated_files(kind: str, skips: bool, tmp_path: Path) -> None:
    """All files are read, or exactly the broken ones are named, or left out."""
    rng = np.random.default_rng(FORMATS.index(kind))
    broken, suffix = set(), kind.lower().replace("jpeg", "jpg")
    for number in range(24):
        data, name = (
            bytearray(ORIGINALS[kind][number % 2]),
            f"{'ant' if number % 2 else 'bee'}/{number}.{suffix}",
        )
        if number >= 12:
            data[rng.integers(len(data))] ^= 255
            data = data[: rng.integers(len(data) // 2, len(data))]
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
        try:
            read_image(tmp_path / name, 3, 8)
        except DataError:
            broken.add(name)
    options = {"image_size": 8, "cache": False, "test_fraction": 0.2}
    assert broken
    if skips:
        source = folder(str(tmp_path), on_bad_image="skip", **options)
        assert len(source.train) + len(source.test) == 24 - len(broken)
        return
    with pytest.raises(DataError) as caught:
        folder(str(tmp_path), **options)
    # Headers are looked at first, and pixels only if those are sound
    count = int(str(caught.value).split(": ")[1].split()[0])
    assert 1 <= count <= len(broken) and f"{count} of 24 images cannot be read" in str(caught.value)
    assert any(name in str(caught.value) for name in broken) and str(caught.value).isprintable()


WHITE = {"I;16": 65535, "I": 65535, "F": 1.0, "1": 1, "CMYK": (0, 0, 0, 0)}
SUFFIX = {"CMYK": "jpg", "PA": "tif", "I": "tif", "F": "tif", "YCbCr": "tif", "LAB": "tif"}


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I", "F"]
)
def test_fault_89_every_mode(mode: str, tmp_path: Path) -> None:
    """And fault 90: black is black, white is white, and what is transparent lies on white."""
    path = tmp_path / f"image.{SUFFIX.get(mode, 'tif' if mode == 'RGBX' else 'png')}"
    if mode in ("I;16", "I", "F"):
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        image = Image.fromarray((np.array([[0, 1], [1, 0]]) * WHITE[mode]).astype(kind))
    else:
        grey = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8))
        image = grey.convert("RGB").convert(mode) if mode != "PA" else grey.convert("LA").convert("PA")
    image.save(path, **({"quality": 100, "subsampling": 0} if mode == "CMYK" else {}))
    pixels = read_image(path, 3, 2).astype(int)
    assert np.abs(pixels - np.array([[0, 255], [255, 0]])[..., None]).max() <= 4
    if mode in ("LA", "PA", "RGBA"):
        image.putalpha(0)
        image.save(path)
        assert (read_image(path, 3, 2) == 255).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_fault_91_orientations(suffix: str, orientation: int, tmp_path: Path) -> None:
    """The corner that the camera says is up is up, in every format that has EXIF."""
    corner = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[
        orientation
    ]
    pixels, exif = np.zeros((32, 32, 3), np.uint8), Image.Exif()
    pixels[:16, :16] = 255
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / f"x.{suffix}", exif=exif)
    seen = read_image(tmp_path / f"x.{suffix}", 1, 2)[..., 0]
    assert [tuple(place) for place in np.argwhere(seen > 127).tolist()] == [corner]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def zeros(megabytes: int) -> bytes:
    """So many zeros, compressed a piece at a time: this process must not take the memory that is watched."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(megabytes)) + packer.flush()


@cache
def bombs() -> dict[str, bytes]:
    """Small files that ask for much: pixels, text, a colour profile, frames that lead in a circle."""
    head = b"\x89PNG\r\n\x1a\n"

    def header(width: int, height: int) -> bytes:
        return head + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))

    many = zeros(432)
    rows = chunk(b"IDAT", zlib.compress(bytes(4 * (3 * 4 + 1)))) + chunk(b"IEND", b"")
    tiff = bytearray(encoded(Image.fromarray(noise(4, 4)), "TIFF"))
    place = struct.unpack_from("<I", tiff, 4)[0]
    struct.pack_into("<I", tiff, place + 2 + 12 * struct.unpack_from("<H", tiff, place)[0], place)
    return {
        "144 million pixels": header(12_000, 12_000) + chunk(b"IDAT", many) + chunk(b"IEND", b""),
        "400 million pixels": header(20_000, 20_000) + chunk(b"IDAT", many) + chunk(b"IEND", b""),
        "a line of 2 billion pixels": header(2**31 - 1, 1) + rows,
        "432 MB of text": header(4, 4) + chunk(b"zTXt", b"k\0\0" + many) + rows,
        "432 MB of profile": header(4, 4) + chunk(b"iCCP", b"k\0\0" + many) + rows,
        "pages in a circle": bytes(tiff),
        "webp of 16384 x 16384": b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0/\xff\xff\xff\x0f" + bytes(13),
    }


@pytest.mark.parametrize("name", [pytest.param(name, id=f"fault-93: {name}") for name in bombs()])
def test_bombs(name: str) -> None:
    data = bombs()[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read_or_refuse(data)
    assert len(data) < 1_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


# ------------------------------------------------------- what the plain reader makes of the same files


def plain(tmp_path: Path, image: Image.Image, suffix: str = "png", **options: object) -> np.ndarray:
    (tmp_path / "ant").mkdir()
    image.save(tmp_path / "ant" / f"x.{suffix}", **options)
    return np.asarray(ImageFolder(str(tmp_path))[0][0])


def test_fault_89_sixteen_bits_to_the_plain_reader(tmp_path: Path) -> None:
    """The plain loader clips grey of 16 bits to white."""
    half = Image.fromarray(np.full((4, 4), 32768, np.uint16))
    assert plain(tmp_path, half).mean() > 250
    assert abs(read_image(tmp_path / "ant/x.png", 3, 4).mean() - 128) < 1


def test_fault_91_orientation_to_the_plain_reader(tmp_path: Path) -> None:
    """The plain loader leaves a photo on its side."""
    exif, pixels = Image.Exif(), np.zeros((4, 4, 3), np.uint8)
    exif[0x0112], pixels[0, 0] = 6, 255
    assert plain(tmp_path, Image.fromarray(pixels), exif=exif)[0, 0, 0] == 255
    assert read_image(tmp_path / "ant/x.png", 3, 4)[0, 0, 0] == 0


def test_fault_90_transparency_to_the_plain_reader(tmp_path: Path) -> None:
    """The plain loader shows the colours that are hidden under transparency."""
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    assert (plain(tmp_path, clear) == (200, 0, 0)).all()
    assert (read_image(tmp_path / "ant/x.png", 3, 4) == 255).all()


def test_fault_87_truncation_to_the_plain_reader(tmp_path: Path) -> None:
    """The plain loader does not say which file it was."""
    (tmp_path / "ant").mkdir()
    (tmp_path / "ant/x.jpg").write_bytes(ORIGINALS["JPEG"][1][:-100])
    with pytest.raises(OSError) as caught:
        ImageFolder(str(tmp_path))[0]
    assert "x.jpg" not in str(caught.value)
