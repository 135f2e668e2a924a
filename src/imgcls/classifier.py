"""The one LightningModule: any network, one training step, exact scores."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer

from imgcls import keys
from imgcls.data.augment import Augment
from imgcls.data.loader import Batch
from imgcls.data.prepare import Prepare
from imgcls.errors import DivergedError
from imgcls.optim import schedules
from imgcls.scores import Scores


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
        seed: of every random draw.
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
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network, self.prepare, self.augment, self.domain = network, prepare, augment, domain
        self.make_optimizer, self.schedule = optimizer, schedule
        self.steps, self.seed = steps, seed
        self.plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self.epoch: dict[str, float] = {}  # this epoch's scores, by their names in metrics.csv
        # Sums over the epoch so far, kept on the device: loss, right answers, images. Saved with a
        # checkpoint inside an epoch, so that its training scores cover the whole of it.
        self.register_buffer("seen", torch.zeros(3, dtype=torch.float64), persistent=False)
        self.seen: torch.Tensor
        self.scores = Scores(len(domain.classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (N, C, H, W) → logits (N, classes)."""
        return self.network(self.prepare(images))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Key this step's draws, of augmentation and of dropout."""
        keys.seed_default(self.device, self.seed, "step", self.current_epoch, batch_idx, self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The mean loss of a batch."""
        images, labels = batch
        images, targets = self.prepare(self.augment(images)), labels
        if self.augment.mixes:
            images, targets = self.augment.mix(images, labels, len(self.domain.classes))
        logits = self.network(images).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=self.augment.label_smoothing)
        self._count(loss.detach(), logits.detach(), labels)
        return loss

    def _count(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Add to the epoch's sums without waiting for the device."""
        self.seen[0].add_(loss, alpha=len(labels))
        self.seen[1].add_((logits.argmax(1) == labels).sum())
        self.seen[2].add_(len(labels))

    def on_train_epoch_end(self) -> None:
        """Close the epoch's training scores and move a plateau schedule."""
        self.check_finite()
        loss, right, count = self.seen.tolist()
        self._put({"train/loss": loss / count, "train/acc": right / count})
        self.seen.zero_()
        if self.plateau:
            self.plateau.step(self.epoch[self.schedule["monitor"]])

    def _put(self, scores: dict[str, float]) -> None:
        self.epoch.update(scores)
        self.log_dict(scores)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch of the hold-out."""
        images, labels = batch
        self.scores.update(self(images).float(), labels)

    def on_validation_epoch_end(self) -> None:
        """Close the hold-out's scores."""
        loss, accuracy = self.scores.brief()
        self._put({"val/loss": loss, "val/acc": accuracy})
        self.scores.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch of the test set, and keep what was said of each image."""
        images, labels = batch
        self.scores.update(self(images).float(), labels, keep=True)

    def predict_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        """uint8 (N, C, H, W) → logits (N, classes)."""
        return self(batch).float().cpu()

    def configure_optimizers(self) -> Any:
        """The optimizer, and a scheduler that moves with every step."""
        optimizer = self.make_optimizer(self.network)
        self.plateau = schedules.plateau(optimizer, self.schedule)
        scheduler = schedules.stepwise(optimizer, self.schedule, self.steps)
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def check_finite(self) -> None:
        """Raise DivergedError if the epoch's loss so far is not a number: nothing good can follow."""
        if not torch.isfinite(self.seen[0]):
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise DivergedError(
                f"the loss is not finite in epoch {self.current_epoch + 1}, at step {self.global_step} "
                f"(lr {rate:.3g}). Lower optimizer.lr, or set clip=1."
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is ours: the domain, the epoch's sums, the plateau."""
        checkpoint["imgcls"] = {
            "domain": asdict(self.domain),
            "seen": self.seen.clone(),
            "plateau": self.plateau.state_dict() if self.plateau else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back; the plateau exists only once the optimizer does."""
        self._resumed = checkpoint["imgcls"]

    def on_fit_start(self) -> None:
        """Finish loading, after the optimizers are made."""
        if resumed := getattr(self, "_resumed", None):
            self.seen.copy_(resumed["seen"])
            if self.plateau and resumed["plateau"]:
                self.plateau.load_state_dict(resumed["plateau"])
            del self._resumed
