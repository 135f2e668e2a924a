"""Pretrained weights in our own networks: fitted, refused, missing; not read where a checkpoint follows."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from imgcls import build
from imgcls.__main__ import register_resolvers
from imgcls.checkpoints.contents import Contents
from imgcls.cli import command
from imgcls.errors import ConfigError, DataError
from imgcls.models import alexnet, densenet, googlenet, resnet, vgg
from imgcls.models.adapt import head, without_weights
from imgcls.models.freeze import freeze

Put = Callable[..., dict[str, torch.Tensor]]
CIFAR10 = {"num_classes": 10, "in_channels": 3, "image_size": 32}


def check(*words: str) -> tuple[dict[str, Any], list[str]]:
    register_resolvers()
    return command.check(words)


def network(words: str) -> torch.nn.Module:
    """The form of a configuration's network, for CIFAR-10 and without memory."""
    config, problems = check(*words.split(), "model.pretrained=true")
    assert problems == []
    with torch.device("meta"), without_weights():
        return build.call(config["model"], **CIFAR10)


def test_the_last_layer_is_new_and_follows_the_seed(put: Put) -> None:
    state, states = put("resnet18"), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(resnet.resnet18(**CIFAR10, pretrained=True).state_dict())
    body = [key for key in state if not key.startswith("fc.")]
    assert all(torch.equal(states[0][key], state[key]) for key in body)
    assert states[0]["fc.weight"].shape == (10, 512)
    assert torch.equal(states[0]["fc.weight"], states[1]["fc.weight"])
    assert not torch.equal(states[0]["fc.weight"], states[2]["fc.weight"])


def test_grey_images_give_what_they_give_when_repeated_to_rgb(put: Put) -> None:
    put("densenet121")
    nets = []
    for channels in (1, 3):
        torch.manual_seed(0)
        images = {"num_classes": 1000, "in_channels": channels, "image_size": 32}
        nets.append(densenet.densenet121(**images, pretrained=True).eval())
    x = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(nets[0](x), nets[1](x.expand(-1, 3, -1, -1)))


def test_weights_go_by_name(put: Put) -> None:
    state = put("resnet50", "IMAGENET1K_V1")  # the default are others
    net = resnet.resnet50(**CIFAR10, pretrained="IMAGENET1K_V1")
    assert torch.equal(net.state_dict()["conv1.weight"], state["conv1.weight"])


def test_auxiliary_heads_are_new(put: Put) -> None:
    state = put("googlenet")
    net = googlenet.googlenet(**CIFAR10, pretrained=True)
    assert torch.equal(
        net.state_dict()["inception5b.branch1.conv.weight"], state["inception5b.branch1.conv.weight"]
    )
    assert not torch.equal(net.state_dict()["aux1.conv.conv.weight"], state["aux1.conv.conv.weight"])
    with torch.no_grad():
        assert len(net.train()(torch.randn(2, 3, 32, 32)).auxiliary) == 2


@pytest.mark.parametrize(
    ("name", "trainable"),
    [("vgg16", 40_970), ("vgg19", 40_970), ("resnet18", 5_130), ("resnet34", 5_130), ("resnet50", 20_490)],
)
def test_frozen_backbones_train_ten_classes_of_the_last_layer(name: str, trainable: int) -> None:
    net = network(f"model={name} freeze=backbone dataset=cifar10 scaling=to224 dataset.normalize=imagenet")
    freeze(net, "backbone")
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == trainable
    assert all(p.requires_grad for p in head(net).parameters())


def test_what_is_left_open_takes_the_form_of_the_weights(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="imgcls.models")
    assert network("model=resnet18").conv1.kernel_size == (7, 7)
    assert caplog.messages == ["stem: imagenet (7x7, stride 2), because pretrained weights are"]
    assert [m.out_features for m in network("model=vgg11").classifier[::3]] == [4096, 4096, 10]
    with torch.device("meta"), without_weights():
        net = alexnet.alexnet(**CIFAR10 | {"image_size": 63}, pretrained=True)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())


