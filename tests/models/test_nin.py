"""Network in Network: counts, layers and what its options do."""

import pytest
import torch
from sizes import count
from torch import nn

from imgcls.errors import ConfigError
from imgcls.models.nin import nin

MNIST = {"num_classes": 10, "in_channels": 1, "image_size": 28}
CIFAR10 = {"num_classes": 10, "in_channels": 3, "image_size": 32}
SMALL = {"widths": [4, 8, 16]}


@pytest.mark.parametrize(("images", "expected"), [(MNIST, 377_226), (CIFAR10, 380_426)])
def test_parameter_counts(images, expected):
    norms = 2 * (3 * 64 + 3 * 128 + 2 * 192)  # a scale and a shift per channel
    with torch.device("meta"):
        assert count(nin(**images, batch_norm=False)) == expected
        assert count(nin(**images)) == expected + norms


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [4, 28, 32, 64, 224])
def test_logits_have_one_number_per_class(side, channels, batch_norm):
    net = nin(num_classes=7, in_channels=channels, image_size=side, batch_norm=batch_norm, **SMALL)
    assert net(torch.randn(2, channels, side, side)).shape == (2, 7)


@pytest.mark.parametrize(("images", "sides"), [(MNIST, [28, 14, 7]), (CIFAR10, [32, 16, 8])])
def test_only_pools_change_the_size(images, sides):
    with torch.device("meta"):
        net, x = nin(**images), torch.empty(2, images["in_channels"], *[images["image_size"]] * 2)
    seen = {}
    for name, layer in net.named_children():
        x = seen[name] = layer(x)
    assert [seen[name].shape[-1] for name in ("block1", "block2", "classes")] == sides
    assert [seen[name].shape[1] for name in ("block1", "block2", "classes")] == [64, 128, 10]


def test_logits_are_the_means_of_the_class_maps_and_may_be_negative():
    torch.manual_seed(0)
    net, x = nin(**CIFAR10, **SMALL).eval(), torch.randn(8, 3, 32, 32)
    maps = net.classes(net.pool2(net.block2(net.pool1(net.block1(x)))))
    assert maps.shape == (8, 10, 8, 8) and maps.min() < 0
    torch.testing.assert_close(net(x), maps.mean((2, 3)))


def test_any_number_of_blocks():
    for blocks in range(1, 5):
        net = nin(**CIFAR10, widths=[4] * blocks, kernels=[3] * blocks)
        assert sum(isinstance(module, nn.Conv2d) for module in net.modules()) == 3 * blocks
        assert net(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_kernels_are_of_each_blocks_first_convolution():
    net = nin(**CIFAR10, **SMALL, kernels=[7, 5, 1])
    kernels = [module.kernel_size[0] for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert kernels == [7, 1, 1, 5, 1, 1, 1, 1, 1]


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    net, x = nin(**CIFAR10, **SMALL, batch_norm=False, dropout=0.7), torch.randn(4, 3, 32, 32)
    assert not torch.equal(net.train()(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_backward_reaches_every_parameter(batch_norm):
    torch.manual_seed(0)
    net = nin(**CIFAR10, widths=[8, 16, 32], batch_norm=batch_norm)
    net(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_too_small_images_name_the_scaling_that_works():
    with pytest.raises(ConfigError) as caught:
        nin(num_classes=10, in_channels=1, image_size=3)
    expected = "nin needs images of at least 4 px, these are 3 px. Use scaling.size=4 or more."
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("options", "valid"),
    [
        ({"dropout": 1.5}, "dropout=1.5 is not an option. Use a number of at least 0 and below 1."),
        ({"widths": 64}, "widths=64 is not an option. Use a list of whole numbers, as [64,128]."),
        ({"widths": [64, 128, 0]}, "widths=0 is not an option. Use a whole number of at least 1."),
        ({"kernels": [4, 3, 3]}, "kernels=4 is not an option. Use one of: 1, 3, 5, 7, 9, 11."),
        (
            {"kernels": [5, 3]},
            "widths=[64, 128, 192] and kernels=[5, 3] do not match. Give every block one of each.",
        ),
        (
            {"widths": [], "kernels": []},
            "widths=[] and kernels=[] do not match. Give every block one of each.",
        ),
        ({"batch_norm": "yes"}, "batch_norm=yes is not an option. Use one of: true, false."),
    ],
)
def test_bad_options_list_the_valid_ones(options, valid):
    with pytest.raises(ConfigError) as caught:
        nin(**CIFAR10, **options)
    assert str(caught.value) == valid
