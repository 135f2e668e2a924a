"""Networks of torchvision and timm: any size and channels, weights from the cache, refusals, the list."""

import sys
from itertools import islice

import pytest
import torch
from torch import nn
from torchvision import models

from imgcls.errors import ConfigError, DataError
from imgcls.models import zoo
from imgcls.models.adapt import head
from imgcls.models.zoo import Shapes, catalogue, timm_net, torchvision_net

CIFAR10 = {"num_classes": 10, "in_channels": 3, "image_size": 32}
MNIST = {"num_classes": 10, "in_channels": 1, "image_size": 28}
SMALL = "mobilenet_v3_small"
SMALL_FILE = "mobilenet_v3_small-047dcff4.pth"
TIMM_SMALL = "test_resnet"


def forward(net: nn.Module, channels: int, side: int) -> torch.Tensor:
    """Logits of two images of noise."""
    with torch.no_grad():
        return net.eval()(torch.randn(2, channels, side, side))


@pytest.fixture
def offline(cache, monkeypatch):
    """The cache of timm's weights empty too; gives the folder of torch's."""
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache.parent))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def put_timm(folder, name: str) -> dict[str, torch.Tensor]:
    """Weights of a new network of timm's, where the Hugging Face hub keeps them."""
    import timm
    from safetensors.torch import save_file

    config = timm.get_pretrained_cfg(name)
    state, commit = timm.create_model(name).state_dict(), "0" * 40
    place = folder.parent / f"models--{config.hf_hub_id.replace('/', '--')}"
    for kind in (f"snapshots/{commit}", "refs"):
        (place / kind).mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    save_file(state, place / "snapshots" / commit / "model.safetensors")
    return state


@pytest.mark.parametrize(
    ("name", "side", "channels"),
    [
        ("resnet18", 28, 1),
        ("mobilenet_v3_small", 32, 3),
        ("shufflenet_v2_x0_5", 28, 3),
        ("squeezenet1_1", 32, 1),
        ("regnet_y_400mf", 32, 1),
        ("efficientnet_b0", 64, 3),
    ],
)
def test_torchvisions_networks_take_any_size_and_channels(name, side, channels):
    net = torchvision_net(num_classes=7, in_channels=channels, image_size=side, net=name)
    assert forward(net, channels, side).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "side", "channels"),
    [
        ("vit_b_16", 32, 1),
        ("vit_b_32", 224, 3),
        ("maxvit_t", 224, 1),
        ("swin_t", 28, 3),
        ("swin_v2_t", 64, 1),
        ("convnext_tiny", 32, 3),
        ("inception_v3", 75, 1),
        ("densenet121", 32, 3),
    ],
)
def test_large_networks_of_torchvision_too(name, side, channels):
    with Shapes():
        net = torchvision_net(num_classes=7, in_channels=channels, image_size=side, net=name)
    image = torch.empty(2, channels, side, side, device="meta")
    assert net.to("meta").eval()(image).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "side", "channels"),
    [
        ("test_resnet", 28, 1),
        ("mobilenetv3_small_050", 32, 3),
        ("convnext_atto", 64, 1),
        ("vit_tiny_patch16_224", 32, 1),
        ("mixer_s32_224", 64, 3),
    ],
)
def test_timms_networks_take_any_size_and_channels(name, side, channels):
    net = timm_net(num_classes=7, in_channels=channels, image_size=side, net=name)
    assert forward(net, channels, side).shape == (2, 7)


@pytest.mark.parametrize(
    ("build", "name"),
    [(torchvision_net, "shufflenet_v2_x0_5"), (torchvision_net, "squeezenet1_1"), (timm_net, "test_vit")],
)
def test_backward_reaches_every_parameter_and_saved_weights_load(build, name, tmp_path):
    torch.manual_seed(0)
    nets = [build(**CIFAR10, net=name) for _ in range(2)]
    nets[0](torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in nets[0].parameters())
    torch.save(nets[0].state_dict(), tmp_path / "net.pt")
    nets[1].load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(nets[0].eval()(x), nets[1].eval()(x))


def test_exported_networks_give_their_logits():
    x = torch.randn(2, 3, 32, 32)
    for net in (torchvision_net(**CIFAR10, net="squeezenet1_1"), timm_net(**CIFAR10, net="test_vit")):
        with torch.no_grad():
            torch.testing.assert_close(torch.export.export(net.eval(), (x,)).module()(x), net(x))


