"""The CIFAR ResNets against the paper: counts, shortcuts and initial weights."""

from math import sqrt

import pytest
import torch
from sizes import count
from torch import nn

from imgcls.errors import ConfigError
from imgcls.models.resnet_cifar import (
    DEPTHS,
    SubsampledIdentity,
    resnet20,
    resnet32,
    resnet44,
    resnet56,
    resnet110,
)

CIFAR10 = {"num_classes": 10, "in_channels": 3, "image_size": 32}


@pytest.mark.parametrize(
    ("build", "shortcut", "expected"),
    [
        (resnet20, "identity", 269_722),
        (resnet20, "projection", 272_474),
        (resnet32, "identity", 464_154),
        (resnet44, "identity", 658_586),
        (resnet56, "identity", 853_018),
        (resnet110, "identity", 1_727_962),
    ],
)
def test_published_parameter_counts(build, shortcut, expected):
    with torch.device("meta"):
        assert count(build(**CIFAR10, shortcut=shortcut)) == expected


@pytest.mark.parametrize(
    ("build", "channels", "expected"),
    [(resnet20, 3, 273_066), (resnet20, 1, 272_778), (resnet32, 3, 467_946), (resnet56, 3, 857_706)],
)
def test_parameter_counts_in_the_form_of_keras(build, channels, expected):
    """Biases in all convolutions, projections without batch norm."""
    with torch.device("meta"):
        net = build(**CIFAR10 | {"in_channels": channels}, shortcut="bare_projection", conv_bias=True)
    assert count(net) == expected


def test_biases_are_there_where_asked_for_and_begin_at_zero():
    biases = {
        asked: [m.bias for m in resnet20(**CIFAR10, conv_bias=asked).modules() if isinstance(m, nn.Conv2d)]
        for asked in (False, True)
    }
    assert biases[False] == [None] * 19
    assert all(isinstance(bias, nn.Parameter) and not bias.any() for bias in biases[True])


def test_a_bare_projection_is_a_convolution_only():
    net = resnet20(**CIFAR10, shortcut="bare_projection")
    shortcut = net.layer2[0].downsample
    x = torch.randn(2, 16, 32, 32)
    assert net.layer1[0].downsample is None
    assert torch.equal(shortcut(x), shortcut[0](x))
    assert shortcut(x).shape == (2, 32, 16, 16)


@pytest.mark.parametrize("build", [resnet20, resnet32, resnet44, resnet56, resnet110])
def test_depth_is_the_number_of_layers_with_weights(build):
    with torch.device("meta"):
        net = build(**CIFAR10)
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules())
    assert layers == int(build.__name__.removeprefix("resnet")) == 6 * DEPTHS[build.__name__] + 2


@pytest.mark.parametrize("side", [28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shortcut", ["identity", "projection", "bare_projection"])
def test_logits_have_one_number_per_class(shortcut, channels, side):
    net = resnet20(num_classes=7, in_channels=channels, image_size=side, shortcut=shortcut, width=4)
    assert net(torch.randn(2, channels, side, side)).shape == (2, 7)


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_identity_shortcut_subsamples_and_adds_channels_of_zeros(side, dtype):
    x = torch.randn(2, 3, side, side, dtype=dtype)
    y = SubsampledIdentity(4)(x)
    assert torch.equal(y[:, :3], x[:, :, ::2, ::2])
    assert y.shape[1] == 7
    assert not y[:, 3:].any()


def test_identity_shortcut_and_its_gradient_stay_channels_last():
    x = torch.randn(2, 4, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = SubsampledIdentity(4)(x)
    gradient = torch.autograd.grad(y.sum(), x)[0]  # x.grad would be brought to the layout of x
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_logits_are_those_of_the_paper_written_out_by_hand():
    torch.manual_seed(0)
    net = resnet20(**CIFAR10).eval()
    images = torch.randn(2, 3, 32, 32)
    x = net.bn1(net.conv1(images)).relu()
    for i in range(9):
        block = (net.layer1, net.layer2, net.layer3)[i // 3][i % 3]
        residual = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
        if i in (3, 6):  # the first blocks of the second and the third stage
            x = torch.cat([x[:, :, ::2, ::2], torch.zeros_like(x[:, :, ::2, ::2])], dim=1)
        x = (residual + x).relu()
    assert x.shape == (2, 64, 8, 8)
    torch.testing.assert_close(net(images), net.fc(x.mean((2, 3))), rtol=1e-5, atol=1e-5)


def test_projection_only_where_the_shape_changes():
    net = resnet32(**CIFAR10, shortcut="projection", width=4)
    projected = [name for name, module in net.named_modules() if name.endswith("downsample.0")]
    assert projected == ["layer2.0.downsample.0", "layer3.0.downsample.0"]


def test_initial_weights_have_the_papers_spread():
    torch.manual_seed(0)
    for module in resnet20(**CIFAR10).modules():
        if isinstance(module, nn.Conv2d):
            expected = sqrt(2 / (9 * module.out_channels))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.15)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    x = torch.randn(4, 3, 32, 32)
    net = resnet20(**CIFAR10, width=4, dropout=0.5)
    assert not torch.equal(net.train()(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize("shortcut", ["identity", "projection", "bare_projection"])
def test_backward_reaches_every_parameter(shortcut):
    torch.manual_seed(0)
    net = resnet20(**CIFAR10, width=8, shortcut=shortcut)
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_too_small_images_name_the_scaling_that_works():
    with pytest.raises(ConfigError) as caught:
        resnet20(num_classes=10, in_channels=1, image_size=2)
    assert (
        str(caught.value)
        == "resnet20 needs images of at least 3 px, these are 2 px. Use scaling.size=3 or more."
    )


@pytest.mark.parametrize(
    ("options", "valid"),
    [
        (
            {"shortcut": "x"},
            "shortcut=x is not an option. Use one of: identity, projection, bare_projection.",
        ),
        ({"conv_bias": "x"}, "conv_bias=x is not an option. Use one of: true, false."),
        ({"width": 0}, "width=0 is not an option. Use a whole number of at least 1."),
        ({"dropout": 1.5}, "dropout=1.5 is not an option. Use a number of at least 0 and below 1."),
    ],
)
def test_bad_options_list_the_valid_ones(options, valid):
    with pytest.raises(ConfigError) as caught:
        resnet20(**CIFAR10, **options)
    assert str(caught.value) == valid
