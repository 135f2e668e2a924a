"""A few training steps on images of noise: how fast a configuration trains here, and what it needs."""

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from imgcls import build, devices, record, trials
from imgcls.data.facts import FACTS
from imgcls.data.sources import Images, Source
from imgcls.models.adapt import without_weights
from imgcls.trials.sizes import STEPS, WARM, Stopwatch


def synthetic(name: str, split: str = "") -> Source:
    """Noise with the dataset's own counts, sizes and classes; nothing is read or downloaded."""
    facts = FACTS.get(name) or FACTS[f"{name}_{split}"]
    shape = (facts.image_size, facts.image_size, facts.channels)

    def part(count: int) -> Images:
        return Images(
            torch.randint(0, 256, (count, *shape), dtype=torch.uint8),
            torch.arange(count) % len(facts.classes),
        )

    return Source(name, facts.title, facts.classes, part(facts.train), part(facts.test))


def measure(config: Mapping[str, Any]) -> dict[str, float]:
    """images_per_second in training, memory_mb at its peak, and checkpoint_mb on the disk (10^6 bytes).

    What would train on cached features is timed as if it did not.
    """
    config = {**config, "features": "live"}
    gc.collect()  # what was timed before: a trainer and its parts refer to each other in circles
    device = devices.accelerator(config["trainer"]["accelerator"])
    _forget_peak(device)
    images = build.data(config, {**config["dataset"], "_target_": f"{__name__}.synthetic"})
    with without_weights():
        classifier = build.classifier(config, images)
    watch = Stopwatch()
    trials.train(config, classifier, images, WARM + STEPS, watch)
    memory = torch.cuda.max_memory_allocated() / 1e6 if device == "gpu" else record.peak_memory_mb()
    return {
        "images_per_second": round(watch.images / watch.seconds, 2),
        "memory_mb": round(memory),
        "checkpoint_mb": round(_kept(classifier) / 1e6, 1),
    }


def _forget_peak(device: str) -> None:
    """Look for a new peak of memory; where the system cannot, it is that of all that was timed."""
    if device == "gpu":
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux; see proc(5)
    except OSError:
        return


def _kept(classifier: Any) -> int:
    """Bytes of a checkpoint: weights, and what the optimizer remembers of them."""
    states = [classifier.trainer.optimizers[0].state[p] for p in classifier.trainer.optimizers[0].state]
    tensors = [*classifier.state_dict().values(), *(value for state in states for value in state.values())]
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))
