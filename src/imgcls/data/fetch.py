"""Published datasets as files: found under a root, unpacked, downloaded, and checked.

Missing files are unpacked or downloaded in a folder aside and moved in place when whole, by one process
at a time. Files are checked, by size or md5, before they are read.
"""

import contextlib
import errno
import hashlib
import io
import logging
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from imgcls.errors import DataError, ResourceError

log = logging.getLogger(__name__)

TIMEOUT = 30  # seconds a server may stay silent
ASIDE = ".imgcls-"  # begins the name of a folder in which files are made
PARTS: tuple[dict[str, Any], ...] = ({"train": True}, {"train": False})
SPLITS: tuple[dict[str, Any], ...] = ({"split": "train"}, {"split": "test"})

FULL_OR_CLOSED = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
REASONS = {  # what torchvision's errors contain, in the user's words
    "timed out": f"no answer in {TIMEOUT} s",
    "HTTP Error": "the server refused",
    "urlopen error": "no network",
    "corrupted": "what came is damaged",
}


@dataclass(frozen=True)
class Published:
    """A dataset's files as published, with paths relative to the root."""

    reader: Any  # torchvision's class
    files: dict[str, int | str | None]  # each file's size in bytes, or md5; None for a folder
    archives: dict[str, str]  # md5 of each archive that the files can be unpacked from
    wanted: str  # what a user is told to put under the root
    parts: tuple[dict[str, Any], ...] = PARTS  # the reader's arguments for train, test and others
    channels_first: bool = False
    unpacks: dict[str, Any] | None = None  # arguments with which the reader itself unpacks nested archives
    closed: str = ""  # why it cannot be downloaded

    def missing(self, root: Path) -> list[str]:
        """The files that are not under root."""
        return [file for file in self.files if not (root / file).exists()]

    def whole(self, root: Path) -> list[str]:
        """The archives under root that are as published."""
        return [a for a, md5 in self.archives.items() if (root / a).is_file() and _md5(root / a) == md5]


@contextlib.contextmanager
def mendable(title: str, root: Path) -> Iterator[None]:
    """Answers trouble with the disk in one line."""
    try:
        yield
    except OSError as error:
        what = f"cannot use {error.filename or root} ({error.strerror or error})"
        raise ResourceError(f"{title}: {what}. Mend that, or set dataset.root to another folder.") from error


def provide(title: str, published: Published, root: Path, download: bool) -> None:
    """See that all files are under root, as published: unpack archives there, download what is missing."""
    if published.missing(root):
        _complete(title, published, root, download)
    check(title, published, root)


def check(title: str, published: Published, root: Path) -> None:
    """DataError unless the files under root, which must be there, are as published."""
    for file, mark in published.files.items():
        if mark is not None:
            _check_file(title, root / file, mark)


def strange(title: str, fault: str) -> DataError:
    """The error for files that are not what was published."""
    return DataError(f"{title}: {fault}. Delete its files and run again with dataset.download=true.")


def reason(error: Exception) -> str:
    """An error in a few words."""
    words = [reason for mark, reason in REASONS.items() if mark in str(error)]
    return words[0] if words else ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def _complete(title: str, published: Published, root: Path, download: bool) -> None:
    """Unpack or download what is missing; DataError if that is not to be had."""
    why = published.closed or ("" if download else "dataset.download=false")
    if why and not any((root / archive).is_file() for archive in published.archives):
        raise _absent(title, published, root, why)  # and a read-only root is no error
    root.mkdir(parents=True, exist_ok=True)
    # Other processes wait at the lock, and then find the files in place.
    with FileLock(root / ".imgcls.lock"), _aside(root) as aside:
        if published.missing(root):
            _unpack(published, root, aside)
        if published.missing(root):
            if why:
                raise _absent(title, published, root, why)
            _download(title, published, root, aside)


@contextlib.contextmanager
def _aside(root: Path) -> Iterator[Path]:
    """An empty folder under root, for the one who has the lock; those of killed processes go."""
    for left in root.glob(f"{ASIDE}*/"):
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=ASIDE, dir=root) as folder:
        yield Path(folder)


def _unpack(published: Published, root: Path, aside: Path) -> None:
    """Unpack the archives under root; a damaged one counts as absent."""
    from torchvision.datasets.utils import extract_archive

    whole = published.whole(root)
    for archive in whole:
        (aside / archive).parent.mkdir(parents=True, exist_ok=True)
        if published.unpacks is None:
            extract_archive(root / archive, (aside / archive).parent)
        else:
            (aside / archive).symlink_to(root / archive)
    if published.unpacks is not None and len(whole) == len(published.archives):
        for arguments in published.parts:
            published.reader(str(aside), **arguments, **published.unpacks)
    _move(published, aside, root)


def _move(published: Published, aside: Path, root: Path) -> None:
    """Bring missing files in place, each by a rename, so that what is there is always whole."""
    for file in published.missing(root):
        if (aside / file).exists():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (aside / file).replace(root / file)


def _download(title: str, published: Published, root: Path, aside: Path) -> None:
    """Download through torchvision, silently; DataError with the reason if that fails."""
    log.info("%s is not in %s: downloading it", title, root)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for arguments in published.parts:
                published.reader(str(aside), **arguments, download=True)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL_OR_CLOSED:
            raise  # the disk's fault, not the network's
        raise _absent(title, published, root, f"could not be downloaded ({reason(error)})") from error
    finally:
        socket.setdefaulttimeout(before)
    _move(published, aside, root)


def _absent(title: str, published: Published, root: Path, why: str) -> DataError:
    """The line on missing files: which and why, and where to put them."""
    missing, whole = published.missing(root), published.whole(root)
    some = f" ({', '.join(missing)})" if len(missing) < len(published.files) else ""
    damaged = [a for a in published.archives if (root / a).is_file() and a not in whole]
    note = f" {', '.join(damaged)} there is damaged." if damaged else ""
    remedy = f"Put {published.wanted} there, or set dataset.root to the folder that has it."
    return DataError(f"{title}{some} is not in {root} and {why}.{note} {remedy}")


def _check_file(title: str, path: Path, mark: int | str) -> None:
    """DataError unless a file has the size in bytes, or the md5, of the published one."""
    size = path.stat().st_size
    if isinstance(mark, int):
        fault = "" if size == mark else f"is {size:,} bytes, expected {mark:,}"
    else:
        fault = "" if _md5(path) == mark else f"is damaged ({size:,} bytes; its md5 is not the published one)"
    if fault:
        raise DataError(f"{title}: {path} {fault}. Delete it and run again with dataset.download=true.")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
