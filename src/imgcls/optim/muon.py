"""Muon for filters and matrices, SGD with Nesterov momentum for everything else, as one optimizer (Jordan et
al. 2024, Muon: An optimizer for hidden layers in neural networks, kellerjordan.github.io/posts/muon).

torch.optim.Muon does the same to a matrix, but takes no filters, and leaves the rest to a second optimizer,
of which all of training would have to know.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steepest at zero; singular values end between 0.7 and 1.2, about
EPS = 1e-7


def orthogonal(matrix: Tensor, steps: int) -> Tensor:
    """The nearest matrix with orthogonal rows or columns, roughly: (M, N) bfloat16, by Newton and Schulz.

    Each of the `steps` maps the singular values by an odd polynomial of degree 5 (the post, "Newton-Schulz").
    """
    a, b, c = COEFFICIENTS
    x = matrix.to(torch.bfloat16, copy=True)
    if tall := len(x) > x.shape[1]:
        x = x.T
    x.div_(x.norm().clamp(min=EPS))  # no singular value is above 1
    for _ in range(steps):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.SGD):
    """Groups that say `orthogonal` take Muon's step, the others SGD's.

    Args:
        params: groups as imgcls.optim.decay makes them.
        lr: of the orthogonal update; of SGD, times what a group says.
        momentum: of Muon.
        sgd_momentum: of all others.
        steps: of the orthogonalisation.
        unit_norm: scale each filter to the norm √rows before its update, in place of weight decay: what is
            followed by a norm may be scaled at will (airbench94_muon).
    """

    def __init__(
        self,
        params: list[dict[str, Any]],
        lr: float = 0.02,
        *,
        momentum: float = 0.95,
        sgd_momentum: float = 0.9,
        steps: int = 5,
        unit_norm: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, momentum=sgd_momentum, nesterov=True)
        self.muon_momentum, self.steps, self.unit_norm = momentum, steps, unit_norm

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move all weights; orthogonal groups have no gradients after it."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            for weight in group["params"] if group.get("orthogonal") else ():
                if weight.grad is not None:
                    self._turn(weight, group)
                    weight.grad = None  # SGD passes it over
        super().step()
        return loss

    def _turn(self, weight: Tensor, group: dict[str, Any]) -> None:
        """Muon's step on one filter (O, I, H, W) or matrix (O, I)."""
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - self.muon_momentum)
        update = gradient.lerp(buffer, self.muon_momentum).flatten(1)
        rows, columns = update.shape
        if self.unit_norm:
            weight.mul_(rows**0.5 / weight.norm())
        else:
            weight.mul_(1 - group["lr"] * group["weight_decay"])
        rate = group["lr"] * max(1, rows / columns) ** 0.5
        weight.add_(orthogonal(update, self.steps).view_as(weight), alpha=-rate)
