"""Which parameters weight decay acts on, and which have a learning rate of their own."""

from collections import defaultdict
from typing import Any

from torch import nn

from imgcls.models.adapt import head

MATRICES = (2, 4)  # dimensions of what Muon can turn: dense layers and filters, but no embedded positions


def groups(
    network: nn.Module,
    weight_decay: float,
    everything: bool = False,
    *,
    bias_lr: float = 1.0,
    head_lr: float = 1.0,
    muon: bool = False,
) -> list[dict[str, Any]]:
    """Parameter groups: filters and matrices decay; biases and norm scales do not, unless `everything`.

    Decay on a vector that only shifts or scales costs accuracy (He et al. 2018, arXiv:1812.01187, 3.1).

    Args:
        bias_lr, head_lr: learning rates of vectors and of the last layer, as multiples of all others'; their
            group says it as `times`. A step takes the same share of every weight that decays.
        muon: let the groups of hidden filters and matrices say `orthogonal`.
    """
    last = {id(p) for p in head(network).parameters()} if muon or head_lr != 1 else set()
    split: dict[tuple[bool, bool, bool, float], list[nn.Parameter]] = defaultdict(list)
    for parameter in (p for p in network.parameters() if p.requires_grad):
        vector, ending = parameter.ndim <= 1, id(parameter) in last
        times = (bias_lr if vector else 1.0) * (head_lr if ending else 1.0)
        aside = muon and (ending or parameter.ndim not in MATRICES)
        split[aside, ending and head_lr != 1, vector and not everything, times].append(parameter)
    return [
        {
            "params": split[key],
            "weight_decay": 0.0 if plain else weight_decay / times,
            **({"times": times} if times != 1 else {}),
            **({"orthogonal": not aside} if muon else {}),
        }
        for key in sorted(split)
        for aside, _, plain, times in [key]
    ]
