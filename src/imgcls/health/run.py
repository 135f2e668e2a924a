"""The run that was asked for: its data, and what it takes in memory and on disk."""

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imgcls import build
from imgcls.classifier import Classifier
from imgcls.data import fetch, photos, sources
from imgcls.data.facts import FACTS
from imgcls.data.origins import ORIGINS
from imgcls.data.origins import size as in_words
from imgcls.errors import ImgclsError, ResourceError
from imgcls.health import BAD, OK, WARN, Finding, machine
from imgcls.models import zoo
from imgcls.models.adapt import REFUSALS

COPIES = 3  # last.ckpt, best.ckpt (or previous.ckpt), and the one that is being written
GENEROUS = 8  # numbers in a checkpoint for each weight: no optimizer here keeps as many
FULL = 0.8  # of the free memory; more is close


@dataclass(frozen=True)
class Needs:
    """What a run takes, in bytes."""

    parameters: int  # how many, not bytes
    checkpoint: int
    images: int  # resident
    training: int  # weights, gradients, the optimizer's states, and what the backward pass needs

    @property
    def memory(self) -> int:
        """All at once."""
        return self.images + self.training


def check(config: Mapping[str, Any]) -> Iterator[Finding]:
    """All that concerns the run."""
    yield data(config["dataset"])
    try:
        needs = estimate(config)
    except (ImgclsError, *REFUSALS) as error:
        yield Finding(WARN, "network", f"cannot be tried without its data ({error})")
        yield machine.disk(config["output"], 0)
        return
    yield memory(config, needs)
    yield machine.disk(config["output"], COPIES * needs.checkpoint)


def data(options: Mapping[str, Any]) -> Finding:
    """Whether the dataset's files are there, and are those that were published."""
    name, root = options["name"], Path(options["root"]).expanduser().absolute()
    if name in sources.PUBLISHED:
        return _published(name, FACTS[name].title, sources.PUBLISHED[name](), root, options["download"])
    if name in photos.KNOWN:
        known = photos.KNOWN[name]()
        return _published(name, known.title, known.published, root, options["download"])
    if name in FACTS:
        return Finding(OK, "data", f"{FACTS[name].title} comes with scikit-learn")
    there = root.exists()
    return Finding(
        OK if there else BAD, "data", f"{root} is {'' if there else 'not '}there", "dataset.root=FOLDER"
    )


def _published(name: str, title: str, files: fetch.Published, root: Path, download: bool) -> Finding:
    if not files.missing(root):
        try:
            fetch.check(title, files, root)
        except (ImgclsError, OSError) as error:
            return Finding(BAD, "data", str(error).split(". Delete")[0], "Delete it and run again.")
        return Finding(OK, "data", f"{title} is in {root}, as published")
    if all((root / archive).is_file() for archive in files.archives) and files.archives:
        return Finding(OK, "data", f"{title} is in {root}, still packed")
    remedy = f"Put {files.wanted} into {root}, or set dataset.root."
    if files.closed or not download:
        return Finding(
            BAD, "data", f"{title} is not in {root}, and {files.closed or 'dataset.download=false'}", remedy
        )
    weight = in_words(ORIGINS[name.partition("_")[0] if name.startswith("emnist") else name].megabytes)
    return Finding(WARN, "data", f"{title} is not in {root}: the first run downloads {weight}", remedy)


def estimate(config: Mapping[str, Any]) -> Needs:
    """What the run takes, from the network's shapes alone; in 32 bits, so that mixed precision takes less."""
    classes, channels, side, images = _domain(config["dataset"])
    scaling = config["scaling"]
    seen = scaling["size"] or side * scaling["factor"]
    network = shapes(config["model"], classes, channels, seen)
    weights = sum(p.numel() for p in network.parameters())
    states = optimizer_states(network, config)
    averaged = weights if config["ema"] else 0
    part = math.ceil(config["batch_size"] / config["accumulate"])
    return Needs(
        parameters=weights,
        checkpoint=4 * (weights + states + averaged),
        images=images if config["dataset"]["resident"] is not False else 0,
        training=4 * (2 * weights + states + averaged) + part * saved(network, channels, seen),
    )


def shapes(model: Mapping[str, Any], classes: int, channels: int, size: int) -> nn.Module:
    """The network without memory for its weights."""
    untrained = {"pretrained": False} if "pretrained" in model else {}  # the shapes are the same
    return zoo.meta(partial(build.call, {**model, **untrained}), classes, channels, size)


def require_room(config: Mapping[str, Any], classifier: Classifier, folder: Path) -> None:
    """Refuse to train where the disk has no room for the checkpoints, beside those that are there.

    Raises:
        ResourceError: with what there is and what is needed.
    """
    domain, weights = classifier.domain, sum(p.numel() for p in classifier.network.parameters())
    free = shutil.disk_usage(folder).free
    if free > COPIES * 4 * weights * GENEROUS:  # the exact sum takes 50 ms
        return
    try:
        network = shapes(config["model"], len(domain.classes), domain.channels, domain.size)
        states = optimizer_states(network, config)
    except REFUSALS:  # some networks of libraries take no steps without numbers
        return
    one = 4 * (weights * (2 if config["ema"] else 1) + states)
    there = sum(path.stat().st_size for path in folder.glob("*.ckpt"))
    needed = min(COPIES, 1 + config["epochs"]) * one - there
    if needed > free:
        raise ResourceError(
            f"{folder}: {machine.size(free)} free, the run's checkpoints take {machine.size(needed)} more "
            f"({machine.size(one)} each). Free space, or choose output=FOLDER."
        )


def _domain(options: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """(classes, channels, side in pixels, bytes of all images); photos of one's own count as RGB."""
    facts, name = FACTS.get(options["name"]), options["name"]
    if facts:
        side, native, count = facts.image_size, facts.channels, facts.train + facts.test
        classes = len(facts.classes)
    else:
        side, native = options.get("image_size", 224), 3
        counts = photos.KNOWN[name]().counts if name in photos.KNOWN else ()
        count, classes = sum(number for _, number in counts), 1000
    stored = (options["limit"] or count) * side**2 * native
    return classes, options["channels"] or native, side, min(stored, count * side**2 * native)


def optimizer_states(network: nn.Module, config: Mapping[str, Any]) -> int:
    """Numbers that the optimizer keeps: it takes one step, on shapes."""
    optimizer = build.optimizer(config)(network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    network.zero_grad()
    return sum(value.numel() for value in states if isinstance(value, torch.Tensor))


def saved(network: nn.Module, channels: int, side: int, images: int = 2) -> int:
    """Bytes for one image that a forward pass keeps for the backward pass, counted on shapes."""
    own = {id(p) for p in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in own:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.zeros(images, channels, side, side, device="meta"))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) // images


def memory(config: Mapping[str, Any], needs: Needs) -> Finding:
    """The estimate against what is free."""
    accelerator = config["trainer"]["accelerator"]
    on_gpu = accelerator in ("auto", "gpu") and torch.cuda.is_available()
    free = torch.cuda.mem_get_info()[0] if on_gpu else machine.free_memory()
    said = (
        f"{machine.size(free)} free, the run takes about {machine.size(needs.memory)} "
        f"({needs.parameters / 1e6:.2f} M parameters, images {machine.size(needs.images)})"
    )
    remedy = "Lower batch_size, or raise accumulate; dataset.resident=false for large data."
    if needs.memory > free:
        return Finding(BAD, "memory", said, remedy)
    return (
        Finding(WARN, "memory", said, remedy) if needs.memory > FULL * free else Finding(OK, "memory", said)
    )
