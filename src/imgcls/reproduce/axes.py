"""One setting after another: the values of each are tried, and the best goes into all that follow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from imgcls import papers
from imgcls.cli import overrides
from imgcls.cli.arguments import ALIASES
from imgcls.cli.command import examined
from imgcls.cli.conflicts import conflicts
from imgcls.cli.kinds import spelt
from imgcls.errors import ConfigError
from imgcls.reproduce.composer import Composer
from imgcls.reproduce.words import axes as typed_axes
from imgcls.reproduce.words import changes, key
from imgcls.sweeps.job import Job

VALIDATION, TEST = "validation accuracy", "test accuracy"


@dataclass
class Axis:
    """A setting and its values, as they are typed; then the jobs that tried them."""

    key: str
    values: list[str]
    jobs: list[Job] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        """One override for each value."""
        return [f"{self.key}={value}" for value in self.values]

    @property
    def best(self) -> int | None:
        """The place of the value with the highest score, the first of equals; None if none has finished."""
        found = {place: score for place, job in enumerate(self.jobs) if (score := scored(job)[1]) is not None}
        return max(found, key=found.__getitem__) if found else None


def scored(job: Job) -> tuple[str, float | None]:
    """What is chosen by, and how much of it a job has; where something is held out, of the kept weights."""
    result, history = job.run.completed, job.run.history()
    if not job.config["dataset"]["val_fraction"]:
        return TEST, result["test"]["acc"] if result else None
    if not result:
        return VALIDATION, None
    return VALIDATION, result["best"]["val/acc"] if result["best"] else history[-1]["val/acc"]


def read(typed: Sequence[str], study: papers.Study | None, composer: Composer) -> list[Axis]:
    """The axes that are typed, or else those of the paper, without what is typed to be fixed.

    Raises:
        ConfigError: there are none, or a setting is both.
    """
    fixed = {key(word) for word in changes(typed)}
    options = composer.conf.options
    if words := typed_axes(typed):
        read = [overrides.read(_in_full(word), True, options) for word in words]
        found = [Axis(setting.key, _values(setting)) for setting in read]
        if both := next((axis.key for axis in found if axis.key in fixed), None):
            raise ConfigError(f"{both}=… and axes.{both}=… are both typed. Leave one of them out.")
        return found
    found = [Axis(name, [*map(spelt, values)]) for name, values in (study.axes if study else {}).items()]
    if not found:
        known = ", ".join(f"paper={paper.name}" for paper in papers.papers() if paper.study)
        raise ConfigError(f"task=study needs settings to try. Add axes.KEY=VALUE,VALUE, or one of {known}.")
    return [axis for axis in found if axis.key not in fixed]


def _in_full(word: str) -> str:
    """axes.lr is axes.optimizer.lr."""
    name, _, value = word.partition("=")
    return f"{ALIASES.get(name, name)}={value}"


def _values(setting: overrides.Setting) -> list[str]:
    """Both epochs=1,3,5 and epochs=[1,3,5] are three values."""
    if len(setting.values) == 1 and isinstance(setting.values[0], list):
        return [*map(spelt, setting.values[0])]
    return setting.words


def check(axes: Sequence[Axis], base: Sequence[str], composer: Composer) -> None:
    """Look at every value of every axis before anything is trained.

    Raises:
        ConfigError: with the first that is wrong.
    """
    for axis in axes:
        lines = axis.words if axis.key in composer.conf.usual else [f"{axis.key}={','.join(axis.values)}"]
        for line in lines:
            done = examined(composer.conf, composer.words(composer.words(base, [line])), sweeps=True)
            if wrong := done.problems or [problem for job in done.jobs for problem in conflicts(job)]:
                raise ConfigError(wrong[0])


def walk(
    axes: Sequence[Axis], base: Sequence[str], composer: Composer, run: Callable[[Axis], bool]
) -> list[str]:
    """Go along the axes; returns the path, the word that was kept of each.

    `run` trains the jobs of an axis, and says whether to go on.
    """
    path: list[str] = []
    for axis in axes:
        axis.jobs = [composer.make(word, composer.words(base, [*path, word]))[0] for word in axis.words]
        if not run(axis) or axis.best is None:
            break
        path.append(axis.words[axis.best])
    return path


def waiting(axis: Axis) -> list[Job]:
    """Its jobs, without those of another axis."""
    return [job for job in axis.jobs if job.state == "waiting"]
