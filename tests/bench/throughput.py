"""Images per second of training, as ratios measured in one interleaved run.

    python tests/bench/throughput.py [rounds] [--keep]

Three ways train the same network on the same shapes: `bare`, a PyTorch loop over float tensors that are
already normalised and in memory; `imgcls`, the whole path from uint8 with augmentation and scores; and
`plain`, Lightning in full precision over torchvision's per-image transforms with two worker processes.
On the CPU the first two take turns step by step, in one process, and with the third round by round. On a GPU,
which works on while the next step is prepared, all take turns round by round; there `bare` and `imgcls` are
compiled, and `bare` has its data on the device.

Ratios are compared with those that figures.json has of the last time; `--keep` writes them there.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from imgcls import build, devices
from imgcls.__main__ import register_resolvers
from imgcls.cli import command
from imgcls.data.datamodule import ImageData
from imgcls.data.sources import Images, Source
from imgcls.runs import Run

KEPT = Path(__file__).with_name("figures.json")
DEVICE = devices.accelerator("auto")


@dataclass(frozen=True)
class Case:
    """A network, its images and how many of them."""

    model: str
    side: int
    channels: int
    batch: int
    steps: int  # of a round
    ways: tuple[str, ...] = ("bare", "imgcls")
    words: tuple[str, ...] = ()


PLAIN, COMPILED = ("bare", "imgcls", "plain"), ("trainer.compile=true",)
CASES = {
    "resnet18, cifar stem, batch 128": Case("resnet18", 32, 3, 128, 6, PLAIN),
    "resnet20, batch 32": Case("resnet20", 32, 3, 32, 60),
    "convnet, 28 px grey, batch 32": Case("convnet", 28, 1, 32, 400),
}
GPU_CASES = {
    "resnet18, cifar stem, batch 512": Case("resnet18", 32, 3, 512, 60, words=COMPILED),
    "resnet18, cifar stem, batch 32": Case("resnet18", 32, 3, 32, 300, PLAIN, COMPILED),
    "resnet18, 224 px, batch 32": Case("resnet18", 224, 3, 32, 100, PLAIN, COMPILED),
}


def wait() -> None:
    """For the device to have done all that it was given."""
    if DEVICE != "cpu":
        torch.accelerator.synchronize()


def random_source(count: int, side: int, channels: int) -> Source:
    """Noise in the shape of a dataset: throughput does not depend on what is seen."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, side, side, channels), generator=draw, dtype=torch.uint8)
    images = Images(pixels, torch.randint(10, (count,), generator=draw))
    return Source("noise", "noise", tuple("0123456789"), images, Images(pixels[:10], images.labels[:10]))


def config_of(case: Case, folder: str) -> dict[str, Any]:
    """The configuration that `model=… batch_size=…` gives, with the augmentation of such images."""
    augmentation = "flip_crop" if case.channels == 3 else "shift"
    words = [f"model={case.model}", f"augmentation={augmentation}", f"batch_size={case.batch}", *case.words]
    words += [f"output={folder}", "epochs=1", "progress=none", "dataset.val_fraction=0"]
    config, problems = command.check(words)
    assert not problems, problems
    return config


class Stopwatch(Callback):
    """Seconds from the second training step to the last: the first one allocates."""

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """See the class."""
        if index == 0:
            wait()
            self.began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """See the class."""
        wait()
        self.seconds = time.perf_counter() - self.began


class Alternating(Callback):
    """Does a step of another way after each step, so that whatever else the machine does slows both."""

    def __init__(self, other: Callable[[torch.Tensor], None], batches: Sequence[torch.Tensor]) -> None:
        self.other, self.batches = other, batches
        self.own, self.others = 0.0, 0.0

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """Count both, less their first steps."""
        began = time.perf_counter()
        self.other(self.batches[index])
        if index:
            self.own += began - self.ended
            self.others += time.perf_counter() - began
        self.ended = time.perf_counter()


def fit(config: dict[str, Any], images: ImageData, watch: Callback) -> None:
    """One epoch through the whole of imgcls."""
    with TemporaryDirectory() as folder:
        trainer = build.trainer(config, Run(folder))
        trainer.callbacks.append(watch)
        trainer.fit(build.classifier(config, images), datamodule=images)


def alternately(config: dict[str, Any], images: ImageData) -> Callable[[], tuple[float, float]]:
    """Seconds of one epoch through the whole of imgcls and of the bare loop, a step of each in turn."""
    bare, count = bare_step(config, images), len(images.source.train)

    def run() -> tuple[float, float]:
        both = Alternating(bare, torch.randperm(count).split(config["batch_size"]))
        fit(config, images, both)
        return both.own, both.others

    return run


