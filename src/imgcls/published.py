"""A published network: a safetensors file that says of itself how to make the network and read images.

Its tensors have the names that the network gives them, so that others can use it, too; all else is in the
header's metadata, which holds text only.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from imgcls import __version__, build, weights
from imgcls.classifier import Classifier
from imgcls.data.prepare import Prepare
from imgcls.errors import CheckpointError
from imgcls.models import zoo
from imgcls.models.adapt import without_weights
from imgcls.trust import refuse_code

# What the metadata must say for a network to be made of it
NEEDED = {
    "classes": list,
    "model": dict,
    "size": int,
    "channels": int,
    "interpolation": str,
    "mean": list,
    "std": list,
}


def describe(
    classifier: Classifier, model: Mapping[str, Any], interpolation: str, **more: Any
) -> dict[str, Any]:
    """What there is to say of a network: what it is, how it reads images, and `more`; plain values."""
    domain, prepare = classifier.domain, classifier.prepare
    return {
        **asdict(domain),
        "model": dict(model),
        "interpolation": interpolation,
        "mean": prepare.mean.tolist(),
        "std": prepare.std.tolist(),
        "imgcls": __version__,
        "torch": torch.__version__,
        **more,
    }


def packed(network: nn.Module, said: Mapping[str, Any]) -> bytes:
    """The file: the network's tensors, and what there is to say as text, each value JSON."""
    tensors = {
        name: weight.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, weight in network.state_dict().items()
    }
    return save(tensors, {"format": "pt", **{key: json.dumps(value) for key, value in said.items()}})


def pixels_to_logits(network: nn.Module, prepare: Prepare) -> nn.Module:
    """The network with what it sees of an image: uint8 (N, C, H, W) → logits (N, classes)."""
    return nn.Sequential(prepare, network).eval()


def network(path: str | Path, trust: bool = False) -> nn.Module:
    """A published network, from its file alone: maps uint8 (N, C, H, W) to logits (N, classes).

    Args:
        path: what task=export has made.
        trust: let it import a network that is no part of imgcls.

    Raises:
        CheckpointError: it is not such a file, or its tensors are not those of the network that it names.
    """
    path = Path(path)
    with weights.opened(path) as file:
        said, there = read_facts(path, file.metadata()), weights.forms(file)
    if not trust:
        refuse_code(path, {"model": said["model"]})
    make = partial(build.call, said["model"])
    shape = {"classes": len(said["classes"]), "channels": said["channels"], "size": said["size"]}
    with without_weights():
        # A header may promise a network larger than memory, with tensors that are not there
        form = zoo.meta(make, **shape)
        weights.compare(path, form.state_dict(), there, set())
        made = make(num_classes=shape["classes"], in_channels=shape["channels"], image_size=shape["size"]).to(
            memory_format=torch.channels_last
        )
    weights.read_into(made, path)
    mean, std = torch.tensor(said["mean"]), torch.tensor(said["std"])
    size, channels = said["size"], said["channels"]
    prepare = Prepare(mean, std, channels=channels, size=size, interpolation=said["interpolation"])
    return pixels_to_logits(made, prepare)


def read_facts(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """The metadata of a published network; CheckpointError if it says too little."""
    try:
        said = {key: json.loads((metadata or {})[key]) for key in NEEDED}
        wrong = [key for key, kind in NEEDED.items() if not isinstance(said[key], kind)]
    except (LookupError, ValueError) as error:
        said, wrong = {}, [str(error)]
    if wrong or "_target_" not in said["model"]:
        what = f"{path} does not say which network it holds ({', '.join(wrong or ['model'])})"
        raise CheckpointError(f"{what}. Train on from it as init.file={path}, beside model=NAME.")
    return said
