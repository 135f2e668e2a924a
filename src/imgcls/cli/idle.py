"""Settings that were typed and change nothing where they stand: said in a line each, and the run goes on.

A setting that the chosen option does not have (momentum of Adam) is a mistake: imgcls.cli.command.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from imgcls.cli.conflicts import USE_RUNS
from imgcls.cli.kinds import spelt
from imgcls.distributed import launch
from imgcls.naming import flat

Config = Mapping[str, Any]
TRAINS = ("train", "find", "reproduce", "study")


def _one_device(config: Config) -> bool:
    return launch.count(config["trainer"]) == 1


def _shown(config: Config) -> bool:
    return bool(config["logger"]["tensorboard"] or config["logger"]["wandb"])


# Keys, whether they are idle in a configuration, and why
IDLE: tuple[tuple[str, Callable[[Config], bool], str], ...] = (
    (
        "early_stopping.monitor early_stopping.min_delta",
        lambda c: not c["early_stopping"]["patience"],
        "early stopping is off. Add early_stopping.patience=3",
    ),
    (
        "select",
        lambda c: c["task"] in TRAINS and c["select"] == "best" and not c["dataset"]["val_fraction"],
        "without a hold-out there is no best epoch. Add dataset.val_fraction=0.1",
    ),
    ("fit", lambda c: c["task"] not in ("predict", "explain"), "it is for task=predict and task=explain"),
    ("trust", lambda c: c["task"] not in USE_RUNS, "it is for tasks that use a finished run"),
    ("init.head", lambda c: not c["init"].get("file"), "all weights are drawn. Add init.file=FILE"),
    ("shard_mb", lambda c: c["task"] != "convert", "it is for task=convert"),
    ("trainer.profiler checkpoint_minutes", lambda c: c["task"] not in TRAINS, "it is for training"),
    ("trainer.sync_batchnorm trainer.strategy trainer.timeout", _one_device, "there is one device"),
    (
        "augmentation.crop_mode",
        lambda c: not c["augmentation"].get("crop"),
        "nothing is cropped. Add augmentation.crop=4",
    ),
    (
        "scaling.interpolation",
        lambda c: c["scaling"]["factor"] == 1 and not c["scaling"]["size"],
        "images keep their size. Add scaling.factor=2",
    ),
    (
        "optimizer.decay_all",
        lambda c: not c["optimizer"]["weight_decay"],
        "there is no weight decay. Add optimizer.weight_decay=0.0005",
    ),
    (
        "dataset.num_workers",
        lambda c: c["dataset"]["resident"] is True,
        "images stay in memory. Add dataset.resident=false",
    ),
    (
        "dataset.depot dataset.depot_gb",
        lambda c: "://" not in c["dataset"]["root"],
        "the shards are in a folder of this machine",
    ),
    ("logger.every", lambda c: not _shown(c), "no logger shows it. Add logger=tensorboard"),
    (
        "logger.project logger.entity logger.group logger.tags logger.notes logger.artifacts",
        lambda c: not c["logger"]["wandb"],
        "it is for logger=wandb",
    ),
)


def idle(jobs: Sequence[Config], typed: Iterable[str]) -> list[str]:
    """One line for each of the `typed` keys that has no effect in any of the jobs of a command."""
    settings, typed, lines = flat(jobs[0]), set(typed), []
    for keys, vain, why in IDLE:
        for key in typed.intersection(keys.split()) & settings.keys():
            # Who switches off what is off knows it
            if settings[key] not in (False, None) and all(map(vain, jobs)):
                lines.append(f"{key}={spelt(settings[key])} has no effect: {why}.")
    return sorted(lines)
