"""Which parameters weight decay acts on."""

from typing import Any

from torch import nn


def groups(network: nn.Module, weight_decay: float, everything: bool = False) -> list[dict[str, Any]]:
    """Parameter groups: filters and matrices decay; biases and norm scales do not, unless `everything`.

    Decay on a vector that only shifts or scales costs accuracy (He et al. 2018, arXiv:1812.01187, 3.1).
    """
    trainable = [p for p in network.parameters() if p.requires_grad]
    if everything:
        return [{"params": trainable, "weight_decay": weight_decay}]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
