"""Settings that are each fine but cannot run together, as far as is known before torch and data load."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from imgcls import naming
from imgcls.cli.kinds import spelt
from imgcls.dashboards.facts import secrets
from imgcls.data.facts import FACTS
from imgcls.distributed import launch
from imgcls.models.checks import misfits
from imgcls.naming import STUDIES, flat

USE_RUNS = ("evaluate", "predict", "explain", "verify", "export")  # tasks that use a finished run
# Tasks that write nothing, or just what they are to make: they need neither a log nor Hydra's folder
LOOKS = ("list", "doctor", "verify", "export")
TO = {"compare": ("csv", "parquet", "latex", "markdown"), "export": ("safetensors", "pt2")}
WHAT = {"list": ("models", "datasets", "runs", "groups", "options"), "find": ("lr", "batch_size")}


def conflicts(config: Mapping[str, Any]) -> list[str]:
    """Settings that are each fine but cannot run together; all of them, one line each."""
    rooms = (
        *(_parts, _hold_out, _sizes, _optimizer, _devices, _weights, _endings, _hardest, _features, _loggers),
        *(_secrets, _tasks),
    )
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
    if facts and config["task"] not in USE_RUNS:
        total = min(facts.train, data["limit"] or facts.train)
        held = math.floor(total * data["val_fraction"] + 1e-9)  # as imgcls.data.datamodule.hold_out
        yield from batches(size, total - held, launch.count(config["trainer"]))
        if data["val_fraction"] and not held:
            share = f"dataset.val_fraction={data['val_fraction']}"
            yield f"{share} holds out no image of {total}. Use 0, or more."
    ranks = launch.count(config["trainer"])
    share, rest = divmod(size, ranks)
    if rest:
        fits = " or ".join(str(k * ranks) for k in (share, share + 1) if k)
        yield f"batch_size={size} cannot be shared out evenly to {ranks} devices. Use batch_size={fits}."
    elif share % parts:
        each = f" on {ranks} devices" if ranks > 1 else ""
        fit = max(k for k in range(1, parts) if share % k == 0)
        yield f"accumulate={parts} does not divide batch_size={size}{each}. Use accumulate={fit}."


def batches(size: int, images: int, devices: int = 1) -> Iterator[str]:
    """`size` must leave no device a single image of the last batch: batch norm takes nothing from it."""

    def poor(size: int) -> bool:
        return 0 < images % size < min(2 * devices, size)

    if size > images:
        yield f"batch_size={size} is larger than the training set ({images} images). Use at most {images}."
    elif poor(size):
        # The next larger and the next smaller that do: 2 and 3 both leave one image of 7
        ways = (range(size, images + 1, devices), range(size, 0, -devices))
        fits = [f"{found}" for sizes in ways if (found := next((s for s in sizes if not poor(s)), None))]
        left = "one image" if images % size == 1 else f"{images % size} images"
        left += f" for {devices} devices" if devices > 1 else ""
        remedy = f"batch_size={' or '.join(fits)}" if fits else "trainer.devices=1"
        yield (
            f"batch_size={size} leaves a last batch of {left} ({images} images), which batch norm "
            f"cannot use. Use {remedy}."
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


def _optimizer(config: Mapping[str, Any]) -> Iterator[str]:
    """Settings that torch's optimizers refuse beside each other."""
    optimizer = config["optimizer"]
    if optimizer.get("nesterov") and not optimizer.get("momentum"):
        yield (
            f"optimizer.momentum={optimizer.get('momentum')} leaves optimizer.nesterov=true nothing to look "
            "ahead with. Add optimizer.nesterov=false."
        )


