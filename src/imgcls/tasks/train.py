"""Train a network, test it once, and leave a run folder that explains itself."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgcls import summary
from imgcls.distributed import launch
from imgcls.runs import BEST, CONFIG, LAST, METRICS, Run

log = logging.getLogger(__name__)
FILES = [CONFIG, METRICS, LAST, BEST, "result.json", "report.txt", "predictions.npz", "imgcls.log"]
PICTURES = ["curves.png", "confusion.png", "per_class.png", "right.png", "wrong.png"]


def main(config: dict[str, Any], folder: Path, typed: Sequence[str] = ()) -> float:
    """Train, or go on, or show what is finished; returns the accuracy to choose by."""
    run = Run(folder)
    run.claim(config)
    try:
        result = run.result
        if result:
            print(f"finished already ({result['finished']}); restart=true trains anew.")
        else:
            result = launch.everywhere(train, config, run)
        summary.show(result["title"], result, run.path, FILES + PICTURES)
    finally:
        run.release()
    return float((result["best"] or {}).get("val/acc", result["test"]["acc"]))


def train(config: dict[str, Any], run: Run) -> dict[str, Any]:
    """Train in a claimed run folder and write all its files; returns the result."""
    from imgcls import build, dashboards, report
    from imgcls.distributed import ranks

    with ranks.after_rank_0():
        images = build.data(config)
    classifier = build.classifier(config, images)
    trainer = build.trainer(config, run)
    if config["features"] == "cached":
        build.features(config, classifier, images, trainer)
    print(describe(config, images), f"→ {run.path}/", sep="\n", flush=True)
    _fit(trainer, classifier, images, run)
    result, kept = _test(config, trainer, classifier, images, run)
    if trainer.is_global_zero:
        report.write(run, result, kept, images.tested)
    dashboards.finish(trainer, result, kept, images.tested)
    return result


def describe(config: Mapping[str, Any], images: Any) -> str:
    """What is about to be trained, in one line."""
    held = f" + {len(images.val_rows):,} held out" if len(images.val_rows) else ""
    names = {
        key: config[key]["name"]
        for key in ("model", "optimizer", "schedule", "augmentation", "scaling", "init")
    }
    return (
        f"{names['model']} on {images.source.title} ({len(images.train_rows):,} images{held}): "
        f"{names['optimizer']}, lr {config['optimizer']['lr']:g} ({names['schedule']}), "
        f"batch {config['batch_size']}, {config['epochs']} epochs, augmentation {names['augmentation']}, "
        f"scaling {names['scaling']}, init {names['init']}, seed {config['seed']}"
    )


def _fit(trainer: Any, classifier: Any, images: Any, run: Run) -> None:
    from imgcls.checkpoints import Stopped

    last = run / LAST if (run / LAST).exists() else None
    if last:
        log.info("continues from %s", last)
    try:
        trainer.fit(classifier, datamodule=images, ckpt_path=last, weights_only=True)
    except Stopped as stop:
        print(f"stopped at {stop}; saved. The same command continues.")
        raise SystemExit(stop.exit_code) from None


def _test(
    config: dict[str, Any], trainer: Any, classifier: Any, images: Any, run: Run
) -> tuple[dict[str, Any], Any]:
    from imgcls import build, checkpoints, record
    from imgcls.scores import one_class

    best = config["select"] == "best" and (run / BEST).exists()
    build.load_weights(classifier, checkpoints.load(run / (BEST if best else LAST)))
    cost = record.cost(classifier.network, classifier.domain.channels, classifier.domain.size)
    trainer.test(classifier, datamodule=images, verbose=False)
    test, kept = classifier.scores.full(), classifier.scores.kept()
    history = run.history()
    seconds = sum(row["seconds"] for row in history)
    classes = classifier.domain.classes
    result = {
        "title": f"{config['model']['name']} on {images.source.title}",
        "run": run.path.name,
        "model": config["model"]["name"],
        "dataset": config["dataset"]["name"],
        "seed": config["seed"],
        "epochs": len(history),
        "weights": "best" if best else "last",
        "test": test,
        "best": max(history, key=lambda r: (r["val/acc"], -r["val/loss"])) if best else None,
        "last": history[-1],
        "classes": classes,
        **cost,
        "seconds": round(seconds, 2),
        "images_per_second": round(len(images.train_rows) * len(history) / seconds, 1),
        "data": {
            "digest": images.source.digest,
            "train": len(images.train_rows),
            "val": len(images.val_rows),
            "test": len(images.test_rows),
        },
        "warnings": [w for w in [one_class(test["confusion"], classes)] if w],
        **record.machine(*_device(trainer)),
        "finished": record.now(),
    }
    return result, kept


def _device(trainer: Any) -> tuple[str, str]:
    kind = {"cuda": "gpu"}.get(trainer.strategy.root_device.type, trainer.strategy.root_device.type)
    return kind, str(trainer.precision)
