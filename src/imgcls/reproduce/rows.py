"""Rows of papers with the jobs that give their numbers, and how far those have come."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from imgcls import papers
from imgcls.errors import ConfigError
from imgcls.papers import Paper, Row
from imgcls.reproduce.composer import Composer
from imgcls.sweeps.job import Job


@dataclass
class Entry:
    """A row, and the jobs that give its numbers: one for each seed."""

    paper: Paper
    row: Row
    chosen: bool  # to be run now, not only to be shown
    jobs: list[Job]

    @property
    def table(self) -> str:
        """The table of the paper that it stands in."""
        return self.row.id.split(".")[1]

    @property
    def results(self) -> list[dict[str, Any]]:
        """Of the jobs that have finished, without those that diverged."""
        return [result for job in self.jobs if (result := job.run.completed)]

    @property
    def state(self) -> str:
        """finished, diverged, failed, or what it still waits for."""
        states = [state(job) for job in self.jobs]
        if len(set(states)) == 1:
            return states[0]
        return next((s for s in ("failed", "diverged", "stopped", "running") if s in states), "part")

    @property
    def reason(self) -> str:
        """Why it has failed or diverged."""
        return next((why for job in self.jobs if (why := job.run.diverged or job.reason)), "")


def state(job: Job) -> str:
    """As the job's own, but of the run: finished or diverged whenever that was."""
    if job.run.completed:
        return "finished"
    return "diverged" if job.run.diverged else job.state


def entries(composer: Composer, chosen: Sequence[Row], seeds: int) -> list[Entry]:
    """The chosen rows with their jobs; ConfigError if a change does not fit them."""
    composer.check(chosen[0].overrides)
    return [_entry(composer, row, seeds, chosen=True) for row in chosen]


def others(composer: Composer, chosen: Sequence[Row], seeds: int) -> list[Entry]:
    """The other rows of the same papers, so that tables are whole, but those that a change does not fit."""
    names = dict.fromkeys(row.id.partition(".")[0] for row in chosen)
    found = []
    for row in (row for name in names for row in papers.paper(name).rows if row not in chosen):
        with suppress(ConfigError):
            found.append(_entry(composer, row, seeds, chosen=False))
    return found


def _entry(composer: Composer, row: Row, seeds: int, chosen: bool) -> Entry:
    paper = papers.paper(row.id.partition(".")[0])
    return Entry(paper, row, chosen, composer.make(row.id, row.overrides, seeds))


def to_run(entries: Iterable[Entry]) -> list[Job]:
    """The jobs of some rows, each once."""
    return list({id(job): job for entry in entries for job in entry.jobs}.values())
