"""What a checkpoint holds of ours beside Lightning's: what the data was, and an epoch that is under way."""

from dataclasses import asdict
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from imgcls.distributed import ranks
from imgcls.errors import CheckpointError


class Contents(Callback):
    """Puts it there and takes it back; `pl_module` is a Classifier."""

    _resumed: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the domain, the images, the epoch's sums of all ranks, the plateau."""
        plateau = pl_module.plateau
        checkpoint["imgcls"] = {
            "domain": asdict(pl_module.domain),
            "images": images(trainer),
            "seen": ranks.gathered(pl_module.seen),
            "plateau": plateau.state_dict() if plateau else None,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Keep it until training starts: the plateau exists only once the optimizer does.

        Raises:
            CheckpointError: it was trained on other images.
        """
        self._resumed = checkpoint["imgcls"]
        then, now = checkpoint["imgcls"].get("images"), images(trainer)
        if then and now and then[0] == now[0] and then != now:
            raise CheckpointError(
                "the checkpoint was trained on other images than those that dataset.root has now. "
                "Restore them, or use restart=true to train anew."
            )

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Take it back, and work out what a save on a signal would have no time for."""
        if self._resumed:
            pl_module.seen.copy_(self._resumed["seen"][trainer.global_rank])
            if pl_module.plateau and self._resumed["plateau"]:
                pl_module.plateau.load_state_dict(self._resumed["plateau"])
            self._resumed = None
        if trainer.checkpoint_callbacks:
            images(trainer)


def images(trainer: Trainer) -> tuple[str, str] | None:
    """What the images are: their digest, which for files that are not decoded is of another kind."""
    source = getattr(trainer.datamodule, "source", None)  # type: ignore[attr-defined]
    return (type(source.train.pixels).__name__, source.digest) if source else None