def _devices(config: Mapping[str, Any]) -> Iterator[str]:
    """Several devices: who starts their processes, and what each can do."""
    trainer, task, there = config["trainer"], config["task"], launch.started()
    devices, nodes, ranks = trainer["devices"], trainer["num_nodes"], launch.count(trainer)
    asked = f"trainer.devices={devices}" + (f" trainer.num_nodes={nodes}" if nodes > 1 else "")
    if ranks > 1 and task not in ("train", "doctor"):
        yield f"{asked}: task={task} uses one device. Use trainer.devices=1."
    if there and there != ranks:
        yield f"torchrun started {there} processes, {asked} makes {ranks}. Give both the same number."
    if nodes > 1 and not there:
        line = f"torchrun --nnodes={nodes} --nproc_per_node={devices} -m imgcls …"
        yield f"trainer.num_nodes={nodes}: start one process for each device, with {line}"
    if ranks > 1 and trainer["accelerator"] == "mps":
        yield f"{asked}: there is one mps device. Use trainer.devices=1."
    if trainer["sync_batchnorm"] and trainer["accelerator"] in ("cpu", "mps"):
        yield "trainer.sync_batchnorm=true: torch has it on GPUs only. Use trainer.sync_batchnorm=false."
    if trainer["strategy"] == "fsdp":
        muon = config["optimizer"]["_target_"] == "imgcls.optim.muon.Muon" and "muon"
        others = {key: config[key] for key in ("ema", "lookahead")} | {"optimizer": muon}
        for key, bad in {**others, "trainer.compile": trainer["compile"]}.items():
            if bad:
                yield f"trainer.strategy=fsdp cannot go with {key}={spelt(bad)}. Use trainer.strategy=ddp."
        if trainer["precision"] == "16-mixed":
            yield "trainer.strategy=fsdp cannot go with trainer.precision=16-mixed. Use bf16-mixed."


def _weights(config: Mapping[str, Any]) -> Iterator[str]:
    """Weights that were trained before, or were not."""
    model, init = config["model"], config["init"]
    pretrained, file = model.get("pretrained"), init.get("file")
    if config["freeze"] != "none" and not (pretrained or file):
        others = "model=resnet18, vgg16, torchvision or another that has model.pretrained"
        remedy = "Add model.pretrained=true" if "pretrained" in model else f"Choose {others}"
        yield f"freeze={config['freeze']} would keep random weights. {remedy}, or use freeze=none."
    if pretrained:
        yield from misfits(model["_target_"].rpartition(".")[0].removeprefix("imgcls.models."), model)
    drawn = [init.get(key, "default") for key in ("conv", "linear", "bias", "first")]
    if (pretrained or file) and {*drawn} != {"default"}:
        whose = "the pretrained weights" if pretrained else f"the weights of init.file={file}"
        yield f"init={init['name']} would overwrite {whose}. Use init=default."


def _endings(config: Mapping[str, Any]) -> Iterator[str]:
    """Parts whose training ends early."""
    if not (ends := config["freeze_after"]):
        return
    late = ",".join(end for end in ends.split(",") if int(end.partition("=")[2]) >= config["epochs"])
    if late:
        yield f"freeze_after={late}: there are only {config['epochs']} epochs. Use less, or leave it out."
    if launch.count(config["trainer"]) > 1:
        yield f"freeze_after={ends} uses one device. Use trainer.devices=1."


def _hardest(config: Mapping[str, Any]) -> Iterator[str]:
    """A small network that looks at whole batches of images."""
    if not (share := config["hardest"]):
        return
    if launch.count(config["trainer"]) > 1:
        yield f"hardest={share} uses one device. Use trainer.devices=1."
    if config["features"] == "cached":
        yield f"hardest={share} looks at images, not at features=cached. Use features=live."


def _features(config: Mapping[str, Any]) -> Iterator[str]:
    """Features are kept only where each image gives the same ones every time."""
    if config["features"] == "live":
        return
    if config["freeze"] == "none":
        yield "features=cached needs a frozen backbone. Add freeze=backbone, or use features=live."
    harmless = ("name", "crop_mode", "label_smoothing")
    moving = [key for key, value in config["augmentation"].items() if value and key not in harmless]
    if moving:
        yield (
            f"features=cached: augmentation ({', '.join(moving)}) makes every epoch's images new. "
            "Use augmentation=none, or features=live."
        )
    if config["tta"] != "none":
        yield f"features=cached keeps one view of an image, not tta={config['tta']}. Use tta=none."
    if config["trainer"]["compile"]:
        yield "features=cached cannot go with trainer.compile=true, which rounds otherwise. Use one of them."
    if launch.count(config["trainer"]) > 1:
        yield "features=cached uses one device. Use trainer.devices=1."


