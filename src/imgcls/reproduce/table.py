"""A paper's table with ours beside it, on the terminal."""

from collections.abc import Sequence

from rich.table import Table

from imgcls.reproduce.outcome import Outcome
from imgcls.reproduce.rows import Entry
from imgcls.reproduce.scores import Score, line, scores, seconds
from imgcls.table import roomy

COLOURS = {"within": "green", "better": "cyan", "worse": "red"}


def line_of(entry: Entry, judge: bool = True) -> str:
    """A row in one line, for the moment when it is through."""
    state = entry.state
    if state != "finished":
        return f"{entry.row.id}: {state}{f' ({entry.reason})' if entry.reason else ''}"
    found = [f"{score.title} {line(score)}" for score in scores(entry, judge)]
    return f"{entry.row.id}: {'; '.join(found)}; {seconds(entry):.0f} s  [{entry.row.title}]"


def show(outcome: Outcome) -> None:
    """Print the tables of the chosen rows."""
    console = roomy()
    for name, entries in outcome.tables.items():
        rows = [entry for entry in entries if entry.chosen]
        if rows:
            console.print(_drawn(outcome, name, rows))
    for text in [*outcome.stamps, *outcome.notes]:
        console.print(text, highlight=False, style="bold" if text in outcome.stamps else "dim", markup=False)


def _drawn(outcome: Outcome, name: str, rows: Sequence[Entry]) -> Table:
    title = f"{outcome.paper.name} {name}: paper → ours, shares in percent"
    table = Table(title=title, title_justify="left")
    table.add_column("row", no_wrap=True)
    found = {entry.row.id: {s.title: s for s in scores(entry, outcome.judge)} for entry in rows}
    titles = list(dict.fromkeys(title for each in found.values() for title in each))
    for column in [*titles, "training", "what"]:
        table.add_column(column)
    for entry in rows:
        own = found[entry.row.id]
        cells = [_coloured(own[title]) if title in own else "" for title in titles]
        time = f"{spent:.0f} s" if (spent := seconds(entry)) is not None else entry.state
        table.add_row(entry.row.id.partition(".")[2], *cells, time, entry.row.title)
    return table


def _coloured(score: Score) -> str:
    text, verdict = line(score), score.verdict
    return f"[{COLOURS[verdict]}]{text}[/]" if verdict else text
