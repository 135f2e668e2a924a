"""Shards at an address, fetched whole and kept in a folder of this machine as long as there is room."""

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from imgcls.data.shards import Index, needs_extra
from imgcls.errors import ConfigError, DataError, ImgclsError, ResourceError

TRIES = 3


class Depot:
    """The shards under an address: https, s3, gs, or what else fsspec knows.

    Each is fetched once, whichever processes want it; where the room is used up, those that were opened
    longest ago go. Who has one open may read on.

    Args:
        folder: where to keep them; None: the user's cache folder.
        room: for how much of them, in GB.
    """

    def __init__(self, root: str, folder: str | None, room: float) -> None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "imgcls" / "shards"
        own = hashlib.sha256(root.encode()).hexdigest()[:16]
        self.root, self.room = root.rstrip("/"), room * 1e9
        self.folder = (Path(folder).expanduser() if folder else home) / own

    def read(self, name: str) -> bytes:
        """A small file as a whole."""
        return self._ask(name, lambda files, path: files.cat_file(path))

    def check(self, index: Index) -> None:
        """Raise ConfigError if there is no room to work in."""
        least = 2 * max(index.shards.values())
        if self.room < least:
            raise ConfigError(
                f"dataset.depot_gb={self.room / 1e9:g} is less than two shards. Use {least / 1e9 + 0.01:.2f}."
            )
        # What was fetched of shards that have been made anew since
        self.folder = self.folder / index.digest[:16]
        self.folder.mkdir(parents=True, exist_ok=True)

    def open(self, name: str, size: int) -> BinaryIO:
        """A shard, to read from; fetched if it is not there."""
        path = self.folder / name
        while True:
            with contextlib.suppress(FileNotFoundError):  # until now, or removed again meanwhile
                file = path.open("rb")
                os.utime(path)
                return file
            with FileLock(self.folder / f"{name}.lock"):
                if not path.exists():
                    self._fetch(path, size)

    def _fetch(self, path: Path, size: int) -> None:
        """Bring a shard here, under its name only when it is whole."""
        part = path.with_suffix(".part")
        try:
            self._make_room(size)
            self._ask(path.name, lambda files, there: files.get_file(there, str(part)))
            if part.stat().st_size != size:
                what = f"{self.root}/{path.name} has {part.stat().st_size:,} bytes, not {size:,}"
                raise DataError(f"{what}. Copy it there again.")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Remove what was opened longest ago, until there is room for so many bytes."""
        stats = []
        for path in self.folder.glob("*.tar"):
            with contextlib.suppress(FileNotFoundError):  # another process makes room, too
                stats.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        used = sum(bytes_ for _, bytes_, _ in stats)
        for _, bytes_, path in sorted(stats):
            if used + size <= self.room:
                break
            path.unlink(missing_ok=True)
            used -= bytes_

    def _ask(self, name: str, what: Any) -> Any:
        """Do something with a file at the address; a network may fail now and then."""
        import fsspec

        for tries in range(1, TRIES + 1):
            try:
                files, path = fsspec.core.url_to_fs(f"{self.root}/{name}")
                return what(files, path)
            except ImgclsError:
                raise
            except ImportError as error:
                raise needs_extra("dataset.root", self.root, error) from error
            except ValueError as error:  # a protocol that it does not know
                raise ConfigError(f"dataset.root={self.root}: {error}. Use https, s3 or gs.") from error
            except Exception as error:  # of as many kinds as there are protocols
                if tries == TRIES or isinstance(error, FileNotFoundError | PermissionError):
                    raise _unreachable(f"{self.root}/{name}", error) from error
                time.sleep(tries)
        raise AssertionError


def _unreachable(address: str, error: Exception) -> ImgclsError:
    reason = str(getattr(error, "strerror", None) or error or type(error).__name__).splitlines()[0]
    if isinstance(error, OSError) and error.errno == 28:
        return ResourceError(f"no space left for {address}. Lower dataset.depot_gb, or set dataset.depot.")
    return DataError(f"{address} cannot be read ({reason}). Check the address, the network and your rights.")
