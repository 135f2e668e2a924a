"""The rows of one paper, and what is to be said of all of them together."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

from imgcls.papers import Paper
from imgcls.reproduce.rows import Entry
from imgcls.reproduce.scores import scores

NOT_RUN = {"waiting": "not run"}
TRAINING = "Training accuracy here is that of the steps of an epoch, with augmentation and dropout."
BEST = (
    "The paper gives the accuracies of the best epoch, chosen on the test set. Here the training accuracy is "
    "of the best epoch, too, but the test set is read once, after the last epoch."
)


@dataclass
class Outcome:
    """The rows of one paper, and what is to be said of all of them."""

    paper: Paper
    entries: list[Entry]
    seeds: int = 1
    stamps: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # rows for which the budget is too small

    @property
    def authors(self) -> str:
        """Who wrote the paper, and when if that is known."""
        return ", ".join([*self.paper.authors, *([str(self.paper.year)] if self.paper.year else [])])

    @property
    def judge(self) -> bool:
        """Whether verdicts mean anything: not where less was trained on."""
        return not any(stamp.startswith("fraction") for stamp in self.stamps)

    @property
    def tables(self) -> dict[str, list[Entry]]:
        """The rows by the paper's tables."""
        return {name: list(rows) for name, rows in groupby(self.entries, lambda entry: entry.table)}

    @property
    def facts(self) -> dict[str, str]:
        """Where and with what this ran: every value that its runs name."""
        results = [result for entry in self.entries for result in entry.results]
        versions = [" ".join(f"{k} {v}" for k, v in result["versions"].items()) for result in results]
        days = sorted(result["finished"][:10] for result in results)
        said = {
            "machine": _all(result["device_name"] for result in results),
            "precision": _all(result["precision"] for result in results),
            "versions": _all(versions),
            "commit": _all(result["commit"] or "none" for result in results),
            "seeds": _all(sorted({str(result["seed"]) for result in results})),
            "dates": " to ".join(dict.fromkeys([*days[:1], *days[-1:]])),
        }
        return {name: text for name, text in said.items() if text}

    @property
    def notes(self) -> list[str]:
        """What must be known to read the table."""
        spread = (
            f"± and within: one standard deviation of {self.seeds} seeds."
            if self.seeds > 1
            else "± and within: one standard error of the test set (binomial), without what seeds change."
        )
        notes = [spread if self.judge else "No verdicts: less was trained on, and tested."]
        if any("train_acc" in entry.row.reported for entry in self.entries):
            notes.append(TRAINING)
        if self.paper.epoch == "best":
            notes.append(BEST)
        if left := ", ".join(self.left_out):
            notes.append(f"Not run, for the budget: {left}.")
        return notes


def titled(table: str) -> str:
    """Table 2 for table2, Vgg mnist for vgg_mnist."""
    return re.sub(r"(\d+)$", r" \1", table.replace("_", " ")).capitalize()


def _all(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def summary(outcome: Outcome) -> str:
    """How many rows came out how."""
    states = Counter(NOT_RUN.get(entry.state, entry.state) for entry in outcome.entries if entry.chosen)
    verdicts = Counter(
        score.verdict
        for entry in outcome.entries
        if entry.chosen
        for score in scores(entry, outcome.judge)
        if score.metric == "test_acc" and score.verdict
    )
    told = [", ".join(f"{count} {name}" for name, count in counts.items()) for counts in (states, verdicts)]
    return f"{outcome.paper.name}: rows {told[0]}" + (f"; test accuracy {told[1]}" if told[1] else "")
