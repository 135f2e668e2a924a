"""Which pictures a table gets: ours beside the paper's, the score over what was varied, and the trainings."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls import figures
from imgcls.reproduce.outcome import Outcome
from imgcls.reproduce.rows import Entry
from imgcls.reproduce.scores import SHARES, Score, scores
from imgcls.reproduce.words import key

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(outcome: Outcome, name: str, folder: Path) -> list[Path]:
    """Draw what one table has finished rows for; returns the files."""
    done = [entry for entry in outcome.tables[name] if entry.results]
    written = []
    for kind, figure in _drawn(outcome, name, done):
        written.append(folder / f"{name}-{kind}.png")
        figures.save(figure, written[-1])
    return written


def _drawn(outcome: Outcome, name: str, done: Sequence[Entry]) -> Iterator[tuple[str, "Figure"]]:
    if not done:
        return
    title = f"{outcome.paper.name} {name}{''.join(f' ({stamp})' for stamp in outcome.stamps)}"
    found = {entry.row.id: {s.metric: s for s in scores(entry, outcome.judge)} for entry in done}
    tested = [
        (entry.row.title, score.paper, score.ours, score.spread)
        for entry in done
        if (score := found[entry.row.id].get("test_acc")) and score.ours is not None
    ]
    if varied := swept(outcome.tables[name]):
        points = [(_value(entry, varied), *_shares(found[entry.row.id])) for entry in done]
        yield key(varied), figures.against(points, varied, title)
    elif tested:
        yield "test", figures.compared(tested, title)
    histories = {entry.row.title: entry.jobs[0].run.history() for entry in done}
    if any(histories.values()):
        yield "curves", figures.overlaid({name: rows for name, rows in histories.items() if rows}, title)


def _shares(found: dict[str, Score]) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """({metric: the paper's}, {metric: ours}) of the metrics that are shares."""
    kept = [score for score in found.values() if score.metric in SHARES]
    return {s.title: s.paper for s in kept}, {s.title: s.ours for s in kept}


def swept(entries: Sequence[Entry]) -> str | None:
    """The one setting with numbers in which the rows differ, if it is one."""
    said = [dict(word.split("=", 1) for word in entry.row.overrides) for entry in entries]
    keys = dict.fromkeys(name for words in said for name in words)
    differ = [name for name in keys if len({words.get(name) for words in said}) > 1]
    numeric = len(differ) == 1 and all(_number(words.get(differ[0])) is not None for words in said)
    return differ[0] if numeric and len(said) > 2 else None


def _value(entry: Entry, name: str) -> float:
    return float(next(word.partition("=")[2] for word in entry.row.overrides if key(word) == name))


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
