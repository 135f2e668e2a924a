"""What a frozen backbone makes of the images, computed once: training then costs no more than its head.

A run on features ends with the bits of a run on images (tests/data/test_features.py), for each number is
computed as it would have been there: training images in full batches, evaluated images in evaluation's own
batches, and the ragged last batch of an epoch, whose size changes how it is rounded, from the images
themselves. All is kept on disk by what it depends on, so that the runs of a sweep over learning rates, epochs
or heads share it.
"""

import hashlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cached_property, partial
from itertools import takewhile
from pathlib import Path

import psutil
import torch
from filelock import FileLock
from rich.progress import track
from torch import nn

from imgcls.checkpoints import write_whole
from imgcls.data.loader import Batch, Loader, Position, Rows
from imgcls.data.prepare import Prepare
from imgcls.data.sources import Images
from imgcls.errors import ConfigError, ResourceError

log = logging.getLogger(__name__)


class _Reached(Exception):
    """Carries what has reached the trained part."""


def trained_part(network: nn.Module) -> nn.Module:
    """The smallest module that holds all trainable parameters.

    Raises:
        ConfigError: more than one part of the network trains.
    """
    trained = [name.split(".")[:-1] for name, p in network.named_parameters() if p.requires_grad]
    common = [
        names[0] for names in takewhile(lambda names: len(set(names)) == 1, zip(*trained, strict=False))
    ]
    if not common:
        raise ConfigError("features=cached needs one trained part at the network's end. Use freeze=backbone.")
    return network.get_submodule(".".join(common))


