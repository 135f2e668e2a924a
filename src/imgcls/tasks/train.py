"""Train a network, test it once, and leave a run folder that explains itself."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgcls import stops, summary
from imgcls.distributed import launch
from imgcls.errors import DivergedError
from imgcls.runs import BEST, CONFIG, LAST, MANIFEST, METRICS, Run
from imgcls.tasks.evaluate import weights_of

log = logging.getLogger(__name__)
FILES = [CONFIG, METRICS, LAST, BEST, "result.json", "report.txt", "predictions.npz", MANIFEST, "imgcls.log"]
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


@stops.ending()
def train(config: dict[str, Any], run: Run) -> dict[str, Any]:
    """Train in a claimed run folder and write all its files; returns the result."""
    import torch

    from imgcls import __version__, build, dashboards, memory, report
    from imgcls.distributed import ranks
    from imgcls.health import run as needs

    memory.pass_over_modules()

    with ranks.after_rank_0():
        images = build.data(config)
    if ranks.several():
        ranks.agree({"data": images.source.digest, "torch": torch.__version__, "imgcls": __version__})
    classifier = build.classifier(config, images)
    needs.require_room(config, classifier, run.path)
    trainer = build.trainer(config, run)
    if config["features"] == "cached":
        build.features(config, classifier, images, trainer)
    print(describe(config, images), f"→ {run.path}/", sep="\n", flush=True)
    diverged = _fit(config, trainer, classifier, images, run)
    if diverged:
        trainer = build.trainer(config)  # the other's callbacks have heard that it is over
    result, kept = _test(config, trainer, classifier, images, run)
    if diverged:
        _note(diverged, result)
    if trainer.is_global_zero:
        report.write(run, result, kept, images.tested, now=dashboards.there(trainer))
    dashboards.finish(trainer, result, kept, images.tested)
    return result


def describe(config: Mapping[str, Any], images: Any) -> str:
    """What is about to be trained, in one line."""
    held = f" + {len(images.val_rows):,} held out" if len(images.val_rows) else ""
    names = {
        key: config[key]["name"]
        for key in ("model", "optimizer", "schedule", "augmentation", "scaling", "init")
    }
    if file := config["init"].get("file"):
        names["init"] = file
    return (
        f"{names['model']} on {images.source.title} ({len(images.train_rows):,} images{held}): "
        f"{names['optimizer']}, lr {config['optimizer']['lr']:g} ({names['schedule']}), "
        f"batch {config['batch_size']}, {config['epochs']} epochs, augmentation {names['augmentation']}, "
        f"scaling {names['scaling']}, init {names['init']}, seed {config['seed']}"
    )


def _fit(
    config: Mapping[str, Any], trainer: Any, classifier: Any, images: Any, run: Run
) -> DivergedError | None:
    """Train to the end; returns how it diverged, if that is to be recorded."""
    from imgcls.checkpoints import Stopped, newest
    from imgcls.distributed import ranks

    last = ranks.collected(None if launch.rank() else newest(run))[0]
    if last:
        log.info("continues from %s", last)
    try:
        trainer.fit(classifier, datamodule=images, ckpt_path=last, weights_only=True)
    except Stopped as stop:
        print(f"stopped at {stop}; saved. The same command continues.")
        raise SystemExit(stop.exit_code) from None
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # a second Ctrl-C: Lightning says 1
            raise KeyboardInterrupt from end
        raise
    except DivergedError as error:
        if config["on_divergence"] == "stop":
            raise
        return error
    return None


def _note(diverged: DivergedError, result: dict[str, Any]) -> None:
    """Say of a result that it is of a run which diverged."""
    result["diverged"] = {**diverged.where, "why": str(diverged)}
    note = f"diverged: {diverged} The scores are of its {result['weights']} checkpoint before that."
    result["warnings"].insert(0, note)


def _test(
    config: dict[str, Any], trainer: Any, classifier: Any, images: Any, run: Run
) -> tuple[dict[str, Any], Any]:
    from imgcls import build, checkpoints, record
    from imgcls.scores import one_class

    weights = weights_of(run, config["select"])
    best = weights.name == BEST
    build.load_weights(classifier, checkpoints.load(weights))
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
        "tta": config["tta"],
        "test": test,
        "best": max(history, key=lambda r: (r["val/acc"], -r["val/loss"])) if best else None,
        "last": history[-1] if history else None,  # it may diverge in the first epoch
        "classes": classes,
        **cost,
        "seconds": round(seconds, 2),
        "images_per_second": round(len(images.train_rows) * len(history) / seconds, 1) if seconds else 0.0,
        "data": {
            "digest": images.source.digest,
            "train": len(images.train_rows),
            "val": len(images.val_rows),
            "test": len(images.test_rows),
        },
        "warnings": [w for w in [one_class(kept, classes)] if w],
        **record.machine(*_device(trainer)),
        "finished": record.now(),
    }
    return result, kept


def _device(trainer: Any) -> tuple[str, str]:
    kind = {"cuda": "gpu"}.get(trainer.strategy.root_device.type, trainer.strategy.root_device.type)
    return kind, str(trainer.precision)
