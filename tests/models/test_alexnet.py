"""AlexNet: parameter counts, and its stem for small images."""

import logging

import pytest
import torch
from sizes import count
from torch import nn

from imgcls.errors import ConfigError
from imgcls.models.alexnet import alexnet

CIFAR10 = {"num_classes": 10, "in_channels": 3, "image_size": 32}
IMAGENET = {"num_classes": 1000, "in_channels": 3, "image_size": 224}


def shape_only(**options: object) -> nn.Module:
    """A network without memory for its weights: enough to count them."""
    with torch.device("meta"):
        return alexnet(**{**CIFAR10, **options})


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "batch_norm"])
def small(request):
    """The network of CIFAR-10; made once, because its dense layers are large."""
    torch.manual_seed(0)
    return alexnet(**CIFAR10, batch_norm=request.param)


def test_parameter_counts():
    assert count(shape_only(**IMAGENET, batch_norm=False)) == 61_100_840  # published by torchvision
    norms = 2 * (64 + 192 + 384 + 256 + 256)  # a scale and a shift per channel
    assert count(shape_only(**IMAGENET)) == 61_100_840 + norms
    assert count(shape_only(batch_norm=False)) == 28_714_826
    assert count(shape_only()) == 28_714_826 + norms


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("stem", "side"),
    [("auto", 28), ("auto", 32), ("auto", 64), ("auto", 224), ("cifar", 15), ("cifar", 96), ("imagenet", 63)],
)
def test_logits_have_one_number_per_class(stem, side, channels):
    with torch.device("meta"):
        net = alexnet(num_classes=7, in_channels=channels, image_size=side, stem=stem)
        assert net(torch.empty(2, channels, side, side)).shape == (2, 7)


@pytest.mark.parametrize("side", [28, 32])
def test_small_images_give_finite_logits(small, side):
    with torch.no_grad():
        assert small.eval()(torch.randn(2, 3, side, side)).isfinite().all()


@pytest.mark.parametrize(
    ("options", "sides"),
    [
        ({"image_size": 224}, [55, 27, 13, 6]),
        ({"image_size": 32}, [32, 15, 7, 3]),
        ({"image_size": 28}, [28, 13, 6, 2]),
        ({"image_size": 64}, [64, 31, 15, 7]),
        ({"image_size": 64, "stem": "imagenet"}, [15, 7, 3, 1]),
    ],
)
def test_stem_sets_the_size_of_the_last_features(options, sides):
    net, size = shape_only(**options), options["image_size"]
    x, seen = torch.empty(2, 3, size, size, device="meta"), []
    for layer in net.features:
        x = layer(x)
        if isinstance(layer, nn.MaxPool2d) or not seen:  # the first convolution, then every pool
            seen.append(x.shape[-1])
    assert seen == sides


def test_auto_says_which_stem_and_why(caplog):
    caplog.set_level(logging.INFO, logger="imgcls.models")
    for size in (64, 65):
        shape_only(image_size=size)
    shape_only(stem="cifar")  # by name: not announced
    assert caplog.messages == [
        "stem: cifar (5x5, stride 1), because images are 64 px",
        "stem: imagenet (11x11, stride 4), because images are 65 px",
    ]


def test_dropout_acts_in_training_only(small):
    norms = [layer for layer in small.modules() if isinstance(layer, nn.BatchNorm2d)]
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        small.train()
        for norm in norms:
            norm.eval()  # whose statistics would move otherwise
        assert not torch.equal(small(x), small(x))
        assert torch.equal(small.eval()(x), small(x))


def test_backward_reaches_every_parameter(small):
    torch.manual_seed(0)
    small.train()(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in small.parameters())


@pytest.mark.parametrize(("stem", "size", "needed"), [("cifar", 14, 15), ("imagenet", 62, 63)])
def test_too_small_images_name_the_scaling_that_works(stem, size, needed):
    with pytest.raises(ConfigError) as caught:
        shape_only(stem=stem, image_size=size)
    expected = f"at least {needed} px, these are {size} px. Use scaling.size={needed} or more."
    assert str(caught.value) == f"alexnet needs images of {expected}"


@pytest.mark.parametrize(
    ("options", "valid"),
    [
        ({"stem": "foo"}, "stem=foo is not an option. Use one of: auto, imagenet, cifar."),
        ({"dropout": 1.5}, "dropout=1.5 is not an option. Use a number of at least 0 and below 1."),
        ({"batch_norm": 2}, "batch_norm=2 is not an option. Use one of: null, true, false."),
    ],
)
def test_bad_options_list_the_valid_ones(options, valid):
    with pytest.raises(ConfigError) as caught:
        shape_only(**options)
    assert str(caught.value) == valid
