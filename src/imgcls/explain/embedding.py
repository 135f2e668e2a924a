"""Images as points in the plane: what enters the network's last layer, in two dimensions."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from imgcls.models.adapt import head

POINTS = 2000  # at most: t-SNE takes seconds for these, and more could not be told apart in a picture
LEAST = 5  # of fewer, neighbourhoods say nothing
DIMENSIONS = 50  # to which van der Maaten and Hinton (2008, section 4.2) reduce features before t-SNE


@contextmanager
def kept(network: nn.Module) -> Iterator[list[torch.Tensor]]:
    """While it is entered, collects what enters the last layer: float (N, D) on the CPU for each batch.

    Where that is a map (network in network), the mean over its cells.
    """
    found: list[torch.Tensor] = []

    def note(module: nn.Module, inputs: Any) -> None:
        x = inputs[0].detach().float()
        found.append((x.flatten(2).mean(2) if x.dim() == 4 else x.flatten(1)).cpu())

    handle = head(network).register_forward_pre_hook(note)
    try:
        yield found
    finally:
        handle.remove()


def chosen(count: int) -> np.ndarray:
    """Rows of at most `POINTS` of so many images, spread over all."""
    return np.unique(np.linspace(0, count - 1, min(count, POINTS)).astype(int))


def planes(features: np.ndarray) -> dict[str, np.ndarray]:
    """Features (N, D) in the plane, as {title: (N, 2)}: by PCA, and by t-SNE, which keeps neighbours."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    reduced = PCA(min(DIMENSIONS, *features.shape), random_state=0)
    parts = reduced.fit_transform(features)
    perplexity = min(30.0, (len(parts) - 1) / 3)
    near = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(parts)
    share = 100 * reduced.explained_variance_ratio_[:2].sum()
    return {f"PCA: {share:.0f} % of the variance": parts[:, :2], "t-SNE: near is alike": near}
