"""Initial weights by kind of layer, over what a network drew for itself.

xavier: Glorot & Bengio 2010, Understanding the Difficulty of Training Deep Feedforward Neural Networks,
equation 16 (uniform) · he: He et al. 2015, Delving Deep into Rectifiers, equation 14 (normal, fan-out).
"""

from collections.abc import Callable

from torch import Tensor, nn

from imgcls.models.checks import check_choice

KINDS: dict[str, Callable[[Tensor], object]] = {
    "xavier": nn.init.xavier_uniform_,
    "he": lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu"),
}
LAYERS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    "linear": (nn.Linear,),
}


def initialise(
    network: nn.Module, *, conv: str = "default", linear: str = "default", bias: str = "default"
) -> None:
    """Draw the weights of convolutions and dense layers anew, as asked; norms keep their ones and zeros."""
    for kind, wanted in (("conv", conv), ("linear", linear)):
        check_choice(f"init.{kind}", wanted, ("default", *KINDS))
        for layer in (m for m in network.modules() if isinstance(m, LAYERS[kind])):
            if wanted != "default":
                KINDS[wanted](layer.weight)  # type: ignore[arg-type]
            if bias == "zero" and layer.bias is not None:
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    check_choice("init.bias", bias, ("default", "zero"))
