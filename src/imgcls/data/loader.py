"""Batches of uint8 images: which images, in which order, from memory or through worker processes.

Both ways yield the same batches: the order is a function of (seed, epoch) alone, and the loader begins
where the trainer's progress says. So there is no state to save, and a resumed epoch goes on mid-way.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from imgcls import keys
from imgcls.data.sources import Images
from imgcls.errors import ImgclsError

Batch = tuple[torch.Tensor, torch.Tensor]  # uint8 (N, C, H, W) in channels_last memory, int64 (N,)
Position = Callable[[], tuple[int, int]]  # epoch, batches of it that are done
# Changes uint8 (N, C, H, W), several batches of so many images each: their epoch, the number of the first
Change = Callable[[torch.Tensor, Sequence[int], int, int], torch.Tensor]
BLOCK = 1 << 20  # bytes of images that are gathered at a time, of small batches several: about a core's cache
PATIENCE = 300  # seconds to wait for a batch of the workers


@dataclass(frozen=True)
class Share:
    """Which images of a batch a rank has: every `ranks`-th of `total`, from number `rank` on."""

    total: int = 0  # 0: as many as there are
    rank: int = 0
    ranks: int = 1


ALL = Share()


class Rows:
    """Which images make up each batch of an epoch, on this rank.

    A batch is cut from the whole set's order first and shared among ranks after, so that their number
    does not change which images an optimizer step sees. Of images in shards, a few shards at a time are
    shuffled, so that each is read once an epoch.
    """

    def __init__(
        self,
        rows: torch.Tensor,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        ranks: int = 1,
        shards: torch.Tensor | None = None,
        window: int = 1,
    ) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.shards, self.window = shards, window  # the number of each row's shard, int64 (N,)
        self.rank, self.ranks = rank, ranks
        self.length = sum(1 for _ in self._cut(rows))

    def epoch(self, epoch: int) -> Iterator[torch.Tensor]:
        """Row numbers (N,), one tensor per batch; shuffled if there is a seed."""
        if self.seed is None:
            return self._cut(self.rows)
        draw = keys.generator(self.seed, "order", epoch)
        order = torch.randperm(len(self.rows), generator=draw)
        if self.shards is not None:
            order = order[self._turns(draw)[order].argsort(stable=True)]
        return self._cut(self.rows[order])

    def _turns(self, draw: torch.Generator) -> torch.Tensor:
        """In which window of shuffled shards each row comes, int64 (N,)."""
        there, number = torch.unique(self.shards, return_inverse=True)
        return torch.randperm(len(there), generator=draw)[number] // self.window

    def share(self, batch: int) -> Share:
        """What this rank has of a batch."""
        if self.ranks == 1:
            return ALL
        return Share(min(self.batch_size, len(self.rows) - batch * self.batch_size), self.rank, self.ranks)

    def _cut(self, order: torch.Tensor) -> Iterator[torch.Tensor]:
        return (batch[self.rank :: self.ranks] for batch in order.split(self.batch_size))


class Loader:
    """What the trainer iterates: has a length, and begins at `position`."""

    change: Change | None = None  # what its images have been through, beside gathering

    def __init__(self, rows: Rows, position: Position | None = None) -> None:
        self.rows = rows
        self.position = position or (lambda: (0, 0))

    def __len__(self) -> int:
        return self.rows.length

    def __iter__(self) -> Iterator[Batch]:
        # A generator: its body runs at the first batch, when the trainer knows its epoch.
        epoch, done = self.position()
        yield from self.batches(list(self.rows.epoch(epoch))[done:], epoch, done)

    def batches(self, plan: list[torch.Tensor], epoch: int, first: int) -> Iterator[Batch]:
        """The planned batches, in order; the first has that number in its epoch."""
        raise NotImplementedError

    # The order needs no state, but the trainer warns about loaders that offer none.
    def state_dict(self) -> dict[str, int]:
        """Nothing to save."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to restore."""


class ResidentLoader(Loader):
    """All images in one tensor; a few small batches, or a large one, are one gather."""

    def __init__(
        self, images: Images, rows: Rows, position: Position | None = None, change: Change | None = None
    ) -> None:
        super().__init__(rows, position)
        self.images, self.change = images, change
        self.block = max(BLOCK // (images.pixels[:1].nbytes * rows.batch_size), 1)  # batches

    def batches(self, plan: list[torch.Tensor], epoch: int, first: int) -> Iterator[Batch]:
        """The planned batches, gathered on the device that holds the images, and changed there."""
        pixels, labels = self.images.pixels, self.images.labels
        for start in range(0, len(plan), self.block):
            some = plan[start : start + self.block]
            sizes = [len(index) for index in some]
            index = torch.cat(some).to(pixels.device, non_blocking=True)
            found = pixels.index_select(0, index).permute(0, 3, 1, 2)
            if self.change:
                found = self.change(found, sizes, epoch, first + start)
            yield from zip(found.split(sizes), labels.index_select(0, index).split(sizes), strict=True)


class WorkerLoader(Loader):
    """Images through worker processes, for what does not fit in memory."""

    def __init__(
        self, images: Dataset[Batch], rows: Rows, position: Position | None = None, workers: int = 2
    ) -> None:
        super().__init__(rows, position)
        self.images, self.workers = images, workers

    def batches(self, plan: list[torch.Tensor], epoch: int, first: int) -> Iterator[Batch]:
        """The planned batches; workers draw nothing at random, so their number does not matter."""
        loader: DataLoader[Any] = DataLoader(
            self.images,
            batch_sampler=[index.tolist() for index in plan],
            num_workers=self.workers,
            collate_fn=_as_is,
            worker_init_fn=_apart,
            timeout=PATIENCE if self.workers else 0,
            pin_memory=torch.cuda.is_available(),
        )
        for batch in loader:
            if isinstance(batch, ImgclsError):
                raise batch
            yield batch


class WholeBatches(Dataset[Batch]):
    """Images as a map-style dataset whose `__getitems__` fetches a whole batch at once."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        """uint8 (N, C, H, W) and int64 (N,) of the given images."""
        rows = torch.tensor(indices, dtype=torch.int64)  # also of a rank that has none of a batch
        try:
            pixels = self.images.pixels.index_select(0, rows)
        except ImgclsError as error:
            return error  # type: ignore[return-value]  # raised by a worker, it would come with a traceback
        return pixels.permute(0, 3, 1, 2), self.images.labels.index_select(0, rows)


def _apart(worker: int) -> None:
    """A signal to the whole group is for the run, which still needs its images until it has saved."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()


def _as_is(batch: Any) -> Any:
    return batch
