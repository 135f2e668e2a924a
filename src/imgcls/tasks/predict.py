"""Label image files with a finished run: a table with the five likeliest classes, and a sheet to look at."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from imgcls.errors import DataError
from imgcls.runs import Run, csv_text, writable, write_text
from imgcls.tasks.evaluate import settings_of, weights_of

BATCH = 256  # images read and predicted at a time
TABLE, SHEET = "predictions.csv", "predictions.png"


def main(config: dict[str, Any], folder: Path, typed: Sequence[str] = ()) -> None:
    """Predict on `source`; a file that cannot be read is named and left out, and the exit code is 3."""
    run = Run.existing(config["run"])
    settings = settings_of(run, config, typed)
    fit = config["fit"] if "fit" in typed else settings["dataset"].get("fit", config["fit"])
    rows, broken = predict(run, settings, config["source"], fit, Run(folder))
    for row in rows[:10]:
        print(f"{row['file']}: {row['class_1']} ({row['confidence_1']:.1%})")
    if len(rows) > 10:
        print(f"… and {len(rows) - 10:,} more")
    print(f"in {folder}/:\n  {TABLE}  {SHEET}")
    if broken:
        raise DataError(
            f"{len(broken)} of {len(rows) + len(broken)} files could not be read. Replace or remove them."
        )


def predict(
    run: Run, config: dict[str, Any], source: str, fit: str, room: Run
) -> tuple[list[dict[str, Any]], list[str]]:
    """(one row per image, complaints about unreadable files); writes the table and the sheet into `room`."""
    from imgcls import build, checkpoints
    from imgcls.data.images import find_images

    files = find_images(source)
    writable(room.path)
    classifier = build.restored(config, checkpoints.load(weights_of(run, config["select"])))
    rows: list[dict[str, Any]] = []
    broken: list[str] = []
    shown: list[Any] = []
    trainer = build.trainer(config)
    for paths, pixels in _batches(files, classifier.domain, fit, broken):
        rows += _label(trainer, classifier, paths, pixels)
        shown += list(pixels[: max(0, 40 - len(shown))])
    _write(room, rows, shown)
    return rows, broken


def _batches(files: list[Path], domain: Any, fit: str, broken: list[str]) -> Iterator[tuple[list[Path], Any]]:
    """Files and their pixels, uint8 (N, H, W, C), a batch at a time; says and notes what is unreadable."""
    import numpy as np

    from imgcls.data.images import read_image

    for start in range(0, len(files), BATCH):
        paths, pixels = [], []
        for path in files[start : start + BATCH]:
            try:
                pixels.append(read_image(path, domain.image_channels, domain.image_size, fit))
                paths.append(path)
            except DataError as error:
                print(f"imgcls: skipped: {error}", file=sys.stderr)
                broken.append(str(error))
        if paths:
            yield paths, np.stack(pixels)


def _label(trainer: Any, classifier: Any, paths: list[Path], pixels: Any) -> list[dict[str, Any]]:
    """The likeliest classes of a batch, one row per image."""
    import torch
    from torch.utils.data import DataLoader

    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    loader: Any = DataLoader([batch], batch_size=None)  # type: ignore[arg-type]
    logits = torch.cat(trainer.predict(classifier, loader))
    names = classifier.domain.classes
    confidence, top = logits.float().softmax(1).topk(min(5, len(names)))
    rows = []
    for path, shares, labels in zip(paths, confidence.tolist(), top.tolist(), strict=True):
        row: dict[str, Any] = {"file": str(path)}
        for place, (share, label) in enumerate(zip(shares, labels, strict=True), 1):
            row |= {f"class_{place}": names[label], f"confidence_{place}": round(share, 6)}
        rows.append(row)
    return rows


def _write(room: Run, rows: list[dict[str, Any]], shown: list[Any]) -> None:
    import numpy as np

    from imgcls import figures

    write_text(room / TABLE, csv_text(rows, [] if rows else ["file"]))
    said = [row["class_1"] for row in rows[: len(shown)]]
    sure = [row["confidence_1"] for row in rows[: len(shown)]]
    title = f"{len(shown)} of {len(rows):,} images, as the network sees them"
    figures.save(
        figures.predictions(
            np.stack(shown) if shown else np.zeros((0, 8, 8, 1), np.uint8), None, said, sure, title
        ),
        room / SHEET,
    )
