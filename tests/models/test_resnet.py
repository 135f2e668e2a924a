"""ResNet-18, -34 and -50: published parameter counts, stems, squeeze-and-excitation."""

import logging

import pytest
import torch
from sizes import count
from torch import nn

from imgcls.errors import ConfigError
from imgcls.models import resnet
from imgcls.models.resnet import resnet18, resnet34, resnet50

BUILD = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}
CIFAR10 = {"num_classes": 10, "in_channels": 3, "image_size": 32}


def shape_only(name: str, **options: object) -> nn.Module:
    """A network without memory for its weights: enough to count them."""
    with torch.device("meta"):
        return BUILD[name](**{**CIFAR10, **options})


@pytest.mark.parametrize(
    ("name", "classes", "channels", "expected"),
    [
        ("resnet18", 1000, 3, 11_689_512),
        ("resnet18", 10, 3, 11_181_642),
        ("resnet18", 10, 1, 11_175_370),
        ("resnet34", 1000, 3, 21_797_672),
        ("resnet50", 1000, 3, 25_557_032),
    ],
)
def test_published_parameter_counts(name, classes, channels, expected):
    net = shape_only(name, num_classes=classes, in_channels=channels, stem="imagenet")
    assert count(net) == expected


@pytest.mark.parametrize("side", [28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("stem", ["auto", "imagenet", "cifar"])
def test_logits_have_one_number_per_class(stem, channels, side):
    net = resnet18(num_classes=7, in_channels=channels, image_size=side, stem=stem, width=4)
    assert net(torch.randn(2, channels, side, side)).shape == (2, 7)


@pytest.mark.parametrize(
    ("options", "side"),
    [
        ({"image_size": 224}, 7),
        ({"image_size": 64}, 8),
        ({"image_size": 32}, 4),
        ({"image_size": 32, "stem": "imagenet"}, 1),
        ({"image_size": 32, "stem_pool": True}, 2),
        ({"image_size": 32, "stem": "imagenet", "stem_pool": False}, 2),
    ],
)
def test_stem_sets_the_size_of_the_last_features(options, side):
    net = shape_only("resnet18", **options)
    size = options["image_size"]
    x = net.maxpool(net.conv1(torch.empty(2, 3, size, size, device="meta")))
    assert net.layer4(net.layer3(net.layer2(net.layer1(x)))).shape == (2, 512, side, side)


def test_auto_says_which_stem_and_why(caplog):
    caplog.set_level(logging.INFO, logger=resnet.__name__)
    for size in (32, 64, 65):
        shape_only("resnet18", image_size=size)
    assert caplog.messages == [
        "stem: cifar (3x3, stride 1), because images are 32 px",
        "stem: cifar (3x3, stride 1), because images are 64 px",
        "stem: imagenet (7x7, stride 2), because images are 65 px",
    ]


def test_a_stem_by_name_is_not_announced(caplog):
    caplog.set_level(logging.INFO)
    shape_only("resnet18", stem="cifar")
    assert not caplog.messages


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("reduction", [4, 16])
def test_squeeze_and_excitation_adds_its_two_layers_to_each_block(name, reduction):
    depths, widening = resnet.SIZES[name].depths, resnet.SIZES[name].widening
    expected = 0
    for i, depth in enumerate(depths):
        c = 64 * 2**i * widening
        s = c // reduction
        expected += depth * (c * s + s + s * c + c)  # weights and biases, down and up
    added = count(shape_only(name, se=True, se_reduction=reduction)) - count(shape_only(name))
    assert added == expected


@pytest.mark.parametrize("build", [resnet18, resnet50])
def test_squeeze_and_excitation_weighs_the_residual_before_the_addition(build):
    torch.manual_seed(0)
    net = build(**CIFAR10, width=4, se=True).eval()
    block = net.layer1[1]  # no shortcut of its own
    norm = "bn3" if build is resnet50 else "bn2"
    residual = {}
    getattr(block, norm)[0].register_forward_hook(lambda module, args, out: residual.update(out=out))
    x = torch.randn(2, net.layer2[0].conv1.in_channels, 8, 8)
    y, r = block(x), residual["out"]
    se = getattr(block, norm)[1]
    hidden = torch.relu(r.mean((2, 3)) @ se.fc1.weight.flatten(1).T + se.fc1.bias)
    scale = torch.sigmoid(hidden @ se.fc2.weight.flatten(1).T + se.fc2.bias)
    torch.testing.assert_close(y, torch.relu(scale[:, :, None, None] * r + x))


def test_synchronised_batch_norm_keeps_squeeze_and_excitation():
    net = resnet18(**CIFAR10, width=4, se=True)
    assert count(nn.SyncBatchNorm.convert_sync_batchnorm(net)) == count(net)


@pytest.mark.parametrize("width", [8, 32])
def test_width_scales_every_stage(width):
    net = shape_only("resnet50", width=width)
    assert net.conv1.out_channels == width
    assert net.fc.in_features == 32 * width


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    x = torch.randn(4, 3, 32, 32)
    net = resnet18(**CIFAR10, width=4, dropout=0.5)
    assert not torch.equal(net.train()(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize("build", BUILD.values())
@pytest.mark.parametrize("se", [False, True])
def test_backward_reaches_every_parameter(build, se):
    torch.manual_seed(0)
    net = build(**CIFAR10, width=16, se=se, se_reduction=2, dropout=0.1)
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (
            8,
            {"stem": "imagenet"},
            "resnet18 needs images of at least 17 px, these are 8 px. Use scaling.size=17 or more.",
        ),
        (
            8,
            {"stem_pool": True},
            "resnet18 needs images of at least 9 px, these are 8 px. Use scaling.size=9 or more.",
        ),
        (
            4,
            {},
            "resnet18 needs images of at least 5 px, these are 4 px. Use scaling.size=5 or more.",
        ),
    ],
)
def test_too_small_images_name_the_scaling_that_works(size, options, message):
    with pytest.raises(ConfigError) as caught:
        shape_only("resnet18", image_size=size, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "valid"),
    [
        ({"stem": "foo"}, "stem=foo is not an option. Use one of: auto, imagenet, cifar."),
        ({"stem_pool": "yes"}, "stem_pool=yes is not an option. Use one of: null, true, false."),
        ({"se": "yes"}, "se=yes is not an option. Use one of: true, false."),
        ({"width": 0}, "width=0 is not an option. Use a whole number of at least 1."),
        ({"width": 1.5}, "width=1.5 is not an option. Use a whole number of at least 1."),
        ({"se_reduction": 0}, "se_reduction=0 is not an option. Use a whole number of at least 1."),
        ({"dropout": 1.5}, "dropout=1.5 is not an option. Use a number of at least 0 and below 1."),
    ],
)
def test_bad_options_list_the_valid_ones(options, valid):
    with pytest.raises(ConfigError) as caught:
        shape_only("resnet18", **options)
    assert str(caught.value) == valid
