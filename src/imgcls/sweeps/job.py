"""A job of a sweep: a run named by its configuration, and how far it has come."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from omegaconf import DictConfig

from imgcls import naming
from imgcls.cli.composing import plain
from imgcls.distributed import launch
from imgcls.errors import ImgclsError, ResourceError
from imgcls.runs import METRICS, Run

if TYPE_CHECKING:
    from imgcls.report import Ending

# How a job ended: exit code, or minus the signal that killed it; the reason; what is left to write
Ended: TypeAlias = "tuple[int, str, Ending | None]"
OUTPUT = "output.log"  # what a job says on its terminal, which it does not have
ACCIDENTS = (ImgclsError.exit_code, ResourceError.exit_code)  # what nobody expected, and memory


@dataclass
class Job:
    """One composed configuration; `composed` has Hydra's own part, too."""

    number: int
    overrides: list[str]
    composed: DictConfig
    state: str = "waiting"  # then running, and at last finished, failed, stopped or pruned
    reason: str = ""
    code: int = 0
    attempts: int = 0
    hopeless: bool = False  # a search has given it up
    seconds: float = 0.0
    label: str = ""  # what to call it, where its overrides say too much
    ending: "Ending | None" = field(default=None, repr=False)  # what its worker left to be written
    _stamp: int = field(default=0, repr=False)
    _rows: list[dict[str, float]] = field(default_factory=list, repr=False)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The plain configuration."""
        return plain(self.composed)

    @cached_property
    def run(self) -> Run:
        """Its folder."""
        return Run(naming.folder(self.config))

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.run / OUTPUT

    @property
    def trains(self) -> bool:
        """Whether it is a training, which has epochs and a score."""
        return bool(self.config["task"] == "train")

    @property
    def alone(self) -> bool:
        """Whether it is on several devices, and takes what there is of them for itself."""
        return launch.count(self.config["trainer"]) > 1

    @property
    def done_before(self) -> bool:
        """Whether the same configuration has finished, so that there is nothing to do."""
        fresh = self.config["restart"] or self.config["debug"]
        return self.trains and not fresh and self.run.result is not None

    @property
    def rows(self) -> list[dict[str, float]]:
        """The finished epochs; the file is read again only when it has changed."""
        try:
            stamp = (self.run / METRICS).stat().st_mtime_ns
        except OSError:
            return []
        if stamp != self._stamp:
            self._stamp, self._rows = stamp, self.run.history()
        return self._rows

    @property
    def score(self) -> float | None:
        """Validation accuracy of the best epoch so far; of the last in training where nothing is held out."""
        found = [row["val/acc"] for row in self.rows if "val/acc" in row]
        return max(found) if found else (self.rows[-1]["train/acc"] if self.rows else None)

    @property
    def value(self) -> float | None:
        """What a search maximises: best validation accuracy, or the test's; None before the end."""
        result = self.run.completed if self.trains and self.state == "finished" else None
        return (result["best"] or {}).get("val/acc", result["test"]["acc"]) if result else None

    @property
    def outcome(self) -> str:
        """Its state, for people: a run can finish as one that diverged."""
        return "diverged" if self.state == "finished" and self.trains and self.run.diverged else self.state

    def end(self, code: int, reason: str, ending: "Ending | None" = None) -> None:
        """Note how it ended."""
        self.ending = ending
        self.code, self.reason = code, reason
        ended = "stopped" if code in (130, 143) else "failed"
        self.state = "finished" if code == 0 else "pruned" if self.hopeless else ended
        if self.state == "pruned":
            self.reason = ""

    @property
    def worth_another_try(self) -> bool:
        """Whether it failed by accident: killed, out of memory, or by what nobody expected."""
        return self.state == "failed" and self.attempts < 2 and (self.code < 0 or self.code in ACCIDENTS)
