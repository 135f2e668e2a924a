"""The one LightningModule: any network, one training step, exact scores."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer

from imgcls import keys, lean
from imgcls.checkpoints.contents import Contents
from imgcls.data.augment import Augment
from imgcls.data.features import trained_part
from imgcls.data.loader import ALL, Batch, Share
from imgcls.data.prepare import Prepare
from imgcls.data.views import views
from imgcls.distributed import ranks
from imgcls.divergence import blown_up, finite_gradients
from imgcls.errors import DivergedError
from imgcls.models.freeze import hold
from imgcls.optim import early, schedules
from imgcls.optim.hardest import Hardest
from imgcls.scores import Running, Scores


@dataclass(frozen=True)
class Domain:
    """What the data was: enough to rebuild the network without it, and to read new images like it."""

    classes: list[str]
    image_size: int  # side of the images as they are stored, in pixels
    image_channels: int
    size: int  # side and channels of what the network sees
    channels: int


class Classifier(LightningModule):
    """Trains `network` on uint8 images; `forward` maps uint8 (N, C, H, W) to logits (N, classes).

    Args:
        network: maps float images to logits.
        prepare: the network's view of uint8 images.
        augment: what training images go through first.
        domain: what predicting needs to know of the data; goes into every checkpoint.
        optimizer: makes the optimizer of a network.
        schedule: the group of that name.
        steps: optimizer steps in the whole training.
        parts: how many a batch is computed in.
        clip: largest gradient norm, or None.
        seed: of every random draw.
        frozen: modules that stay in eval mode.
        ends: epochs after which parts of the network are frozen, by their names.
        tta: which views of a test image are averaged, as imgcls.data.views has them.
    """

    def __init__(
        self,
        network: nn.Module,
        prepare: Prepare,
        augment: Augment,
        domain: Domain,
        *,
        optimizer: Callable[[nn.Module], Optimizer],
        schedule: Mapping[str, Any],
        steps: int = 1,
        parts: int = 1,
        clip: float | None = None,
        seed: int = 0,
        frozen: Sequence[nn.Module] = (),
        ends: Mapping[str, int] | None = None,
        tta: str = "none",
    ) -> None:
        super().__init__()
        self.network, self.prepare, self.augment, self.domain = network, prepare, augment, domain
        self.make_optimizer, self.schedule = optimizer, schedule
        self.parts, self.clip, self.seed = parts, clip, seed
        self.changed = False  # whether batches come augmented
        self.frozen = self.always = tuple(frozen)  # tuples hide from nn.Module what is in the network already
        self.ends, self.tta, self.steps = dict(ends or {}), tta, steps
        self.factor = schedules.factor(schedule, steps)
        self.automatic_optimization = False  # Lightning's own closures cost 0.2 ms a step
        self.plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self.epoch: dict[str, float] = {}  # this epoch's scores, by their names in metrics.csv
        self.hardest: Hardest | None = None  # chooses which images of a batch are trained on
        self.running = Running()
        self.scores = Scores(len(domain.classes))

    @property
    def seen(self) -> torch.Tensor:
        """Sums over the epoch so far, of this rank's images: loss, right answers, images (3,)."""
        return self.running.so_far()

    def setup(self, stage: str) -> None:
        """Sum as exactly as the device can."""
        if self.trainer.strategy.root_device.type == "mps":  # which has no float64
            self.running.float()
            self.scores.in_single_precision()

    def configure_model(self) -> None:
        """Share the network's weights out, where the strategy has a mesh of devices for that (FSDP)."""
        if self.device_mesh is not None:
            ranks.shard(self.network, self.device_mesh["data_parallel"])

    def configure_callbacks(self) -> list[Callback]:
        """What has a state that a checkpoint is to hold."""
        return [Contents(), *([self.hardest] if self.hardest else [])]

    def on_train_start(self) -> None:
        """Without gradient scaling or other ranks there is nothing between us and the optimizer."""
        self.direct = isinstance(self.trainer.fit_loop.epoch_loop, lean.LeanEpochLoop)
        self.scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        self.on_train_epoch_start()  # which Lightning leaves out where an epoch is gone on with

    def on_train_epoch_start(self) -> None:
        """Freeze the parts of the network whose time is over, and see what batches have been through."""
        self.changed = getattr(self.trainer.train_dataloader, "change", None) is not None
        self.frozen = (*self.always, *early.passed(self.network, self.ends, self.current_epoch))
        hold(self.frozen)

    def train(self, mode: bool = True) -> "Classifier":
        """As every module's, but what is frozen stays in eval mode."""
        super().train(mode)
        hold(self.frozen)
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (N, C, H, W) → logits (N, classes); or features that a frozen backbone has made of them."""
        return self.trained(images) if images.is_floating_point() else self.network(self.prepare(images))

    @cached_property
    def trained(self) -> nn.Module:
        """The part of the network that comes after a frozen backbone."""
        return trained_part(self.network)

    def change(self, images: torch.Tensor, sizes: Sequence[int], epoch: int, first: int) -> torch.Tensor:
        """Augment several batches at once, as imgcls.data.loader has it: each as in its own step."""
        seeds = [keys.key(self.seed, "step", epoch, first + n, 0) for n in range(len(sizes))]
        return self.augment.many(images, sizes, seeds, epoch)

    def _augmented(self, images: torch.Tensor, batch_idx: int, share: Share) -> torch.Tensor:
        """A batch's images: on all ranks drawn alike, for the whole batch."""
        keys.seed_default(self.device, self.seed, "step", self.current_epoch, batch_idx, 0)
        return self.augment(images, share, self.current_epoch)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One optimizer step on a batch, in as many parts as memory asks for."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        self._set_rate(optimizer)
        share = self._share(batch_idx)
        images, labels = batch[0] if self.changed else self._augmented(batch[0], batch_idx, share), batch[1]
        # What the network draws is each rank's own
        keys.seed_default(self.device, self.seed, "network", self.current_epoch, batch_idx, share.rank)
        if self.hardest:
            rows = self.hardest.rows(self.prepare(images), labels, self.global_step)
            images, labels = images[rows], labels[rows]
        total, parts = share.total or len(labels), min(self.parts, len(labels))
        split = [(images, labels)]
        if parts > 1:
            split = list(zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True))
        for number, (some, their) in enumerate(split, 1):
            loss = self._loss(some, their)
            # A part counts by its share of the images, so that parts add up to the batch's mean; what ranks
            # have is not added up, but averaged.
            weight = len(their) * share.ranks / total
            self._backward(loss if weight == 1 else loss * weight, number == parts)
        self._step(optimizer)

    def _share(self, batch_idx: int) -> Share:
        """What this rank has of the batch."""
        if self.trainer.world_size == 1:
            return ALL
        return self.trainer.train_dataloader.rows.share(batch_idx)  # type: ignore[union-attr]

    def _backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add to the gradients; ranks exchange them once, with the last part."""
        if self.direct:
            loss.backward()
        else:
            with nullcontext() if last else self._apart():
                self.manual_backward(loss)

    def _apart(self) -> AbstractContextManager[None]:
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if isinstance(strategy, DDPStrategy) else nullcontext()

    def _step(self, optimizer: LightningOptimizer) -> None:
        """Move the weights, and count it where Lightning keeps its global step."""
        if self.direct:
            progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
            progress.increment_ready()
            self.on_before_optimizer_step(optimizer.optimizer)
            lean.step(optimizer.optimizer)
            progress.increment_completed()
        else:
            optimizer.step()
        lean.zero_grad(optimizer.optimizer)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stop at what is no number, and clip; Lightning has unscaled what was scaled by now."""
        # A scaler passes over a step that overflows, and lowers its scale: there the epoch's loss tells.
        if not self.scaled and not finite_gradients(optimizer):
            what = "a gradient" if torch.isfinite(self.seen[0]) else "the loss"
            raise self.diverged(f"{what} is not finite", self.global_step + 1)
        if self.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)

    def _set_rate(self, optimizer: LightningOptimizer) -> None:
        """The learning rate is a function of the step: no scheduler's state needs to survive."""
        if self.factor:
            for group in optimizer.param_groups:
                factor = self.spans.get(group.get("span")) or self.factor
                group["lr"] = group["initial_lr"] * factor(self.global_step)

    def _loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean loss of augmented uint8 images; counts them among the epoch's scores."""
        if self.augment.mixes:
            x, targets = self.augment.mix(self.prepare(images), labels, len(self.domain.classes))
            outputs = self.network(x)
        else:
            outputs, targets = self(images), labels
        logits, loss = self._objective(outputs, targets)
        self.running.note(loss, logits, labels)
        return loss

    def _objective(self, outputs: Any, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits, loss): with auxiliary heads and a penalty where the network has them (googlenet, vgg)."""
        smoothing = self.augment.label_smoothing
        outputs, auxiliary = outputs if isinstance(outputs, tuple) else (outputs, [])
        logits = outputs.float()
        loss = F.cross_entropy(logits, targets, label_smoothing=smoothing)
        for more, weight in auxiliary:
            loss = loss + weight * F.cross_entropy(more.float(), targets, label_smoothing=smoothing)
        if hasattr(self.network, "penalty"):
            loss = loss + self.network.penalty()  # type: ignore[operator]
        return logits, loss

    def on_train_epoch_end(self) -> None:
        """Close the epoch's training scores and move a plateau schedule."""
        self.check_finite()
        bad = any(not torch.isfinite(ranks.local(p)).all() for p in self.network.parameters())
        if ranks.highest([bad])[0]:
            # The last step's: no gradient has shown it yet
            raise self.diverged("a weight is not finite", self.global_step)
        loss, right, count = ranks.total(self.seen).tolist()
        if blown_up(loss / count, right, count, len(self.domain.classes)):
            raise self.diverged(f"the loss has blown up (to {loss / count:.3g})", self.global_step)
        self._put({"train/loss": loss / count, "train/acc": right / count})
        self.seen.zero_()
        if self.plateau:
            self.plateau.step(self.epoch[self.schedule["monitor"]])

    def _put(self, scores: dict[str, float]) -> None:
        self.epoch.update(scores)
        self.log_dict(scores)

    def on_validation_epoch_start(self) -> None:
        """Validate one network: each rank's batch norms have seen other images."""
        ranks.as_rank_0(self.network)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch of the hold-out."""
        images, labels = batch
        self.scores.update(self._logits(images), labels)

    def _logits(self, images: torch.Tensor, tta: str = "none") -> torch.Tensor:
        """float32 (N, classes); with none of a batch, a rank still takes part in what all compute."""
        if not len(images):
            return self._logits(images.new_zeros(1, *images.shape[1:]), tta)[:0]
        if tta == "none":
            return self(images).float()
        seen = ((weight, self.network(view)) for weight, view in views(self.prepare(images), tta))
        return torch.stack([weight * logits.float() for weight, logits in seen]).sum(0)

    def on_validation_epoch_end(self) -> None:
        """Close the hold-out's scores."""
        scores = self.scores.brief()
        self.scores.reset()
        if not math.isfinite(scores["loss"]):
            raise self.diverged("the validation loss is not finite", self.global_step)
        self._put({"val/loss": scores["loss"], "val/acc": scores["acc"]})

    def on_test_start(self) -> None:
        """Count from zero."""
        self.scores.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch of the test set, and keep what was said of each image."""
        images, labels = batch
        self.scores.update(self._logits(images, self.tta), labels, keep=True)

    def predict_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        """uint8 (N, C, H, W) → logits (N, classes)."""
        return self._logits(batch, self.tta).cpu()

    def configure_optimizers(self) -> Optimizer:
        """The optimizer; the rate follows the schedule by step, or the loss by epoch (plateau)."""
        optimizer = self.make_optimizer(self.network)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        spans = {group["span"] for group in optimizer.param_groups if "span" in group}
        self.spans = {span: schedules.factor(self.schedule, round(span * self.steps)) for span in spans}
        self.plateau = schedules.plateau(optimizer, self.schedule)
        return optimizer

    def __setattr__(self, name: str, value: Any) -> None:
        """Lightning notes the running hook here dozens of times a step; nn.Module would take 2 µs each."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def check_finite(self) -> None:
        """Raise DivergedError if the epoch's loss so far is not a number: nothing good can follow."""
        if not torch.isfinite(ranks.total(self.seen)[0]):
            raise self.diverged("the loss is not finite", self.global_step)

    def diverged(self, what: str, step: int) -> DivergedError:
        """What to say then: where, and what to change."""
        epoch, rate = self.current_epoch + 1, self.trainer.optimizers[0].param_groups[0]["lr"]
        return DivergedError(
            f"{what} in epoch {epoch}, at step {step} (lr {rate:.3g}). "
            f"Lower optimizer.lr{'' if self.clip else ', or set clip=1'}.",
            epoch=epoch,
            step=step,
            lr=rate,
        )
