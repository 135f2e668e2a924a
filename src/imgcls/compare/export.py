"""The table of runs as a file: CSV and Parquet for programs, LaTeX and Markdown for a paper or a README."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from imgcls.compare.table import Column, Row, shown
from imgcls.errors import ConfigError
from imgcls.runs import csv_text, write_text

FILES = {"csv": "table.csv", "parquet": "table.parquet", "latex": "table.tex", "markdown": "table.md"}
# Nobody prints these
UNPRINTED = ("images_per_second", "device_name", "finished", "epochs_run", "dir")


def write(form: str, folder: Path, columns: Sequence[Column], rows: Sequence[Row]) -> Path:
    """Write the table in one of the forms of FILES; returns its path."""
    path = folder / FILES[form]
    if form == "parquet":
        _parquet(path, columns, rows)
    else:
        writers: dict[str, Callable[..., str]] = {"csv": _csv, "latex": _latex, "markdown": _markdown}
        write_text(path, writers[form](columns, rows))
    return path


def _records(columns: Sequence[Column], rows: Sequence[Row]) -> list[Row]:
    """All there is, as numbers and not as percent."""
    keys = ["run", *(column.key for column in columns), "dir"]
    return [{key: row.get(key) for key in keys} for row in rows]


def _csv(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    return csv_text(_records(columns, rows), ["run", *(c.key for c in columns), "dir"])


def _parquet(path: Path, columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """A column keeps its type: numbers are numbers, and what is missing is null."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError(f"to=parquet needs a package ({error}). pip install 'imgcls[parquet]'") from error
    part = path.with_name(path.name + ".part")
    parquet.write_table(pyarrow.Table.from_pylist(_records(columns, rows)), part)
    part.replace(path)


def printed(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[list[Column], list[list[str]]]:
    """(columns, cells) of a table that people read, the name of the run first."""
    kept = [column for column in columns if column.key not in UNPRINTED]
    cells = [[row["run"], *(shown(column, row.get(column.key)) for column in kept)] for row in rows]
    return [Column("run", "run", "text"), *kept], cells


def _markdown(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    kept, cells = printed(columns, rows)
    marks = ["---" if column.kind == "text" else "--:" for column in kept]
    lines = [[column.label for column in kept], marks, *cells]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _latex(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A tabular for the package booktabs."""
    kept, cells = printed(columns, rows)
    align = "".join("l" if column.kind == "text" else "r" for column in kept)
    head, *body = (
        " & ".join(map(_escaped, line)) + r" \\" for line in [[column.label for column in kept], *cells]
    )
    lines = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", head, r"\midrule", *body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _escaped(text: str) -> str:
    """Text without what TeX would take for a command."""
    named = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return re.sub(r"[\\&%$#_{}~^]", lambda found: named.get(found[0], f"\\{found[0]}"), text)
