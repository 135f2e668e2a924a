"""Writing files whole or not at all, and noting what was written."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from imgcls import manifest
from imgcls.checkpoints.loading import load
from imgcls.errors import ResourceError
from imgcls.runs import BEST, LAST, PREVIOUS, sync_folder


def _rename(part: Path, path: Path) -> None:
    part.replace(path)
    sync_folder(path.parent)


def write_whole(
    path: Path, write: Callable[[Path], object], rename: Callable[[Path, Path], None] = _rename
) -> None:
    """Write to a part file in the same folder, flush it to the disk, and rename: whole or not at all.

    Lightning's own writer goes through the system's temp folder; where that is another file system, a
    kill in the middle leaves half a checkpoint under the final name.
    """
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        rename(part, path)
    except (OSError, RuntimeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or _trouble(part)
        part.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free / 1e6
        raise ResourceError(
            f"cannot write {path} ({reason}; {free:.1f} MB free). Free space, then give the same command: "
            "it goes on from the checkpoint before."
        ) from error


def _trouble(part: Path) -> str:
    """What the file system says when it is asked for more: torch calls any trouble a wrong position."""
    try:
        with part.open("ab") as file:
            file.write(bytes(1_000_000))
    except OSError as error:
        return error.strerror or str(error)
    return "no space left"


class AtomicIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written whole or not at all, and read without running any code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint under its final name only once it is complete, and into the manifest."""
        facts = {"epoch": checkpoint.get("epoch", -1) + 1, "step": checkpoint.get("global_step", 0)}
        write_whole(
            Path(path),
            lambda part: torch.save(checkpoint, part),
            lambda part, path: _replace(part, path, manifest.entry(part, **facts)),
        )

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint: tensors and plain values only."""
        return load(Path(path), map_location)


def _replace(part: Path, path: Path, entry: manifest.Entry) -> None:
    """Put a checkpoint in its place; the last before it is kept where nothing is held out.

    Should the last be damaged later, the best is there to go on from: elsewhere a second would cost disk.
    """
    folder, new = path.parent, {path.name: [entry]}
    held_out = (folder / BEST).exists()
    keeps = path.name == LAST and path.exists() and not held_out
    if keeps:
        new[PREVIOUS] = manifest.known(folder).get(LAST) or [manifest.entry(path)]
    elif held_out:
        new[PREVIOUS] = []
    with manifest.changing(folder, new):
        if keeps:
            path.replace(folder / PREVIOUS)
        _rename(part, path)
