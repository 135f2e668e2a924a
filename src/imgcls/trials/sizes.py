"""Images per second and memory at batch sizes that double, until something is used up."""

import gc
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psutil
import torch
from lightning.pytorch import Callback

from imgcls import build, devices, record, trials
from imgcls.data.loader import Batch

LEAST, MOST = 8, 8192
WARM, STEPS, SECONDS = 2, 20, 2.0  # steps not counted; then so many, or so long
NEAR = 0.95  # of the highest throughput is as good
FREE = 0.9  # of the free memory may be filled

Point = dict[str, float]


class Stopwatch(Callback):
    """Times training steps, and stops after enough of them."""

    def __init__(self) -> None:
        self.images, self.seconds, self.began, self.steps = 0, 0.0, 0.0, 0

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """The clock starts when the first steps are through, on a GPU too."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        now, self.steps = time.perf_counter(), self.steps + 1
        if self.steps <= WARM:
            self.began = now
        else:
            self.images += len(batch[1])
            self.seconds = now - self.began
        trainer.should_stop = self.steps == WARM + STEPS or self.seconds > SECONDS


def test(config: Mapping[str, Any]) -> Iterator[Point]:
    """batch_size, images_per_second and memory_mb of each size that fits."""
    try:
        yield from _double(config)
    finally:
        logging.getLogger(devices.__name__).setLevel(logging.NOTSET)


def _double(config: Mapping[str, Any]) -> Iterator[Point]:
    images = build.data({**config, "batch_size": LEAST, "accumulate": 1})
    device = devices.accelerator(config["trainer"]["accelerator"])
    rows, base, size = images.train_rows, record.peak_memory_mb(), LEAST
    while size <= min(MOST, len(rows)):
        images.batch_size = images.part = size
        images.train_rows = rows[: len(rows) // size * size]  # full batches only
        point = _measure({**config, "batch_size": size, "accumulate": 1}, images, device)
        if point is None:
            return
        logging.getLogger(devices.__name__).setLevel(logging.WARNING)  # has said it once
        speed, memory = point["images_per_second"], point["memory_mb"]
        print(f"batch_size={size}: {speed:,.0f} images/s, {memory:,.0f} MB", flush=True)
        yield point
        if device != "gpu" and 2 * (memory - base) > FREE * psutil.virtual_memory().available / 1e6:
            return  # a GPU says when it is full; a computer would begin to swap, or kill
        size *= 2


def _measure(config: Mapping[str, Any], images: Any, device: str) -> Point | None:
    """One size; None if the device has not enough memory."""
    watch = Stopwatch()
    if device == "gpu":
        torch.cuda.reset_peak_memory_stats()
    try:
        trials.train(config, build.classifier(config, images), images, WARM + STEPS, watch)
    except torch.OutOfMemoryError:
        return None
    finally:
        images.trainer = None
        gc.collect()  # the trainer and its parts refer to each other in circles
    memory = torch.cuda.max_memory_allocated() / 1e6 if device == "gpu" else record.peak_memory_mb()
    return {
        "batch_size": config["batch_size"],
        "images_per_second": round(watch.images / watch.seconds, 1),
        "memory_mb": memory,
    }


def smallest(points: Sequence[Point]) -> int:
    """The smallest batch whose throughput is within 5 % of the best."""
    enough = NEAR * max(point["images_per_second"] for point in points)
    return int(next(p["batch_size"] for p in points if p["images_per_second"] >= enough))
