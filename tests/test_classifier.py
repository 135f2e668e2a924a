"""Training does what a plain loop in PyTorch would: losses, rates, parts of batches, clipping, averages."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import MixedPrecision
from same import differences
from torch import nn
from torch.nn import functional as F

from imgcls import build, keys
from imgcls.__main__ import register_resolvers
from imgcls.classifier import Classifier
from imgcls.cli import command
from imgcls.data.datamodule import ImageData
from imgcls.errors import DivergedError
from imgcls.optim import schedules

# No batch norm: 90 images of 8 px, enlarged to 24, in 6 steps an epoch, of which the last has 10 images.
BASE = [
    *("model=convnet", "scaling=x3", "augmentation=none", "optimizer.lr=0.02", "epochs=2"),
    *("dataset.limit=100", "batch_size=16", "progress=none"),
    *("trainer=cpu", "trainer.threads=1", "trainer.precision=32-true"),
]
STEPS, LAST, EPOCHS = 6, 10, 2


def config_of(*more: str) -> dict[str, Any]:
    register_resolvers()
    config, problems = command.check([*BASE, *more])
    assert not problems, problems
    return config


def fit(config: dict[str, Any], *watch: Callback, change: Callable[[Trainer], None] | None = None) -> Any:
    """A trained classifier, with the trainer that did it."""
    images = build.data(config)
    classifier, trainer = build.classifier(config, images), build.trainer(config)
    trainer.callbacks += watch  # type: ignore[attr-defined]
    if change:
        change(trainer)
    trainer.fit(classifier, datamodule=images)
    return classifier


def vector(network: nn.Module) -> torch.Tensor:
    """All weights, in double precision."""
    return torch.cat([p.detach().flatten() for p in network.parameters()]).double()


def weights(classifier: Classifier) -> torch.Tensor:
    return vector(classifier.network)


def pixels(config: dict[str, Any], images: ImageData, which: str) -> tuple[torch.Tensor, torch.Tensor]:
    """All images of a part as the network should see them, worked out with numpy, and their labels."""
    train = images.source.train.pixels.numpy()[images.train_rows.numpy()] / 255
    part = images.source.test if which == "test" else images.source.train
    x = (part.pixels.numpy() / 255 - train.mean()) / train.std()
    x = x.repeat(config["scaling"]["factor"], 1).repeat(config["scaling"]["factor"], 2)
    return torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2), part.labels


class Plain:
    """The same training, by hand."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.images = images = build.data(config)
        self.network = build.classifier(config, images).network.train()
        self.x, self.y = pixels(config, images, "train")
        self.history: list[dict[str, float]] = []
        options = config["optimizer"]
        matrices = [p for p in self.network.parameters() if p.ndim > 1]
        vectors = [p for p in self.network.parameters() if p.ndim == 1]
        groups = [{"params": matrices, "weight_decay": options["weight_decay"]}, {"params": vectors}]
        self.optimizer = torch.optim.SGD(groups, options["lr"], momentum=0.9, nesterov=True)
        factor = schedules.factor(config["schedule"], EPOCHS * STEPS)
        assert factor
        for epoch in range(EPOCHS):
            order = torch.randperm(90, generator=keys.generator(config["seed"], "order", epoch))
            self.epoch(images.train_rows[order], options["lr"], factor, epoch)

    def epoch(self, order: torch.Tensor, lr: float, factor: Callable[[int], float], epoch: int) -> None:
        """One pass, with its scores taken before each step, and those of the hold-out after it."""
        losses, right = 0.0, 0
        for step in range(STEPS):
            rows = order[16 * step : 16 * step + 16]
            for group in self.optimizer.param_groups:
                group["lr"] = lr * factor(STEPS * epoch + step)
            logits = self.network(self.x[rows])
            loss = F.cross_entropy(logits, self.y[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses += loss.item() * len(rows)
            right += int((logits.argmax(1) == self.y[rows]).sum())
        held, labels = self.x[self.images.val_rows], self.y[self.images.val_rows]
        with torch.no_grad():
            said = self.network.eval()(held)
        self.network.train()
        self.history.append(
            {
                "train/loss": losses / 90,
                "train/acc": right / 90,
                "val/loss": float(F.cross_entropy(said, labels)),
                "val/acc": float((said.argmax(1) == labels).double().mean()),
            }
        )


class Epochs(Callback):
    """Keeps each epoch's scores."""

    def __init__(self) -> None:
        self.found: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: Trainer, module: Any) -> None:
        self.found += [dict(module.epoch)] if trainer.current_epoch else []

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        self.found.append(dict(module.epoch))


class Steps(Callback):
    """Keeps the rate and the gradients with which the optimizer takes each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.gradients: list[torch.Tensor] = []

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        trainer.optimizers[0].register_step_pre_hook(self.note)

    def note(self, optimizer: torch.optim.Optimizer, *args: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.gradients.append(torch.cat([p.grad.flatten() for p in parameters]).clone())
        self.rates.append(optimizer.param_groups[0]["lr"])

    @property
    def norms(self) -> list[float]:
        return [float(g.norm()) for g in self.gradients]


def test_training_is_a_plain_loop_in_pytorch() -> None:
    """The weights, and the losses and accuracies of both epochs on both parts, recomputed by hand."""
    config, epochs = config_of(), Epochs()
    ours, plain = fit(config, epochs), Plain(config)
    assert (weights(ours) - vector(plain.network)).abs().max() < 1e-5
    assert (weights(ours) - weights(build.classifier(config, plain.images))).abs().max() > 0.01
    assert len(epochs.found) == EPOCHS
    for found, expected in zip(epochs.found, plain.history, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


def test_a_test_scores_every_image_once() -> None:
    config = config_of()
    images = build.data(config)
    classifier, trainer = build.classifier(config, images), build.trainer(config)
    trainer.test(classifier, datamodule=images, verbose=False)
    x, y = pixels(config, images, "test")
    with torch.no_grad():
        said = classifier.network(x[images.test_rows])
    full = classifier.scores.full()
    assert full["n"] == 100
    assert full["acc"] == float((said.argmax(1) == y[images.test_rows]).double().mean())
    assert full["loss"] == pytest.approx(float(F.cross_entropy(said, y[images.test_rows])), abs=1e-6)
    assert np.array_equal(classifier.scores.kept()["labels"], y[images.test_rows].numpy())


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "step", "constant"])
def test_the_rate_follows_the_schedule_at_every_step(schedule: str) -> None:
    config, steps = config_of(f"schedule={schedule}"), Steps()
    fit(config, steps)
    factor = schedules.factor(config["schedule"], EPOCHS * STEPS) or (lambda step: 1.0)
    assert steps.rates == [0.02 * factor(step) for step in range(EPOCHS * STEPS)]


def test_a_plateau_lowers_the_rate_for_the_epoch_after() -> None:
    """No fall of the loss is as large as 100: the rate halves after 2 epochs without, and again."""
    more = ("schedule.patience=2", "schedule.min_delta=100", "epochs=6")
    steps = Steps()
    fit(config_of("schedule=plateau", *more), steps)
    epochs = [0.02] * 3 + [0.01] * 2 + [0.005]
    assert steps.rates == [rate for rate in epochs for _ in range(STEPS)]


def test_the_optimizer_groups_keep_their_decay() -> None:
    config = config_of("optimizer.weight_decay=0.003")
    made = build.classifier(config, build.data(config)).configure_optimizers()
    assert [group["weight_decay"] for group in made.param_groups] == [0.003, 0]


@pytest.mark.parametrize("limit", [100, 105], ids=["last batch of 10 images", "last batch of 15"])
def test_parts_add_up_to_the_batch(limit: int) -> None:
    """Four parts of a batch, even of a ragged one, weigh as its images do."""
    whole = fit(config_of(f"dataset.limit={limit}"))
    parts = fit(config_of(f"dataset.limit={limit}", "accumulate=4"))
    assert (weights(whole) - weights(parts)).abs().max() < 1e-6
    assert parts.epoch == pytest.approx(whole.epoch, abs=1e-6)


@pytest.mark.parametrize("limit", [91, 92], ids=["last batch of 2 images", "last batch of 3"])
def test_a_last_batch_may_be_smaller_than_the_parts(limit: int) -> None:
    whole = fit(config_of(f"dataset.limit={limit}"))
    parts = fit(config_of(f"dataset.limit={limit}", "accumulate=8"))
    assert (weights(whole) - weights(parts)).abs().max() < 1e-6


def test_clip_limits_the_gradient_that_reaches_the_optimizer() -> None:
    free, clipped = Steps(), Steps()
    fit(config_of(), free)
    fit(config_of("clip=0.3"), clipped)
    assert min(free.norms[:3]) > 0.3
    assert max(clipped.norms) <= 0.3 * (1 + 1e-6)
    assert clipped.norms[0] == pytest.approx(0.3, rel=1e-4)
    shortened = free.gradients[0] * (0.3 / free.norms[0])  # the first step starts from the same weights
    assert torch.allclose(clipped.gradients[0], shortened, rtol=1e-4, atol=1e-7)


def test_a_clip_above_all_gradients_changes_nothing() -> None:
    assert torch.equal(weights(fit(config_of())), weights(fit(config_of("clip=1e6"))))


def scale_gradients(trainer: Trainer) -> None:
    """float16 with a gradient scaler, as a GPU without bfloat16 trains."""
    trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cpu")
    trainer.fit_loop.epoch_loop = _TrainingEpochLoop(trainer)


def test_scaled_gradients_reach_the_optimizer_unscaled() -> None:
    free, scaled = Steps(), Steps()
    fit(config_of(), free)
    fit(config_of("optimizer.fused=false"), scaled, change=scale_gradients)
    assert scaled.norms[:3] == pytest.approx(free.norms[:3], rel=0.02)


def test_clip_means_the_unscaled_gradient() -> None:
    free, scaled = Steps(), Steps()
    fit(config_of("clip=0.3"), free)
    fit(config_of("clip=0.3"), scaled, change=scale_gradients)
    assert scaled.norms[:3] == pytest.approx(free.norms[:3], rel=0.02)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    torch.manual_seed(1)
    first = fit(config_of("augmentation=affine", "model.dropout=0.5"))
    torch.manual_seed(2)
    again = fit(config_of("augmentation=affine", "model.dropout=0.5"))
    other = fit(config_of("augmentation=affine", "model.dropout=0.5", "seed=1"))
    assert list(differences(first.state_dict(), again.state_dict())) == []
    assert first.epoch == again.epoch
    assert (weights(first) - weights(other)).abs().max() > 0.01


def test_the_first_weights_follow_from_the_seed_alone() -> None:
    """Not from the data, the batch size or what was drawn before."""
    images = build.data(config_of())
    first = weights(build.classifier(config_of(), images))
    torch.rand(7)
    more = config_of("batch_size=32", "dataset.limit=50", "optimizer=adam")
    assert torch.equal(first, weights(build.classifier(more, build.data(more))))
    assert not torch.equal(first, weights(build.classifier(config_of("seed=1"), images)))


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("augmentation", ["affine", "flip_crop"])  # batch by batch, and several at once
def test_any_loader_trains_the_same_weights(augmentation: str, workers: int) -> None:
    words = [f"augmentation={augmentation}", "model.dropout=0.5"]
    resident = fit(config_of(*words))
    streamed = fit(config_of(*words, "dataset.resident=false", f"dataset.num_workers={workers}"))
    assert (resident.changed, streamed.changed) == (augmentation == "flip_crop", False)
    assert list(differences(resident.state_dict(), streamed.state_dict())) == []


@pytest.mark.parametrize("more", [("augmentation=affine",), ("model.dropout=0.5",), ("batch_size=32",)])
def test_what_should_change_the_weights_does(more: tuple[str, ...]) -> None:
    assert (weights(fit(config_of())) - weights(fit(config_of(*more)))).abs().max() > 1e-3


def first_step(*more: str) -> tuple[Classifier, ImageData, torch.Tensor, torch.Tensor]:
    """An untrained classifier and the first batch it would see, augmented as the first step would."""
    config = config_of(*more)
    images = build.data(config)
    classifier = build.classifier(config, images)
    order = torch.randperm(90, generator=keys.generator(config["seed"], "order", 0))[:16]
    part, rows = images.source.train, images.train_rows[order]
    keys.seed_default(torch.device("cpu"), config["seed"], "network", 0, 0, 0)
    return classifier, images, part.pixels[rows].permute(0, 3, 1, 2), part.labels[rows]


class FirstLoss(Callback):
    """The loss of the first step, from the epoch's running sums."""

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if trainer.global_step == 1:
            loss, right, self.count = module.seen.tolist()
            self.loss, self.accuracy = loss / self.count, right / self.count


def test_label_smoothing_reaches_the_loss() -> None:
    """Of each target 0.2 is spread evenly over the ten classes."""
    watch = FirstLoss()
    fit(config_of("augmentation.label_smoothing=0.2"), watch)
    classifier, _, images, labels = first_step()
    shares = classifier(images).log_softmax(1)
    expected = -(0.8 * shares[torch.arange(16), labels] + 0.2 * shares.mean(1)).mean()
    assert watch.loss == pytest.approx(expected.item(), abs=1e-6)
    assert watch.loss != pytest.approx(F.cross_entropy(classifier(images), labels).item(), abs=1e-4)


def test_mixup_reaches_the_loss_and_accuracy_counts_the_first_label() -> None:
    """Each image and its target are mixed with those of the one before, by one share for the batch."""
    watch = FirstLoss()
    fit(config_of("augmentation.mixup=1.0"), watch)
    classifier, _, images, labels = first_step()
    share = float(torch.distributions.Beta(1.0, 1.0).sample(()))  # as v2.MixUp draws it
    assert 0.01 < share < 0.99
    x = classifier.prepare(images)
    logits = classifier.network(share * x + (1 - share) * x.roll(1, 0))
    ours, theirs = (F.cross_entropy(logits, y) for y in (labels, labels.roll(1, 0)))
    assert watch.loss == pytest.approx((share * ours + (1 - share) * theirs).item(), abs=1e-5)
    assert watch.accuracy == float((logits.argmax(1) == labels).double().mean())
    assert watch.count == 16


def test_the_epoch_scores_begin_anew_each_epoch() -> None:
    counts: list[float] = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Trainer, module: Any, *args: Any) -> None:
            counts.append(float(module.seen[2]))

    fit(config_of(), Watch())
    assert counts == [16, 32, 48, 64, 80, 90] * EPOCHS


