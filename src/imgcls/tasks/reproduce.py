"""Run the rows of papers, what is missing of them, and put what comes out beside what the papers say."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from imgcls import papers, table
from imgcls.cli.composing import plain
from imgcls.errors import ConfigError
from imgcls.papers import Row
from imgcls.reproduce import page, plan, rows, words
from imgcls.reproduce import table as own_table
from imgcls.reproduce.composer import composing
from imgcls.reproduce.outcome import Outcome, summary
from imgcls.reproduce.rows import Entry
from imgcls.sweeps.job import Job
from imgcls.sweeps.sweep import Sweep

LAUNCHERS = ("serial", "pool")
COLUMNS = ["row", "state", "epochs", "s_per_epoch", "hours", "memory_MB", "disk_MB", "what"]


def main(config: DictConfig, typed: Sequence[str], config_dir: str | None = None) -> int:
    """Plan, or train and compare; returns the exit code.

    Args:
        config: composed of the task's own settings, with Hydra's part.
        typed: all overrides; those that are not of the task itself change every row.
    """
    settings = plain(config)
    _refuse(settings, typed)
    sweep = launch(config)
    chosen, output = _chosen(settings), Path(settings["output"])
    with composing(config_dir, words.changes(typed), settings["fraction"]) as composer:
        entries = rows.entries(composer, chosen, settings["seeds"])
        others = [] if settings["plan"] else rows.others(composer, chosen, settings["seeds"])
    telling = words.telling(composer.changes, [row.overrides for row in chosen])
    stamps, order = words.stamps(settings["fraction"], telling), entries
    if settings["plan"] or settings["budget"]:
        order = _planned(entries, settings, output)
        if settings["plan"]:
            print("".join(f"{stamp}\n" for stamp in stamps), end="")
            return 0
    outcomes = []
    for paper in {entry.paper.name: entry.paper for entry in entries}.values():
        own = [entry for entry in (*entries, *others) if entry.paper == paper]
        own.sort(key=lambda entry: paper.rows.index(entry.row))
        left_out = [entry.row.id for entry in own if entry.chosen and entry not in order]
        outcomes.append(Outcome(paper, own, settings["seeds"], stamps, left_out))
    return _run(sweep, outcomes, order, output / "papers")


def _refuse(settings: dict[str, Any], typed: Sequence[str]) -> None:
    """ConfigError for words that are of another task, or that the task's own settings would replace."""
    if axes := words.axes(typed):
        raise ConfigError(f"{words.AXES}{axes[0]} is for task=study. Add that, or leave it out.")
    replaced = {"seeds": "seed", "fraction": "dataset.limit"}
    for name, key in replaced.items():
        if settings[name] not in (None, 1) and key in map(words.key, typed):
            raise ConfigError(f"{name}={settings[name]} chooses {key}=… itself. Leave one of them out.")


def _chosen(settings: dict[str, Any]) -> list[Row]:
    """The rows that are asked for, each once, in the order of the papers."""
    name = None if settings["paper"] in (None, "all") else settings["paper"]
    if name:
        papers.paper(name)
    asked = settings["rows"] or "all"
    if asked[0] + asked[-1] == "[]":  # a list, as Hydra spells it; else brackets are of a pattern
        asked = asked[1:-1]
    found = [row for pattern in asked.split(",") for row in papers.rows(pattern.strip(), name)]
    return list({row.id: row for row in found}.values())


def _planned(chosen: list[Entry], settings: dict[str, Any], output: Path) -> list[Entry]:
    """Time what is missing, and show it for a plan; returns the rows to run, in their order."""
    speeds = plan.Speeds(output / "papers")
    speeds.time([job for job in rows.to_run(chosen) if not job.done_before])
    if settings["plan"]:
        table.show(COLUMNS, plan.lines(chosen, speeds))
        print(plan.total(chosen, speeds, output))
    if not (budget := settings["budget"]):
        return chosen
    fits = list(plan.fitting(chosen, speeds, words.seconds(budget)))
    names = ", ".join(entry.row.id for entry in chosen if entry not in fits)
    print(f"budget={budget}: {len(fits)} of {len(chosen)} rows fit{f'; not {names}' if names else ''}")
    return fits


def launch(config: DictConfig) -> Sweep:
    """A sweep with the workers of the chosen launcher."""
    from hydra.utils import instantiate

    choice = config.hydra.runtime.choices["hydra/launcher"]
    if choice not in LAUNCHERS:
        raise ConfigError(f"hydra/launcher={choice} cannot run papers. Use {' or '.join(LAUNCHERS)}.")
    return Sweep(config, instantiate(config.hydra.launcher).workers())


def _run(sweep: Sweep, outcomes: Sequence[Outcome], order: Sequence[Entry], folder: Path) -> int:
    """Train what is missing; say each row as it comes, then all tables; returns the exit code."""
    tell = _teller(outcomes, order, sweep.board.console)
    tell(order)
    jobs = rows.to_run(order)

    def ended(some: Sequence[Job]) -> None:
        tell([entry for entry in order if any(job in some for job in entry.jobs)])

    sweep.run(jobs, ended)
    sweep.close()
    for outcome in outcomes:
        own_table.show(outcome)
        place = folder / words.folder(outcome.paper.name, outcome.stamps)
        written = page.write(outcome, place)
        print(f"{summary(outcome)}\nin {place}/:\n  {'  '.join(path.name for path in written)}")
    return sweep.blame([job for job in jobs if rows.state(job) == "failed"])


def _teller(
    outcomes: Sequence[Outcome], order: Sequence[Entry], console: Console
) -> Callable[[Sequence[Entry]], None]:
    """Says a row in one line when the last of its runs is through."""
    judge = {outcome.paper.name: outcome.judge for outcome in outcomes}
    told: set[str] = set()

    def through(job: Job) -> bool:
        return rows.state(job) not in ("waiting", "running") and not job.worth_another_try

    def tell(entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.row.id not in told and all(map(through, entry.jobs)):
                told.add(entry.row.id)
                line = own_table.line_of(entry, judge[entry.paper.name])
                console.print(line, highlight=False, markup=False, soft_wrap=True)

    return tell
