"""Kinds of values that a setting may have. `str` of a kind words it, to follow "must be"."""

import math
import re
from dataclasses import dataclass
from typing import Any, Protocol

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Kind(Protocol):
    """What all kinds can do."""

    def accepts(self, value: Any) -> bool:
        """Whether the value is of this kind."""


def spelt(value: object) -> str:
    """A value as it is typed on the command line; text that looks like something else is in quotes."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(spelt, value))}]"
    # What YAML and Hydra would read as a number, a switch or nothing
    mistakable = r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|true|false|null|nan|[-+]?inf"
    text = str(value)
    return f"'{text}'" if isinstance(value, str) and re.fullmatch(mistakable, text.lower()) else text


@dataclass(frozen=True)
class Number:
    """A number in [low, high], or beyond `low` or below `high` where `above` or `below` says so."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False
    null: bool = False

    def accepts(self, value: Any) -> bool:
        """Booleans are no numbers, and 8.0 is no whole number: what counts things wants an int."""
        if value is None:
            return self.null
        # To Python true is 1
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        least = self.low < value if self.above else self.low <= value
        most = value < self.high if self.below else value <= self.high
        return math.isfinite(value) and least and most

    @property
    def bounds(self) -> str:
        """Its range in symbols, or nothing."""
        low = f"{'>' if self.above else '>='} {self.low:.10g}" if math.isfinite(self.low) else ""
        high = f"{'<' if self.below else '<='} {self.high:.10g}" if math.isfinite(self.high) else ""
        return " and ".join(filter(None, (low, high)))

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} {self.bounds}".strip() + (" or null" if self.null else "")


@dataclass(frozen=True)
class Numbers:
    """A list of numbers, of that length if `count` says one."""

    each: Number = Number()
    count: int | None = None
    null: bool = False

    def accepts(self, value: Any) -> bool:
        """Lists only, or `null` if it says so."""
        if value is None:
            return self.null
        if not isinstance(value, list) or self.count not in (None, len(value)):
            return False
        return all(self.each.accepts(item) for item in value)

    def __str__(self) -> str:
        length = f" of {self.count}" if self.count else ""
        kind = "whole numbers" if self.each.whole else "numbers"
        return f"a list{length}, as [2,3], of {kind} {self.each.bounds}".strip() + " or null" * self.null


@dataclass(frozen=True)
class Words:
    """A list of texts, which may be empty."""

    def accepts(self, value: Any) -> bool:
        """Lists only."""
        return isinstance(value, list) and all(isinstance(word, str) and word for word in value)

    def __str__(self) -> str:
        return "a list of words, as [a,b]"


@dataclass(frozen=True)
class Texts(Words):
    """One text, a list of them, or null."""

    what: str

    def accepts(self, value: Any) -> bool:
        """An empty list or text names nothing, but null may mean all."""
        if isinstance(value, list):
            return value != [] and super().accepts(value)
        return value is None or (isinstance(value, str) and value != "")

    def __str__(self) -> str:
        return self.what


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[Any, ...]

    def accepts(self, value: Any) -> bool:
        """Kinds count: in Python, 1 is True."""
        return any(type(word) is type(value) and word == value for word in self.words)

    def __str__(self) -> str:
        words = [spelt(word) for word in self.words]
        return " or ".join(words) if len(words) == 2 else f"one of {', '.join(words)}"


@dataclass(frozen=True)
class Either:
    """Of one kind or of another."""

    one: Kind
    other: Kind

    def accepts(self, value: Any) -> bool:
        """What one of them accepts."""
        return self.one.accepts(value) or self.other.accepts(value)

    def __str__(self) -> str:
        return f"{self.one} or {self.other}"


@dataclass(frozen=True)
class Text:
    """Text of a pattern, by default any but none; `null` and `flag` (true or false) as they say.

    Control characters are in no text: it becomes the name of a folder, or is shown on a terminal.
    """

    what: str
    pattern: str = ".+"
    null: bool = False
    flag: bool = False

    def accepts(self, value: Any) -> bool:
        """Numbers are not text, unless they are quoted."""
        if value is None or isinstance(value, bool):
            return self.null if value is None else self.flag
        return (
            isinstance(value, str)
            and re.fullmatch(self.pattern, value) is not None
            and not CONTROL.search(value)
        )

    def __str__(self) -> str:
        return self.what + (" or null" if self.null else "")


def like(value: object) -> Kind | None:
    """The kind of a value, as far as it tells what others must be."""
    if isinstance(value, list):
        return Numbers() if value and all(Number().accepts(item) for item in value) else None
    kinds: dict[type, Kind] = {
        bool: Choice((True, False)),
        int: Number(whole=True),
        float: Number(),
        str: Text("text", ".*"),
    }
    return kinds.get(type(value))
