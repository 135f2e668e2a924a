"""Settings that are each fine but cannot run together, as far as is known before torch and data load."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from imgcls import naming
from imgcls.data.facts import FACTS

USE_RUNS = ("evaluate", "predict")  # tasks that use a finished run


def conflicts(config: Mapping[str, Any]) -> list[str]:
    """Settings that are each fine but cannot run together; all of them, one line each."""
    rooms = (_parts, _hold_out, _sizes, _devices, _weights, _tasks)
    return [line for room in rooms for line in room(config)]


def shared(jobs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Jobs of a sweep that would train different networks in one folder."""
    trained = [(naming.name(job), naming.digest(job)) for job in jobs if job["task"] == "train"]
    runs = Counter(name for name, _ in dict.fromkeys(trained))
    return [
        f"name={name} is the folder of {count} different runs of this sweep. Leave name out."
        for name, count in runs.items()
        if count > 1
    ]


def _parts(config: Mapping[str, Any]) -> Iterator[str]:
    """Batches and what they are made of."""
    data, size, parts = config["dataset"], config["batch_size"], config["accumulate"]
    facts = FACTS.get(data["name"])
    if facts and config["task"] == "train":
        total = min(facts.train, data["limit"] or facts.train)
        held = math.floor(total * data["val_fraction"] + 1e-9)  # as imgcls.data.datamodule.hold_out
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
        # The next larger and the next smaller that do: 2 and 3 both leave one image of 7
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
    """Pixels of the images, and of what is done to them."""
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


def _devices(config: Mapping[str, Any]) -> Iterator[str]:
    """One process per run folder, for now: a second would wait for the lock of the first."""
    if (devices := config["trainer"]["devices"]) > 1:
        yield f"trainer.devices={devices}: a run uses one device. Leave it out."


def _weights(config: Mapping[str, Any]) -> Iterator[str]:
    """Weights that were trained before, or were not."""
    pretrained, init = config["model"].get("pretrained"), config["init"]
    if config["freeze"] != "none" and not pretrained:
        yield (
            f"freeze={config['freeze']} would keep random weights. Add model.pretrained=true "
            "(model=torchvision or model=timm), or use freeze=none."
        )
    if pretrained and {init["conv"], init["linear"], init["bias"]} != {"default"}:
        yield f"init={init['name']} would overwrite the pretrained weights. Use init=default."


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
