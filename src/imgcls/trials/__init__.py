"""Short trainings that leave no weights, to find a learning rate or a batch size."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lightning.pytorch import Callback

from imgcls import build
from imgcls.classifier import Classifier
from imgcls.data.datamodule import ImageData
from imgcls.errors import DivergedError


def train(
    config: Mapping[str, Any], classifier: Classifier, images: ImageData, steps: int, watch: Callback
) -> None:
    """So many steps as in a run, without validation and checkpoints; what diverges ends."""
    epochs = -(-steps // images.steps_per_epoch)
    trainer = build.trainer({**config, "epochs": epochs})
    trainer.limit_val_batches = 0
    trainer.callbacks.append(watch)  # type: ignore[attr-defined]
    with suppress(DivergedError):
        trainer.fit(classifier, datamodule=images)
