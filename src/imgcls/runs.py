"""What a run folder holds, how it is named, written and read. Imports nothing heavy.

A run is named by its configuration: the hash covers everything that can change the numbers, and nothing
else, so that the same command always finds the same folder, to continue in it or to show its result.
"""

import csv
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgcls.errors import CheckpointError, ConfigError, ResourceError

# Settings that cannot change a number: where things lie, how they are shown and loaded, what options are called.
# (schedule.name is more than that: code goes by it.)
NOT_NUMBERS = {
    *("task", "name", "output", "restart", "run", "source", "fit", "progress", "checkpoint_minutes"),
    *("dataset.root", "dataset.download", "dataset.resident", "dataset.num_workers", "trainer.profiler"),
    *("augmentation.name", "optimizer.name", "scaling.name", "trainer.name"),
}
CONFIG, RESULT, METRICS, LAST, BEST = "config.yaml", "result.json", "metrics.csv", "last.ckpt", "best.ckpt"


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The configuration as {dotted key: value}; lists stay values."""
    rows: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows.update(flat(value, f"{prefix}{key}."))
        else:
            rows[f"{prefix}{key}"] = value
    return rows


def numbers(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that can change the numbers; 1 and 1.0 are the same setting."""
    return {key: _exact(value) for key, value in flat(config).items() if key not in NOT_NUMBERS}


def _exact(value: Any) -> Any:
    if isinstance(value, list):
        return [_exact(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def digest(config: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name a configuration."""
    text = json.dumps(numbers(config), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def name(config: Mapping[str, Any]) -> str:
    """The run folder's name: `<dataset>-<model>-<hash>`, or what the user called it."""
    if config.get("name"):
        return str(config["name"])
    stem = f"{config['dataset']['name']}-{config['model']['name']}-{digest(config)}"
    return f"debug-{stem}" if config.get("debug") else stem


def folder(config: Mapping[str, Any]) -> Path:
    """Where this configuration's task writes: the run folder, or a room of its own in it."""
    if config["task"] == "train" or not config.get("run"):
        return Path(config["output"]) / name(config)
    return Path(config["run"]) / str(config["task"])


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none: a reader never meets half of it, whatever happens on the way."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def writable(path: Path) -> None:
    """Raise ResourceError unless files can be made in the folder (it is made if missing)."""
    probe = path / f".probe-{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ResourceError(
            f"cannot write to {path} ({reason}). Free space or permissions there, or choose output=FOLDER."
        ) from error


class Run:
    """One run folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: Any = None

    def __truediv__(self, file: str) -> Path:
        return self.path / file

    @classmethod
    def existing(cls, path: str | Path) -> "Run":
        """A run folder that someone names; the error lists the nearest ones there are."""
        run = cls(path)
        if (run / CONFIG).is_file():
            return run
        if run.path.is_file() and run.path.suffix == ".ckpt":
            return cls.existing(run.path.parent)
        near = sorted(p.parent.name for p in run.path.parent.glob(f"*/{CONFIG}"))[:5] if run.path.name else []
        hint = f"Runs there: {', '.join(near)}." if near else "A run folder holds config.yaml and best.ckpt."
        raise CheckpointError(f"{path} is not a run folder. {hint}")

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration that made this run."""
        import yaml

        try:
            config = yaml.safe_load((self / CONFIG).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise CheckpointError(f"{self / CONFIG} cannot be read. Restore it, or train anew.") from error
        if not isinstance(config, dict) or not {"dataset", "model"} <= set(config):
            raise CheckpointError(
                f"{self / CONFIG} is not a configuration of imgcls. Restore it, or train anew."
            )
        return config

    @property
    def result(self) -> dict[str, Any] | None:
        """The scores of a finished run, or None."""
        try:
            return json.loads((self / RESULT).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return None  # not finished: it is written last, and whole

    def claim(self, config: Mapping[str, Any]) -> None:
        """Make the folder this run's own: one process at a time, one configuration for ever.

        Raises:
            ResourceError: the folder cannot be written, or another process is at work in it.
            CheckpointError: it holds a run with other settings.
        """
        writable(self.path)
        self._hold()
        if config.get("debug"):
            self._clear()  # a rehearsal leaves nothing to continue
        elif config.get("restart"):
            self._set_aside()
        elif (self / CONFIG).exists():
            self._same(config)
        if not (self / CONFIG).exists():
            import yaml

            write_text(self / CONFIG, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def release(self) -> None:
        """Let other processes use the folder."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def _hold(self) -> None:
        """Take the lock; the system frees it however the process ends."""
        from filelock import FileLock, Timeout

        self._lock = FileLock(self / ".lock")
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise ResourceError(
                f"{self.path} is in use by another process. Wait for it, or choose name=…"
            ) from error

    def _same(self, config: Mapping[str, Any]) -> None:
        """Refuse to mix two configurations in one folder."""
        old, new = numbers(self.config), numbers(config)
        changed = [
            f"{k}: {old.get(k)} → {new.get(k)}"
            for k in sorted(old.keys() | new.keys())
            if old.get(k) != new.get(k)
        ]
        if changed:
            raise CheckpointError(
                f"{self.path} holds a run with other settings ({'; '.join(changed[:4])}). "
                "Choose another name=…, or restart=true to train anew."
            )

    def _files(self) -> list[Path]:
        """What earlier runs left: all but the lock and what this start has just written."""
        return [path for path in self.path.iterdir() if path.name not in {".lock", ".hydra", "imgcls.log"}]

    def _clear(self) -> None:
        for path in self._files():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _set_aside(self) -> None:
        """Move the files of an earlier run into `<folder>.1`, `.2`, …: nothing is lost."""
        files = self._files()
        if not files:
            return
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        aside.mkdir()
        for path in files:
            path.rename(aside / path.name)

    def history(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, one per epoch; empty cells are left out."""
        try:
            with (self / METRICS).open(newline="", encoding="utf-8") as file:
                return [{k: float(v) for k, v in row.items() if k and v} for row in csv.DictReader(file)]
        except (OSError, ValueError):
            return []

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Replace metrics.csv; columns may grow from row to row."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines = [",".join(columns)] + [",".join(str(row.get(c, "")) for c in columns) for row in rows]
        write_text(self / METRICS, "\n".join(lines) + "\n")


def check_name(value: str) -> None:
    """Raise ConfigError for a run name that is not a plain folder name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
        raise ConfigError(f"name={value} is not a folder name. Use letters, digits, '.', '_' and '-'.")
