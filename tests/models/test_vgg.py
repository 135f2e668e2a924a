"""VGG: the published parameter counts and the paper's table."""

import logging

import pytest
import torch
from sizes import count
from torch import nn

from imgcls import build
from imgcls.data.datamodule import ImageData
from imgcls.data.sources import Images, Source
from imgcls.errors import ConfigError
from imgcls.models import vgg

BUILD = {name: getattr(vgg, name) for name in vgg.CONVOLUTIONS}
CIFAR10 = {"num_classes": 10, "in_channels": 3, "image_size": 32}
PAPER = {"batch_norm": False, "fc": [4096, 4096]}
SMALL = {"width": 4, "fc": [16, 16]}


def shape_only(name: str, **options: object) -> nn.Module:
    """A network without memory for its weights: enough to count them."""
    with torch.device("meta"):
        return BUILD[name](**{**CIFAR10, **options})


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    """All of them, in order."""
    return [module for module in net.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize(
    ("name", "plain", "normed"),
    [
        ("vgg11", 132_863_336, 132_868_840),
        ("vgg13", 133_047_848, 133_053_736),
        ("vgg16", 138_357_544, 138_365_992),
        ("vgg19", 143_667_240, 143_678_248),
    ],
)
@pytest.mark.parametrize("head", ["flatten", "adaptive"])
def test_published_parameter_counts(name, plain, normed, head):
    imagenet = {"num_classes": 1000, "image_size": 224, "head": head, "fc": [4096, 4096]}
    assert count(shape_only(name, **imagenet, batch_norm=False)) == plain
    assert count(shape_only(name, **imagenet)) == normed


@pytest.mark.parametrize(
    ("name", "channels", "size", "options", "expected"),
    [
        ("vgg11", 3, 224, {}, 128_807_306),
        ("vgg11", 3, 32, {}, 28_144_010),
        ("vgg11", 1, 28, {"ceil_pools": True}, 28_142_858),  # last map 1x1
        ("vgg11", 1, 84, {"ceil_pools": False}, 34_434_314),  # 2x2
        ("vgg11", 1, 84, {"ceil_pools": True}, 44_920_074),  # 3x3
        ("vgg16", 3, 32, {}, 33_638_218),
        ("vgg16", 3, 224, {}, 134_301_514),
        ("vgg16", 3, 224, {"fc": [512], "head": "average"}, 14_982_474),
        ("vgg19", 3, 224, {}, 139_611_210),
        ("vgg19", 3, 224, {"batch_norm": True}, 139_622_218),
    ],
)
def test_parameter_counts_of_ten_classes(name, channels, size, options, expected):
    net = shape_only(name, in_channels=channels, image_size=size, **{**PAPER, **options})
    assert count(net) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dataset=mnist", 28_142_858),  # last map 1x1
        ("dataset=mnist scaling=x3", 34_434_314),  # 2x2
        ("dataset=mnist scaling=x3 model.ceil_pools=true", 44_920_074),  # 3x3
        ("dataset=cifar10", 28_144_010),
        ("dataset=cifar10 scaling=x2", 34_435_466),
        ("dataset=cifar10 scaling=x3", 44_921_226),
        ("dataset=cifar10 scaling=x4", 59_601_290),
        ("dataset=cifar10 scaling=x5", 78_475_658),
        ("dataset=cifar10 scaling=to224", 128_807_306),
    ],
)
def test_scaling_widens_the_first_dense_layer_of_vgg_a(words, expected, compose):
    config = compose("model=vgg11", "model.batch_norm=false", "model.fc=[4096,4096]", *words.split())
    shape = (28, 28, 1) if "mnist" in words else (32, 32, 3)
    few = Images(torch.randint(256, (4, *shape), dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    images = ImageData(Source("few", "Few", tuple("0123456789"), few, few), batch_size=2, val_fraction=0)
    assert count(build.classifier(config, images).network) == expected


def test_convolutions_of_the_plain_vgg16_have_14_7_million_parameters():
    assert count(shape_only("vgg16", batch_norm=False).features) == 14_714_688


@pytest.mark.parametrize("name", BUILD)
def test_depth_is_the_number_of_layers_with_weights(name):
    net = shape_only(name)
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == int(name.removeprefix("vgg")) == sum(vgg.CONVOLUTIONS[name]) + 3


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [28, 32, 64, 224])
def test_logits_have_one_number_per_class(name, channels, side):
    net = BUILD[name](num_classes=7, in_channels=channels, image_size=side, **SMALL).eval()
    assert net(torch.randn(2, channels, side, side)).shape == (2, 7)


@pytest.mark.parametrize("ceil_pools", [None, True])
@pytest.mark.parametrize("head", vgg.HEADS)
def test_every_size_works(head, ceil_pools):
    for side in range(1, 68):
        images = {"num_classes": 2, "in_channels": 1, "image_size": side}
        net = vgg.vgg7(**images, head=head, width=1, fc=[], ceil_pools=ceil_pools).eval()
        assert net(torch.randn(1, 1, side, side)).shape == (1, 2)


@pytest.mark.parametrize(
    ("head", "size", "side"),
    [("flatten", 32, 1), ("flatten", 64, 2), ("flatten", 224, 7), ("adaptive", 32, 7), ("average", 224, 1)],
)
def test_head_sets_what_the_dense_layers_see(head, size, side):
    net = shape_only("vgg16", image_size=size, head=head)
    assert net.avgpool(net.features(torch.empty(2, 3, size, size, device="meta"))).shape[1:] == (
        512,
        side,
        side,
    )
    assert net.classifier[0].in_features == 512 * side * side


def test_pools_that_round_up_keep_28_px_alive(caplog):
    caplog.set_level(logging.INFO, logger=vgg.__name__)
    x, sides = torch.empty(2, 1, 28, 28, device="meta"), []
    for layer in shape_only("vgg16", in_channels=1, image_size=28).features:
        x = layer(x)
        if isinstance(layer, nn.MaxPool2d):
            sides.append(x.shape[-1])
    assert sides == [14, 7, 4, 2, 1]
    assert caplog.messages == ["ceil_pools: true, because 5 pools that round down leave nothing of 28 px"]


@pytest.mark.parametrize(("name", "size"), [("vgg7", 28), ("vgg9", 28), ("vgg16", 32), ("vgg16", 84)])
def test_pools_round_down_where_that_leaves_something(name, size, caplog):
    caplog.set_level(logging.INFO)
    net = shape_only(name, image_size=size)
    assert not any(module.ceil_mode for module in net.modules() if isinstance(module, nn.MaxPool2d))
    assert not caplog.messages


def test_pools_that_leave_nothing_are_refused_with_two_ways_out():
    with pytest.raises(ConfigError) as caught:
        shape_only("vgg16", image_size=28, ceil_pools=False)
    assert str(caught.value) == (
        "vgg16: 5 pools that round down leave nothing of 28 px. Use model.ceil_pools=true, or scaling=to32."
    )


def test_both_roundings_agree_where_sides_stay_even():
    torch.manual_seed(0)
    nets = [vgg.vgg11(**CIFAR10, **SMALL, ceil_pools=up).eval() for up in (False, True)]
    nets[1].load_state_dict(nets[0].state_dict())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(nets[0](x), nets[1](x))


@pytest.mark.parametrize("name", BUILD)
def test_width_scales_every_stage(name):
    narrow, wide = (convolutions(shape_only(name, width=width)) for width in (16, 64))
    assert [layer.out_channels for layer in (narrow[0], narrow[-1])] == [16, 128]
    assert [layer.out_channels for layer in (wide[0], wide[-1])] == [64, 512]


def test_only_the_first_kernel_may_be_larger():
    first, *others = convolutions(shape_only("vgg7", kernel=5))
    assert (first.kernel_size, first.padding) == ((5, 5), (2, 2))
    assert all((layer.kernel_size, layer.padding) == ((3, 3), (1, 1)) for layer in others)


def test_dense_layers_and_their_dropout():
    layers = shape_only("vgg11", fc=[300, 200], dropout=0.25).classifier
    assert [type(layer).__name__ for layer in layers] == ["Linear", "ReLU", "Dropout"] * 2 + ["Linear"]
    assert [layer.out_features for layer in layers if isinstance(layer, nn.Linear)] == [300, 200, 10]
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.25, 0.25]
    assert len(shape_only("vgg11", fc=[]).classifier) == 1


