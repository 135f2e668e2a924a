"""Compare finished runs: a table on the terminal, a page that opens offline, and figures for a paper."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgcls.compare import collect
from imgcls.runs import writable

if TYPE_CHECKING:
    from rich.table import Table

    from imgcls.compare.prepare import Comparison
    from imgcls.compare.table import Column

MOST = 20  # rows on the terminal
SHOWN = ("test_set", "val_acc", "test_acc", "parameters", "seconds")


def main(config: dict[str, Any], folder: Path, typed: Sequence[str] = ()) -> float:
    """Compare `runs`; returns the best run's score. `typed` are the keys given on the command line."""
    read = collect.load(collect.find(config["runs"], config["output"]))
    from imgcls.compare import export, page, paper, prepare

    writable(folder)
    found = prepare.compare(read.entries)
    show(found)
    if read.left_out:
        print(read.left_out)
    table = export.write(config["to"] or "csv", folder, found.columns, found.rows)
    if config["to"]:
        print(f"{table}")
    else:
        facts = [line for line in (command(config), read.left_out, order(found)) if line]
        root = config["dataset"]["root"] if "dataset.root" in typed else None
        index = page.write(folder, found, facts, root)
        count = len(paper.write(folder, found))
        print(f"{index}  {table}")
        print(f"{folder / paper.FOLDER}/  {count} figures, each as PNG and SVG")
    return float(found.rows[0][found.metric])


def command(config: dict[str, Any]) -> str:
    """How to make the same page again."""
    runs = config["runs"]
    word = f"runs=[{','.join(runs)}]" if isinstance(runs, list) else f"runs={runs}"
    more = [shlex.quote(word)] if runs else [f"output={shlex.quote(config['output'])}"]
    return " ".join(["python -m imgcls task=compare", *more])


def order(found: "Comparison") -> str:
    """What the runs are ordered by, and why."""
    if found.metric == "val_acc":
        return "Best first by validation accuracy; the test accuracy is for looking, not for choosing."
    return "Best first by test accuracy, as not every run has a hold-out: the best one's score is optimistic."


def show(found: "Comparison") -> None:
    """Print the best runs, with as many of the settings that differ as there is room for."""
    from rich.console import Console

    from imgcls.table import roomy

    console = roomy()
    scores = [c for c in found.columns if c.key in SHOWN]
    settings = [c for c in found.columns if c.setting]
    settings.sort(key=lambda column: not column.key.endswith(".name"))
    count = len(settings)
    wide = Console(width=10_000)  # what it would take
    while count and wide.measure(_table(found, [*settings[:count], *scores])).maximum > console.width:
        count -= 1
    console.print(_table(found, [*settings[:count], *scores]))
    more = [f"{len(found.rows) - MOST:,} more runs"] if len(found.rows) > MOST else []
    more += [f"other values of {', '.join(c.label for c in settings[count:])}"] if settings[count:] else []
    if more:
        print(f"and {' and '.join(more)}, in the table")


def _table(found: "Comparison", columns: Sequence["Column"]) -> "Table":
    from rich.table import Table

    from imgcls.compare.table import shown

    by = {"val_acc": "validation accuracy", "test_acc": "test accuracy"}[found.metric]
    table = Table(title=f"{len(found.rows):,} runs, best first by {by}", title_justify="left")
    for column in columns:
        table.add_column(column.label, justify="left" if column.kind == "text" else "right", no_wrap=True)
    table.add_column("run", no_wrap=True)
    for row in found.rows[:MOST]:
        table.add_row(*(shown(column, row[column.key]) for column in columns), row["run"])
    return table
