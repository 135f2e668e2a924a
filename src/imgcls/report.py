"""Everything a run folder says about a tested classifier: scores, report, predictions and pictures."""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from imgcls import figures
from imgcls.data.sources import Images
from imgcls.runs import PREDICTIONS, RESULT, Run, write_text

REPORT = "report.txt"
PICTURES = ("curves.png", "confusion.png", "per_class.png", "right.png", "wrong.png")
SHEET = 40  # images on a sheet


def classification_report(test: Mapping[str, Any], classes: list[str]) -> str:
    """The table scikit-learn's users know, from the exact counts."""
    width = max(12, *(len(name) for name in classes))
    support = np.asarray(test["confusion"]).sum(1)
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


def write(run: Run, result: Mapping[str, Any], kept: Mapping[str, np.ndarray], images: Images) -> None:
    """Write all files; result.json comes last, because it says that the run is finished."""
    classes = list(result["classes"])
    write_text(run / REPORT, classification_report(result["test"], classes))
    write_arrays(run, kept)
    draw(run, result, kept, images)
    write_text(run / RESULT, json.dumps(result, indent=1))


def write_arrays(run: Run, kept: Mapping[str, np.ndarray]) -> None:
    """Write predictions.npz, whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **kept)  # type: ignore[arg-type]
    part = run / (PREDICTIONS + ".part")
    part.write_bytes(buffer.getvalue())
    part.replace(run / PREDICTIONS)


def draw(run: Run, result: Mapping[str, Any], kept: Mapping[str, np.ndarray], images: Images) -> None:
    """All pictures of a run."""
    test, classes, title = result["test"], list(result["classes"]), result["title"]
    if history := run.history():
        figures.save(figures.curves(history, title), run / "curves.png")
    accuracy = f"{title}: test accuracy {test['acc']:.2%}"
    figures.save(figures.confusion(np.asarray(test["confusion"]), classes, accuracy), run / "confusion.png")
    scores = test["classes"]
    bars = figures.per_class(scores["recall"], scores["precision"], scores["f1"], classes, accuracy)
    figures.save(bars, run / "per_class.png")
    for kind in ("right", "wrong"):
        _sheet(run, kind, kept, images, classes, title)


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
    run: Run,
    kind: str,
    kept: Mapping[str, np.ndarray],
    images: Images,
    classes: list[str],
    title: str,
) -> None:
    which, count = shown(kind, kept)
    figure = figures.predictions(
        images.pixels[which].numpy(),
        [classes[k] for k in kept["labels"][which]],
        [classes[k] for k in kept["top"][which, 0]],
        kept["confidence"][which, 0].tolist(),
        f"{title}: {len(which)} of {count:,} {kind}" + (", surest first" if kind == "wrong" else ""),
    )
    figures.save(figure, run / f"{kind}.png")