@pytest.mark.parametrize("name", zoo.HEADED)
def test_auxiliary_heads_are_left_out(name, recwarn):
    with Shapes():
        net = torchvision_net(num_classes=7, in_channels=3, image_size=96, net=name).to("meta")
    assert not any(part in key for key in net.state_dict() for part in ("aux", "Aux"))
    assert net.train()(torch.empty(2, 3, 96, 96, device="meta")).shape == (2, 7)
    assert not [w for w in recwarn if issubclass(w.category, FutureWarning)]


def test_grey_images_give_what_they_give_when_repeated_to_rgb():
    nets = []
    for channels in (1, 3):
        torch.manual_seed(0)
        nets.append(torchvision_net(num_classes=7, in_channels=channels, image_size=32).eval())
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(nets[0](x), nets[1](x.expand(-1, 3, -1, -1)))


def test_further_channels_repeat_the_weights_and_keep_their_sum():
    first = torchvision_net(num_classes=7, in_channels=5, image_size=32).conv1
    assert first.in_channels == 5 and first.weight.shape == (64, 5, 7, 7)
    assert torch.equal(first.weight[:, 3], first.weight[:, 0])


def test_options_go_to_the_builder():
    assert torchvision_net(**CIFAR10, net=SMALL, options={"dropout": 0.35}).classifier[2].p == 0.35
    assert timm_net(**CIFAR10, net=TIMM_SMALL, options={"drop_rate": 0.35}).drop_rate == 0.35


def test_pretrained_weights_come_from_the_cache_and_the_head_is_new(put):
    state = put(SMALL)
    net = torchvision_net(**CIFAR10, net=SMALL, pretrained=True)
    body = [key for key in state if not key.startswith("classifier.3")]
    assert all(torch.equal(net.state_dict()[key], state[key]) for key in body)
    assert head(net) is net.classifier[3] and head(net).weight.shape == (10, 1024)
    assert forward(net, 3, 32).shape == (2, 10)


def test_pretrained_weights_keep_their_head_for_as_many_classes(put):
    state = put(SMALL)
    net = torchvision_net(num_classes=1000, in_channels=3, image_size=32, net=SMALL, pretrained=True)
    assert all(torch.equal(net.state_dict()[key], state[key]) for key in state)


def test_pretrained_weights_are_summed_for_grey_images(put):
    state = put(SMALL)
    net = torchvision_net(**MNIST, net=SMALL, pretrained="IMAGENET1K_V1")
    assert torch.equal(net.features[0][0].weight, state["features.0.0.weight"].sum(1, keepdim=True))


def test_pretrained_googlenet_reads_rgb_and_has_no_heads(put):
    state = put("googlenet")
    net = torchvision_net(**CIFAR10, net="googlenet", pretrained=True)
    assert torch.equal(net.inception5b.branch1.conv.weight, state["inception5b.branch1.conv.weight"])
    assert not any("aux" in key for key in net.state_dict())
    with pytest.raises(ConfigError, match=r"^pretrained googlenet .* Use dataset\.channels=3"):
        torchvision_net(**MNIST, net="googlenet", pretrained=True)


def test_timms_pretrained_weights_come_from_the_cache_and_the_head_is_new(offline):
    state = put_timm(offline, TIMM_SMALL)
    net = timm_net(**MNIST, net=TIMM_SMALL, pretrained=True)
    body = [key for key in state if not key.startswith(("fc", "conv1.0"))]
    assert all(torch.equal(net.state_dict()[key], state[key]) for key in body)
    torch.testing.assert_close(net.conv1[0].weight, state["conv1.0.weight"].sum(1, keepdim=True))
    assert head(net) is net.get_classifier() and head(net).out_features == 10


def test_missing_weights_name_the_file_and_its_place(offline):
    with pytest.raises(DataError) as caught:
        torchvision_net(**CIFAR10, net=SMALL, pretrained=True)
    address = f"https://download.pytorch.org/models/{SMALL_FILE}"
    assert str(caught.value).endswith(f"Download {address} and put it at {offline / SMALL_FILE}.")
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)


def test_missing_weights_of_timm_name_the_hub_and_the_cache(offline):
    with pytest.raises(DataError) as caught:
        timm_net(**CIFAR10, net=TIMM_SMALL, pretrained=True)
    repository = "timm/test_resnet.r160_in1k"
    assert str(caught.value).endswith(
        f"run `hf download {repository} model.safetensors` and copy its folder "
        f"models--timm--test_resnet.r160_in1k to {offline.parent}."
    )
    assert caught.value.exit_code == 3 and "\n" not in str(caught.value)


