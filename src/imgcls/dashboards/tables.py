"""The result of a run on Weights & Biases: summary, tables, pictures, weights. Reads the run folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import wandb

from imgcls.runs import BEST, LAST, RESULT

SCORES = ("acc", "top5", "loss", "precision", "recall", "f1")
MOST_CELLS = 10_000  # rows that W&B shows of a table


def show(run: Any, room: Path, job: dict[str, Any]) -> None:
    """Everything that there is once the network is tested."""
    folder = room.parent
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    test, classes = result["test"], result["classes"]
    facts = ("parameters", "multiply_adds", "seconds", "images_per_second", "epochs", "weights", "commit")
    run.summary.update({f"test/{name}": test[name] for name in SCORES})
    run.summary.update({name: result[name] for name in facts if name in result})
    pictures = {path.stem: wandb.Image(str(path)) for path in sorted(folder.glob("*.png"))}
    run.log(
        {
            **_confusion(np.asarray(test["confusion"] or []), classes),
            "test/classes": _classes(test, classes),
            "test/samples": _samples(room / "samples.npz", classes),
            **{f"pictures/{name}": picture for name, picture in pictures.items()},
        }
    )
    if job["artifacts"]:
        weights = wandb.Artifact(job["name"], type="model", metadata={"test/acc": test["acc"]})
        weights.add_file(str(folder / (BEST if result["weights"] == "best" else LAST)))
        run.log_artifact(weights)


def _confusion(matrix: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """W&B's own chart, from the counts; of many classes only the cells that are not empty."""
    if not matrix.size:
        return {}
    cells = [
        [classes[true], classes[said], int(count)]
        for (true, said), count in np.ndenumerate(matrix)
        if count or matrix.size <= MOST_CELLS
    ]
    columns: list[str | int] = ["Actual", "Predicted", "nPredictions"]
    chart = wandb.plot_table(
        "wandb/confusion_matrix/v1",
        wandb.Table(columns=columns, data=cells),
        {str(name): str(name) for name in columns},
        {"title": "Test set"},
    )
    return {"test/confusion": chart}


def _classes(test: dict[str, Any], classes: list[str]) -> wandb.Table:
    scores, images = test["classes"], test["classes"]["images"]
    names = ("precision", "recall", "f1")
    rows = [[name, images[k], *(scores[score][k] for score in names)] for k, name in enumerate(classes)]
    return wandb.Table(columns=["class", "images", *names], data=rows)


def _samples(path: Path, classes: list[str]) -> wandb.Table:
    with np.load(path) as kept:
        rows = [
            [wandb.Image(image.squeeze()), classes[true], classes[said], float(sure), bool(true == said)]
            for image, true, said, sure in zip(
                kept["pixels"], kept["labels"], kept["top"], kept["confidence"], strict=True
            )
        ]
    return wandb.Table(columns=["image", "true", "predicted", "confidence", "right"], data=rows)
