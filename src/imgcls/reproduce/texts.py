"""A paper's table with ours beside it, as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import product

from imgcls.reproduce.outcome import NOT_RUN, Outcome, titled
from imgcls.reproduce.rows import Entry
from imgcls.reproduce.scores import SHARES, Score, ours, scores, seconds, shown

Grid = tuple[list[str], list[list[str]]]  # columns, and the cells of each row
COLUMNS = (
    *("row", "title", "metric", "paper", "ours", "spread", "runs", "difference", "verdict"),
    *("seconds", "state", "reason", "folders", "stamps"),
)


def grid(outcome: Outcome, entries: Sequence[Entry]) -> Grid:
    """One table as text; columns with nothing in them are left out."""
    found = [{s.title: s for s in scores(entry, outcome.judge)} for entry in entries]
    titles = list(dict.fromkeys(title for each in found for title in each))
    units = {s.title: ", %" for each in found for s in each.values() if s.metric in SHARES}
    parts = ("paper", "ours", "difference", "verdict")
    columns = [("", "row"), ("", "what"), *product(titles, parts)]
    columns += [("", "training, s"), ("", "state"), ("", "run")]
    rows = []
    for entry, own in zip(entries, found, strict=True):
        cells = [cell for title in titles for cell in _cells(own.get(title))]
        rows.append([entry.row.id.partition(".")[2], entry.row.title, *cells, *_ending(entry)])
    kept = [n for n, _ in enumerate(columns) if any(row[n] for row in rows)]
    heads, before = [], ""
    for title, name in (columns[n] for n in kept):  # a title stands on the first column that is its
        heads.append(f"{title}{units.get(title, '')}: {name}" if title not in ("", before) else name)
        before = title
    return heads, [[row[n] for n in kept] for row in rows]


def _cells(score: Score | None) -> list[str]:
    """The paper's, ours, the difference and the verdict."""
    if score is None:
        return [""] * 4
    change = score.difference
    signed = "" if change is None else shown(score.metric, change, "+")
    return [shown(score.metric, score.paper), ours(score), signed, score.verdict]


def _ending(entry: Entry) -> list[str]:
    """Seconds of training, the state in words, and the run folders."""
    spent = seconds(entry)
    return ["" if spent is None else f"{spent:.1f}", _state(entry), " ".join(folders(entry))]


def _state(entry: Entry) -> str:
    """Nothing for what has finished; also whose run it is, if another row has the same."""
    text = {**NOT_RUN, "finished": ""}.get(entry.state, entry.state)
    reason = f": {entry.reason}" if entry.reason and entry.state in ("failed", "diverged") else ""
    same = f"same as {entry.row.duplicate_of.partition('.')[2]}" if entry.row.duplicate_of else ""
    return ", ".join(filter(None, (text + reason, same)))


def folders(entry: Entry) -> list[str]:
    """The names of its run folders."""
    return [job.run.path.name for job in entry.jobs]


def remarks(entries: Sequence[Entry]) -> list[str]:
    """What the paper says of a row, and what it leaves open."""
    return [
        f"{entry.row.id.partition('.')[2]}: {text}"
        for entry in entries
        for text in [*([entry.row.note] if entry.row.note else []), *entry.row.resolves]
    ]


def markdown(outcome: Outcome) -> str:
    """All tables, with what must be known of them."""
    paper = outcome.paper
    parts = [f"# {paper.title} ({outcome.authors}), run again", *(f"**{s}**" for s in outcome.stamps)]
    for name, entries in outcome.tables.items():
        parts += [f"## {titled(name)}", _table(*grid(outcome, entries)), _list(remarks(entries))]
    parts += [_list([*outcome.notes, *paper.resolves])]
    parts += [_list([f"{name}: {text}" for name, text in outcome.facts.items()])]
    return "\n\n".join(filter(None, parts)) + "\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _list(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def table_csv(outcome: Outcome) -> str:
    """One line for each figure of each row; shares of 1, times in minutes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(line for entry in outcome.entries for line in _csv_lines(outcome, entry))
    return text.getvalue()


def _csv_lines(outcome: Outcome, entry: Entry) -> Iterator[list[object]]:
    end = [seconds(entry), entry.state, entry.reason, " ".join(folders(entry)), "; ".join(outcome.stamps)]
    for s in scores(entry, outcome.judge):
        change = None if s.difference is None else round(s.difference, 6)
        figures = [s.metric, s.paper, s.ours, s.spread, len(entry.results), change, s.verdict]
        yield [entry.row.id, entry.row.title, *figures, *end]
