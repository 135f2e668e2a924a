"""Any classification network of torchvision (net=convnext_tiny) or of timm (net=vit_small_patch16_224).

Pretrained weights come from the library's own hub and stay in its cache. Their head is kept where it has the
right number of classes, else it starts anew. For other than three channels timm adapts the first convolution
of pretrained weights; torchvision's networks, pretrained or not, are adapted here in the same way: for one
channel the weights are summed over RGB, so that grey images give what they give when repeated to three.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision import models

from imgcls.cli.names import matches, near
from imgcls.errors import ConfigError
from imgcls.models.adapt import (
    HEADED,
    REFUSALS,
    cached,
    fitting,
    from_torchvision,
    pick_weights,
    reading,
    reads_weights,
    try_out,
)
from imgcls.models.checks import check_choice
from imgcls.record import cost


class Row(NamedTuple):
    """A network as its library makes it: 1000 classes, 3 channels, images of its own size."""

    source: str
    name: str
    parameters: int
    multiply_adds: int | None  # None where they cannot be counted
    size: int  # px


class Shapes(TorchFunctionMode):
    """Makes layers without memory for their weights; all else is computed, such as the widths of RegNet."""

    WEIGHTS = (torch.empty, torch.zeros, torch.ones)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What `func` gives, on the meta device if it makes weights."""
        place = {"device": "meta"} if func in self.WEIGHTS else {}
        return func(*args, **{**(kwargs or {}), **place})


def check_net(source: str, net: str, known: list[str]) -> None:
    """Refuse a name that the library does not have; the nearest that it has are named."""
    if net not in known:
        found = " or ".join(near(net, known)[:3])
        elsewhere = "Their names are in the documentation of torchvision and timm."
        remedy = f"Did you mean {found}?" if found else elsewhere
        raise ConfigError(f"net={net} is not a classification network of {source}. {remedy}")


def torchvision_net(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    net: str = "resnet18",
    pretrained: bool | str = False,
    options: Mapping[str, Any] = {},
) -> nn.Module:
    """The network `net` of torchvision; `options` go to its builder."""
    check_net("torchvision", net, models.list_models(module=models))
    weights = pick_weights(net, pretrained)
    settings = {**_sized(net, image_size), **options}
    native, least = _crop(weights), weights.meta["min_size"][0]
    with fitting(net, image_size, least if image_size < least else native, options):
        made: Any = from_torchvision(net, pretrained, num_classes, in_channels, **settings)
        if net in HEADED:  # the heads are left out; not before, because weights have them
            made.aux_logits, made.aux1, made.aux2, made.AuxLogits = False, None, None, None
        if image_size != native or options:  # what the library did not try itself
            try_out(made, in_channels, image_size)
    return made


def _sized(net: str, size: int) -> dict[str, Any]:
    """What the families that are made for one size of images call it."""
    if net.startswith("vit"):
        return {"image_size": size}
    return {"input_size": (size, size)} if net.startswith("maxvit") else {}


def _crop(weights: models.WeightsEnum) -> int:
    """The size of the images that weights were trained for, in pixels."""
    return weights.transforms.keywords["crop_size"]


def load_timm() -> ModuleType:
    """timm, which is an extra, and takes a second to import."""
    try:
        return import_module("timm")
    except ModuleNotFoundError as error:
        raise ConfigError("timm is not installed. Run: pip install 'imgcls[timm]'.") from error


def timm_net(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    net: str = "resnet18",
    pretrained: bool = False,
    options: Mapping[str, Any] = {},
) -> nn.Module:
    """The network `net` of timm, perhaps with a tag of weights (.a1_in1k); `options` go to its builder."""
    timm = load_timm()
    # The second list has the names with their tags
    check_net("timm", net, [*timm.list_models(), *timm.list_models(pretrained=True)])
    check_choice("pretrained", pretrained, (False, True))
    config = timm.get_pretrained_cfg(net)
    if pretrained and not config.has_weights:
        raise ConfigError(f"timm has no weights for {net}. Use model.pretrained=false.")
    settings: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_channels}
    if config.fixed_input_size:  # others do not know img_size
        settings["img_size"] = image_size
    native = config.input_size[-1]
    with fitting(net, image_size, native, options):
        reads = reads_weights(pretrained)
        with _cached_by_timm(net, config) if reads else nullcontext():
            made = timm.create_model(net, pretrained=reads, **{**settings, **options})
        if image_size != native or options:
            try_out(made, in_channels, image_size)
    return made


def _cached_by_timm(net: str, config: Any) -> Any:
    """What to say of these weights: most are on the Hugging Face hub and in its cache."""
    if not config.hf_hub_id:
        return cached(net, config.url)
    cache = import_module("huggingface_hub").constants.HF_HUB_CACHE
    folder = f"models--{config.hf_hub_id.replace('/', '--')}"
    file = config.hf_hub_filename or "model.safetensors"
    fetch = f"`hf download {config.hf_hub_id} {file}`"
    return reading(net, f"Where there is a network, run {fetch} and copy its folder {folder} to {cache}.")


def known() -> Iterator[tuple[str, str, int]]:
    """(library, network, side of its images in pixels) of all there are."""
    for name in models.list_models(module=models):
        yield "torchvision", name, _crop(models.get_model_weights(name).DEFAULT)
    try:
        timm = load_timm()
    except ConfigError:
        return
    for name in timm.list_models():
        yield "timm", name, timm.get_pretrained_cfg(name).input_size[-1]


def catalogue(filter: str = "") -> Iterator[Row]:
    """The networks whose names contain the filter or match it (*); each is counted when it is asked for."""
    for source, name, size in known():
        if matches(name, filter):
            yield row(source, name, size)


def row(source: str, name: str, size: int) -> Row:
    """What one network costs."""
    build = {"torchvision": torchvision_net, "timm": timm_net}[source]
    return Row(source, name, *count(partial(build, net=name), 1000, 3, size), size)


def meta(build: Callable[..., nn.Module], classes: int, channels: int, size: int) -> nn.Module:
    """A network without memory for its weights."""
    with Shapes():
        net = build(num_classes=classes, in_channels=channels, image_size=size)
    return net.to("meta")


def count(build: Callable[..., nn.Module], classes: int, channels: int, size: int) -> tuple[int, int | None]:
    """(parameters, multiply-adds or None), without memory for weights, and without computing."""
    # The counter trips over class tokens that require gradients
    net = meta(build, classes, channels, size).requires_grad_(False)
    parameters = sum(p.numel() for p in net.parameters())
    try:
        return parameters, cost(net, channels, size)["multiply_adds"]
    except REFUSALS:
        return parameters, None
