"""What a ready-made network needs to fit: its last layer, its first, its weights, the size of its images."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from imgcls.errors import ConfigError, DataError

# What libraries raise at sizes and options that they did not think of
REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


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
def reading(net: str, remedy: str) -> Iterator[None]:
    """Say of weights that are missing or damaged which file they are and where it belongs."""
    try:
        yield
    except Exception as error:  # every hub and every format has its own
        about_options = isinstance(error, TypeError | ValueError | AssertionError)
        if about_options and not isinstance(error, OSError):
            raise
        raise DataError(f"the weights of {net} cannot be loaded ({_reason(error)}). {remedy}") from error


def _reason(error: Exception) -> str:
    """The first line of what the library says."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
