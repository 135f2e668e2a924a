"""What each option does by itself, in accuracy and seconds: prints a table.

    python tests/bench/options.py TABLE FOLDER [seeds] [KEY=VALUE ...]

TABLE is `cifar10_94`, the experiment and its variants, each without one of its options or with another, or
`defaults`, ResNet-20 and its variants, each without one of the defaults that are there for speed. Each trains
on so many seeds (3). Further words go to all: `model.widths=[32,128,128] epochs=4` is less work for the first
table, `dataset.limit=20000` for the second. Runs are kept in FOLDER, and those that are there are not trained
again. IMGCLS_DATA is where CIFAR-10 lies.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

BASE = ["experiment=cifar10_94"]
# An experiment's optimizer cannot be taken out of it, so this one is spelled out, with the settings of
# airbench's SGD (arXiv:2404.00498) for twice its batch
SGD = ["dataset=cifar10", "model=airbench94", "init=whitened", "optimizer=sgd", "schedule=onecycle"]
SGD += ["batch_size=2000", "freeze_after=whiten=3", "tta=mirror_shift", "dataset.val_fraction=0", "epochs=8"]
SGD += ["augmentation=flip_crop", "augmentation.hflip=alternating", "augmentation.crop=2"]
SGD += ["augmentation.crop_mode=reflect", "augmentation.label_smoothing=0.2", "schedule.warmup=0.23"]
SGD += ["optimizer.lr=2.35", "optimizer.momentum=0.85", "optimizer.weight_decay=0.00133"]
SGD += ["optimizer.decay_all=true", "optimizer.bias_lr=64.0"]
RESNET = ["model=resnet20", "dataset=cifar10", "epochs=4"]
SLOW = ["trainer.precision=32-true", "trainer.channels_last=false", "optimizer.fused=false"]
DEFAULTS = {
    "as it is": RESNET,
    **{word: [*RESNET, word] for word in SLOW},
    "all three": [*RESNET, *SLOW],
}
CIFAR10_94 = {
    "as it is": BASE,
    "first layer not whitened, but trained": [*BASE, "init=default", "freeze_after=null"],
    "first layer's bias trained to the end": [*BASE, "freeze_after=null"],
    "SGD in place of Muon": SGD,
    "flips by chance": [*BASE, "augmentation.hflip=0.5"],
    "no flips": [*BASE, "augmentation.hflip=0"],
    "no label smoothing": [*BASE, "augmentation.label_smoothing=0"],
    "tested on one view": [*BASE, "tta=none"],
    "trained on the hardest half of each batch": [*BASE, "hardest=0.5"],
    "with lookahead": [*BASE, "lookahead=0.95"],
}
TABLES = {"cifar10_94": CIFAR10_94, "defaults": DEFAULTS}


def results(folder: Path, seeds: int, words: list[str]) -> list[tuple[float, float]]:
    """(test accuracy in %, seconds) of each seed."""
    line = [sys.executable, "-m", "imgcls", "-m", *words, f"output={folder}"]
    subprocess.run([*line, f"seed={','.join(map(str, range(seeds)))}", "progress=none"], check=True)
    found = [json.loads(path.read_text()) for path in folder.glob("*/result.json")]
    assert len(found) == seeds, f"{folder} has {len(found)} runs; choose another folder"
    return [(100 * result["test"]["acc"], result["seconds"]) for result in found]


def main() -> None:
    """Print a line for each variant as it is done."""
    table, folder, *words = sys.argv[1:]
    if table not in TABLES:
        sys.exit(f"{table}: choose from {', '.join(TABLES)}")
    seeds = int(words.pop(0)) if words and words[0].isdecimal() else 3
    print(f"{'':40} {'accuracy, %':>16} {'seconds':>10}")
    for number, (name, own) in enumerate(TABLES[table].items()):
        accuracies, seconds = zip(*results(Path(folder) / str(number), seeds, [*own, *words]), strict=True)
        spread = statistics.stdev(accuracies) if seeds > 1 else 0.0
        mean = f"{statistics.mean(accuracies):.2f} ± {spread:.2f}"
        print(f"{name:40} {mean:>16} {statistics.median(seconds):10.1f}", flush=True)


if __name__ == "__main__":
    main()
