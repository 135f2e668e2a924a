"""The hardest images of each batch: a small network chooses them, and learns from every fourth batch."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from imgcls import build
from imgcls.__main__ import register_resolvers
from imgcls.cli import command
from imgcls.models.airbench import proxy
from imgcls.optim.hardest import EVERY, Hardest

IMAGES = torch.randn(16, 3, 12, 12, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(16) % 10


def chooser(share: float = 0.5, batch_size: int = 16) -> Hardest:
    torch.manual_seed(0)
    return Hardest(
        share,
        proxy(num_classes=10, in_channels=3, image_size=12),
        batch_size,
        lambda step: 1.0 - step / 100,
        0.2,
    )


def smooth_losses(network: nn.Module) -> torch.Tensor:
    return F.cross_entropy(network(IMAGES), LABELS, label_smoothing=0.2, reduction="none")


def test_the_small_network_is_that_of_airbench96_faster() -> None:
    network = proxy(num_classes=10, in_channels=3, image_size=32)
    # Patches, three blocks of two convolutions and their norms, the last layer
    assert sum(p.numel() for p in network.parameters()) == 146_744
    assert network.scale.factor == 1 / 9


def test_those_with_the_highest_loss_are_chosen_in_their_order() -> None:
    found = chooser()
    losses = smooth_losses(copy.deepcopy(found.proxy))
    rows = found.rows(IMAGES, LABELS, 1)
    assert len(rows) == 8 and rows.tolist() == sorted(rows.tolist())
    rest = sorted({*range(16)} - {*rows.tolist()})
    assert losses[rows].min() > losses[rest].max()


@pytest.mark.parametrize(("share", "size", "count"), [(0.5, 5, 3), (0.1, 16, 2), (0.1, 1, 1), (0.25, 16, 4)])
def test_how_many(share: float, size: int, count: int) -> None:
    chosen = chooser(share)
    chosen.proxy.eval()
    assert len(chosen.rows(IMAGES[:size], LABELS[:size], 1)) == count


def test_it_learns_from_what_it_chooses_in_every_fourth_batch() -> None:
    """By hand: SGD with Nesterov momentum on the sum of the chosen losses, at the published rates."""
    found = chooser()
    by_hand = copy.deepcopy(found.proxy)
    lr = 9.0 / 1024 / (1 + 1 / 0.15)
    decay = 0.012 * 16 / 1024 / (1 + 1 / 0.15)  # what a step takes of a weight, whatever its rate
    groups = [
        {"params": [p], "lr": lr * times, "weight_decay": decay / (lr * times)}
        for p in by_hand.parameters()
        if p.requires_grad
        for times in [64 if p.ndim == 1 else 1]
    ]
    sgd = torch.optim.SGD(groups, momentum=0.85, nesterov=True)
    base = [group["lr"] for group in sgd.param_groups]
    for step in range(EVERY + 1):
        before = [p.clone() for p in found.proxy.parameters()]
        found.rows(IMAGES, LABELS, step)
        after = list(found.proxy.parameters())
        assert all(map(torch.equal, before, after)) == bool(step % EVERY)
        losses = smooth_losses(by_hand)
        if step % EVERY == 0:
            sgd.zero_grad()
            losses.sort().values[8:].sum().backward()
            for group, rate in zip(sgd.param_groups, base, strict=True):
                group["lr"] = rate * (1 - step / 100)
            sgd.step()
    for ours, theirs in zip(found.proxy.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_network_trains_on_the_share() -> None:
    """90 images in batches of 16: half of each reaches the network, and the training scores."""
    register_resolvers()
    words = [
        "model=resnet20",
        "model.width=4",
        "scaling=x2",
        "dataset.limit=100",
        "batch_size=16",
        "epochs=2",
        "hardest=0.5",
    ]
    config, problems = command.check([*words, "progress=none", "trainer=cpu", "trainer.threads=1"])
    assert not problems
    images = build.data(config)
    classifier, trainer = build.classifier(config, images), build.trainer(config)
    sizes: list[int] = []
    classifier.network.register_forward_pre_hook(
        lambda network, x: sizes.append(len(x[0])) if network.training else None
    )
    before = copy.deepcopy(classifier.hardest.proxy)  # type: ignore[union-attr]
    trainer.fit(classifier, datamodule=images)
    assert sizes == [8, 8, 8, 8, 8, 5] * 2
    after = classifier.hardest.proxy  # type: ignore[union-attr]
    moved = [
        name
        for (name, a), b in zip(before.named_parameters(), after.parameters(), strict=True)
        if not a.equal(b)
    ]
    assert "whiten.weight" not in moved and {"whiten.bias", "head.weight", "block3.conv2.weight"} <= {*moved}


CACHED = [
    "model=resnet18",
    "model.pretrained=true",
    "freeze=backbone",
    "features=cached",
    "augmentation=none",
]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trainer=cpu", "trainer.devices=2"], "hardest=0.5 uses one device. Use trainer.devices=1."),
        (CACHED, "hardest=0.5 looks at images, not at features=cached. Use features=live."),
        (["model=convnet"], ""),
    ],
)
def test_what_it_cannot_go_with(words: list[str], line: str) -> None:
    register_resolvers()
    assert "".join(command.check(["hardest=0.5", *words])[1]) == line
