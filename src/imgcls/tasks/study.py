"""Try the values of one setting after another, and carry the best of each on."""

from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from imgcls import papers
from imgcls.cli.composing import plain
from imgcls.reproduce import axes, findings, rows, words
from imgcls.reproduce.axes import Axis
from imgcls.reproduce.composer import composing
from imgcls.sweeps.sweep import Sweep
from imgcls.tasks.reproduce import launch


def main(config: DictConfig, typed: Sequence[str], config_dir: str | None = None) -> int:
    """Go along the axes; print a table for each, the path and the last command; returns the exit code.

    Args:
        config: composed of the task's own settings, with Hydra's part.
        typed: all overrides; those that are not of the task itself change every run.
    """
    settings, sweep = plain(config), launch(config)
    paper = papers.paper(settings["paper"]) if settings["paper"] else None
    study = paper.study if paper else None
    base = study.base if study else []
    with composing(config_dir, words.changes(typed), settings["fraction"]) as composer:
        composer.check(base)
        along = axes.read(typed, study, composer)
        axes.check(along, base, composer)
        told = words.telling(composer.changes, [base])
        stamps = words.stamps(settings["fraction"], told if paper else [])
        said = [*words.stamps(settings["fraction"], []), *words.axes(typed), *told]
        name = words.folder(f"study-{paper.name}" if paper else "study", said)
        folder = Path(settings["output"]) / "papers" / name
        path = axes.walk(along, base, composer, _runner(sweep))
    sweep.close()
    done = [axis for axis in along if axis.jobs]
    findings.end(done, path, stamps, len(path) == len(along), folder)
    jobs = {job.run.path: job for axis in done for job in axis.jobs}.values()
    return sweep.blame([job for job in jobs if rows.state(job) == "failed"])


def _runner(sweep: Sweep) -> Callable[[Axis], bool]:
    """Trains an axis and tells of it; says whether to go on."""

    def run(axis: Axis) -> bool:
        sweep.run(axes.waiting(axis))
        if sweep.pool.stopped is None:
            findings.tell(axis)
        return sweep.pool.stopped is None

    return run