def in_turn(config: dict[str, Any], images: ImageData) -> Callable[[], tuple[float, float]]:
    """The same with an epoch of each in turn."""
    bare, count = bare_step(config, images), len(images.source.train)

    def run() -> tuple[float, float]:
        watch = Stopwatch()
        fit(config, images, watch)
        first, *others = torch.randperm(count).split(config["batch_size"])
        bare(first)
        wait()
        began = time.perf_counter()
        for batch in others:
            bare(batch)
        wait()
        return watch.seconds, time.perf_counter() - began

    return run


def bare_step(config: dict[str, Any], images: ImageData) -> Callable[[torch.Tensor], None]:
    """A training step without any framework, on some rows of floats that are ready."""
    classifier = build.classifier(config, images)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    network, precision = classifier.network.train().to(device), devices.precision("auto", DEVICE)
    rows = images.source.train
    ready = classifier.prepare(rows.pixels.permute(0, 3, 1, 2)).to(device)
    labels = rows.labels.to(device)
    optimizer = build.optimizer(config)(network)

    def step(batch: torch.Tensor) -> None:
        batch = batch.to(device)
        x, y = ready[batch].contiguous(memory_format=torch.channels_last), labels[batch]
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = F.cross_entropy(network(x).float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


class PerImage(Dataset[tuple[torch.Tensor, int]]):
    """torchvision's usual training transforms, one PIL image at a time."""

    def __init__(self, images: Images) -> None:
        self.images = images
        steps = [
            transforms.RandomCrop(images.pixels.shape[1], padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
        ]
        self.transform = transforms.Compose(
            [transforms.ToPILImage(), *steps, transforms.Normalize(0.5, 0.25)]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images.pixels[index].numpy()), int(self.images.labels[index])


class Plain(LightningModule):
    """What a Lightning tutorial writes."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        """Cross-entropy."""
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The same optimizer in its default form."""
        return torch.optim.SGD(self.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)


def plain_loop(config: dict[str, Any], images: ImageData) -> Callable[[], float]:
    """Seconds of one epoch of plain Lightning, less its first step."""
    config = {**config, "trainer": {**config["trainer"], "compile": False}}
    network = build.classifier(config, images).network.to(memory_format=torch.contiguous_format)
    loader = DataLoader(PerImage(images.source.train), config["batch_size"], shuffle=True, num_workers=2)

    def run() -> float:
        watch = Stopwatch()
        parts = ("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "logger")
        quiet: dict[str, Any] = dict.fromkeys(parts, False)
        trainer = Trainer(max_epochs=1, accelerator=DEVICE, devices=1, callbacks=[watch], **quiet)
        trainer.fit(Plain(network), loader)
        return watch.seconds

    return run


def measure(case: Case, rounds: int, folder: str) -> dict[str, list[float]]:
    """Seconds of each way in each round."""
    config = config_of(case, folder)
    source = random_source(case.batch * (case.steps + 1), case.side, case.channels)
    images = ImageData(source, batch_size=case.batch, val_fraction=0)
    both = (alternately if DEVICE == "cpu" else in_turn)(config, images)
    plain = plain_loop(config, images) if "plain" in case.ways else None
    both()  # warm-up
    seconds: dict[str, list[float]] = {way: [] for way in case.ways}
    for _ in range(rounds):
        for way, taken in zip(("imgcls", "bare"), both(), strict=True):
            seconds[way].append(taken)
        if plain:
            seconds["plain"].append(plain())
    return seconds


def report(case: Case, seconds: dict[str, list[float]], before: dict[str, float]) -> dict[str, float]:
    """Print images/s of each way and ratios within a round beside those of before; returns their medians."""
    for way in case.ways:
        print(f"  {way:8} {case.batch * case.steps / statistics.median(seconds[way]):10,.0f} images/s")
    medians = {}
    for other in case.ways[:1] + case.ways[2:]:
        ratios = sorted(b / a for a, b in zip(seconds["imgcls"], seconds[other], strict=True))
        medians[other] = round(statistics.median(ratios), 4)
        line = f"  imgcls / {other:6} {medians[other]:6.1%}   (rounds: {ratios[0]:.1%} to {ratios[-1]:.1%})"
        if other in before:
            # The spread of the rounds is what this machine can tell apart
            slower = "  SLOWER" if ratios[-1] < before[other] else ""
            line += f"   before: {before[other]:.1%}{slower}"
        print(line, flush=True)
    return medians


def main() -> None:
    """Print all figures."""
    words = [word for word in sys.argv[1:] if word != "--keep"]
    rounds = int(words[0]) if words else 7
    register_resolvers()
    build.quiet()
    where = f"{devices.describe(DEVICE)}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{where}, {rounds} rounds")
    before = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if before and before["where"] != where:
        print(f"before: {before['where']}")
    found: dict[str, Any] = {"where": where}
    with TemporaryDirectory() as folder:
        for name, case in (CASES if DEVICE == "cpu" else GPU_CASES).items():
            print(name)
            found[name] = report(case, measure(case, rounds, folder), before.get(name, {}))
    if "--keep" in sys.argv:
        KEPT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
