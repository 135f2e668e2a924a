"""Run folders as training leaves them, but for the training: written by the project's own functions."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imgcls import report
from imgcls.cli import command
from imgcls.data import sources
from imgcls.runs import RESULT, Run, write_text
from imgcls.scores import Scores

SIZES = {"resnet20": (269_434, 2_516_608), "convnet": (93_322, 1_000_000)}  # parameters, multiply-adds


def composed(*words: str) -> dict[str, Any]:
    """The plain configuration of overrides without a mistake in them."""
    config, problems = command.check(words)
    assert problems == []
    return config


@cache
def digits() -> sources.Source:
    return sources.digits()


def answers(labels: torch.Tensor, accuracy: float, seed: int, classes: int = 10) -> torch.Tensor:
    """Logits (N, K) that are right on about this share of the images."""
    draw = np.random.default_rng(seed)
    logits = torch.from_numpy(draw.normal(size=(len(labels), classes)).astype(np.float32))
    right = torch.from_numpy(draw.random(len(labels)) < accuracy)
    said = torch.where(right, labels, torch.from_numpy(draw.integers(0, classes, len(labels))))
    logits[torch.arange(len(labels)), said] += 4
    return logits


def history(epochs: int, accuracy: float, val: bool) -> list[dict[str, float]]:
    rows = []
    for epoch in range(1, epochs + 1):
        share = accuracy * (1 - 0.5**epoch)
        row = {
            "epoch": float(epoch),
            "step": 10.0 * epoch,
            "lr": 0.1,
            "train/acc": share,
            "train/loss": 1 - share,
        }
        rows.append(
            row | ({"val/acc": share * 0.98, "val/loss": 1.1 - share} if val else {}) | {"seconds": 1.5}
        )
    return rows


def write(
    folder: Path,
    config: dict[str, Any],
    accuracy: float,
    seed: int = 0,
    labels: torch.Tensor | None = None,
    digest: str = "",
    title: str = "Digits",
) -> Run:
    """A finished run; of the digits, unless labels and a digest say otherwise."""
    labels = digits().test.labels if labels is None else labels
    run = Run(folder)
    run.claim(config)
    run.release()
    rows = history(config["epochs"], accuracy, val=config["dataset"]["val_fraction"] > 0)
    run.write_history(rows)
    scores = Scores(10)
    scores.update(answers(labels, accuracy, seed), labels, keep=True)
    report.write_arrays(run, scores.kept())
    model = config["model"]["name"]
    parameters, multiply_adds = SIZES[model]
    result = {
        "title": f"{model} on {title}",
        "run": folder.name,
        "model": model,
        "dataset": config["dataset"]["name"],
        "seed": config["seed"],
        "epochs": len(rows),
        "weights": "best",
        "test": scores.full(),
        "best": rows[-1] if "val/acc" in rows[-1] else None,
        "last": rows[-1],
        "classes": list("0123456789"),
        "parameters": parameters,
        "trainable": parameters,
        "multiply_adds": multiply_adds,
        "seconds": round(1.5 * len(rows), 2),
        "images_per_second": 1000.0,
        "data": {"digest": digest or digits().digest, "train": 1294, "val": 143, "test": len(labels)},
        "warnings": [],
        "device_name": "a CPU",
        "finished": "2026-01-02T03:04:05+00:00",
    }
    write_text(run / RESULT, json.dumps(result, indent=1))
    return run


def sweep(folder: Path) -> list[Run]:
    """Twelve runs: three learning rates, two batch sizes, two models."""
    found = []
    for model in ("resnet20", "convnet"):
        for place, lr in enumerate((0.1, 0.01, 0.001)):
            for size in (32, 64):
                words = (f"model={model}", f"optimizer.lr={lr}", f"batch_size={size}", "epochs=3")
                accuracy = 0.9 - 0.1 * place + (0.05 if model == "resnet20" else 0)
                name = f"{model}-{lr}-{size}"
                found.append(write(folder / name, composed(*words), accuracy, seed=len(found)))
    return found
