"""Seconds and memory against the number of images, of classes and of runs, with a plot.

    python tests/bench/costs.py FOLDER

Each point is a whole command, start-up and all. Images and classes: one epoch and the test of a narrow
network on noise of 8 px. Runs: `task=list what=runs` and `task=compare` over so many run folders. FOLDER
gets costs.csv and costs.png; points that it has are not measured again.
"""

import csv
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imgcls.data.sources import Source

IMAGES = (1_000, 10_000, 100_000, 1_000_000)
CLASSES = (10, 100, 1_000, 10_000)
RUNS = (10, 100, 1_000, 10_000)
GROUP = """
defaults: [_base]
name: noise
_target_: costs.noise
images: 1000
classes: 10
normalize: zero_one
"""


def noise(images: int, classes: int, limit: int | None = None) -> "Source":
    """A dataset of noise, tested on 1,000 images, or one of each class."""
    import torch  # not above: what this process holds would count as a command's peak

    from imgcls.data.sources import Images, Source

    draw = torch.Generator().manual_seed(0)

    def some(count: int) -> Images:
        pixels = torch.randint(256, (count, 8, 8, 1), generator=draw, dtype=torch.uint8)
        return Images(pixels, torch.arange(count) % classes)

    names = tuple(f"class {k}" for k in range(classes))
    return Source("noise", "noise", names, some(max(images, classes)), some(max(1_000, classes)))


def command(*words: str) -> tuple[float, float]:
    """(seconds, GB at the peak) of one command."""
    here = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    began = time.perf_counter()
    line = [sys.executable, "-m", "imgcls", *words]
    process = subprocess.Popen(line, env=os.environ | here, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, line
    return time.perf_counter() - began, used.ru_maxrss / 1e6


def train(folder: Path, images: int = 1_000, classes: int = 10) -> tuple[float, float]:
    """One epoch and the test."""
    group = folder / "conf" / "dataset"
    group.mkdir(parents=True, exist_ok=True)
    (group / "noise.yaml").write_text(GROUP)
    network = ["model=resnet20", "model.width=2", "batch_size=500", "augmentation=none"]
    data = ["dataset=noise", f"dataset.images={images}", f"dataset.classes={classes}"]
    more = ["epochs=1", "progress=none", "restart=true", f"output={folder / 'runs'}"]
    return command("--config-dir", str(group.parent), *network, *data, "dataset.val_fraction=0", *more)


def copies(folder: Path, count: int) -> Path:
    """So many copies of a run, each with a seed of its own."""
    place = folder / f"copies{count}"
    if not place.exists():
        train(folder / "one")
        run = next((folder / "one" / "runs").glob("noise-*"))
        config = (run / "config.yaml").read_text()
        assert "seed: 0" in config
        for seed in range(count):
            copy = place / f"{run.name}-{seed:05d}"
            shutil.copytree(run, copy, ignore=shutil.ignore_patterns("*.ckpt", "*.png", "manifest.json"))
            (copy / "config.yaml").write_text(config.replace("seed: 0", f"seed: {seed}"))
    return place


def compare(folder: Path, count: int) -> tuple[float, float]:
    """The page that compares so many runs."""
    return command("task=compare", f"runs={copies(folder, count)}/*", f"output={folder / 'compared'}")


def listed(folder: Path, count: int) -> tuple[float, float]:
    """The list of so many runs."""
    return command("task=list", "what=runs", f"output={copies(folder, count)}")


CURVES = {
    "images": (IMAGES, lambda folder, count: train(folder, images=count)),
    "classes": (CLASSES, lambda folder, count: train(folder, classes=count)),
    "runs listed": (RUNS, listed),
    "runs compared": (RUNS, compare),
}


def plot(points: dict[tuple[str, int], tuple[float, float]], path: Path) -> None:
    """Seconds and gigabytes over each count, all axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.1 * len(CURVES), 5), layout="constrained")
    axes = figure.subplots(2, len(CURVES), sharex="col", sharey="row")
    for column, name in enumerate(CURVES):
        counts = sorted(count for curve, count in points if curve == name)
        for row, what in enumerate(("seconds", "GB at the peak")):
            axes[row, column].loglog(counts, [points[name, count][row] for count in counts], "o-")
            axes[row, column].grid(alpha=0.3)
            axes[row, 0].set_ylabel(what)
        axes[1, column].set_xlabel(name)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure what is missing, then print, write and draw all."""
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "costs.csv"
    points: dict[tuple[str, int], tuple[float, float]] = {}
    if table.exists():
        with table.open(newline="") as file:
            points = {(row[0], int(row[1])): (float(row[2]), float(row[3])) for row in csv.reader(file)}
    for name, (counts, measure) in CURVES.items():
        for count in counts:
            if (name, count) not in points:
                points[name, count] = measure(folder, count)
                with table.open("a", newline="") as file:
                    csv.writer(file).writerow([name, count, *(round(v, 3) for v in points[name, count])])
            seconds, gigabytes = points[name, count]
            print(f"{count:10,} {name:14} {seconds:8.1f} s {gigabytes:7.2f} GB", flush=True)
    plot(points, folder / "costs.png")
    print(table, folder / "costs.png")


if __name__ == "__main__":
    main()
