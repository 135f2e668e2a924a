"""What settings may be, by key, and which cannot run together. Checked before torch loads."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from imgcls.data.facts import FACTS
from imgcls.kinds import Choice, Kind, Number, Numbers, Text, like, spelt
from imgcls.names import missing_object
from imgcls.naming import flat

TASKS = ("train", "evaluate", "predict")
USE_RUNS = ("evaluate", "predict")  # tasks that use a finished run
MONITORS = ("train/loss", "train/acc", "val/loss", "val/acc")
COUNT, SHARE = Number(1, whole=True), Number(0, 1, below=True)
NAME = "a folder name (letters, digits, '.', '_', '-')", r"[A-Za-z0-9][A-Za-z0-9._-]*"

RULES: dict[str, Kind] = {
    "task": Choice(TASKS),
    "seed": Number(0, 2**32 - 1, whole=True),
    "epochs": COUNT,
    "batch_size": COUNT,
    "accumulate": COUNT,
    "clip": Number(0, above=True, null=True),
    "ema": Number(0, 1, above=True, below=True, null=True),
    "select": Choice(("best", "last")),
    "freeze": Text("none, backbone, all_but=NAME,NAME or until=NAME", "none|backbone|(all_but|until)=.+"),
    "early_stopping.patience": Number(1, whole=True, null=True),
    "early_stopping.monitor": Choice(MONITORS),
    "early_stopping.min_delta": Number(0),
    "checkpoint_minutes": Number(0, above=True),
    "output": Text("a folder"),
    "name": Text(*NAME, null=True),
    "run": Text("the folder of a run", null=True),
    "source": Text("an image, a folder or a glob", null=True),
    "fit": Choice(("crop", "pad", "stretch")),
    "debug": Text("the name of a debug option", null=True),
    "progress": Choice(("auto", "bar", "lines", "none")),
    "dataset.root": Text("a folder"),
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
    "optimizer.betas": Numbers(SHARE, 2),
    "optimizer.weight_decay": Number(0),
    "schedule.name": Choice(("constant", "cosine", "onecycle", "plateau", "step")),
    "schedule.warmup": SHARE,
    "schedule.final": Number(0, 1),
    "schedule.at": Numbers(Number(0, 1, above=True, below=True)),
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
    "augmentation.scale": Number(0, 0.9),
    "augmentation.brightness": Number(0, 1),
    "augmentation.contrast": Number(0, 1),
    "augmentation.cutout": Number(0, whole=True),
    "augmentation.mixup": Number(0),
    "augmentation.cutmix": Number(0),
    "augmentation.label_smoothing": SHARE,
    "init.conv": Choice(("default", "xavier", "he")),
    "init.linear": Choice(("default", "xavier", "he")),
    "init.bias": Choice(("default", "zero")),
    "model.width": COUNT,
    "model.growth_rate": COUNT,
    "model.widths": Numbers(COUNT),
    "model.kernels": Numbers(COUNT),
    "model.kernel": Choice((3, 5)),
    "model.fc": Numbers(COUNT),
    "model.fc_l2": Number(0),
    "model.head": Choice(("flatten", "adaptive", "average")),
    "model.ceil_pools": Choice((None, True, False)),
    "model.pretrained": Text("true, false or the name of weights", flag=True),
    "model.dropout": SHARE,
    "model.padding": Choice(("valid", "same")),
    "model.shortcut": Choice(("identity", "projection")),
    "model.stem": Choice(("auto", "imagenet", "cifar")),
    "model.stem_pool": Choice((None, True, False)),
    "model.se_reduction": COUNT,
}
# What the code reads of a group, whatever option is chosen; the rest belongs to the option.
NEEDED = {
    "model": "name _target_",
    "dataset": "name _target_ root download val_fraction normalize channels resident num_workers limit"
    " overfit",
    "augmentation": "name",
    "init": "name",
    "scaling": "name factor size interpolation",
    "optimizer": "name _target_ lr weight_decay decay_all",
    "schedule": "name",
    "trainer": "name accelerator devices precision channels_last compile deterministic threads profiler",
}


def kind_of(key: str, default: object) -> Kind | None:
    """The rule of a setting; one without a rule keeps the kind of value that stands in its file."""
    rule = RULES.get(key)
    # A network that somebody brings may mean something else by the same word.
    if rule and (rule.accepts(default) or not key.startswith("model.")):
        return rule
    return Text(*NAME) if key.endswith(".name") else like(default)


def problem(key: str, value: object, default: object = None) -> str | None:
    """One line on what is wrong with `key=value`, or None."""
    if key.endswith("._target_"):
        wrong = missing_object(str(value))
        return f"{key}={value}: {wrong}" if wrong else None
    kind = kind_of(key, default)
    if kind is None or kind.accepts(value):
        return None
    quotes = isinstance(value, str) and spelt(value) != value
    return f"{key}={spelt(value)} must be {kind}." + (" Leave the quotes away." if quotes else "")


def problems(config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> list[str]:
    """One line for each setting that is missing or wrong; `defaults` are what stands in the files, by key."""
    values, defaults = flat(config), defaults or {}
    found = [problem(key, value, defaults.get(key)) for key, value in values.items()]
    for group, needed in NEEDED.items():
        lacks = ", ".join(name for name in needed.split() if name not in config[group])
        if lacks:
            option = config[group].get("name", "…")
            found.append(f"{group}={option} lacks {lacks}. Add to its file what those in conf/{group}/ have.")
    return [line for line in found if line]


def conflicts(config: Mapping[str, Any]) -> list[str]:
    """Settings that are each fine but cannot run together; all of them, one line each."""
    parts = (_parts(config), _hold_out(config), _sizes(config), _tasks(config))
    return [line for part in parts for line in part]


def _parts(config: Mapping[str, Any]) -> Iterator[str]:
    """Batches and what they are made of."""
    data, size, parts = config["dataset"], config["batch_size"], config["accumulate"]
    facts = FACTS.get(data["name"])
    if facts and config["task"] == "train":
        total = min(facts.train, data["limit"] or facts.train)
        held = math.floor(total * data["val_fraction"] + 1e-9)
        yield from _batches(size, total - held)
        if data["val_fraction"] and not held:
            share = f"dataset.val_fraction={data['val_fraction']}"
            yield f"{share} holds out no image of {total}. Use 0, or more."
    if size % parts:
        fits = max(k for k in range(1, parts) if size % k == 0)
        yield f"accumulate={parts} does not divide batch_size={size}. Use accumulate={fits}."


def _batches(size: int, images: int) -> Iterator[str]:
    """`size` must leave no batch of a single image: batch norm takes nothing from it."""
    if size > images:
        yield f"batch_size={size} is larger than the training set ({images} images). Use at most {images}."
    elif size > 1 and images % size == 1:
        fits = [
            next(s for s in sizes if images % s != 1)
            for sizes in (range(size, images + 1), range(size, 0, -1))
        ]
        yield (
            f"batch_size={size} leaves a last batch of one image ({images} images), which batch norm "
            f"cannot use. Use batch_size={fits[0]} or {fits[1]}."
        )


def _hold_out(config: Mapping[str, Any]) -> Iterator[str]:
    """What is watched must be measured."""
    stopping, schedule = config["early_stopping"], config["schedule"]
    watched = {
        "early_stopping.monitor": stopping["monitor"] if stopping["patience"] else "",
        "schedule.monitor": schedule.get("monitor", ""),
    }
    for key, monitor in watched.items():
        if monitor.startswith("val/") and not config["dataset"]["val_fraction"]:
            yield f"{key}={monitor} needs a hold-out. Use {key}=train/loss, or dataset.val_fraction=0.1."


def _sizes(config: Mapping[str, Any]) -> Iterator[str]:
    """Pixels."""
    scaling, augmentation = config["scaling"], config["augmentation"]
    if scaling["size"] and scaling["factor"] > 1:
        yield (
            f"scaling.size={scaling['size']} and scaling.factor={scaling['factor']} exclude each other. "
            "Use scaling.factor=1 or scaling.size=null."
        )
    facts, crop = FACTS.get(config["dataset"]["name"]), augmentation.get("crop", 0)
    if facts and augmentation.get("crop_mode") == "reflect" and crop >= facts.image_size:
        yield (
            f"augmentation.crop={crop}: images {facts.image_size} pixels wide reflect at most "
            f"{facts.image_size - 1}. Use less, or augmentation.crop_mode=zero."
        )


def _tasks(config: Mapping[str, Any]) -> Iterator[str]:
    """What each task needs and has no use for."""
    task = config["task"]
    if config["run"] and task not in USE_RUNS:
        yield f"run={config['run']} is for other tasks. Add task=evaluate or task=predict, or leave it out."
    if task in USE_RUNS and not config["run"]:
        yield f"task={task} needs the folder of a run. Add run=outputs/NAME."
    if task == "predict" and not config["source"]:
        yield "task=predict needs images. Add source=PATH (an image, a folder or a glob)."
    if task != "predict" and config["source"]:
        yield f"source={config['source']} is for task=predict. Add that, or leave it out."
