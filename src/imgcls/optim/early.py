"""Parts of a network whose training ends early: their learning rate goes through the whole schedule in so
many epochs, and from then on they are frozen (Brock et al. 2017, FreezeOut, arXiv:1706.04983, section 3)."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from imgcls.models.freeze import known


def parts(network: nn.Module, what: str | None) -> dict[str, int]:
    """{part: epochs} of `NAME=EPOCHS,NAME=EPOCHS`; ConfigError if the network has no such part."""
    pairs = (word.partition("=") for word in (what or "").split(",") if word)
    return {known(network, name, "freeze_after"): int(epochs) for name, _, epochs in pairs}


def apart(
    groups: list[dict[str, Any]], network: nn.Module, ends: Mapping[str, int], epochs: int
) -> list[dict[str, Any]]:
    """The groups, with such parts in some of their own that say as `span` the share of training they have."""
    for name, end in ends.items():
        inside = {id(p) for p in network.get_submodule(name).parameters()}
        early = [{**group, "params": [p for p in group["params"] if id(p) in inside]} for group in groups]
        late = [{**group, "params": [p for p in group["params"] if id(p) not in inside]} for group in groups]
        groups = late + [{**group, "span": end / epochs} for group in early if group["params"]]
    return groups


def passed(network: nn.Module, ends: Mapping[str, int], epoch: int) -> list[nn.Module]:
    """Freeze the parts whose time is over when `epoch` (0-based) begins; returns all their modules."""
    over = [network.get_submodule(name) for name, end in ends.items() if epoch >= end]
    for part in over:
        part.requires_grad_(False)
    return [module for part in over for module in part.modules()]
