"""Shards of small images, and a server for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from pictures import photos

from imgcls.data import folder, shards
from imgcls.data.scan import scan


def convert(root: Path, target: Path, shard_bytes: int = 3000, test_fraction: float = 0.2) -> Path:
    """The images under `root` as shards of a few images each."""
    title, files = folder.found(str(root), test_fraction)
    target.mkdir()
    shards.write(target, title, files, scan(files), shard_bytes)
    return target


def some(tmp_path: Path, count: int = 30, shard_bytes: int = 3000) -> tuple[Path, Path]:
    """(folder, shards) of two classes of noise, a fifth of it for testing."""
    root = photos(tmp_path / "photos", count=count)
    return root, convert(root, tmp_path / "shards", shard_bytes)


class _Handler(SimpleHTTPRequestHandler):
    asked: list[str]

    def log_message(self, *args: object) -> None:
        self.asked.append(f"{self.command} {self.path}")


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(address, what has been asked for) of a web server for a folder."""
    _Handler.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", _Handler.asked
        finally:
            server.shutdown()
