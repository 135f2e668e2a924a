"""Images per second of the data path alone, beside torchvision's and DataLoader's, in turns: prints figures.

    python tests/bench/data.py [photos] [folder]

First crop, flip and normalise on 50,000 images of CIFAR-10's shape, beside torchvision's per-image
pipeline with two worker processes. Then a folder of so many JPEG files of 256 px (20,000), made once in
`folder`: epochs of `dataset=folder` beside those of ImageFolder with two workers, each to normalised
floats of 224 px, flipped.
"""

import resource
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from throughput import PerImage, random_source
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from imgcls import build
from imgcls.__main__ import register_resolvers
from imgcls.cli import command
from imgcls.data.datamodule import ImageData
from imgcls.data.files import CACHE

BATCH, ROUNDS = 128, 3


def seconds(batches: Iterable[Any]) -> float:
    """To go through all batches."""
    began = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - began


def ours(config: dict[str, Any], images: ImageData) -> Iterator[torch.Tensor]:
    """The batches of an epoch as the network gets them: augmented, normalised floats."""
    classifier = build.classifier(config, images).train()
    images.trainer = build.trainer(config)  # which knows the epoch
    loader = images.train_dataloader()
    for pixels, _ in loader:
        yield classifier.prepare(pixels if loader.change else classifier.augment(pixels))


def config_of(*words: str) -> dict[str, Any]:
    """What the words compose to."""
    config, problems = command.check([*words, f"batch_size={BATCH}", "dataset.val_fraction=0"])
    assert not problems, problems
    return config


def report(what: str, count: int, theirs: float, mine: float) -> None:
    """One line of figures."""
    rates = f"{count / mine:10,.0f} images/s, beside {count / theirs:8,.0f}"
    print(f"{what:30} {rates}: {theirs / mine:6.2f} times", flush=True)


def small() -> None:
    """CIFAR-10's shape."""
    source = random_source(50_000, 32, 3)
    images = ImageData(source, batch_size=BATCH, val_fraction=0)
    config = config_of("model=convnet", "augmentation=flip_crop")
    loader = DataLoader(PerImage(source.train), BATCH, shuffle=True, num_workers=2)
    times = [(seconds(loader), seconds(ours(config, images))) for _ in range(ROUNDS)]
    theirs, mine = (statistics.median(way) for way in zip(*times, strict=True))
    report("crop, flip, normalise, 32 px", len(source.train), theirs, mine)


def make(folder: Path, count: int) -> None:
    """JPEG files of 256 px in ten classes, with detail at every scale as photos have it."""
    draw = np.random.default_rng(0)
    for n in range(count):
        coarse = draw.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC)
        noise = draw.normal(0, 12, (256, 256, 1))
        pixels = np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)
        place = folder / str(n % 10)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{n}.jpg", quality=85)


def photos(folder: Path, count: int) -> None:
    """A first epoch, counted from the first look at the folder, and later ones; none waits for the disk."""
    steps = [transforms.Resize(224), transforms.CenterCrop(224), transforms.RandomHorizontalFlip()]
    usual = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)])
    words = ["model=convnet", "augmentation=flip", "dataset=folder", "dataset.normalize=zero_one"]
    config = config_of(*words, f"dataset.root={folder}", "dataset.test_fraction=0.01")
    for file in folder.rglob("*.jpg"):
        file.read_bytes()
    began = time.perf_counter()
    loader = DataLoader(ImageFolder(str(folder), usual), BATCH, shuffle=True, num_workers=2)
    seconds(loader)
    theirs = time.perf_counter() - began
    for kept in folder.glob(f"{CACHE}*"):
        kept.unlink()
    began = time.perf_counter()
    images = build.data(config)
    seconds(ours(config, images))
    mine = time.perf_counter() - began
    report("photos, first epoch", count, theirs, mine)
    later = [(seconds(loader), seconds(ours(config, images))) for _ in range(ROUNDS)]
    report("photos, later epochs", count, *(statistics.median(way) for way in zip(*later, strict=True)))


def main() -> None:
    """Print all figures."""
    register_resolvers()
    build.quiet()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    small()
    with TemporaryDirectory() as passing:
        folder = Path(sys.argv[2] if len(sys.argv) > 2 else passing)
        if not (folder / "0").exists():
            make(folder, count)
        photos(folder, count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory of this process: {peak / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
