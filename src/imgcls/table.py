"""Tables: drawn on a terminal; elsewhere one line a row with tabs between, for grep, cut and awk."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

NUMBER = "0123456789.,%-"


def roomy() -> Console:
    """Where to print a drawn table: the terminal, or a file, which has room."""
    console = Console()
    return console if console.is_terminal else Console(width=200)


def show(
    columns: Sequence[str], rows: Iterable[Sequence[str]], styles: Mapping[str, str] | None = None
) -> int:
    """Print the rows, off a terminal each as it comes; returns how many. `styles` are those of whole cells.

    No cell but the last of a row is ever broken, so that names can be copied.
    """
    console = Console()
    if not console.is_terminal:
        return _lines(columns, rows)
    with console.status("counting …"):
        kept = [list(row) for row in rows]
    if kept:
        _draw(console, columns, kept, styles or {})
    return len(kept)


def _lines(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    count = 0
    try:
        for count, row in enumerate(rows, 1):
            if count == 1:
                print(*columns, sep="\t")
            print(*row, sep="\t", flush=True)
    except BrokenPipeError:  # `| head` has seen enough; Python would complain once more when it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return count


def _draw(console: Console, columns: Sequence[str], rows: list[list[str]], styles: Mapping[str, str]) -> None:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for place, name in enumerate(columns):
        cells = [row[place] for row in rows]
        last = place == len(columns) - 1
        width = None if last else max(len(cell) for cell in [name, *cells])
        numeric = all(set(cell) <= set(NUMBER) for cell in cells)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=not last, min_width=width)
    for row in rows:
        table.add_row(*(Text(cell, styles.get(cell, "")) for cell in row))
    # A window that is too narrow breaks the lines by itself, where rich would cut the names
    wide = console.options.update(max_width=10_000)
    console.width = max(console.width, Measurement.get(console, wide, table).minimum)
    console.print(table)
