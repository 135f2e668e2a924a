"""What the runs said of each test image: which had the same ones, and whether they were rightly sure."""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgcls.compare.collect import Entry
from imgcls.runs import PREDICTIONS

BINS = 15  # as in Guo et al. (2017)


@dataclass
class Answers:
    """Of N test images: labels int (N,), the class that was said int (N,), and its softmax float (N,)."""

    labels: np.ndarray
    said: np.ndarray
    confidence: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Mask (N,) of the images that were classified rightly."""
        return self.labels == self.said


def read(entry: Entry) -> Answers | None:
    """What a run has kept; None where the file is missing or cannot be read."""
    try:
        with np.load(entry.run / PREDICTIONS) as kept:
            top, confidence = kept["top"][:, 0].copy(), kept["confidence"][:, 0].copy()
            return Answers(kept["labels"], top, confidence)
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile):
        return None


def test_set(entry: Entry, answers: Answers | None) -> str:
    """What is equal if, and only if, two runs were tested on the same images in the same order.

    The digest is that of the whole dataset; where a limit draws some of its images, the seed says which.
    """
    facts = [entry.result["data"].get("digest"), entry.result["test"]["n"]]
    if entry.settings.get("dataset.limit") or entry.settings.get("dataset.overfit"):
        facts += [entry.settings.get(key) for key in ("seed", "dataset.limit", "dataset.val_fraction")]
    labels = answers.labels.tobytes() if answers else b""
    return hashlib.sha256(repr(facts).encode() + labels).hexdigest()


def reliability(answers: Answers, bins: int = BINS) -> dict[str, list[float | int | None]]:
    """Of each equally wide bin of confidence: images, their accuracy, their mean confidence (None if empty).

    The reliability diagram of Guo et al. (2017), On Calibration of Modern Neural Networks, section 2.
    """
    # Bin m holds ((m - 1) / bins, m / bins]
    place = np.clip(np.ceil(answers.confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    accuracy = np.bincount(place, answers.right, bins) / np.maximum(counts, 1)
    confidence = np.bincount(place, answers.confidence, bins) / np.maximum(counts, 1)
    filled = counts > 0
    return {
        "count": counts.tolist(),
        "accuracy": [float(a) if there else None for a, there in zip(accuracy, filled, strict=True)],
        "confidence": [float(c) if there else None for c, there in zip(confidence, filled, strict=True)],
    }


def ece(answers: Answers, bins: int = BINS) -> float:
    """Expected calibration error: the mean gap of accuracy and confidence (Guo et al. 2017, equation 3)."""
    found = reliability(answers, bins)
    gaps: Sequence[float] = [
        n * abs(a - c)
        for n, a, c in zip(*found.values(), strict=True)
        if n and a is not None and c is not None
    ]
    return sum(gaps) / len(answers.labels)
