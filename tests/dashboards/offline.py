"""Reads W&B's offline files: a log in LevelDB's format (blocks of 32 kB), each record a message of W&B's."""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEAD = 32_768, 7  # bytes of a block, and of the head of each piece in it
FIRST, LAST = (1, 2), (1, 4)  # kinds of pieces that begin and end a record


def records(path: Path) -> Iterator[Any]:
    """All messages of a .wandb file; every piece's checksum is compared."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, parts = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while position + HEAD <= len(data):
        if BLOCK - position % BLOCK < HEAD:  # the rest of a block is left empty
            position += BLOCK - position % BLOCK
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, position)
        piece = data[position + HEAD : position + HEAD + length]
        if len(piece) < length:  # is being written
            return
        assert zlib.crc32(bytes([kind]) + piece) & 0xFFFFFFFF == checksum
        parts = piece if kind in FIRST else parts + piece
        if kind in LAST:
            record = Record()
            record.ParseFromString(parts)
            yield record
        position += HEAD + length


def _items(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


class Offline:
    """What an offline folder holds, by its .wandb file."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self.records = list(records(path))
        (self.run,) = [r.run for r in self.records if r.HasField("run")][:1]
        self.history = [_items(r.history.item) for r in self.records if r.HasField("history")]
        self.exit = [r.exit.exit_code for r in self.records if r.HasField("exit")]
        self.config = {item.key: json.loads(item.value_json) for item in self.run.config.update}
        self.summary: dict[str, Any] = {}
        for record in self.records:
            if record.HasField("summary"):
                self.summary |= _items(record.summary.update)

    def table(self, key: str) -> list[list[Any]]:
        """The rows of a table that was logged."""
        (path,) = [row[f"{key}.path"] for row in self.history if f"{key}.path" in row]
        return json.loads((self.folder / "files" / path).read_text())["data"]
