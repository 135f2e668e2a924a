"""What a study found: a table for each setting, the path taken, and the command at its end."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from imgcls import figures, table
from imgcls.reproduce import rows
from imgcls.reproduce.axes import TEST, VALIDATION, Axis, scored
from imgcls.runs import write_text
from imgcls.sweeps.job import Job
from imgcls.sweeps.results import as_typed

COLUMNS = ["value", VALIDATION, TEST, "seconds", "state", "best", "run"]


def tell(axis: Axis) -> None:
    """Print the table of an axis that is through."""
    print(f"\n{axis.key}, chosen by {scored(axis.jobs[0])[0]}:")
    table.show(COLUMNS, _lines(axis))


def _lines(axis: Axis) -> list[list[str]]:
    return [_line(axis, place, job) for place, job in enumerate(axis.jobs)]


def _line(axis: Axis, place: int, job: Job) -> list[str]:
    result, (kind, score) = job.run.completed, scored(job)
    held = f"{score:.2%}" if kind == VALIDATION and score is not None else "-"
    tested = [f"{result['test']['acc']:.2%}", f"{result['seconds']:.1f}"] if result else ["-", "-"]
    best = "best" if place == axis.best else "-"
    return [axis.values[place], held, *tested, rows.state(job), best, job.run.path.name]


def end(axes: Sequence[Axis], path: Sequence[str], stamps: Sequence[str], whole: bool, folder: Path) -> None:
    """Print the path and its command; write study.md, study.csv and study.png."""
    said = [*stamps, f"path{'' if whole else ', so far'}: {' → '.join(path) or 'none'}", *_command(axes)]
    print("\n" + "\n".join(said))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "study.md", _markdown(axes, said))
    write_text(folder / "study.csv", _csv(axes, stamps))
    names = ["study.md", "study.csv"]
    if _draw(axes, stamps, folder / "study.png"):
        names.append("study.png")
    print(f"in {folder}/:\n  {'  '.join(names)}")


def _command(axes: Sequence[Axis]) -> list[str]:
    """The best run's at the end of the path: it shows what has been trained."""
    last = [axis.jobs[axis.best] for axis in axes if axis.best is not None][-1:]
    return [f"python -m imgcls {' '.join(map(as_typed, job.overrides))}" for job in last]


def _markdown(axes: Sequence[Axis], said: Sequence[str]) -> str:
    parts = ["# One setting after another", *said]
    for axis in axes:
        lines = [COLUMNS, ["---"] * len(COLUMNS), *_lines(axis)]
        parts += [f"## {axis.key}", f"Chosen by {scored(axis.jobs[0])[0]}."]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(parts) + "\n"


def _csv(axes: Sequence[Axis], stamps: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["setting", *COLUMNS, "stamps"])
    writer.writerows([axis.key, *line, "; ".join(stamps)] for axis in axes for line in _lines(axis))
    return text.getvalue()


def _draw(axes: Sequence[Axis], stamps: Sequence[str], file: Path) -> bool:
    """The score over the values of each axis; whether there was anything to draw."""
    metric = "test_acc" if scored(axes[0].jobs[0])[0] == TEST else "val_acc"
    points = [
        {axis.key: value, metric: score}
        for axis in axes
        for value, job in zip(axis.values, axis.jobs, strict=True)
        if (score := scored(job)[1]) is not None
    ]
    if points:
        keys = [axis.key for axis in axes if any(axis.key in point for point in points)]
        figure = figures.sweep(points, keys, metric)
        if stamps:
            title = f"{metric.replace('_', ' ')} ({'; '.join(stamps)})"
            figure.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold", wrap=True)
        figures.save(figure, file)
    return bool(points)
