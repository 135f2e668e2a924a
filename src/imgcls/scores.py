"""All scores of a classifier over a set of images, each image counted once."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics import SumMetric

from imgcls.distributed import ranks

TOP = 5
NOTED = 1 << 14  # logits that wait to be counted
MATRIX = 1000  # classes up to which there is a confusion matrix: 10,000 would have 100 million cells


def by_class(labels: np.ndarray, said: np.ndarray, classes: int) -> dict[str, Any]:
    """Precision, recall and F1 of each of K classes, and their means over the classes that occur.

    Args:
        labels: true classes (N,).
        said: predicted classes (N,).

    Without an image or an answer a class scores 0 (scikit-learn's `zero_division=0`); one that has neither
    is left out of the means (as with its default `labels`). `confusion` has rows of true classes; None
    where there are more than 1,000 classes.
    """
    images, answers = np.bincount(labels, minlength=classes), np.bincount(said, minlength=classes)
    right = np.bincount(labels[labels == said], minlength=classes)
    scores = {
        "precision": right / np.maximum(answers, 1),
        "recall": right / np.maximum(images, 1),
        "f1": 2 * right / np.maximum(images + answers, 1),
    }
    occurs = images + answers > 0
    cells = np.bincount(labels * classes + said, minlength=classes**2) if classes <= MATRIX else None
    return {
        **{key: float(values[occurs].mean()) for key, values in scores.items()},
        "classes": {"images": images.tolist(), **{key: values.tolist() for key, values in scores.items()}},
        "confusion": None if cells is None else cells.reshape(classes, classes).tolist(),
    }


class Scores(nn.Module):
    """Counts batches of logits (N, K) against labels; on several ranks torchmetrics adds up the counts."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        # In double precision, so that an accuracy is the exact quotient of two counts. Unless told not to,
        # torchmetrics leaves out a loss that is NaN, and waits for the device to look for it.
        self.sums = nn.ModuleDict(
            {
                k: SumMetric(nan_strategy="disable").set_dtype(torch.float64)
                for k in ("n", "loss", "acc", "top5")
            }
        )
        self._kept: list[tuple[torch.Tensor, ...]] = []

    def update(self, logits: torch.Tensor, labels: torch.Tensor, keep: bool = False) -> None:
        """Count a batch: logits (N, K) float, labels (N,) int64; `keep` what was said of each image."""
        # bfloat16 makes ties. A stable order breaks them alike everywhere: the first class wins.
        ordered, order = logits.sort(dim=1, descending=True, stable=True)
        top = order[:, :TOP]
        right = top == labels[:, None]
        loss = F.cross_entropy(logits, labels, reduction="sum")
        counts = {"n": len(labels), "loss": loss, "acc": right[:, 0].sum(), "top5": right.sum()}
        for name, value in counts.items():
            self.sums[name].update(value)  # type: ignore[operator]
        if keep:
            self._kept.append((labels.cpu(), top.cpu(), ordered.softmax(1)[:, :TOP].cpu()))

    def brief(self) -> dict[str, float]:
        """n, mean loss, accuracy and top-5 accuracy."""
        totals = {name: float(metric.compute()) for name, metric in self.sums.items()}  # type: ignore[operator]
        count = totals.pop("n")
        return {"n": int(count), **{name: total / count for name, total in totals.items()}}

    def full(self) -> dict[str, Any]:
        """Every score of the kept images as plain numbers and lists."""
        kept = self.kept()
        return {**self.brief(), **by_class(kept["labels"], kept["top"][:, 0], self.classes)}

    def kept(self) -> dict[str, np.ndarray]:
        """What was said of each kept image, in order: labels (N,), top (N, 5) classes, confidence (N, 5)."""
        batches = [_merged(shares) for shares in zip(*ranks.collected(self._kept), strict=True)]
        columns = (torch.cat(column).numpy() for column in zip(*batches, strict=True))
        return dict(zip(("labels", "top", "confidence"), columns, strict=True))

    def in_single_precision(self) -> None:
        """For a device without float64."""
        for metric in self.sums.values():
            metric.set_dtype(torch.float32)  # type: ignore[operator]

    def reset(self) -> None:
        """Count from zero."""
        for metric in self.sums.values():
            metric.reset()  # type: ignore[operator]
        self._kept.clear()


class Running(nn.Module):
    """Sums over the training epoch so far, kept on the device: loss, right answers, images.

    Batches are noted and counted some at a time: between forward and backward, when the caches hold other
    things, a handful of small operations is 0.1 ms of a step.
    """

    def __init__(self) -> None:
        super().__init__()
        # Saved with a checkpoint inside an epoch, so that its training scores cover the whole of it
        self.register_buffer("sums", torch.zeros(3, dtype=torch.float64), persistent=False)
        self.sums: torch.Tensor
        self._noted: list[tuple[torch.Tensor, ...]] = []

    def note(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """A batch's mean loss, logits (N, K) and labels (N,), without waiting for the device."""
        self._noted.append((loss.detach(), logits.detach(), labels))
        if len(self._noted) * logits.numel() >= NOTED:
            self._count()

    def _count(self) -> None:
        losses, right, count = self.sums.unbind()
        for loss, _, labels in self._noted:  # one by one: sums are the same whenever they are asked for
            losses.add_(loss, alpha=len(labels))
        logits, labels = (torch.cat(column) for column in list(zip(*self._noted, strict=True))[1:])
        right.add_((logits.argmax(1) == labels).sum())
        count.add_(len(labels))
        self._noted.clear()

    def so_far(self) -> torch.Tensor:
        """The sums (3,) of all that was noted, for this rank's images."""
        if self._noted:
            self._count()
        return self.sums


def _merged(shares: Sequence[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    """A batch again, of which each of R ranks had every R-th image."""
    if len(shares) == 1:
        return shares[0]
    columns = []
    for parts in zip(*shares, strict=True):
        whole = parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])
        for rank, part in enumerate(parts):
            whole[rank :: len(parts)] = part
        columns.append(whole)
    return tuple(columns)


def one_class(kept: Mapping[str, np.ndarray], classes: Sequence[str]) -> str | None:
    """A line that calls out a network which says the same for every image, or None."""
    said = kept["top"][:, 0]
    if len(np.unique(said)) != 1:
        return None
    return f"predicts only class {classes[said[0]]}: {(kept['labels'] == said).mean():.2%} is chance"