def test_a_rate_that_is_far_too_high_is_named() -> None:
    with pytest.raises(DivergedError) as caught:
        fit(config_of("optimizer.lr=1e20", "schedule=constant"))
    said = (
        r"the loss is not finite in epoch 1, at step 2 \(lr 1e\+20\)\. Lower optimizer\.lr, or set clip=1\."
    )
    assert re.fullmatch(said, str(caught.value))
    assert caught.value.exit_code == 5


def test_the_epoch_that_diverged_is_named() -> None:
    """Weights turn into NaN after 8 steps: the ninth, in the second epoch, is not taken."""

    class Spoil(Callback):
        def on_train_batch_end(self, trainer: Trainer, module: Any, *args: Any) -> None:
            if trainer.global_step == 8:
                module.network.fc.bias.data.fill_(float("nan"))

    with pytest.raises(DivergedError, match=r"in epoch 2, at step 9 \(lr 0\.02\)"):
        fit(config_of("schedule=constant"), Spoil())


def test_the_weights_of_each_step_change() -> None:
    found: list[torch.Tensor] = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Trainer, module: Any, *args: Any) -> None:
            found.append(weights(module))

    fit(config_of(), Watch())
    assert len(found) == STEPS * EPOCHS
    assert all(not torch.equal(a, b) for a, b in pairwise(found))


