"""What a run folder holds, how it is written and read: one place. Imports nothing heavy."""

import csv
import difflib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgcls.errors import CheckpointError, ResourceError
from imgcls.naming import home, numbers

CONFIG, RESULT, METRICS, LAST, BEST = "config.yaml", "result.json", "metrics.csv", "last.ckpt", "best.ckpt"
PREDICTIONS, MANIFEST = "predictions.npz", "manifest.json"
PREVIOUS = "previous.ckpt"  # the last but one, where there is no best


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Write a whole file or none: a reader never meets half of it, whatever happens on the way.

    What is not `durable` may be lost when the power fails, and need not wait for the disk.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, too."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = ()) -> str:
    """Rows as CSV, with these columns first and then what else the rows have."""
    text = io.StringIO()
    keys = dict.fromkeys([*columns, *(key for row in rows for key in row)])
    writer = csv.DictWriter(text, list(keys), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def writable(path: Path) -> None:
    """Raise ResourceError unless files can be made in the folder (it is made if missing)."""
    probe = path / f".probe-{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"\0" * 4096)  # an empty file fits on a full disk, too
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> ResourceError:
    reason = (error.strerror or str(error)).lower()
    return ResourceError(
        f"cannot write to {path} ({reason}). Free space or permissions there, or choose output=FOLDER."
    )


def near(path: Path, output: str | Path) -> list[str]:
    """The run folders whose paths are most like one that is not there."""
    places = dict.fromkeys((path, path.parent, Path(output)))
    there = [str(found.parent) for place in places for found in sorted(place.glob(f"*/{LAST}"))]
    return difflib.get_close_matches(str(path), there, 5, 0)


class Run:
    """One run folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: Any = None

    def __truediv__(self, file: str) -> Path:
        return self.path / file

    @classmethod
    def existing(cls, path: str | Path, output: str | Path = "outputs") -> "Run":
        """A run folder that someone names; the error lists the nearest ones there are."""
        run = cls(home(path))
        if (run / CONFIG).is_file():
            return run
        names = near(run.path, output)
        hint = f"Runs near: {', '.join(names)}." if names else f"A run folder holds {CONFIG} and {BEST}."
        raise CheckpointError(f"run={path} is not a run folder. {hint}")

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration that made this run."""
        import yaml

        try:
            # libyaml's loader, where it is built in, is as safe and eight times as fast
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            config = yaml.load((self / CONFIG).read_text(encoding="utf-8"), loader)
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

    @property
    def diverged(self) -> str:
        """How a finished run diverged (on_divergence=record); empty if it did not."""
        return str((self.result or {}).get("diverged", {}).get("why", ""))

    @property
    def completed(self) -> dict[str, Any] | None:
        """The scores of a run that came to its end, or None: one that diverged did not."""
        return None if self.diverged else self.result

    def claim(self, config: Mapping[str, Any]) -> None:
        """Make the folder this run's own: one process at a time, one configuration for ever.

        Raises:
            ResourceError: the folder cannot be written, or another process is at work in it.
            CheckpointError: it holds a run with other settings.
        """
        writable(self.path)
        self._hold()
        try:
            self._sweep()
            if (self / CONFIG).exists():
                self._take_over(config)
            if not (self / CONFIG).exists():
                import yaml

                write_text(self / CONFIG, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        except BaseException:  # a sweep goes on in this process, and may come back here
            self.release()
            raise

    def release(self) -> None:
        """Let other processes use the folder."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def _hold(self) -> None:
        """Take the lock; the system frees it however the process ends."""
        from filelock import FileLock, Timeout

        lock = FileLock(self / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise ResourceError(
                f"{self.path} is in use by another process. Wait for it, or choose name=…"
            ) from error
        self._lock = lock

    def _sweep(self) -> None:
        """Remove what a killed process was writing: under the lock, nobody is."""
        for left in [*self.path.glob("*.part"), *self.path.glob(".probe-*")]:
            left.unlink(missing_ok=True)

    def _take_over(self, config: Mapping[str, Any]) -> None:
        """What to do about the run that is there: put it aside, begin again, or go on with it."""
        if config.get("restart"):
            self._set_aside()
            return
        self._same(config)
        if config.get("debug"):  # a rehearsal leaves nothing to continue
            for file in (CONFIG, RESULT, METRICS, LAST, BEST, PREVIOUS, MANIFEST):
                (self / file).unlink(missing_ok=True)

    def _same(self, config: Mapping[str, Any]) -> None:
        """Refuse to mix two configurations in one folder."""
        old, new = numbers(self.config), numbers(config)
        changed = [
            f"{key}: {old.get(key)} → {new.get(key)}"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
        if changed:
            raise CheckpointError(
                f"{self.path} holds a run with other settings ({'; '.join(changed[:4])}). "
                "Choose another name=…, or restart=true to train anew."
            )

    def _set_aside(self) -> None:
        """Move the files of an earlier run into `<folder>.1`, `.2`, …: nothing is lost."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        aside.mkdir()
        for path in list(self.path.iterdir()):
            if path.name not in (".lock", ".hydra", "imgcls.log"):  # this start has just written them
                path.rename(aside / path.name)

    def history(self) -> list[dict[str, float]]:
        """The rows of metrics.csv, one per epoch; empty cells are left out."""
        try:
            with (self / METRICS).open(newline="", encoding="utf-8") as file:
                return [{k: float(v) for k, v in row.items() if k and v} for row in csv.DictReader(file)]
        except (OSError, ValueError):
            return []

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Replace metrics.csv."""
        self.write_table(METRICS, rows)

    def write_table(self, file: str, rows: list[dict[str, float]]) -> None:
        """Write rows as CSV; columns may grow from row to row."""
        write_text(self / file, csv_text(rows))