def _loggers(config: Mapping[str, Any]) -> Iterator[str]:
    """Packages that not everybody has."""
    for name in ("tensorboard", "wandb"):
        if config["logger"][name] and not find_spec(name):
            yield f"logger={name} needs the package {name}. pip install {name}, or leave it out."


def _secrets(config: Mapping[str, Any]) -> Iterator[str]:
    """A run keeps its whole configuration, and people share runs."""
    for name, text in secrets().items():
        for key, value in flat(config).items():
            if text in str(value):
                what = f"{key} holds the value of the environment variable {name}"
                yield f"{what}, which would be saved with the run. Leave it out."


def _tasks(config: Mapping[str, Any]) -> Iterator[str]:
    """What each task needs and has no use for."""
    task = config["task"]
    if config["run"] and task not in USE_RUNS:
        yield f"run={config['run']} is for other tasks. Add task=evaluate or task=predict, or leave it out."
    if task in USE_RUNS and not config["run"]:
        yield f"task={task} needs the folder of a run. Add run=outputs/NAME."
    if task == "predict" and not config["source"]:
        yield "task=predict needs images. Add source=PATH (an image, a folder or a glob)."
    if task not in ("predict", "explain") and config["source"]:
        yield f"source={config['source']} is for task=predict and task=explain. Add one, or leave it out."
    if task == "explain" and not find_spec("captum"):
        yield "task=explain needs the package captum. pip install 'imgcls[explain]'."
    if task != "verify" and config["score"]:
        yield "score=true is for task=verify. Add that, or leave it out."
    if task != "explain" and config["layer"]:
        yield f"layer={config['layer']} is for task=explain. Add that, or leave it out."
    yield from _what(task, config["what"], config["filter"])
    yield from _studies(config)
    if config["runs"] and task != "compare":
        yield f"runs={spelt(config['runs'])} is for task=compare. Add that, or leave it out."
    for user, forms in TO.items():
        if config["to"] in forms and task != user:
            yield f"to={config['to']} is for task={user}. Add that, or leave it out."
    if task == "convert":
        yield from _convert(config)
    elif config["shards"]:
        yield f"shards={config['shards']} is for task=convert. Add that, or leave it out."


def _what(task: str, what: str | None, pattern: str | None) -> Iterator[str]:
    """Which of its several things a task is to do."""
    words = WHAT.get(task, ())
    if words and what not in words:
        given = f"task={task} what={what} is not known" if what else f"task={task} needs what=…"
        yield f"{given}. Choose from: {', '.join(words)}."
    if what and not words:
        users = [other for other, known in WHAT.items() if what in known] or [*WHAT]
        yield f"what={what} is for task={' or task='.join(users)}. Add that, or leave it out."
    if pattern and task != "list":
        yield f"filter={pattern} is for task=list. Add that, or leave it out."


def _studies(config: Mapping[str, Any]) -> Iterator[str]:
    """What the tasks that train many runs are told."""
    task, own = config["task"], ("rows", "seeds", "plan", "budget")
    users = {"paper": STUDIES, "fraction": STUDIES, "axes": ("study",), **dict.fromkeys(own, ("reproduce",))}
    for key, tasks in users.items():
        if config[key] not in (None, False, 1, {}) and task not in tasks:
            names = " or ".join(f"task={name}" for name in tasks)
            yield f"{key}={spelt(config[key])} is for {names}. Add that, or leave it out."
    if task == "reproduce" and not (config["paper"] or config["rows"]):
        yield "task=reproduce needs to know what. Add paper=NAME, paper=all or rows=PATTERN."
    if task in STUDIES and config["name"]:
        yield f"name={config['name']}: each run of task={task} has a name of its own. Leave name out."


def _convert(config: Mapping[str, Any]) -> Iterator[str]:
    """Shards are made of image files, in a folder that is not there yet."""
    if not config["shards"]:
        yield "task=convert needs a folder to make. Add shards=FOLDER."
    elif Path(config["shards"]).expanduser().exists():
        yield f"shards={config['shards']} is there already. Name another folder, or remove it."
    if "on_bad_image" not in config["dataset"]:
        other = f"dataset={config['dataset']['name']}"
        yield f"task=convert makes shards of image files, not of {other}. Use dataset=folder."
