"""What is typed with task=reproduce or task=study: settings of the task, and changes of what it trains."""

import hashlib
import re
from collections.abc import Sequence

from imgcls.naming import NOT_NUMBERS, STUDIES

OWN = ("task", "paper", "rows", "seeds", "plan", "budget", "fraction", "name")
BOTH = ("output", "progress")  # matter to the task and to each of its runs
AXES = "axes."


def key(word: str) -> str:
    """What an override sets."""
    return word.partition("=")[0].lstrip("+~")


def asked(words: Sequence[str]) -> bool:
    """Whether a command is for one of these tasks."""
    return any(f"task={task}" in words for task in STUDIES)


def own(words: Sequence[str]) -> list[str]:
    """What the task itself is told, and how its runs are launched."""
    return [word for word in words if key(word) in (*OWN, *BOTH) or key(word).startswith("hydra")]


def changes(words: Sequence[str]) -> list[str]:
    """What is changed in all of its runs."""
    others = [word for word in words if word not in own(words) or key(word) in BOTH]
    return [word for word in others if not word.startswith(AXES)]


def axes(words: Sequence[str]) -> list[str]:
    """The settings to go through, one after another, without what marks them."""
    return [word.removeprefix(AXES) for word in words if word.startswith(AXES)]


def telling(changes: Sequence[str], commands: Sequence[Sequence[str]]) -> list[str]:
    """The changes that can change a number, and are not what all commands say anyway."""
    return [
        word
        for word in changes
        if key(word) not in NOT_NUMBERS
        and not key(word).startswith("logger")
        and any(word not in command for command in commands)
    ]


def stamps(fraction: float | None, telling: Sequence[str]) -> list[str]:
    """What every output says first, if it is not the paper's own settings that ran."""
    less = [f"fraction {fraction:g}: not a reproduction"] if fraction and fraction < 1 else []
    return less + ([f"changed: {' '.join(telling)}"] if telling else [])


def folder(name: str, stamps: Sequence[str]) -> str:
    """A folder's name; what is stamped lies beside the reproduction, never in its place."""
    if not stamps:
        return name
    words = re.sub(r"[^A-Za-z0-9.]+", "-", " ".join(stamps).replace(": not a reproduction", ""))[:40].strip(
        "-"
    )
    return f"{name}-{words}-{hashlib.sha256(' '.join(stamps).encode()).hexdigest()[:8]}"


def seconds(budget: str) -> float:
    """A time as typed, 90s, 45m or 2h, in seconds."""
    return float(budget[:-1]) * {"s": 1, "m": 60, "h": 3600}[budget[-1]]
