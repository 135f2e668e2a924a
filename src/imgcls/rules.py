"""What a setting may be: ranges and choices by key, checked before torch or any data is touched."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imgcls.data.facts import FACTS

TASKS = ("train", "evaluate", "predict")


@dataclass(frozen=True)
class Number:
    """A number in [low, high], or (low, high] if `above`; `whole` and `null` as they say."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False
    null: bool = False

    def problem(self, value: object) -> str | None:
        """What the value must be, or None if it is that."""
        if value is None and self.null:
            return None
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if good and isinstance(value, int | float):
            good = self.low < value if self.above else self.low <= value
            good &= value < self.high if self.below else value <= self.high
            good &= not self.whole or float(value).is_integer()
        return None if good else f"must be {self}"

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        low = f"> {self.low:g}" if self.above else f">= {self.low:g}"
        high = f"< {self.high:g}" if self.below else f"<= {self.high:g}"
        bounds = [b for b, limit in ((low, self.low), (high, self.high)) if math.isfinite(limit)]
        return kind + " " + " and ".join(bounds) + (" or null" if self.null else "")


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[Any, ...]

    def problem(self, value: object) -> str | None:
        """What the value must be, or None if it is that."""
        return None if value in self.words else "must be one of " + ", ".join(map(_spell, self.words))


MONITORS = ("train/loss", "train/acc", "val/loss", "val/acc")
COUNT, SHARE = Number(1, whole=True), Number(0, 1, below=True)
RULES: dict[str, Number | Choice] = {
    "task": Choice(TASKS),
    "seed": Number(0, 2**32 - 1, whole=True),
    "epochs": COUNT,
    "batch_size": COUNT,
    "accumulate": COUNT,
    "clip": Number(0, above=True, null=True),
    "ema": Number(0, 1, above=True, below=True, null=True),
    "select": Choice(("best", "last")),
    "early_stopping.patience": Number(1, whole=True, null=True),
    "early_stopping.monitor": Choice(MONITORS),
    "early_stopping.min_delta": Number(0),
    "checkpoint_minutes": Number(0, above=True),
    "fit": Choice(("crop", "pad", "stretch")),
    "progress": Choice(("auto", "bar", "lines", "none")),
    "dataset.val_fraction": Number(0, 0.9),
    "dataset.normalize": Choice(("zero_one", "mean_std", "imagenet", "mean_pixel")),
    "dataset.channels": Choice((None, 1, 3)),
    "dataset.resident": Choice(("auto", True, False)),
    "dataset.num_workers": Number(0, 256, whole=True),
    "dataset.limit": Number(2, whole=True, null=True),
    "scaling.factor": Number(1, 64, whole=True),
    "scaling.size": Number(1, 4096, whole=True, null=True),
    "scaling.interpolation": Choice(("nearest", "bilinear", "bicubic")),
    "optimizer.lr": Number(0, above=True),
    "optimizer.momentum": SHARE,
    "optimizer.weight_decay": Number(0),
    "schedule.warmup": SHARE,
    "schedule.final": Number(0, 1),
    "schedule.gamma": Number(0, 1, above=True),
    "schedule.factor": Number(0, 1, above=True, below=True),
    "schedule.patience": Number(0, whole=True),
    "schedule.min_delta": Number(0),
    "schedule.monitor": Choice(("train/loss", "val/loss")),
    "trainer.accelerator": Choice(("auto", "cpu", "gpu", "mps")),
    "trainer.devices": COUNT,
    "trainer.precision": Choice(("auto", "32-true", "bf16-mixed", "16-mixed")),
    "trainer.threads": Number(1, 1024, whole=True, null=True),
    "trainer.profiler": Choice((None, "simple", "advanced")),
    "augmentation.hflip": Number(0, 1),
    "augmentation.vflip": Number(0, 1),
    "augmentation.crop": Number(0, whole=True),
    "augmentation.crop_mode": Choice(("zero", "reflect")),
    "augmentation.rotate": Number(0, 180),
    "augmentation.translate": SHARE,
    "augmentation.scale": SHARE,
    "augmentation.brightness": Number(0),
    "augmentation.contrast": Number(0),
    "augmentation.cutout": Number(0, whole=True),
    "augmentation.mixup": Number(0),
    "augmentation.cutmix": Number(0),
    "augmentation.label_smoothing": SHARE,
    "model.width": COUNT,
    "model.dropout": SHARE,
    "model.se_reduction": COUNT,
}


def _spell(value: object) -> str:
    """A value as it is typed on the command line."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(value)


def problem(key: str, value: object, default: object) -> str | None:
    """One line on what is wrong with `key=value`, or None.

    Keys without a rule of their own must keep the kind of value that stands in their file.
    """
    rule = RULES.get(key)
    expected = rule.problem(value) if rule else _kind_problem(value, default)
    return f"{key}={_spell(value)} {expected}." if expected else None


def _kind_problem(value: object, default: object) -> str | None:
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "must be true or false"
    if isinstance(default, int):
        return Number(whole=True).problem(value)
    if isinstance(default, float):
        return Number().problem(value)
    if isinstance(default, list):
        return None if isinstance(value, list) else "must be a list, as [a,b]"
    return None


def conflicts(config: Mapping[str, Any]) -> list[str]:
    """Settings that are each fine but cannot run together; all of them, one line each."""
    found = []
    data, size = config["dataset"], config["batch_size"]
    if (facts := FACTS.get(data["name"])) and config["task"] == "train":
        total = min(facts.train, data.get("limit") or facts.train)
        train = total - round(total * data["val_fraction"])
        if size > train:
            found.append(
                f"batch_size={size} is larger than the training set ({train} images). Use at most {train}."
            )
        if size > 1 and train % size == 1:
            found.append(
                f"batch_size={size} leaves a last batch of one image ({train} images), which batch norm "
                f"cannot use. Use batch_size={size + 1} or {size - 1}."
            )
    if size % config["accumulate"]:
        near = max(k for k in range(1, config["accumulate"]) if size % k == 0)
        found.append(
            f"accumulate={config['accumulate']} does not divide batch_size={size}. Use accumulate={near}."
        )
    watched = {
        "early_stopping.monitor": config["early_stopping"]["monitor"]
        if config["early_stopping"]["patience"]
        else ""
    }
    watched["schedule.monitor"] = config["schedule"].get("monitor", "")
    for key, monitor in watched.items():
        if monitor.startswith("val/") and not data["val_fraction"]:
            found.append(
                f"{key}={monitor} needs a hold-out. Use {key}=train/loss, or dataset.val_fraction=0.1."
            )
    for task in ("evaluate", "predict"):
        if config["task"] == task and not config["run"]:
            found.append(f"task={task} needs the folder of a run. Add run=outputs/NAME.")
    if config["task"] == "predict" and not config["source"]:
        found.append("task=predict needs images. Add source=PATH (an image, a folder or a glob).")
    return found
