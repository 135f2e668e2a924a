"""All scores of a classifier over a set of images, each image counted once, through torchmetrics."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics import MetricCollection, SumMetric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

TOP = 5


def _collection(classes: int) -> MetricCollection:
    """`average=` is always written: torchmetrics' classes and its functions disagree on the default."""
    options: dict[str, Any] = {"num_classes": classes, "validate_args": False}
    return MetricCollection(
        {
            "acc": MulticlassAccuracy(average="micro", **options),
            "top5": MulticlassAccuracy(average="micro", top_k=min(TOP, classes), **options),
            "precision": MulticlassPrecision(average="macro", **options),
            "recall": MulticlassRecall(average="macro", **options),
            "f1": MulticlassF1Score(average="macro", **options),
            "class_precision": MulticlassPrecision(average="none", **options),
            "class_recall": MulticlassRecall(average="none", **options),
            "class_f1": MulticlassF1Score(average="none", **options),
            "confusion": MulticlassConfusionMatrix(**options),
        }
    )


class Scores(nn.Module):
    """Counts batches of logits against labels; on several ranks torchmetrics adds up the counts."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.metrics = _collection(classes)
        self.loss, self.count = SumMetric().set_dtype(torch.float64), SumMetric().set_dtype(torch.float64)
        self._kept: list[tuple[torch.Tensor, ...]] = []

    def update(self, logits: torch.Tensor, labels: torch.Tensor, keep: bool = False) -> None:
        """Count a batch: logits (N, K) float, labels (N,) int64; `keep` what was said of each image."""
        self.metrics.update(logits, labels)
        self.loss.update(F.cross_entropy(logits, labels, reduction="sum"))
        self.count.update(len(labels))
        if keep:
            confidence, top = logits.softmax(1).topk(min(TOP, self.classes))
            self._kept.append((labels.cpu(), top.cpu(), confidence.cpu()))

    def brief(self) -> tuple[float, float]:
        """(mean loss, accuracy)."""
        return float(self.loss.compute() / self.count.compute()), float(self.metrics["acc"].compute())

    def full(self) -> dict[str, Any]:
        """Every score as plain numbers and lists."""
        values = self.metrics.compute()
        loss, accuracy = self.brief()
        return {
            "n": int(self.count.compute()),
            "loss": loss,
            "acc": accuracy,
            **{key: float(values[key]) for key in ("top5", "precision", "recall", "f1")},
            "classes": {key: values[f"class_{key}"].tolist() for key in ("precision", "recall", "f1")},
            "confusion": values["confusion"].tolist(),
        }

    def kept(self) -> dict[str, np.ndarray]:
        """What was said of each kept image: labels (N,), top (N, 5) classes, confidence (N, 5)."""
        columns = (torch.cat(column).numpy() for column in zip(*self._kept, strict=True))
        return dict(zip(("labels", "top", "confidence"), columns, strict=True))

    def reset(self) -> None:
        """Count from zero."""
        self.metrics.reset()
        self.loss.reset()
        self.count.reset()
        self._kept.clear()


def one_class(confusion: list[list[int]], classes: list[str]) -> str | None:
    """A line that calls out a network which says the same for every image, or None."""
    predicted = np.asarray(confusion).sum(0)
    if np.count_nonzero(predicted) != 1:
        return None
    label = int(predicted.argmax())
    share = confusion[label][label] / predicted.sum()
    return f"predicts only class {classes[label]}: {share:.2%} is chance"
