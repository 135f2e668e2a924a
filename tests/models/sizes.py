"""What the tests of networks ask of them."""

from torch import nn


def count(net: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
