"""Rows of papers with the jobs that give their numbers, and how far those have come."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from imgcls import papers
from imgcls.errors import ConfigError, DivergedError
from imgcls.papers import Paper, Row
from imgcls.reproduce.composer import Composer
from imgcls.runs import write_text
from imgcls.sweeps.job import Job

DIVERGED = "diverged.txt"  # in a run's folder: it was tried, and how it ended


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
        """Of the jobs that have finished."""
        return [result for job in self.jobs if (result := job.run.result)]

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
        return next((why for job in self.jobs if (why := job.reason or diverged(job))), "")


def state(job: Job) -> str:
    """As the job's own, but of the run: finished or diverged whenever that was."""
    if job.run.result:
        return "finished"
    return "diverged" if diverged(job) else job.state


def diverged(job: Job) -> str:
    """How the run diverged, now or before; empty if it did not."""
    try:
        return (job.run / DIVERGED).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def note_divergence(jobs: Iterable[Job]) -> None:
    """Keep that a run diverged: a result of its own, which another try would only repeat."""
    for job in jobs:
        if job.state == "failed" and job.code == DivergedError.exit_code:
            write_text(job.run / DIVERGED, job.reason + "\n")


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


def missing(job: Job) -> bool:
    """Whether there is something left to train."""
    return not job.done_before and (job.config["restart"] or not diverged(job))
