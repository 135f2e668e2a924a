"""One override of the command line: its key, and the values that it stands for."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import HydraException

from imgcls.cli.arguments import quoted
from imgcls.cli.kinds import Number, Numbers, Words
from imgcls.cli.rules import RULES, SEVERAL
from imgcls.errors import ConfigError

PARSER = OverridesParser.create()


@dataclass(frozen=True)
class Setting:
    """`key=value`, or in a sweep several values."""

    key: str
    values: list[Any]
    words: list[str]  # the values as they are typed
    typed: str  # all that stands behind the '='
    spelling: str  # the same in Hydra's grammar

    @property
    def of_hydra(self) -> bool:
        """Whether it is Hydra's own."""
        return self.key.startswith(("hydra.", "hydra/"))

    def line(self, force: bool) -> str:
        """The override as Hydra takes it; by `force` also where nothing stands yet."""
        return f"{'++' if force else ''}{self.key}={self.spelling}"


def read(text: str, sweeps: bool, options: Callable[[str], list[str]]) -> Setting:
    """What an override says; ConfigError if nothing can be made of it. `options` lists those of a group."""
    override = _parse(text)
    key, typed = override.key_or_group, text.partition("=")[2]
    spelling = str(override.input_line).partition("=")[2]
    if override.is_delete():
        raise ConfigError(f"~{key} cannot be left out. Give it another value: {key}=…")
    if override.package:
        raise ConfigError(f"{text} puts a group elsewhere. Write {key}={typed}.")
    if not override.is_sweep_override():
        return Setting(key, [override.value()], [typed], typed, spelling)
    if not sweeps:
        raise ConfigError(f"{key}={typed} is several values. {_one(key, typed)} -m for a sweep.")
    return _swept(override, typed, options)


def _one(key: str, typed: str) -> str:
    """How to write one value with a comma in it, where that can be meant."""
    kind = RULES.get(key)
    if isinstance(kind, Numbers | Words) or key in SEVERAL:
        return f"Write [{typed}], or add"
    decimal = isinstance(kind, Number) and not kind.whole and re.fullmatch(r"\d+,\d+", typed)
    return f"Write {typed.replace(',', '.')}, or add" if decimal else "Add"


def _parse(text: str) -> Override:
    key, equals, value = text.partition("=")
    if key.strip("+~") and (equals or key.startswith("~")):
        for spelling in (text, f"{key}={quoted(value)}"):  # what is not in Hydra's grammar is text
            try:
                return PARSER.parse_override(spelling)
            except HydraException:
                continue
    raise ConfigError(f"cannot read {text!r}. Write KEY=VALUE, without spaces around the '='.")


def _swept(override: Override, typed: str, options: Callable[[str], list[str]]) -> Setting:
    """The values of a sweep, one by one."""
    key, value = override.key_or_group, override.value()
    if override.is_hydra_override():
        raise ConfigError(f"{key}={typed} cannot be swept. Give it one value.")
    if isinstance(value, IntervalSweep):  # for a search plugin, which draws from between its ends
        kind, ends = RULES.get(key), [end for end in (value.start, value.end) if end is not None]
        if isinstance(kind, Number) and kind.whole:  # Hydra makes floats of them
            ends = [int(end) if end == int(end) else end for end in ends]
        return Setting(key, ends, [*map(str, ends)], typed, typed)
    try:
        words = value.filter(options(key)) if isinstance(value, Glob) else [*override.sweep_string_iterator()]
    except (HydraException, ValueError):  # a range with a step of 0
        words = []
    if not words:
        raise ConfigError(f"{key}={typed} stands for no value. Name some.")
    values = [PARSER.parse_override(f"{key}={word}").value() for word in words]
    return Setting(key, values, words, typed, ",".join(words) if isinstance(value, Glob) else typed)
