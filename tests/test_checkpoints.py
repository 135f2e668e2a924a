"""A checkpoint is written whole or not at all, and read without running anything."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from imgcls import checkpoints
from imgcls.errors import CheckpointError, ResourceError


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    """And no part file; the message says how much room there is, and that nothing is lost."""
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"good")

    def full(part: Path) -> None:
        part.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(
        ResourceError, match=r"last\.ckpt \(No space left on device; [\d.]+ MB free\)"
    ) as caught:
        checkpoints.write_whole(path, full)
    assert path.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [path]
    assert caught.value.exit_code == 4


def test_torchs_own_complaint_of_a_full_disk_is_translated(tmp_path: Path) -> None:
    """It raises RuntimeError with an inner position."""

    def full(part: Path) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 971136 vs 971032")

    with pytest.raises(ResourceError, match="no space left"):
        checkpoints.write_whole(tmp_path / "last.ckpt", full)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_really_full_disk(tmp_path: Path) -> None:
    """1 MB of room for 4 MB."""
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=1m tmpfs {small} 2>/dev/null"):
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(ResourceError, match="cannot write"):
            checkpoints.AtomicIO().save_checkpoint({"w": torch.zeros(1_000_000)}, small / "last.ckpt")
        assert list(small.iterdir()) == []
    finally:
        os.system(f"umount {small}")


def test_files_and_folder_are_flushed_before_the_name_is_used(tmp_path: Path, monkeypatch: Any) -> None:
    """The order in which power could fail: data and digest, then the names, then the old digest goes."""
    calls: list[str] = []
    sync, rename = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), sync(fd)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (calls.append("rename"), rename(self, to))[1])
    checkpoints.AtomicIO().save_checkpoint({"imgcls": {}}, tmp_path / "last.ckpt")
    assert calls == ["fsync", "fsync", "rename", "rename", "fsync", "rename"]
    assert checkpoints.load(tmp_path / "last.ckpt") == {"imgcls": {}}


def test_a_missing_checkpoint_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"best\.ckpt is missing"):
        checkpoints.load(tmp_path / "best.ckpt")
