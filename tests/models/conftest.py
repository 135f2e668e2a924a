"""Pretrained weights that tests make for themselves, where torch keeps the real ones."""

import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision import models

State = dict[str, torch.Tensor]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's folder of weights, empty, and a network that no one answers on."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(urllib.request, "_opener", None)  # else it remembers an earlier proxy
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def drawn(key: str, like: torch.Tensor) -> torch.Tensor:
    """Values as of a trained network: they keep the signal's size, and no batch norm is the identity."""
    if like.numel() > 5e6:  # rows are windows into one vector, which takes no time and no memory
        rows, columns = like.shape
        return (torch.randn(rows + columns) * (2 / columns) ** 0.5).as_strided(like.shape, (1, 1))
    if like.ndim > 1:
        return torch.randn(like.shape) * (2 / like[0].numel()) ** 0.5
    return torch.rand(like.shape) + 0.5 if key.endswith(("weight", "var")) else torch.randn(like.shape) / 10


@pytest.fixture
def put(cache: Path) -> Callable[..., State]:
    """Put made-up weights of torchvision's network of that name into the cache; returns them."""

    def made(net: str, weights: str = "DEFAULT") -> State:
        quick = {"init_weights": False} if net.startswith(("vgg", "googlenet")) else {}
        with torch.device("meta"):
            shapes = models.get_model(net, **quick).state_dict()
        torch.manual_seed(0)
        # As the published files: from a torch that did not count batches, and had dots in DenseNet's names
        state = {key: drawn(key, v) for key, v in shapes.items() if not key.endswith("batches_tracked")}
        dotted = {re.sub(r"(denselayer\d+\.[a-z]+)(\d)", r"\1.\2", key): v for key, v in state.items()}
        torch.save(dotted, cache / models.get_model_weights(net)[weights].url.rpartition("/")[2])
        return state

    return made
