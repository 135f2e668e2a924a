"""All scores of a classifier over a set of images, each image counted once, through torchmetrics."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics import MetricCollection, SumMetric
from torchmetrics.classification import (
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from imgcls.distributed import ranks

TOP = 5


def _by_class(classes: int) -> MetricCollection:
    """`average=` is always written: torchmetrics' classes and its functions disagree on the default."""
    options: dict[str, Any] = {"num_classes": classes, "validate_args": False}
    return MetricCollection(
        {
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
        self.by_class = _by_class(classes)
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
        if len(labels):  # torchmetrics cannot count a rank that has none of a ragged last batch
            self.by_class.update(top[:, 0], labels)
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
        """Every score as plain numbers and lists."""
        values = self.by_class.compute()
        return {
            **self.brief(),
            **{key: float(values[key]) for key in ("precision", "recall", "f1")},
            "classes": {key: values[f"class_{key}"].tolist() for key in ("precision", "recall", "f1")},
            "confusion": values["confusion"].tolist(),
        }

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
        self.by_class.reset()
        for metric in self.sums.values():
            metric.reset()  # type: ignore[operator]
        self._kept.clear()


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


def one_class(confusion: list[list[int]], classes: list[str]) -> str | None:
    """A line that calls out a network which says the same for every image, or None."""
    predicted = np.asarray(confusion).sum(0)
    if np.count_nonzero(predicted) != 1:
        return None
    label = int(predicted.argmax())
    share = confusion[label][label] / predicted.sum()
    return f"predicts only class {classes[label]}: {share:.2%} is chance"
