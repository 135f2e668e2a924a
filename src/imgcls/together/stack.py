"""Networks of one architecture as one: their weights lie stacked, and one pass computes all of them.

`torch.vmap` over weights and images makes one grouped convolution of K, one batched product of K dense
layers, and one batch norm over K times the channels (torch.func's documentation calls it model ensembling).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """Tensors of one shape in one (K, …), where each from now on lives: a change of one is a change of both.

    Each keeps its layout in memory, which optimizers that go through it as one line count on.
    """
    first = parts[0]
    whole = torch.empty_strided(
        (len(parts), *first.shape), (first.numel(), *first.stride()), dtype=first.dtype, device=first.device
    )
    for place, part in zip(whole, parts, strict=True):
        place.copy_(part.detach())
        part.data = place
    return whole


class Stack:
    """Trains K networks at a time; each still is a network, whose weights are a slice of these.

    Args:
        networks: of one architecture, in training mode.
        skeleton: a copy of one of them, whose own weights do not matter.
    """

    def __init__(self, networks: Sequence[nn.Module], skeleton: nn.Module) -> None:
        self.networks, self.skeleton = tuple(networks), skeleton
        for mine, theirs in zip(skeleton.modules(), networks[0].modules(), strict=True):
            mine.training = theirs.training  # what is frozen stays in eval mode
        named = [dict(network.named_parameters()) for network in networks]
        self.owners = {key: [each[key] for each in named] for key in named[0]}
        self.weights = {
            key: stacked(parts).requires_grad_(parts[0].requires_grad) for key, parts in self.owners.items()
        }
        buffers = [dict(network.named_buffers()) for network in networks]
        self.buffers = {key: stacked([each[key] for each in buffers]) for key in buffers[0]}

    def forward(self, images: Sequence[Tensor], draws: list[Tensor]) -> Sequence[Tensor]:
        """Each network's float images (N, C, H, W) → its logits (N, classes).

        `draws` are the states of the random generator in which each one's dropout begins, if there is any;
        they become those in which it ends.
        """

        def one(weights: Any, buffers: Any, images: Tensor) -> Any:
            return functional_call(self.skeleton, (weights, buffers), (images,))

        batch = torch.stack(list(images))
        if not draws:
            return torch.vmap(one)(self.weights, self.buffers, batch).unbind()
        with OwnDropout(draws, batch.device):
            return torch.vmap(one)(self.weights, self.buffers, batch).unbind()

    def hand_out(self, networks: Sequence[nn.Module]) -> None:
        """After a backward pass: give these networks their gradients."""
        rows = [self.networks.index(network) for network in networks]
        for key, weight in self.weights.items():
            if weight.grad is None:
                continue
            parts = weight.grad.unbind()
            for row in rows:
                owner = self.owners[key][row]
                if owner.grad is None:
                    owner.grad = parts[row]
                else:  # of an earlier part of the batch, or of a penalty
                    owner.grad.add_(parts[row])
            weight.grad = None


def has_dropout(network: nn.Module) -> bool:
    """Whether a training pass draws at random."""
    return any(isinstance(part, nn.Dropout) and part.p for part in network.modules())


def generator(device: torch.device) -> torch.Generator:
    """The default generator that dropout on a device draws from."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator


class OwnDropout(TorchFunctionMode):
    """Lets each network of a stack drop what it would drop alone, bit by bit."""

    def __init__(self, draws: list[Tensor], device: torch.device) -> None:
        super().__init__()
        self.draws, self.generator = draws, generator(device)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Every call of torch's; all but dropout pass."""
        if func is not F.dropout:
            return func(*args, **(kwargs or {}))
        images, settings = args[0], {**(kwargs or {}), "inplace": False}
        return _Each.apply(images, lambda row, part: self._drop(row, part, settings))

    def _drop(self, row: int, part: Tensor, settings: dict[str, Any]) -> Tensor:
        """One network's activations, laid out as alone: values are drawn in the order of memory."""
        if part.ndim == 4:
            part = part.contiguous(memory_format=torch.channels_last)
        self.generator.set_state(self.draws[row])
        dropped = F.dropout(part.contiguous() if part.ndim < 4 else part, **settings)
        self.draws[row] = self.generator.get_state()
        return dropped


class _Each(torch.autograd.Function):
    """Under vmap: a function of (row, part), called for one part after another."""

    @staticmethod
    def forward(images: Tensor, function: Callable[[int, Tensor], Tensor]) -> Tensor:
        """Outside vmap there is one part."""
        return function(0, images)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """vmap's way below is differentiated by itself."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, images: Tensor, function: Callable[[int, Tensor], Tensor]) -> Any:
        """The parts in turn."""
        return torch.stack([function(row, part) for row, part in enumerate(images.unbind(in_dims[0]))]), 0