def test_a_second_test_counts_from_zero() -> None:
    config = config_of()
    images = build.data(config)
    classifier, trainer = build.classifier(config, images), build.trainer(config)
    for _ in range(2):
        trainer.test(classifier, datamodule=images, verbose=False)
        assert classifier.scores.full()["n"] == 100


def test_a_frozen_backbone_does_not_move_and_the_head_does() -> None:
    """Neither by gradients nor by batch norm's statistics, over two epochs with validation between them."""
    config = config_of("model=resnet20", "model.width=4") | {"freeze": "backbone"}
    before = build.classifier(config, build.data(config)).state_dict()
    after = fit(config).state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {"network.fc.weight", "network.fc.bias"}


def test_auxiliary_heads_and_penalty_reach_the_loss() -> None:
    """Each head by its weight; the penalty as it is; in evaluation neither."""

    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return (x, [(2 * x, 0.3), (3 * x, 0.1)]) if self.training else x

        def penalty(self) -> torch.Tensor:
            return torch.tensor(0.25)

    config = config_of()
    classifier = build.classifier(config, build.data(config))
    classifier.network = Odd()
    x, labels = torch.randn(4, 10), torch.arange(4)
    logits, loss = classifier._objective(classifier.network(x), labels)
    parts = (F.cross_entropy(k * x, labels) * share for k, share in ((1, 1.0), (2, 0.3), (3, 0.1)))
    assert torch.equal(logits, x)
    assert loss.item() == pytest.approx(sum(part.item() for part in parts) + 0.25, abs=1e-6)
    assert torch.equal(classifier.network.eval()(x), x)
