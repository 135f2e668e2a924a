"""One LightningDataModule for every source: hold-out, limits, loaders, and the facts the rest needs."""

from collections.abc import Callable
from dataclasses import replace

import torch
from lightning.pytorch import LightningDataModule

from imgcls import keys
from imgcls.cli.conflicts import batches
from imgcls.data.features import Features
from imgcls.data.loader import Change, Loader, ResidentLoader, Rows, WholeBatches, WorkerLoader
from imgcls.data.prepare import Prepare, statistics
from imgcls.data.sources import Images, Source
from imgcls.errors import ConfigError

MEASURED = 512e6  # bytes of pixels up to which mean and standard deviation are taken of all images
SAMPLE = 2000  # of larger sets, so many images are


def hold_out(labels: torch.Tensor, fraction: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows to train on, rows held out): seeded, each class in proportion, every image in exactly one."""
    order = torch.randperm(len(labels), generator=keys.generator(seed, "hold-out"))
    order = order[labels[order].argsort(stable=True)]  # by class, shuffled within it
    # Every (1/fraction)-th of that order: as many as the fraction says, spread over the classes.
    marks = (torch.arange(len(order) + 1, dtype=torch.float64) * fraction + 1e-9).floor()
    held = marks.diff() > 0
    return order[~held].sort().values, order[held].sort().values


class ImageData(LightningDataModule):
    """Train, validation and test images as loaders of uint8 batches.

    Args:
        source: what `imgcls.data.sources` gives.
        batch_size: images per optimizer step, over all ranks.
        part: images that are computed at once (None: the whole batch).
        val_fraction: share of the training images held out; 0 for none.
        limit: use only so many images of each part (None: all).
        overfit: validate and test on the training images.
        resident: True, False or "auto": whether all images stay in memory.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        seed: int = 0,
        val_fraction: float = 0.1,
        part: int | None = None,
        limit: int | None = None,
        overfit: bool = False,
        resident: bool | str = "auto",
        num_workers: int = 2,
    ) -> None:
        super().__init__()
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.workers, self.part = num_workers, part or batch_size
        rows, self.test_rows = self._limited(source.train, limit), self._limited(source.test, limit)
        self.train_rows, self.val_rows = self._split(rows, val_fraction)
        if overfit:
            self.source = replace(source, test=source.train)
            self.val_rows = self.test_rows = self.train_rows
        self.resident = self._fits() if resident == "auto" else bool(resident)
        self._placed: dict[int, Images] = {}
        self.features: Features | None = None  # in place of images, where a backbone is frozen
        self.change: Change | None = None  # made of training images as they are gathered, where they are
        self._check_sizes(val_fraction)

    def _limited(self, images: Images, limit: int | None) -> torch.Tensor:
        """Row numbers of all images, or of `limit` of them with each class in proportion."""
        if not limit or limit >= len(images):
            return torch.arange(len(images))
        return hold_out(images.labels, limit / len(images), self.seed)[1]

    def _split(self, rows: torch.Tensor, fraction: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows to train on and rows held out: the source's own validation images, or a share."""
        if self.source.held is None:
            train, held = hold_out(self.source.train.labels[rows], fraction, self.seed)
            return rows[train], rows[held]
        own = torch.isin(rows, self.source.held)
        return rows[~own], rows[own] if fraction else rows[:0]

    def _check_sizes(self, val_fraction: float) -> None:
        count = len(self.train_rows)
        if self.batch_size > count:
            raise ConfigError(
                f"batch_size={self.batch_size} is larger than the training set ({count} images). "
                f"Use at most {count}."
            )
        if val_fraction and not len(self.val_rows):
            raise ConfigError(
                f"dataset.val_fraction={val_fraction} holds out no image of {count}. Use 0, or more."
            )

    def _check_shares(self) -> None:
        """Raise ConfigError if a rank would have none of the last batch, and so no gradient to give."""
        ranks, count = self.trainer.world_size if self.trainer else 1, len(self.train_rows)
        if 0 < count % self.batch_size < ranks:
            raise ConfigError(*batches(self.batch_size, count, ranks))

    def _fits(self) -> bool:
        """Whether the images are decoded, and take less than half of the memory that is free."""
        import psutil

        return isinstance(self.source.train.pixels, torch.Tensor) and (
            self.source.train.pixels.nbytes + self.source.test.pixels.nbytes
            < psutil.virtual_memory().available / 2
        )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, by label."""
        return self.source.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images as they are stored."""
        height, width, channels = self.source.train.pixels.shape[1:]
        return height, width, channels

    @property
    def tested(self) -> Images:
        """The images of the test set that a limit leaves, in the order in which they are tested."""
        test, rows = self.source.test, self.test_rows
        return test if len(rows) == len(test) else Images(test.pixels[rows], test.labels[rows])

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch."""
        return -(-len(self.train_rows) // self.batch_size)

    def prepare(
        self, normalize: str, channels: int | None, factor: int, size: int | None, interpolation: str
    ) -> Prepare:
        """The network's view of these images; statistics come from the training images alone."""
        height, width, native = self.shape
        mean, std = statistics(normalize, *self._measured(normalize), channels)
        side = size or max(height, width) * factor
        return Prepare(mean, std, channels=channels or native, size=side, interpolation=interpolation)

    def _measured(self, normalize: str) -> tuple[Images, torch.Tensor]:
        """What statistics are taken of, and which rows: all, or of a large set of files a seeded sample.

        Never by what happens to be decoded or cached: the same configuration has to give the same numbers.
        """
        images, rows = self.source.train, self.train_rows
        if normalize not in ("mean_std", "mean_pixel"):
            return images, rows
        if images.shards is not None or len(rows) * images.pixels.shape[1:].numel() > MEASURED:
            rows = self._drawn(SAMPLE, "statistics")
        if isinstance(images.pixels, torch.Tensor):
            return images, rows
        return Images(images.pixels.index_select(0, rows), images.labels[rows]), torch.arange(len(rows))

    def _drawn(self, count: int, purpose: str) -> torch.Tensor:
        """Up to `count` of the training rows, in order: a function of the seed and of what they are for."""
        images, rows = self.source.train, self.train_rows
        if images.shards is not None:  # which are mixed: the first that will be read are as good as any
            return next(self._rows(images, rows, count, self.seed).epoch(0)).sort().values
        draw = torch.randperm(len(rows), generator=keys.generator(self.seed, purpose))
        return rows[draw[:count]].sort().values

    def sample(self, count: int, purpose: str) -> torch.Tensor:
        """Up to `count` training images, uint8 (N, C, H, W), the same ones every time."""
        rows = self._drawn(count, purpose)
        return self.source.train.pixels.index_select(0, rows).permute(0, 3, 1, 2)

    def _loader(
        self,
        images: Images,
        rows: Rows,
        position: Callable[[], tuple[int, int]] | None = None,
        change: Change | None = None,
    ) -> Loader:
        if self.resident:
            return ResidentLoader(self._on_device(images), rows, position, change)
        return WorkerLoader(WholeBatches(images), rows, position, self.workers)

    def _on_device(self, images: Images) -> Images:
        """The images in the memory of the training device; training and hold-out share one copy."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if id(images) not in self._placed:
            self._placed[id(images)] = Images(images.pixels.to(device), images.labels.to(device))
        return self._placed[id(images)]

    def _rows(self, images: Images, rows: torch.Tensor, batch_size: int, seed: int | None = None) -> Rows:
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        shards = None if images.shards is None else images.shards[rows]
        return Rows(rows, batch_size, seed, rank, ranks, shards, images.window)

    def _position(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def train_dataloader(self) -> Loader:
        """Shuffled by (seed, epoch); goes on where the trainer's progress stands."""
        self._check_shares()
        rows = self._rows(self.source.train, self.train_rows, self.batch_size, self.seed)
        if self.features:
            parts = self.batch_size // self.part
            return self.features.training(self.source.train, rows, self._position, parts)
        # Ranks have a share of each batch, and draw for all of it
        return self._loader(self.source.train, rows, self._position, self.change if rows.ranks == 1 else None)

    def _evaluation(self, images: Images, rows: torch.Tensor) -> Loader:
        """Every image once, in order, in larger batches: nothing is kept for a backward pass."""
        taken = self._rows(images, rows, max(self.part, min(4 * self.part, 1000)))
        return self.features.evaluation(images, taken) if self.features else self._loader(images, taken)

    def val_dataloader(self) -> Loader | list[Loader]:
        """The hold-out, or nothing."""
        images, rows = self.source.train, self.val_rows
        if images.shards is not None:  # shard by shard: their order changes no score
            rows = rows[images.shards[rows].argsort(stable=True)]
        return self._evaluation(images, rows) if len(rows) else []

    def test_dataloader(self) -> Loader:
        """The official test set."""
        return self._evaluation(self.source.test, self.test_rows)
