"""Everything a run folder says about a tested classifier: scores, report, predictions and pictures."""

import io
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls import figures, manifest
from imgcls.runs import CONFIG, METRICS, PREDICTIONS, PREVIOUS, RESULT, Run, write_text

if TYPE_CHECKING:
    from imgcls.data.sources import Images

REPORT = "report.txt"
PICTURES = ("curves.png", "confusion.png", "per_class.png", "right.png", "wrong.png")
SHEET = 40  # images on a sheet


def classification_report(test: Mapping[str, Any], classes: Sequence[str]) -> str:
    """The table scikit-learn's users know, from the exact counts."""
    width = max(12, *(len(name) for name in classes))
    support = np.asarray(test["classes"]["images"])
    head = f"{'':>{width}}  precision    recall  f1-score   support\n\n"
    by_class = test["classes"]
    lines = [
        f"{name:>{width}}  {by_class['precision'][k]:9.4f} {by_class['recall'][k]:9.4f} "
        f"{by_class['f1'][k]:9.4f} {support[k]:9d}"
        for k, name in enumerate(classes)
    ]
    keys = ("precision", "recall", "f1")
    accuracy = f"{'accuracy':>{width}}  {'':9} {'':9} {test['acc']:9.4f} {test['n']:9d}"
    macro = [test[key] for key in keys]
    weighted = [np.average(by_class[key], weights=support) for key in keys]
    means = [
        f"{name:>{width}}  " + " ".join(f"{value:9.4f}" for value in values) + f" {test['n']:9d}"
        for name, values in (("macro avg", macro), ("weighted avg", weighted))
    ]
    return head + "\n".join([*lines, "", accuracy, *means]) + "\n"


def write(
    run: Run,
    result: Mapping[str, Any],
    kept: Mapping[str, np.ndarray],
    images: "Images",
    now: bool = True,
) -> None:
    """Write all files of a finished run; the last of them not `now` if there is a process that has time."""
    write_text(run / REPORT, classification_report(result["test"], result["classes"]))
    write_arrays(run, kept)
    last = ending(run, result, kept, images)
    if now or left is None:
        last.write()
    else:
        left.append(last)


@dataclass
class Ending:
    """The last files of a run, from plain data, so that another process can write them.

    Args:
        run: the run folder.
        result: for result.json, which comes last, because it says that the run is finished.
        sheets: what figures.predictions wants for the images that were right and wrong.
    """

    run: Run
    result: Mapping[str, Any]
    sheets: Mapping[str, Mapping[str, Any]]

    def write(self) -> None:
        """Draw the pictures, and write the result."""
        self._draw()
        text = json.dumps(self.result, indent=1)
        with self._recorded(text):
            write_text(self.run / RESULT, text)

    def _recorded(self, text: str) -> AbstractContextManager[None]:
        """Note the digests of what a run has come to; a test on other data is no run."""
        if not (self.run / CONFIG).exists():
            return nullcontext()
        written = [file for file in (CONFIG, METRICS, REPORT, PREDICTIONS) if (self.run / file).exists()]
        entries = {file: [manifest.entry(self.run / file)] for file in written}
        ended = {RESULT: [manifest.entry_of(text.encode())], PREVIOUS: []}  # there is nothing to go on with
        return manifest.changing(self.run.path, entries | ended)

    def _draw(self) -> None:
        test, classes, title = self.result["test"], list(self.result["classes"]), self.result["title"]
        if history := self.run.history():
            figures.save(figures.curves(history, title), self.run / "curves.png")
        accuracy = f"{title}: test accuracy {test['acc']:.2%}"
        if test["confusion"]:  # very many classes have none
            confusion = figures.confusion(np.asarray(test["confusion"]), classes, accuracy)
            figures.save(confusion, self.run / "confusion.png")
        scores = test["classes"]
        bars = figures.per_class(scores["recall"], scores["precision"], scores["f1"], classes, accuracy)
        figures.save(bars, self.run / "per_class.png")
        for kind, sheet in self.sheets.items():
            figures.save(figures.predictions(**sheet), self.run / f"{kind}.png")


def ending(run: Run, result: Mapping[str, Any], kept: Mapping[str, np.ndarray], images: "Images") -> Ending:
    """What is left to write of a run."""
    return Ending(run, result, {kind: _sheet(kind, result, kept, images) for kind in ("right", "wrong")})


left: list[Ending] | None = None  # for a process that has time, if there is one


def write_arrays(run: Run, kept: Mapping[str, np.ndarray]) -> None:
    """Write predictions.npz, whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **kept)  # type: ignore[arg-type]
    part = run / (PREDICTIONS + ".part")
    part.write_bytes(buffer.getvalue())
    part.replace(run / PREDICTIONS)


def shown(kind: str, kept: Mapping[str, np.ndarray]) -> tuple[np.ndarray, int]:
    """Rows of the images on the sheet of right or wrong answers, and how many such answers there are.

    The surest wrong answers, which teach most; of the right ones, some spread over the whole set.
    """
    right = kept["labels"] == kept["top"][:, 0]
    which = np.flatnonzero(right if kind == "right" else ~right)
    count = len(which)
    if kind == "wrong":
        which = which[np.argsort(-kept["confidence"][which, 0], kind="stable")]
    else:
        which = which[np.linspace(0, count - 1, min(SHEET, count)).astype(int)] if count else which
    return which[:SHEET], count


def _sheet(
    kind: str, result: Mapping[str, Any], kept: Mapping[str, np.ndarray], images: "Images"
) -> dict[str, Any]:
    (which, count), classes = shown(kind, kept), result["classes"]
    title = f"{result['title']}: {len(which)} of {count:,} {kind}"
    return {
        "images": images.pixels[which].numpy(),
        "true": [classes[k] for k in kept["labels"][which]],
        "predicted": [classes[k] for k in kept["top"][which, 0]],
        "confidence": kept["confidence"][which, 0].tolist(),
        "title": title + (", surest first" if kind == "wrong" else ""),
    }