@pytest.mark.parametrize(
    ("words", "key", "use"),
    [
        ("model=resnet18 model.width=32", "width=32", "width=64"),
        ("model=resnet18 model.se=true", "se=true", "se=false"),
        ("model=resnet50 model.stem=cifar", "stem=cifar", "stem=imagenet"),
        ("model=resnet34 model.stem_pool=false", "stem_pool=false", "stem_pool=true"),
        ("model=vgg16 model.kernel=5", "kernel=5", "kernel=3"),
        ("model=vgg16 model.fc=[512,512]", "fc=[512,512]", "fc=[4096,4096]"),
        ("model=vgg16 model.head=flatten", "head=flatten", "head=adaptive"),
        ("model=googlenet model.batch_norm=false", "batch_norm=false", "batch_norm=true"),
        ("model=densenet121 model.growth_rate=12", "growth_rate=12", "growth_rate=32"),
        ("model=alexnet model.batch_norm=true", "batch_norm=true", "batch_norm=false"),
    ],
)
def test_what_cannot_carry_the_weights_is_refused_in_one_line(words: str, key: str, use: str) -> None:
    """Before anything is done; and where a network is built without a command."""
    line = f"model.{key} does not fit pretrained weights. Use model.{use}, or model.pretrained=false."
    config, problems = check(*words.split(), "model.pretrained=true")
    assert problems == [line]
    with torch.device("meta"), pytest.raises(ConfigError) as caught:
        build.call(config["model"], **CIFAR10)
    assert str(caught.value) == line


def test_a_setting_that_fits_may_be_typed() -> None:
    words = "model.fc=[4096,4096] model.head=adaptive model.width=64 model.kernel=3"
    assert check("model=vgg13", *words.split(), "model.pretrained=true")[1] == []


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("vgg16", "V1", "false, true, IMAGENET1K_V1, DEFAULT"),
        ("vgg16", "IMAGENET1K_FEATURES", "false, true, IMAGENET1K_V1, DEFAULT"),  # it has no last layer
        ("vgg7", "true", "false"),
    ],
)
def test_unknown_weights_name_the_known(name: str, value: str, known: str) -> None:
    options = {"batch_norm": False, "pretrained": value == "true" or value}
    with torch.device("meta"), pytest.raises(ConfigError) as caught:
        getattr(vgg, name)(**CIFAR10, **options)
    assert str(caught.value) == f"pretrained={value} is not an option. Use one of: {known}."


def test_missing_weights_name_their_address_and_place(cache: Path) -> None:
    with pytest.raises(DataError) as caught:
        resnet.resnet18(**CIFAR10, pretrained=True)
    address = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    remedy = f"Download {address} and put it at {cache / 'resnet18-f37072fd.pth'}."
    assert str(caught.value).startswith("the weights of resnet18 cannot be loaded (")
    assert str(caught.value).endswith(remedy)
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(cache: Path, put: Put) -> None:
    put("resnet18")
    (cache / "resnet18-f37072fd.pth").rename(cache / "densenet121-a639ec97.pth")
    with pytest.raises(DataError, match=r"^the weights of densenet121 cannot be loaded .* put it at "):
        densenet.densenet121(**CIFAR10, pretrained=True)


@pytest.mark.parametrize("words", ["model=googlenet", "model=torchvision model.net=googlenet"])
def test_a_finished_run_does_not_need_the_weights_again(words: str, cache: Path, put: Put) -> None:
    put("googlenet")
    small = "dataset.limit=20 batch_size=10 dataset.channels=3 scaling=x4 trainer=cpu"
    config, problems = check(*words.split(), *small.split(), "model.pretrained=true")
    assert problems == []
    images = build.data(config)
    made = build.classifier(config, images).eval()
    made.trainer = build.trainer(config)
    checkpoint: dict[str, Any] = {"state_dict": made.state_dict(), "imgcls": {}}
    Contents().on_save_checkpoint(made.trainer, made, checkpoint)
    for file in cache.iterdir():
        file.unlink()
    again = build.restored(config, checkpoint).eval()
    x = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again(x), made(x))
