"""What a folder notes of its files, and that every change to one, or to the note, is seen."""

import hashlib
import json
from pathlib import Path

import pytest

from imgcls import manifest
from imgcls.errors import CheckpointError
from imgcls.manifest import Altered


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One with a recorded file."""
    (tmp_path / "a.part").write_bytes(b"first")
    with manifest.changing(tmp_path, {"a": [manifest.entry(tmp_path / "a.part", step=3)]}):
        (tmp_path / "a.part").replace(tmp_path / "a")
    return tmp_path


def test_an_entry_is_the_sha256_of_the_file(folder: Path) -> None:
    digest = hashlib.sha256(b"first").hexdigest()
    assert manifest.read(folder) == {"a": [{"bytes": 5, "sha256": digest, "step": 3}]}
    assert manifest.recorded(folder / "a") == manifest.entry_of(b"first") | {"step": 3}


@pytest.mark.parametrize(
    ("content", "how"),
    [
        (b"firs", r"damaged \(truncated: 4 of 5 bytes\)"),
        (b"", r"damaged \(truncated: 0 of 5 bytes\)"),
        (b"firsu", r"damaged \(its SHA-256 is not that of the 5 bytes that were written\)"),
        (b"first!", r"damaged \(its SHA-256 is not that of the 5 bytes that were written\)"),
        (None, "missing"),
    ],
)
def test_an_altered_file(content: bytes | None, how: str, folder: Path) -> None:
    (folder / "a").unlink() if content is None else (folder / "a").write_bytes(content)
    with pytest.raises(Altered, match=f"^{how}$"):
        manifest.recorded(folder / "a")


def test_nothing_is_said_of_what_is_not_recorded(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Another file, or a folder of an older version."""
    (folder / "b").touch()
    with pytest.raises(LookupError):
        manifest.recorded(folder / "b")
    assert manifest.read(tmp_path_factory.mktemp("old")) == {}


def test_while_a_file_is_replaced_both_contents_are_good(folder: Path) -> None:
    """Also where an earlier attempt was killed; afterwards only the new one is."""
    (folder / "b").write_bytes(b"of an older version")
    new = {"a": [manifest.entry_of(b"second")], "b": [manifest.entry_of(b"new")]}
    with pytest.raises(KeyboardInterrupt), manifest.changing(folder, {"a": [manifest.entry_of(b"never")]}):
        raise KeyboardInterrupt
    with manifest.changing(folder, new):
        for file, contents in {"a": (b"first", b"second"), "b": (b"of an older version", b"new")}.items():
            for content in contents:
                (folder / file).write_bytes(content)
                manifest.recorded(folder / file)
    assert manifest.read(folder) == new


def test_a_file_without_an_entry_goes(folder: Path) -> None:
    with manifest.changing(folder, {"a": []}):
        manifest.recorded(folder / "a")
    assert manifest.read(folder) == {}
    assert not (folder / "a").exists()


def test_a_flipped_bit_anywhere_in_the_manifest_is_seen(folder: Path) -> None:
    """And training goes on without it: its next entry is the first of a new one."""
    path = folder / "manifest.json"
    good = path.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match=r"manifest\.json is damaged\. Restore or delete it"):
            manifest.read(folder)
    assert manifest.known(folder) == {}
    with manifest.changing(folder, {"b": [manifest.entry_of(b"b")]}):
        (folder / "b").write_bytes(b"b")
    assert set(manifest.read(folder)) == {"b"}


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "null", "{}", '{"sha256": 1, "files": 2}', json.dumps("x" * 99)]
)
def test_what_is_no_manifest(text: str, folder: Path) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        manifest.read(folder)
