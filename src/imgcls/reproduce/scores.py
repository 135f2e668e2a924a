"""What a row's runs gave beside what the paper says of it, and whether that is the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

from imgcls.papers import METRICS
from imgcls.reproduce.rows import Entry
from imgcls.sweeps.job import Job

SHARES = METRICS[:5]  # of 1; shown in percent
JUDGED = (*SHARES, "loss")
TITLES = {
    "train_acc": "train acc",
    "test_acc": "test acc",
    "minutes": "time",
    "best_epoch": "best epoch",
}


@dataclass(frozen=True)
class Score:
    """One figure of a row: the paper's, ours, and by how much ours varies.

    Shares are of 1, times in minutes.

    Args:
        spread: standard deviation over the seeds, or for one seed the binomial standard error.
        rounding: half a unit of the paper's last digit.
    """

    metric: str
    paper: float | None
    ours: float | None
    spread: float | None = None
    rounding: float = 0.0

    @property
    def title(self) -> str:
        """Its name in words."""
        return TITLES.get(self.metric, self.metric)

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, where both are measured alike: not of times."""
        if self.paper is None or self.ours is None or self.metric == "minutes":
            return None
        return self.ours - self.paper

    @property
    def verdict(self) -> str:
        """within (the spread), better or worse; empty where nothing can be said."""
        difference = self.difference
        if difference is None or self.spread is None or self.metric not in JUDGED:
            return ""
        if abs(difference) <= self.spread + self.rounding:
            return "within"
        return "better" if (difference > 0) == (self.metric != "loss") else "worse"


def scores(entry: Entry, judge: bool = True) -> list[Score]:
    """Of each figure that the row has, in the order of METRICS; without `judge` no spread, so no verdict."""
    found = []
    for metric in (name for name in METRICS if name in entry.row.reported):
        values = [v for job in entry.jobs if (v := measured(job, metric, entry.paper.epoch)) is not None]
        spread = _spread(entry, metric, values) if judge and values else None
        ours = mean(values) if values else None
        found.append(Score(metric, entry.row.reported[metric], ours, spread, _rounding(entry, metric)))
    return found


def measured(job: Job, metric: str, epoch: str = "last") -> float | None:
    """A figure of a completed run; the training accuracy is of its best or of its last epoch."""
    result = job.run.completed
    if not result:
        return None
    test = result["test"]
    if metric == "train_acc":
        history = [row["train/acc"] for row in job.run.history()]
        return (max(history) if epoch == "best" else history[-1]) if history else None
    if metric == "best_epoch":
        return (result["best"] or {}).get("epoch")
    special = {"test_acc": test["acc"], "minutes": result["seconds"] / 60, "parameters": result["parameters"]}
    return float(special[metric] if metric in special else test[metric])


def _spread(entry: Entry, metric: str, values: Sequence[float]) -> float | None:
    """Standard deviation over seeds (n - 1), or sqrt(p (1 - p) / n), the binomial standard error of a share.

    Of macro precision, recall and F1, which are no plain shares, the latter is about right.
    """
    if len(values) > 1:
        return stdev(values)
    if metric not in SHARES:
        return None
    result = entry.results[0]
    count = result["data"]["train"] if metric == "train_acc" else result["test"]["n"]
    return sqrt(values[0] * (1 - values[0]) / count)


def _rounding(entry: Entry, metric: str) -> float:
    """Of a paper that gives 0.87 and 0.882, the latter's: YAML keeps no zeros at the end."""
    given = [row.reported[metric] for row in entry.paper.rows if row.reported.get(metric) is not None]
    digits = max((len(str(value).partition(".")[2]) for value in given), default=0)
    return 0.5 * 10**-digits if given else 0.0


def seconds(entry: Entry) -> float | None:
    """Of training, the mean over the seeds."""
    return mean(result["seconds"] for result in entry.results) if entry.results else None


# In words


def shown(metric: str, value: float | None, sign: str = "") -> str:
    """A figure as a table has it; shares in percent, signed ones in points."""
    if value is None:
        return ""
    if metric in SHARES:
        return f"{100 * value:{sign}.2f}"
    if metric == "minutes":
        return f"{value:.4g} min"
    return f"{value:{sign},.0f}" if metric in ("parameters", "best_epoch") else f"{value:{sign}.4f}"


def ours(score: Score) -> str:
    """Ours, with its spread; of times in seconds, for runs can be shorter than a minute."""
    if score.ours is None:
        return ""
    if score.metric == "minutes":
        return f"{60 * score.ours:.0f} s"
    spread = f" ± {shown(score.metric, score.spread)}" if score.spread is not None else ""
    return shown(score.metric, score.ours) + spread


def line(score: Score) -> str:
    """paper → ours (difference) verdict."""
    text = f"{shown(score.metric, score.paper) or '?'} → {ours(score) or '?'}"
    if score.difference is not None:
        text += f" ({shown(score.metric, score.difference, '+')})"
    return f"{text} {score.verdict}".rstrip()
