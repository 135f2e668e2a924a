"""What the files of a run folder are: their bytes and SHA-256, of checkpoints also epoch and step.

While a file is replaced it has two entries, of the old content and of the new: wherever a kill falls, what
lies under its name is one of them. The manifest has a digest of its own. Imports no torch.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imgcls.errors import CheckpointError
from imgcls.runs import MANIFEST, write_text


class Altered(Exception):
    """Says in what way a file is not as it was written."""


REMEDY = "Restore it from a copy, or train anew (restart=true)."
Entry = dict[str, Any]  # bytes, sha256, and what else there is to say of a file
Entries = dict[str, list[Entry]]  # by the file's name


def entry(path: Path, **facts: Any) -> Entry:
    """What a file is now."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest, **facts}


def entry_of(data: bytes) -> Entry:
    """What a file with this content would be."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def read(folder: Path) -> Entries:
    """The entries of a folder; none where there is no manifest, as in folders of older versions.

    Raises:
        CheckpointError: it is damaged.
    """
    path = folder / MANIFEST
    try:
        whole = json.loads(path.read_bytes())
        if whole["sha256"] == _digest(whole["files"]):
            return whole["files"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError):
        pass
    raise CheckpointError(f"{path} is damaged. Restore or delete it: checkpoints still have their CRC-32.")


def known(folder: Path) -> Entries:
    """The same, and none if it is damaged: training and loading go on without it."""
    try:
        return read(folder)
    except CheckpointError:
        return {}


def recorded(path: Path) -> Entry:
    """The entry of a file that is as it was written.

    Raises:
        Altered: it is not.
        LookupError: nothing is recorded of it.
    """
    for _ in range(2):  # training may have replaced it between our two looks
        entries = known(path.parent)[path.name]
        if not path.is_file():
            raise Altered("missing")
        now = entry(path)
        if found := [each for each in entries if now.items() <= each.items()]:
            return found[0]
    wrote = entries[-1]["bytes"]
    if now["bytes"] < wrote:
        raise Altered(f"damaged (truncated: {now['bytes']:,} of {wrote:,} bytes)")
    raise Altered(f"damaged (its SHA-256 is not that of the {wrote:,} bytes that were written)")


@contextmanager
def changing(folder: Path, new: Mapping[str, Sequence[Entry]]) -> Iterator[None]:
    """Files of a folder are replaced within; those without an entry are removed after."""
    old = known(folder)
    for name in new:
        if name not in old and (folder / name).exists():  # of an older version
            old[name] = [entry(folder / name)]
    # On the disk before what happens within: file systems with a journal keep the order of a folder's renames
    _write(folder, old | {name: [*old.get(name, []), *entries] for name, entries in new.items()})
    yield
    for name in (name for name, entries in new.items() if not entries):
        (folder / name).unlink(missing_ok=True)
    _write(folder, old | {name: list(entries) for name, entries in new.items()}, durable=False)


def _write(folder: Path, files: Entries, durable: bool = True) -> None:
    files = {name: entries for name, entries in files.items() if entries}
    text = json.dumps({"sha256": _digest(files), "files": files}, indent=1)
    write_text(folder / MANIFEST, text, durable)


def _digest(files: Entries) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