def test_missing_weights_of_timm_without_a_hub_name_the_file(offline):
    with pytest.raises(DataError, match=r"Download https://\S+ and put it at \S+/checkpoints/\S+\.pth\.$"):
        timm_net(num_classes=10, in_channels=3, image_size=224, net="gcvit_xxtiny", pretrained=True)


def test_damaged_weights_are_named(offline):
    (offline / SMALL_FILE).write_bytes(b"PK\3\4 cut off")
    with pytest.raises(DataError, match=rf"cannot be loaded .* put it at {offline / SMALL_FILE}\.$"):
        torchvision_net(**CIFAR10, net=SMALL, pretrained=True)


def test_unknown_names_bring_the_nearest():
    with pytest.raises(ConfigError, match=r"not a classification network of torchvision\. .*convnext_tiny"):
        torchvision_net(**CIFAR10, net="convnext_tinny")
    with pytest.raises(ConfigError, match=r"network of timm\. Did you mean .*resnet18\.a1_in1k"):
        timm_net(**CIFAR10, net="resnet18.a1")
    with pytest.raises(ConfigError, match="in the documentation of torchvision and timm"):
        torchvision_net(**CIFAR10, net="zzz")
    with pytest.raises(ConfigError, match="not a classification network"):
        torchvision_net(**CIFAR10, net="fcn_resnet50")  # it segments


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"net": "alexnet"}, r"alexnet .* 32 px \(.*too small\)\. Use scaling\.size=63\."),
        ({"net": "vit_b_16", "image_size": 250}, r"vit_b_16 .* 250 px .* Use scaling\.size=224\."),
        ({"net": "vit_b_16", "pretrained": True}, r"vit_b_16 .* 32 px .* Use scaling\.size=224\."),
        ({"options": {"dropout": 0.1}}, r"resnet18 .* \(.*'dropout'\)\. Use other model\.options\."),
        ({"net": SMALL, "options": {"dropout": 2}}, r" Use other model\.options or scaling\.size=224\."),
        ({"pretrained": "V1"}, r"pretrained=V1 .* false, true, IMAGENET1K_V1, DEFAULT\."),
    ],
)
def test_sizes_and_options_that_do_not_work_are_refused(options, remedy):
    with Shapes(), pytest.raises(ConfigError, match=remedy):
        torchvision_net(**{**CIFAR10, **options})


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"net": "inception_v3"}, r"inception_v3 .* 32 px .* Use scaling\.size=299\."),
        ({"options": {"dropout": 0.1}}, r"resnet18 .* \(.*'dropout'\)\. Use other model\.options\."),
        ({"net": "coatnet_0_224", "pretrained": True}, r"no weights .* Use model\.pretrained=false\."),
        ({"pretrained": "V1"}, r"pretrained=V1 .* false, true\."),
    ],
)
def test_timms_refusals(options, remedy):
    with Shapes(), pytest.raises(ConfigError, match=remedy):
        timm_net(**{**CIFAR10, **options})


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"Run: pip install 'imgcls\[timm\]'\."):
        timm_net(**CIFAR10)
    assert {row.source for row in catalogue("resnet18")} == {"torchvision"}


def test_catalogue_counts_what_the_filter_leaves():
    rows = {(row.source, row.name): row for row in catalogue("resnet18")}
    assert rows["torchvision", "resnet18"] == ("torchvision", "resnet18", 11_689_512, 1_814_073_344, 224)
    assert rows["timm", "resnet18"][2:] == rows["torchvision", "resnet18"][2:]
    assert ("timm", "skresnet18") in rows and ("torchvision", "resnet34") not in rows


def test_catalogue_takes_patterns_and_counts_a_row_when_it_is_asked_for():
    assert [row.name for row in islice(catalogue("regnet_?_4*"), 2)] == ["regnet_x_400mf", "regnet_y_400mf"]
    assert next(catalogue("")).name == "alexnet"


@pytest.mark.slow
@pytest.mark.parametrize("name", models.list_models(module=models))
def test_every_network_of_torchvision_has_its_published_size_and_cost(name):
    row, published = next(catalogue(name)), models.get_model_weights(name).DEFAULT.meta
    assert row.name == name
    # Published of Inception with its auxiliary head, which the zoo leaves out
    auxiliary = 27_161_264 - 23_834_568 if name == "inception_v3" else 0
    assert row.parameters == published["num_params"] - auxiliary
    assert round(row.multiply_adds / 1e9, 3) == published["_ops"]
    with Shapes():
        net = torchvision_net(num_classes=7, in_channels=1, image_size=row.size, net=name).to("meta")
    assert net(torch.empty(2, 1, row.size, row.size, device="meta")).shape == (2, 7)
    assert head(net).weight.shape[0] == 7
