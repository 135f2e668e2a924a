"""What a search may choose from, in Hydra's grammar, and what is wrong with it. Imports no Optuna."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from imgcls.cli.kinds import Choice, Kind, Number, Text
from imgcls.cli.overrides import PARSER, Setting
from imgcls.cli.rules import COUNT, kind_of
from imgcls.naming import flat

SETTINGS: dict[str, Kind] = {
    "n_trials": COUNT,
    "n_jobs": Number(1, whole=True, null=True),
    "sampler": Choice(("tpe", "random", "grid", "cmaes")),
    "seed": Number(0, 2**32 - 1, whole=True),
    "direction": Choice(("maximize", "minimize")),
    "study_name": Text("text", null=True),
    "storage": Text("a file or a URL", null=True),
    "pruner": Choice(("median", "hyperband", "none")),
    "startup_trials": Number(0, whole=True),
    "warmup_epochs": Number(0, whole=True),
}
LAUNCHERS = ("serial", "pool", "submitit_local", "submitit_slurm")


@dataclass(frozen=True)
class Dimension:
    """The values of one key: those that are named, or all between two ends."""

    key: str
    words: tuple[str, ...] = ()
    low: float | None = None  # None: the words have no order
    high: float = 0
    step: float | None = None
    log: bool = False
    whole: bool = False

    def override(self, value: Any) -> str:
        """`key=value` for a drawn value: six digits of a number are enough, and read better."""
        if not isinstance(value, float):
            return f"{self.key}={value}"
        short = f"{value:.6g}"
        return f"{self.key}={short if (self.low or 0) <= float(short) <= self.high else repr(value)}"

    def problems(self, sampler: str) -> Iterator[str]:
        """What no sampler, or not this one, can draw from."""
        if self.low is None:
            return
        ends = f"{self.key}: interval({self.low:g},{self.high:g})"
        if self.low >= self.high and not self.step:
            yield f"{ends} is empty. Put the lower end first."
        if self.log and self.low <= 0:
            yield f"{ends} cannot be on a log scale. Use a lower end > 0."
        if self.log and self.step:
            yield f"{self.key}: a range with a step cannot be on a log scale. Use interval."
        if sampler == "grid" and not self.words:
            yield f"{ends} has no values for hydra.sweeper.sampler=grid. Name some: {self.key}=A,B."


def split(lines: Iterable[str], config: Mapping[str, Any]) -> tuple[list[str], list[Dimension]]:
    """(overrides that all trials have, dimensions in the order of their keys)."""
    overrides = [PARSER.parse_override(line) for line in lines]
    fixed = [str(override.input_line) for override in overrides if not override.is_sweep_override()]
    swept = [dimension(override, flat(config)) for override in overrides if override.is_sweep_override()]
    return fixed, sorted(swept, key=lambda found: found.key)


def dimension(override: Override, values: Mapping[str, Any]) -> Dimension:
    """What an override of several values names; `values` are the usual ones, whose kind numbers have."""
    key, value = override.key_or_group, override.value()
    if isinstance(value, IntervalSweep):
        # The ends are floats, but in int(interval(1,9)); what counts things needs no such word
        kind, cast = kind_of(key, values.get(key)), isinstance(value.start, int)
        whole = cast or (isinstance(kind, Number) and kind.whole)
        return Dimension(key, low=value.start, high=value.end or 0, log="log" in value.tags, whole=whole)
    words = tuple(dict.fromkeys(override.sweep_string_iterator()))
    if isinstance(value, RangeSweep) and not value.shuffle and len(words) > 1:
        numbers = sorted(float(word) for word in words)
        whole = all(isinstance(end, int) for end in (value.start, value.step))
        step = abs(float(value.step))
        return Dimension(key, words, numbers[0], numbers[-1], step, "log" in value.tags, whole)
    return Dimension(key, words)


def grid(space: Sequence[Dimension]) -> list[dict[str, Any]]:
    """Every combination of the values of dimensions that all name theirs."""
    values = [[_value(each, word) for word in each.words] for each in space]
    return [dict(zip((each.key for each in space), point, strict=True)) for point in product(*values)]


def _value(of: Dimension, word: str) -> Any:
    return word if of.low is None else int(word) if of.whole else float(word)


def problems(config: Any, settings: Sequence[Setting], groups: bool, multirun: bool) -> Iterator[str]:
    """What is wrong with `hydra/sweeper=optuna`, one line each.

    Args:
        config: the composed configuration with Hydra's own part.
        groups: whether options of a group are to be chosen from.
        multirun: whether it is a sweep at all.
    """
    sweeper, launcher = config.hydra.sweeper, config.hydra.runtime.choices["hydra/launcher"]
    packages = ["optuna", "cmaes"] if sweeper.sampler == "cmaes" else ["optuna"]
    if missing := [name for name in packages if not find_spec(name)]:
        yield f"hydra/sweeper=optuna needs the package {missing[0]}. pip install 'imgcls[optuna]'"
    if not multirun:
        yield "hydra/sweeper=optuna makes many runs. Add -m."
    if launcher not in LAUNCHERS:
        yield f"hydra/sweeper=optuna cannot go with hydra/launcher={launcher}. Use serial or pool."
    for name, kind in SETTINGS.items():
        if not kind.accepts(sweeper[name]):
            yield f"hydra.sweeper.{name}={sweeper[name]} must be {kind}."
    if config.task != "train":
        yield f"hydra/sweeper=optuna chooses by validation accuracy. Use task=train, not task={config.task}."
    if not config.dataset.val_fraction:
        yield "hydra/sweeper=optuna would choose on the test set. Use dataset.val_fraction=0.1."
    lines = [f"{setting.key}={setting.spelling}" for setting in settings]
    swept = split(lines, {})[1]
    for each in swept:
        yield from each.problems(sweeper.sampler)
    if not swept and not groups:
        yield "hydra/sweeper=optuna has nothing to choose from. Add KEY=interval(A,B) or KEY=A,B."
