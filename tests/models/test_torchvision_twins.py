"""Networks that have torchvision's layers have its parameters, its initial weights and its logits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from imgcls.models import alexnet, densenet, googlenet, resnet, vgg
from imgcls.models.adapt import without_weights

IMAGENET = {"num_classes": 1000, "in_channels": 3, "image_size": 224}
FAST = ("resnet18", "resnet50", "googlenet", "densenet121", "alexnet", "vgg16_bn")
SLOW = (
    "resnet34",
    "densenet169",
    "densenet201",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg19",
    "vgg19_bn",
)
TWINS = (*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW))


def ours(name: str, **options: Any) -> nn.Module:
    """Our network of torchvision's name."""
    family = next(m for m in (alexnet, densenet, googlenet, resnet, vgg) if hasattr(m, name.split("_")[0]))
    if family is vgg:
        options["batch_norm"] = name.endswith("_bn")
    return getattr(family, name.split("_")[0])(**{**IMAGENET, **options})


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("size", [32, 224])
def test_the_form_of_the_weights_has_the_published_count(name: str, size: int) -> None:
    published = models.get_model_weights(name).DEFAULT.meta["num_params"]
    aux = {"aux": False} if name == "googlenet" else {}
    with torch.device("meta"), without_weights():
        net = ours(name, image_size=max(size, 63) if name == "alexnet" else size, pretrained=True, **aux)
    assert sum(p.numel() for p in net.parameters()) == published


@pytest.mark.parametrize("name", TWINS)
def test_pretrained_networks_give_torchvisions_logits(name: str, put: Callable[[str], Any]) -> None:
    put(name)
    side = 64 if name == "alexnet" else 32
    theirs = models.get_model(name, weights="DEFAULT").eval()
    net = ours(name, image_size=side, pretrained=True).eval()
    torch.manual_seed(1)
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        logits = net(x)
        assert torch.equal(logits, theirs(x))
    assert logits.std(0).mean() > 1e-3  # the images made a difference


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet"])
def test_initial_weights_are_torchvisions(name: str) -> None:
    options = {"init_weights": True} if name == "googlenet" else {}
    torch.manual_seed(3)
    theirs = models.get_model(name, **options).state_dict()
    torch.manual_seed(3)
    state = ours(name).state_dict()
    assert state.keys() == theirs.keys()
    assert all(torch.equal(state[key], theirs[key]) for key in theirs)
