"""The small network, the checks that all networks share, and the configurations of every network."""

from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
import torch
import yaml
from sizes import count

from imgcls.errors import ConfigError
from imgcls.models.checks import check_choice, check_size
from imgcls.models.convnet import convnet

MNIST = {"num_classes": 10, "in_channels": 1, "image_size": 28}
CIFAR10 = {"num_classes": 10, "in_channels": 3, "image_size": 32}
CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))


@pytest.mark.parametrize(("images", "expected"), [(MNIST, 93_322), (CIFAR10, 122_570)])
def test_published_parameter_counts(images, expected):
    assert count(convnet(**images)) == expected
    assert count(convnet(**images, dropout=0.5)) == expected


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [18, 28, 32, 64])
def test_logits_have_one_number_per_class(side, channels, padding):
    net = convnet(num_classes=7, in_channels=channels, image_size=side, padding=padding)
    assert net(torch.randn(2, channels, side, side)).shape == (2, 7)


def test_every_size_from_the_smallest_on_works():
    for padding, smallest in (("valid", 18), ("same", 4)):
        for side in range(smallest, smallest + 10):
            net = convnet(num_classes=2, in_channels=1, image_size=side, padding=padding)
            assert net(torch.randn(1, 1, side, side)).shape == (1, 2)


@pytest.mark.parametrize(
    ("side", "padding", "message"),
    [
        (
            8,
            "valid",
            "convnet needs images of at least 18 px, these are 8 px. Use scaling.size=18 or more.",
        ),
        (
            17,
            "valid",
            "convnet needs images of at least 18 px, these are 17 px. Use scaling.size=18 or more.",
        ),
        (
            3,
            "same",
            "convnet needs images of at least 4 px, these are 3 px. Use scaling.size=4 or more.",
        ),
    ],
)
def test_too_small_images_name_the_scaling_that_works(side, padding, message):
    with pytest.raises(ConfigError) as caught:
        convnet(num_classes=10, in_channels=1, image_size=side, padding=padding)
    assert str(caught.value) == message


def test_the_suggested_size_is_the_smallest_that_works():
    with pytest.raises(ConfigError, match=r"scaling\.size=18 "):
        check_size("net", 17, 18)
    check_size("net", 18, 18)


@pytest.mark.parametrize(
    ("options", "valid"),
    [
        ({"padding": "full"}, "padding=full is not an option. Use one of: valid, same."),
        ({"dropout": 1.5}, "at least 0 and below 1"),
        ({"dropout": -0.1}, "at least 0 and below 1"),
        ({"dropout": float("nan")}, "at least 0 and below 1"),
        ({"dropout": "half"}, "at least 0 and below 1"),
    ],
)
def test_bad_options_list_the_valid_ones(options, valid):
    with pytest.raises(ConfigError, match=valid):
        convnet(**MNIST, **options)


def test_choices_are_listed_as_one_types_them():
    with pytest.raises(ConfigError, match=r"pool=None .* one of: null, true, false\."):
        check_choice("pool", "None", (None, True, False))


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    net, x = convnet(**MNIST, dropout=0.5), torch.randn(4, 1, 28, 28)
    assert not torch.equal(net.train()(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


def test_both_variants_have_the_same_layers():
    plain, dropped = convnet(**MNIST), convnet(**MNIST, dropout=0.5)
    dropped.load_state_dict(plain.state_dict(), strict=True)
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(plain.eval()(x), dropped.eval()(x))


def test_backward_reaches_every_parameter():
    net = convnet(**CIFAR10, dropout=0.5)
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_builds(path):
    text = path.read_text()
    first, config = text.partition("\n")[0], yaml.safe_load(text)
    assert first.startswith("# ") and len(first) <= 84
    assert config.pop("name") == path.stem
    module, _, function = config.pop("_target_").rpartition(".")
    net = getattr(import_module(module), function)(**MNIST, **config)
    assert net.eval()(torch.randn(1, 1, 28, 28)).shape == (1, 10)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_shows_all_options_with_their_defaults(path):
    config = yaml.safe_load(path.read_text())
    name = config.pop("name")
    module, _, function = config.pop("_target_").rpartition(".")
    module = import_module(module)
    build = getattr(module, "_resnet", None) or getattr(module, function)
    defaults = {k: p.default for k, p in signature(build).parameters.items() if p.default is not p.empty}
    if name == "dropnet":
        defaults["dropout"] = 0.5  # all that sets it apart from convnet
    if name in ("vgg7", "vgg9"):
        del defaults["pretrained"]  # torchvision has neither
    assert config == {k: [*v] if isinstance(v, tuple) else v for k, v in defaults.items()}
