"""DenseNet-121, -169 and -201: published parameter counts, stems, growth."""

import pytest
import torch
from sizes import count
from torch import nn

from imgcls.errors import ConfigError
from imgcls.models import densenet

BUILD = {name: getattr(densenet, name) for name in densenet.DEPTHS}
CIFAR10 = {"num_classes": 10, "in_channels": 3, "image_size": 32}
SMALL = {**CIFAR10, "growth_rate": 4, "width": 8}


def shape_only(name: str = "densenet121", **options: object) -> nn.Module:
    """A network without memory for its weights: enough to count them."""
    with torch.device("meta"):
        return BUILD[name](**{**CIFAR10, **options})


@pytest.mark.parametrize(
    ("name", "classes", "channels", "expected"),
    [
        ("densenet121", 1000, 3, 7_978_856),
        ("densenet121", 10, 3, 6_964_106),
        ("densenet121", 10, 1, 6_964_106 - 2 * 64 * 49),
        ("densenet169", 1000, 3, 14_149_480),
        ("densenet201", 1000, 3, 20_013_928),
    ],
)
def test_published_parameter_counts(name, classes, channels, expected):
    assert count(shape_only(name, num_classes=classes, in_channels=channels, stem="imagenet")) == expected


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (64, 1), (224, 3)])
def test_logits_have_one_number_per_class(side, channels, name):
    net = shape_only(name, num_classes=7, in_channels=channels, image_size=side)
    assert net(torch.empty(2, channels, side, side, device="meta")).shape == (2, 7)


@pytest.mark.parametrize(
    ("options", "side"),
    [
        ({"image_size": 224}, 7),
        ({"image_size": 64}, 8),
        ({"image_size": 32}, 4),
        ({"image_size": 28}, 3),
        ({"image_size": 32, "stem": "imagenet"}, 1),
    ],
)
def test_stem_sets_the_size_of_the_last_features(options, side):
    net, size = shape_only(**options), options["image_size"]
    assert net.features(torch.empty(2, 3, size, size, device="meta")).shape == (2, 1024, side, side)


@pytest.mark.parametrize(("stem", "smallest"), [("imagenet", 29), ("cifar", 8)])
def test_every_size_from_the_smallest_on_works(stem, smallest):
    net = shape_only(image_size=smallest, stem=stem)
    for size in range(smallest, smallest + 4):
        assert net(torch.empty(2, 3, size, size, device="meta")).shape == (2, 10)
    with pytest.raises(RuntimeError):
        net(torch.empty(2, 3, smallest - 1, smallest - 1, device="meta"))


def test_growth_rate_and_width_set_the_channels():
    net = shape_only(growth_rate=12, width=24)
    assert net.features.conv0.out_channels == 24
    assert net.features.denseblock1.denselayer6.conv2.out_channels == 12
    # Every block adds its layers' channels, every transition halves them
    assert net.classifier.in_features == (((24 + 6 * 12) // 2 + 12 * 12) // 2 + 24 * 12) // 2 + 16 * 12


def test_dropout_follows_every_layer_in_training_only():
    torch.manual_seed(0)
    net, x = densenet.densenet121(**SMALL, dropout=0.2), torch.randn(4, 3, 32, 32)
    layers = [m for m in net.modules() if hasattr(m, "drop_rate")]
    assert [m.drop_rate for m in layers] == [0.2] * (6 + 12 + 24 + 16)
    assert not torch.equal(net.train()(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize("name", BUILD)
def test_backward_reaches_every_parameter(name):
    torch.manual_seed(0)
    net = BUILD[name](**SMALL, dropout=0.1)
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize(("size", "stem", "needed"), [(28, "imagenet", 29), (7, "auto", 8)])
def test_too_small_images_name_the_scaling_that_works(size, stem, needed):
    with pytest.raises(ConfigError) as caught:
        shape_only(image_size=size, stem=stem)
    assert str(caught.value) == (
        f"densenet121 needs images of at least {needed} px, these are {size} px. "
        f"Use scaling.size={needed} or more."
    )


@pytest.mark.parametrize(
    ("options", "valid"),
    [
        ({"stem": "foo"}, "stem=foo is not an option. Use one of: auto, imagenet, cifar."),
        ({"growth_rate": 0}, "growth_rate=0 is not an option. Use a whole number of at least 1."),
        ({"width": 1.5}, "width=1.5 is not an option. Use a whole number of at least 1."),
        ({"dropout": 1.5}, "dropout=1.5 is not an option. Use a number of at least 0 and below 1."),
    ],
)
def test_bad_options_list_the_valid_ones(options, valid):
    with pytest.raises(ConfigError) as caught:
        shape_only(**options)
    assert str(caught.value) == valid
