"""Which jobs of a sweep train as one program (`sweep.together=8`). Imports no torch."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgcls.cli.kinds import spelt
from imgcls.naming import flat
from imgcls.sweeps.job import Job

if TYPE_CHECKING:
    from imgcls.report import Ending

KEY = "hydra.launcher.together"
# What a team has in common: its network, and what comes in one batch. All else each member has for itself.
COMMON = ("model", "dataset", "scaling", "init", "trainer", "batch_size", "accumulate", "freeze", "features")
# Settings that a member of a team cannot have otherwise
NEEDED: dict[str, tuple[Any, ...]] = {
    "task": ("train",),
    "features": ("live",),
    "trainer.devices": (1,),
    "trainer.num_nodes": (1,),
    "trainer.compile": (False,),
    "trainer.profiler": (None,),
    "trainer.precision": ("auto", "32-true", "bf16-mixed"),
    **dict.fromkeys(("ema", "lookahead", "hardest", "freeze_after", "debug"), (None,)),
    **dict.fromkeys(("restart", "logger.tensorboard", "logger.wandb"), (False,)),
}


@dataclass
class Team(Job):
    """Jobs whose networks are trained as one; each of them then tests its own, as a job like any other."""

    members: Sequence[Job] = ()
    place: Path = field(default_factory=Path)

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.place

    @property
    def alone(self) -> bool:
        """It is on one device."""
        return False

    def tell(self) -> None:
        """Let its members be shown as running, too."""
        if self.state == "running":
            for member in self.members:
                member.state = self.state

    def end(self, code: int, reason: str, ending: "Ending | None" = None) -> None:
        """Whatever has come between: what is left of each is its own job's."""
        super().end(code, reason, ending)
        for member in self.members:
            member.state = "stopped" if self.state == "stopped" else "waiting"
        if self.state == "failed":
            gist = (reason.splitlines() or [""])[0][:200]
            print(
                f"together: a team failed ({gist}; log: {self.log}). Its jobs train one by one.", flush=True
            )


def form(jobs: Sequence[Job], most: int, place: Path) -> tuple[list[Team], list[Job], str]:
    """(teams of up to `most` jobs, jobs that stay alone, a line that says so)."""
    fitting, reasons = defaultdict(list), Counter[str]()
    for job in jobs:
        if hindrance := _hindrance(job.config):
            reasons[hindrance] += 1
        else:
            common = json.dumps([job.config[key] for key in COMMON], sort_keys=True, default=str)
            fitting[common].append(job)
    groups = [some[n : n + most] for some in fitting.values() for n in range(0, len(some), most)]
    reasons["no other is of the same network, images and batches"] = sum(len(g) == 1 for g in groups)
    teams = [
        Team(-1, [], [member.composed for member in group], members=group, place=place / f"team{n}.log")  # type: ignore[arg-type]
        for n, group in enumerate((g for g in groups if len(g) > 1), 1)
    ]
    taken = {id(member) for team in teams for member in team.members}
    alone = [job for job in jobs if id(job) not in taken]
    return teams, alone, _told(len(taken), len(teams), +reasons)


def _hindrance(config: Mapping[str, Any]) -> str | None:
    """The setting that keeps a job out of every team, or None."""
    values = flat(config)
    return next(
        (f"{k}={spelt(values[k])}" for k, fit in NEEDED.items() if values.get(k, fit[0]) not in fit), None
    )


def _told(members: int, teams: int, alone: Mapping[str, int]) -> str:
    line = f"together: {members} jobs in {teams} team{'s' * (teams != 1)}"
    why = "; ".join(f"{count} ({reason})" for reason, count in alone.items())
    return f"{line}, alone {why}" if why else line


def problems(typed: Iterable[tuple[str, Any]], sweeps: bool, sweeper: str) -> Iterator[str]:
    """What is wrong with `sweep.together=N`, one line each; `typed` are all keys with their values."""
    for key, value in typed:
        if key != KEY:
            continue
        what = f"sweep.together={spelt(value)}"
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            yield f"{what} must be a whole number >= 1."
        elif not sweeps:
            yield f"{what} is for a sweep. Add -m, and values to sweep, as seed=0,1,2,3."
        elif sweeper != "basic":
            yield f"{what} needs to know all runs beforehand. Leave hydra/sweeper={sweeper} out, or this."