def test_penalty_is_of_the_hidden_dense_weights_only():
    net = vgg.vgg7(**CIFAR10, width=2, fc=[5, 4], fc_l2=0.5)
    hidden = [net.classifier[0].weight, net.classifier[3].weight]
    penalty = net.penalty()
    assert penalty.item() == pytest.approx(0.5 * sum(w.square().sum().item() for w in hidden))
    penalty.backward()
    assert {name for name, p in net.named_parameters() if p.grad is not None} == {
        "classifier.0.weight",
        "classifier.3.weight",
    }
    torch.testing.assert_close(hidden[0].grad, hidden[0].detach())  # 2 * 0.5 * w


@pytest.mark.parametrize("options", [{}, {"fc": [], "fc_l2": 0.5}])
def test_penalty_is_zero_unless_asked_for(options):
    penalty = vgg.vgg7(**CIFAR10, width=2, **options).penalty()
    assert penalty.shape == () and penalty == 0 and not penalty.requires_grad


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    x, net = torch.randn(4, 3, 32, 32), vgg.vgg7(**CIFAR10, **SMALL, batch_norm=False)
    assert not torch.equal(net.train()(x), net(x))
    assert torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_backward_reaches_every_parameter(name, batch_norm):
    torch.manual_seed(0)
    net = BUILD[name](**CIFAR10, width=8, fc=[64, 64], batch_norm=batch_norm)
    net(torch.randn(8, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize(
    ("options", "valid"),
    [
        ({"batch_norm": "yes"}, "batch_norm=yes is not an option. Use one of: true, false."),
        ({"width": 0}, "width=0 is not an option. Use a whole number of at least 1."),
        ({"kernel": 7}, "kernel=7 is not an option. Use one of: 3, 5."),
        ({"fc": 512}, "fc=512 is not an option. Use a list of whole numbers, as [64,128]."),
        ({"fc": [512, 0]}, "fc=0 is not an option. Use a whole number of at least 1."),
        ({"dropout": 1.0}, "dropout=1.0 is not an option. Use a number of at least 0 and below 1."),
        ({"fc_l2": -1}, "fc_l2=-1 is not an option. Use a number of at least 0."),
        ({"fc_l2": float("nan")}, "fc_l2=nan is not an option. Use a number of at least 0."),
        ({"head": "max"}, "head=max is not an option. Use one of: null, flatten, adaptive, average."),
        ({"ceil_pools": "up"}, "ceil_pools=up is not an option. Use one of: null, true, false."),
    ],
)
def test_bad_options_list_the_valid_ones(options, valid):
    with pytest.raises(ConfigError) as caught:
        shape_only("vgg11", **options)
    assert str(caught.value) == valid
