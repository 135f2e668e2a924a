"""What every named network can do: any usual image, gradients everywhere, saving, compiling, exporting."""

import io
from functools import cache

import pytest
import torch
from test_costs import NETWORKS, settings_of
from torch import nn
from torch.nn import functional as F

from imgcls import build

NATIVE = [name for name in NETWORKS if name not in ("torchvision", "timm")]
QUICK = ("airbench94", "convnet", "resnet20", "resnet18", "nin")
# Of MNIST, CIFAR-10, Tiny ImageNet and ImageNet
SIZES = (28, 32, 64, 224)


def network(name: str, channels: int = 3, size: int = 32) -> nn.Module:
    torch.manual_seed(0)
    settings = settings_of(name)
    return build.call(settings, num_classes=10, in_channels=channels, image_size=size)


@cache
def trained(name: str) -> nn.Module:
    """After one step, so that batch norm has statistics and no weight is as it was made."""
    made = network(name)
    optimizer = torch.optim.SGD(made.parameters(), lr=1e-3)
    loss(made, images()).backward()
    optimizer.step()
    return made


def images(channels: int = 3, size: int = 32) -> torch.Tensor:
    return torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(1))


def loss(made: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """As the classifier's, with auxiliary heads."""
    outputs = made.train()(x)
    logits, heads = outputs if isinstance(outputs, tuple) else (outputs, [])
    labels = torch.arange(len(x))
    return F.cross_entropy(logits, labels) + sum(F.cross_entropy(z, labels) * share for z, share in heads)


def only_quick(names: list[str]) -> list[object]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NATIVE)
def test_logits_at_every_usual_size(name: str, size: int, channels: int) -> None:
    with torch.device("meta"):
        made = network(name, channels, size).eval()
        assert made(torch.empty(2, channels, size, size)).shape == (2, 10)


@pytest.mark.parametrize("name", only_quick(NATIVE))
def test_backward_reaches_every_parameter(name: str) -> None:
    made = network(name)
    for module in made.modules():  # what a hidden unit's dropout happens to cut off has no gradient
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    loss(made, images()).backward()
    trained = [(n, p.grad) for n, p in made.named_parameters() if p.requires_grad]
    assert [name for name, gradient in trained if gradient is None or not gradient.any()] == []


@pytest.mark.parametrize("name", only_quick(NATIVE))
def test_saved_weights_give_the_same_logits(name: str) -> None:
    made, file = trained(name).eval(), io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    torch.manual_seed(7)
    other = network(name).eval()
    other.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        assert torch.equal(other(images()), made(images()))


@pytest.mark.parametrize("name", only_quick(NATIVE))
def test_the_whole_network_compiles(name: str) -> None:
    """Into one graph, which gives the logits of the network."""
    made = trained(name).eval()
    torch._dynamo.reset()
    with torch.no_grad():
        found = torch.compile(made, backend="aot_eager", fullgraph=True)(images())
        assert torch.allclose(found, made(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", only_quick(NATIVE))
def test_an_exported_network_takes_any_batch(name: str) -> None:
    made = trained(name).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(made, (images(),), dynamic_shapes=({0: batch},))
    x = images()[:3]
    with torch.no_grad():
        assert torch.allclose(program.module()(x), made(x), rtol=1e-4, atol=1e-5)