class Backbone:
    """The frozen part of a network, from uint8 images to what enters `part`.

    Args:
        network: gives logits, in one pass and at last through `part`; else ConfigError at the first batch.
        part: its trained part.
        prepare: the network's view of uint8 images.
        context: a maker of the context of precision in which training computes.
    """

    def __init__(
        self,
        network: nn.Module,
        part: nn.Module,
        prepare: Prepare,
        context: Callable[[], AbstractContextManager],
    ) -> None:
        self.network, self.part, self.prepare, self.context = network, part, prepare, context

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.prepare.mean.device

    @torch.no_grad()
    def __call__(self, pixels: torch.Tensor, parts: int = 1) -> torch.Tensor:
        """uint8 (N, H, W, C) → (N, …) in the precision of training, computed in so many parts."""
        images = pixels.to(self.device).permute(0, 3, 1, 2)
        with self.context():
            some = images.tensor_split(min(parts, len(images)))
            return torch.cat([self._entering(self.prepare(x)) for x in some])

    def _entering(self, x: torch.Tensor) -> torch.Tensor:
        def stop(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            raise _Reached(*inputs)

        handle = self.part.register_forward_pre_hook(stop)
        try:
            self.network(x)
        except _Reached as reached:
            (features,) = reached.args
            return features
        finally:
            handle.remove()
        raise AssertionError("the trained part is not in the network's way")

    def check(self, pixels: torch.Tensor) -> None:
        """Raise ConfigError unless the trained part is the network's end: nothing may come after it."""
        ends: list[torch.Tensor] = []
        handle = self.part.register_forward_hook(lambda module, inputs, output: ends.append(output))
        try:
            with torch.no_grad(), self.context():
                logits = self.network(self.prepare(pixels.to(self.device).permute(0, 3, 1, 2)))
        finally:
            handle.remove()
        if len(ends) != 1 or ends[0] is not logits:
            raise ConfigError(
                "features=cached: this network computes on after its trained part. Use features=live."
            )

    @cached_property
    def identity(self) -> str:
        """A digest of all that shapes its features; it is frozen, so that once will do."""
        sha = hashlib.sha256(f"{self.network} {self.prepare} {self.prepare.size}".encode())
        own = {id(tensor) for tensor in (*self.part.parameters(), *self.part.buffers())}
        for module in (self.network, self.prepare):
            for tensor in (*module.parameters(), *module.buffers()):
                if id(tensor) not in own:
                    sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return sha.hexdigest()


class Features:
    """Features of sets of images, from the folder where they are kept, or computed and put there.

    Args:
        backbone: computes them.
        folder: where they are kept.
        facts: what else their bits depend on: the images, the precision, the device.
    """

    def __init__(self, backbone: Backbone, folder: Path, facts: Mapping[str, object]) -> None:
        self.backbone, self.folder = backbone, folder
        self.facts = {**facts, "torch": torch.__version__, "threads": torch.get_num_threads()}

    def training(self, images: Images, rows: Rows, position: Position, parts: int) -> Loader:
        """Shuffled batches, each with the bits that its images would give in training."""
        missing = -len(rows.rows) % rows.batch_size
        # All in full batches: the last is completed with the first images
        full = torch.cat([rows.rows, rows.rows[:missing]])
        features = self._of(images, full, rows.batch_size, parts)[: len(rows.rows)]
        return FeatureLoader(features, images, rows, position, partial(self.backbone, parts=parts))

    def evaluation(self, images: Images, rows: Rows) -> Loader:
        """The same batches in the same order as evaluation of the images would take."""
        return FeatureLoader(self._of(images, rows.rows, rows.batch_size), images, rows)

    def _of(self, images: Images, rows: torch.Tensor, size: int, parts: int = 1) -> torch.Tensor:
        """Features (len(rows), …) of the images in `rows`, computed in batches of `size`."""
        file = self.folder / f"{self._key(images, rows, size, parts)}.pt"
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):  # another run may be computing the same
            if file.exists():
                features = torch.load(file, weights_only=True)
                log.info("features: %s from %s", _shape(features), file)
                return features.to(self.backbone.device)
            began = time.perf_counter()
            features = self._computed(images, rows, size, parts)
            write_whole(file, lambda part: torch.save(features, part))
        seconds, size_mb = time.perf_counter() - began, features.nbytes / 1e6
        log.info("features: %s computed in %.1f s (%.0f MB in %s)", _shape(features), seconds, size_mb, file)
        return features.to(self.backbone.device)

    def _key(self, images: Images, rows: torch.Tensor, size: int, parts: int) -> str:
        which = hashlib.sha256(images.labels[rows].numpy().tobytes() + rows.numpy().tobytes()).hexdigest()
        facts = {**self.facts, "rows": which, "batch": [size, parts], "backbone": self.backbone.identity}
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]

    def _computed(self, images: Images, rows: torch.Tensor, size: int, parts: int) -> torch.Tensor:
        self.backbone.check(images.pixels.index_select(0, rows[:2]))
        found: torch.Tensor | None = None
        plan = track(rows.split(size), "features", transient=True, disable=not sys.stderr.isatty())
        for number, some in enumerate(plan):
            batch = self.backbone(images.pixels.index_select(0, some), parts).cpu()
            if found is None:
                _check_room(len(rows) * batch[0].nbytes)
                found = batch.new_empty(len(rows), *batch.shape[1:])
            found[number * size :][: len(some)] = batch
        assert found is not None
        return found


def _shape(features: torch.Tensor) -> str:
    return " x ".join(f"{n:,}" for n in features.shape)


def _check_room(needed: int) -> None:
    free = psutil.virtual_memory().available
    if needed > free / 2:
        raise ResourceError(
            f"the features would take {needed / 1e9:.1f} GB of {free / 1e9:.1f} GB of free memory. "
            "Use features=live, or freeze more."
        )


class FeatureLoader(Loader):
    """Batches of features (N, …) and labels int64 (N,), gathered from memory.

    `features` are of the images in `rows.rows`; `live`, if given, computes those of a batch that is not full.
    """

    def __init__(
        self,
        features: torch.Tensor,
        images: Images,
        rows: Rows,
        position: Position | None = None,
        live: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        super().__init__(rows, position)
        self.features, self.images, self.live = features, images, live
        self.labels = images.labels.to(features.device)
        self.place = torch.empty(int(rows.rows.max()) + 1, dtype=torch.int64)
        self.place[rows.rows] = torch.arange(len(rows.rows))  # of each image among the features

    def batches(self, plan: list[torch.Tensor], epoch: int, first: int) -> Iterator[Batch]:
        """The planned batches."""
        for rows in plan:
            labels = self.labels.index_select(0, rows.to(self.labels.device))
            if self.live and len(rows) < self.rows.batch_size:
                yield self.live(self.images.pixels.index_select(0, rows)), labels
            else:
                yield self.features.index_select(0, self.place[rows].to(self.features.device)), labels
