"""GoogLeNet against torchvision's, the paper and the counts of the reports; its heads in training."""

import pytest
import torch
import torchvision
from sizes import count
from torch import distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from imgcls.errors import ConfigError
from imgcls.models.googlenet import Outputs, googlenet

CIFAR10 = {"num_classes": 10, "in_channels": 3, "image_size": 32}
IMAGENET = {"num_classes": 1000, "in_channels": 3, "image_size": 224}


def shape_only(**options: object) -> nn.Module:
    """A network without memory for its weights: enough to count them."""
    with torch.device("meta"):
        return googlenet(**{**CIFAR10, **options})


def total(outputs: Outputs, labels: torch.Tensor) -> torch.Tensor:
    """The loss of training, as whoever trains any network adds it up."""
    logits, auxiliary = outputs
    return F.cross_entropy(logits, labels) + sum(w * F.cross_entropy(a, labels) for a, w in auxiliary)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 9_960_638),
        ({"batch_norm": False}, 10_334_030),
        ({"aux": False}, 5_610_154),
        ({"batch_norm": False, "num_classes": 1000}, 13_378_280),
        ({"num_classes": 1000}, 13_004_888),
        ({"num_classes": 1000, "aux": False}, 6_624_904),  # torchvision's published
        ({"in_channels": 1}, 9_960_638 - 2 * 64 * 49),
    ],
)
def test_parameter_counts(options, expected):
    assert count(shape_only(stem="imagenet", **options)) == expected


def test_torchvisions_weights_give_its_outputs_in_training():
    torch.manual_seed(0)
    other = torchvision.models.googlenet(weights=None, init_weights=True)
    ours, x = googlenet(**IMAGENET, dropout=0.2), torch.randn(2, 3, 64, 64)
    ours.load_state_dict(other.state_dict(), strict=True)
    with torch.no_grad():
        torch.manual_seed(1)
        logits, second, first = other(x)
        torch.manual_seed(1)
        out = ours(x)
    assert torch.equal(out.logits, logits)
    assert torch.equal(out.auxiliary[0][0], first) and torch.equal(out.auxiliary[1][0], second)


def test_without_batch_norm_it_is_the_papers():
    net = googlenet(**CIFAR10, batch_norm=False)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert sum(isinstance(m, nn.LocalResponseNorm) for m in net.modules()) == 2
    fives = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (5, 5)]
    assert len(fives) == 9  # one in each inception block


def test_without_batch_norm_the_signal_reaches_the_output():
    torch.manual_seed(0)
    net = googlenet(**CIFAR10, batch_norm=False).eval()
    with torch.no_grad():
        assert net(torch.randn(4, 3, 32, 32)).std(0).mean() > 0.01  # weights of 0.01 would give 1e-9


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (64, 1), (224, 3)])
def test_logits_have_one_number_per_class(side, channels, batch_norm):
    net = shape_only(num_classes=7, in_channels=channels, image_size=side, batch_norm=batch_norm)
    x = torch.empty(2, channels, side, side, device="meta")
    assert net.eval()(x).shape == (2, 7)
    logits, auxiliary = net.train()(x)
    assert [logits.shape, *(a.shape for a, _ in auxiliary)] == [(2, 7)] * 3


@pytest.mark.parametrize(("size", "side"), [(32, 32), (28, 28), (224, 28)])
def test_stem_sets_the_size_of_the_first_features(size, side):
    net, seen = shape_only(image_size=size), {}
    net.inception3a.register_forward_hook(lambda module, args, out: seen.update(shape=out.shape))
    net(torch.empty(2, 3, size, size, device="meta"))
    assert seen["shape"] == (2, 256, side, side)


@pytest.mark.parametrize(("stem", "smallest"), [("imagenet", 15), ("cifar", 2)])
def test_every_size_from_the_smallest_on_works(stem, smallest):
    net = shape_only(image_size=smallest, stem=stem)
    for size in range(smallest, smallest + 4):
        assert net(torch.empty(2, 3, size, size, device="meta")).logits.shape == (2, 10)
    with pytest.raises(RuntimeError):
        net(torch.empty(2, 3, smallest - 1, smallest - 1, device="meta"))


def test_heads_speak_in_training_only():
    torch.manual_seed(0)
    net, x = googlenet(**CIFAR10), torch.randn(2, 3, 32, 32)
    logits, auxiliary = net.train()(x)
    assert logits.shape == (2, 10)
    assert [(a.shape, weight) for a, weight in auxiliary] == [((2, 10), 0.3)] * 2
    assert isinstance(net.eval()(x), torch.Tensor)


def test_without_heads_training_gives_logits():
    out = googlenet(**CIFAR10, aux=False).train()(torch.randn(2, 3, 32, 32))
    assert isinstance(out, torch.Tensor) and out.shape == (2, 10)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_backward_reaches_every_parameter(batch_norm):
    torch.manual_seed(0)
    net = googlenet(**CIFAR10, batch_norm=batch_norm)
    total(net(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_compiled_network_is_one_graph_with_its_heads():
    net = googlenet(**CIFAR10)
    with torch.no_grad():
        out = torch.compile(net, backend="eager", fullgraph=True)(torch.randn(2, 3, 32, 32))
    assert [weight for _, weight in out.auxiliary] == [0.3, 0.3]


def test_heads_train_under_distributed_data_parallel(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        net = DistributedDataParallel(googlenet(**CIFAR10))
        total(net(torch.randn(2, 3, 32, 32)), torch.arange(2)).backward()
        assert all(p.grad is not None for p in net.parameters())
    finally:
        distributed.destroy_process_group()


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    x, net = torch.randn(4, 3, 32, 32), googlenet(**CIFAR10, aux=False)
    assert net.dropout.p == 0.4
    with torch.no_grad():
        assert not torch.equal(net.train()(x), net(x))
        assert torch.equal(net.eval()(x), net(x))


def test_too_small_images_name_the_scaling_that_works():
    with pytest.raises(ConfigError) as caught:
        shape_only(image_size=14, stem="imagenet")
    assert (
        str(caught.value)
        == "googlenet needs images of at least 15 px, these are 14 px. Use scaling.size=15 or more."
    )


@pytest.mark.parametrize(
    ("options", "valid"),
    [
        ({"stem": "foo"}, "stem=foo is not an option. Use one of: auto, imagenet, cifar."),
        ({"aux": "yes"}, "aux=yes is not an option. Use one of: true, false."),
        ({"batch_norm": None}, "batch_norm=null is not an option. Use one of: true, false."),
        ({"dropout": 1}, "dropout=1 is not an option. Use a number of at least 0 and below 1."),
    ],
)
def test_bad_options_list_the_valid_ones(options, valid):
    with pytest.raises(ConfigError) as caught:
        shape_only(**options)
    assert str(caught.value) == valid
