"""Where a network has feature maps, found by letting an image pass through it, and Grad-CAM on them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from imgcls.cli.names import near
from imgcls.errors import ConfigError
from imgcls.models.adapt import head

LEAST = 4  # cells on each side: from fewer, no place in the image can be told


@dataclass(frozen=True, eq=False)
class Map:
    """A module that gives a feature map, and what it gave: (N, C, S, S)."""

    name: str
    module: nn.Module
    values: torch.Tensor

    @property
    def side(self) -> int:
        """Its cells on each side."""
        return self.values.shape[-1]

    @property
    def depth(self) -> int:
        """In how many parts of the network it lies."""
        return self.name.count(".")


class _Reached(Exception):
    """The last layer is about to begin."""


@torch.no_grad()
def feature_maps(network: nn.Module, images: torch.Tensor) -> list[Map]:
    """The square maps that float images (N, C, H, W) make, in their order, up to the last layer.

    Where a part of the network gives something else, as tokens, the maps inside of it and those before it are
    left out: they are not what it goes on with.
    """
    found: list[Map] = []

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, torch.Tensor):
                return
            one = Map(name, module, output)
            if output.dim() == 4 and output.shape[-1] == output.shape[-2]:
                found.append(one)
            elif output.dim() > 2:
                found[:] = [each for each in found if each.depth < one.depth]

        return hook

    def stop(module: nn.Module, inputs: Any) -> None:
        raise _Reached

    handles = [module.register_forward_hook(note(name)) for name, module in network.named_modules() if name]
    handles.append(head(network).register_forward_pre_hook(stop))
    try:
        network(images)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found


def target(found: list[Map], layer: str | None = None) -> Map | None:
    """The map to explain by: the one named, or the last of at least 4 x 4 cells; None if there is none.

    Raises:
        ConfigError: no map has that name.
    """
    if layer is None and found and found[-1].side >= LEAST:
        return found[-1]
    if layer is None:
        return next((each for each in reversed(stages(found)) if each.side >= LEAST), None)
    by_name = {each.name: each for each in found}
    if layer not in by_name:
        known = near(layer, by_name)[:3] or [each.name for each in stages(found)]
        remedy = (
            f"Choose from: {', '.join(known)}." if known else "Leave it out: no part of this network does."
        )
        raise ConfigError(f"layer={layer} gives no feature map. {remedy}")
    return by_name[layer]


def stages(found: list[Map]) -> list[Map]:
    """One map of each size, in their order: the last of those that lie outermost."""
    by_side: dict[int, Map] = {}
    for each in found:
        if each.side > 1 and (each.side not in by_side or each.depth <= by_side[each.side].depth):
            by_side[each.side] = each
    return list(by_side.values())


def grad_cam(
    network: nn.Module, layer: nn.Module, images: torch.Tensor, classes: torch.Tensor
) -> torch.Tensor:
    """What speaks for a class, and where: (N, S, S), at least 0.

    Grad-CAM (Selvaraju et al. 2017, section 3): each channel of the layer's map weighs as much as the mean of
    the logit's gradients over its cells (equation 1); of their sum, what is positive counts (equation 2).

    Args:
        images: float (N, C, H, W), as the network takes them.
        classes: of each image, int64 (N,).
    """
    from captum.attr import LayerGradCam

    with torch.enable_grad():
        heat = LayerGradCam(network, layer).attribute(images, target=classes, relu_attributions=True)
    return heat[:, 0].detach()


def filters(network: nn.Module) -> torch.Tensor | None:
    """The weights (F, C, K, K) of the first convolution; None if it sees single pixels or is not there."""
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    return None if first is None or max(first.kernel_size) == 1 else first.weight.detach().float()
