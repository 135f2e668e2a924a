"""What a ready-made network needs to fit: its last layer, its first, its weights, the size of its images."""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torchvision import models

from imgcls.errors import ConfigError, DataError
from imgcls.models.checks import check_choice

# What libraries raise at sizes and options that they did not think of
REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

HEADED = ("googlenet", "inception_v3")  # have auxiliary heads, which pretrained weights never trained

_left_out: ContextVar[bool] = ContextVar("pretrained weights are left out", default=False)


def head(net: nn.Module) -> nn.Linear | nn.Conv2d:
    """The layer that gives the logits: the last one."""
    return [module for module in net.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]


def replace_head(net: nn.Module, num_classes: int) -> None:
    """Give the last layer as many outputs, and new weights."""
    last = head(net)
    for name, old in list(last.named_parameters()):
        setattr(last, name, nn.Parameter(old.new_empty(num_classes, *old.shape[1:])))
    setattr(last, "out_features" if isinstance(last, nn.Linear) else "out_channels", num_classes)
    last.reset_parameters()


def adapt_input(net: nn.Module, channels: int) -> None:
    """Let the first convolution, which reads RGB, read another number of channels."""
    first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    weight = first.weight.detach()
    if channels == 1:  # as if grey were repeated to RGB; in new weights that is also the variance they need
        weight = weight.sum(1, keepdim=True)
    else:  # again and again, and smaller, so that the sum over equal channels stays
        weight = weight.repeat(1, -(-channels // 3), 1, 1)[:, :channels] * (3 / channels)
    first.in_channels, first.weight = channels, nn.Parameter(weight)


def try_out(net: nn.Module, channels: int, size: int) -> None:
    """Let an image of that size pass through the network, as shapes only; raises what the network raises."""
    tensors = (*net.named_parameters(), *net.named_buffers())
    state = {name: tensor.to("meta") for name, tensor in tensors}
    net.eval()
    with torch.no_grad():
        functional_call(net, state, torch.empty(1, channels, size, size, device="meta"))
    net.train()


@contextmanager
def fitting(net: str, size: int, enough: int, options: Mapping[str, Any]) -> Iterator[None]:
    """Say of a size or options that a network refuses what it takes instead."""
    try:
        yield
    except REFUSALS as error:
        given = f" with model.options={dict(options)}" if options else ""
        remedies = ["other model.options"] if options else []
        if not (options and isinstance(error, TypeError)):  # which says that it knows no such option
            remedies.append(f"scaling.size={enough}")
        raise ConfigError(
            f"{net} does not work on images of {size} px{given} ({_reason(error)}). "
            f"Use {' or '.join(remedies)}."
        ) from error


@contextmanager
def without_weights() -> Iterator[None]:
    """Make pretrained networks without reading their weights, because those of a checkpoint follow."""
    before = _left_out.set(True)
    try:
        yield
    finally:
        _left_out.reset(before)


def reads_weights(pretrained: bool | str) -> bool:
    """Whether a network that is made now shall read pretrained weights."""
    return bool(pretrained) and not _left_out.get()


def pick_weights(net: str, pretrained: bool | str) -> models.WeightsEnum:
    """The weights of that name for torchvision's network `net`; of true and of false, the best."""
    known = models.get_model_weights(net).__members__ if net in models.list_models() else {}
    # Those without categories have no last layer
    names = [name for name, weights in known.items() if weights.meta["categories"]]
    check_choice("pretrained", pretrained, (False, *([True] if names else []), *names))
    return known[pretrained if isinstance(pretrained, str) else "DEFAULT"]


def from_torchvision(
    net: str, pretrained: bool | str, num_classes: int, in_channels: int, **settings: Any
) -> nn.Module:
    """torchvision's network `net`, its first and last layer fitted; `settings` go to its builder.

    Raises:
        ConfigError: it has no such weights, or with them reads RGB only.
        DataError: the weights are neither in torch's cache nor to be had, or are damaged.
    """
    weights = pick_weights(net, pretrained)
    if pretrained and net in HEADED and in_channels != 3:
        raise ConfigError(f"pretrained {net} reads RGB only. Use dataset.channels=3, which repeats grey.")
    if reads_weights(pretrained):
        with cached(net, weights.url):
            made = models.get_model(net, weights=weights, **settings)
        if num_classes != len(weights.meta["categories"]):
            replace_head(made, num_classes)
    else:
        if net in HEADED:  # with weights they read images on another scale; of init_weights they would warn
            settings = {"transform_input": bool(pretrained), "init_weights": not pretrained} | settings
        made = models.get_model(net, num_classes=num_classes, **settings)
    if in_channels != 3:
        adapt_input(made, in_channels)
    return made


def load_pretrained(
    made: nn.Module, net: str, pretrained: bool | str, num_classes: int, in_channels: int
) -> None:
    """Give `made`, which has the layers of torchvision's network `net`, its pretrained weights, if asked.

    The last layer is new where ImageNet has not as many classes. Raises as `from_torchvision` does.
    """
    if reads_weights(pretrained):
        theirs = from_torchvision(net, pretrained, num_classes, in_channels).state_dict()
        made.load_state_dict({**made.state_dict(), **theirs})  # auxiliary heads, which lack there, stay new


def cached(net: str, url: str) -> AbstractContextManager[None]:
    """What to say of the weights at this address, which are kept in torch's cache."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    return reading(net, f"Download {url} and put it at {file}.")


@contextmanager
def data_only() -> Iterator[None]:
    """Let torch.load take tensors and plain values only: torch's hub, which it asks, would let code run."""
    names = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ[names[0]] = "1"
    try:
        yield
    finally:
        del os.environ[names[0]]
        os.environ.update({name: value for name, value in before.items() if value is not None})


@contextmanager
def reading(net: str, remedy: str) -> Iterator[None]:
    """Read weights as data, and say of missing or damaged ones which file they are and where it belongs."""
    try:
        with data_only():
            yield
    except Exception as error:  # every hub and every format has its own
        about_options = isinstance(error, TypeError | ValueError | AssertionError)
        if about_options and not isinstance(error, OSError):
            raise
        raise DataError(f"the weights of {net} cannot be loaded ({_reason(error)}). {remedy}") from error


def _reason(error: Exception) -> str:
    """The first line of what the library says."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
