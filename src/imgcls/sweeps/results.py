"""What came out of a sweep: a sorted table, a CSV, a picture, and the best run's command."""

import hashlib
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from imgcls.runs import csv_text, write_text
from imgcls.sweeps.board import swept
from imgcls.sweeps.job import Job
from imgcls.table import roomy

TABLE, PICTURE = "sweep.csv", "sweep.png"


def folder(output: str, typed: Sequence[str]) -> Path:
    """Where a sweep's own files go: named by its command, so that the same command finds it again."""
    keys = [text.partition("=")[0] for text in typed if "," in text]
    words = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(key.rpartition(".")[2] for key in keys))[:40].strip("-")
    digest = hashlib.sha256("\n".join(typed).encode()).hexdigest()[:8]
    return Path(output) / "sweeps" / "-".join(part for part in (words, digest) if part)


def rows(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """One row for each job, the best first: what differs, what came out, where it lies."""
    found = []
    for job in jobs:
        result = job.run.completed if job.state == "finished" else None
        best = (result["best"] or {}) if result else {}
        values = dict(override.lstrip("+").split("=", 1) for override in swept(jobs, job) if "=" in override)
        found.append(
            {
                **values,
                "state": job.outcome,
                "val_acc": best.get("val/acc"),
                "val_loss": best.get("val/loss"),
                "test_acc": result["test"]["acc"] if result else None,
                "epochs_run": len(job.rows),
                "seconds": result["seconds"] if result else None,
                "run": str(job.run.path),
                "reason": job.run.diverged if job.outcome == "diverged" else job.reason,
            }
        )
    return sorted(found, key=_rank, reverse=True)


def _rank(row: dict[str, Any]) -> tuple[float, float]:
    """By validation accuracy, then loss, as a run's best epoch; by the test where nothing is held out."""
    if row["val_acc"] is not None:
        return row["val_acc"], -row["val_loss"]
    return (-1.0 if row["test_acc"] is None else row["test_acc"]), 0.0


def show(jobs: Sequence[Job], output: str, typed: Sequence[str]) -> None:
    """Print the table and the best run; write the CSV and the picture."""
    found = rows(jobs)
    place = folder(output, typed)
    place.mkdir(parents=True, exist_ok=True)
    write_text(place / TABLE, csv_text(found))
    roomy().print(_table(found))
    for row in found:
        if row["state"] == "diverged":
            print(f"{Path(row['run']).name} diverged: {row['reason']}")
    best = found[0]
    if best["test_acc"] is not None:
        words = next(job.overrides for job in jobs if str(job.run.path) == best["run"])
        print(f"best: {best['run']}/")
        # sweep=… would sweep again
        single = [as_typed(word) for word in words if not word.startswith("sweep=")]
        print(f"  python -m imgcls {' '.join(single)}")
    written = [place / TABLE]
    if _draw(found, place / PICTURE):
        written.append(place / PICTURE)
    print("sweep: " + "  ".join(map(str, written)))


def as_typed(override: str) -> str:
    """An override as someone would type it: without the quotes that Hydra does not need here."""
    return shlex.quote(re.sub(r"='([\w./-]+)'$", r"=\1", override))


def _table(found: list[dict[str, Any]]) -> Table:
    columns = list(dict.fromkeys(key for row in found for key in row if key not in HIDDEN))
    if all(row["state"] == "finished" for row in found):
        columns.remove("state")
    table = Table(title="sweep, best first", title_justify="left")
    for column in [*columns, "run"]:
        table.add_column(column.replace("_", " "), no_wrap=column == "run", overflow="fold")
    for row in found:
        cells = [_cell(column, row.get(column)) for column in columns]
        table.add_row(
            *cells, Path(row["run"]).name, style="red" if row["state"] in ("failed", "diverged") else ""
        )
    return table


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if column.endswith("_acc"):
        return f"{value:.2%}"
    return f"{value:.1f}" if column == "seconds" else str(value)


HIDDEN = ("val_loss", "run", "reason")  # of the columns, on the terminal
OWN = ("state", "val_acc", "val_loss", "test_acc", "epochs_run", "seconds", "run", "reason")


def _draw(found: list[dict[str, Any]], file: Path) -> bool:
    """The score against each swept value; whether there was anything to draw."""
    metric = "val_acc" if any(row["val_acc"] is not None for row in found) else "test_acc"
    done = [row for row in found if row[metric] is not None]
    keys = [key for key in dict.fromkeys(k for row in found for k in row) if key not in OWN]
    if len(done) < 2 or not keys:
        return False
    from imgcls import figures

    figures.save(figures.sweep(done, keys, metric), file)
    return True
