"""Find a learning rate, or a batch size, by trying: `what=lr` and `what=batch_size`."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imgcls.runs import Run, writable

log = logging.getLogger(__name__)


def main(config: dict[str, Any], folder: Path, typed: Sequence[str] = ()) -> float:
    """Print what to set, with its table and its picture in `folder`; returns the value."""
    writable(folder)
    value, said = {"lr": learning_rate, "batch_size": batch_size}[config["what"]](config, Run(folder))
    print(said)
    print(f"in {folder}/:\n  {config['what']}.csv  {config['what']}.png")
    return value


def learning_rate(config: dict[str, Any], room: Run) -> tuple[float, str]:
    """(rate, what to say): a range test of the configured network, data and optimizer."""
    from imgcls import figures
    from imgcls.trials import rates

    trial = rates.test(config)
    room.write_table("lr.csv", [{"lr": r, "loss": raw, "smooth": s} for r, raw, s in trial.points])
    title = f"Learning rates: {config['model']['name']} on {config['dataset']['name']}"
    figures.save(figures.rates(trial.points, trial.best, title), room / "lr.png")
    low, high = trial.points[0][0], trial.points[-1][0]
    return trial.best, (
        f"the loss falls fastest at optimizer.lr={trial.best:.2g} ({len(trial.points)} steps "
        f"from {low:.0e} to {high:.2g}{', where it diverges' if trial.diverged else ''})"
    )


def batch_size(config: dict[str, Any], room: Run) -> tuple[float, str]:
    """(images, what to say): powers of two, until memory or the training images are used up."""
    from imgcls import figures
    from imgcls.trials import sizes

    points = list(sizes.test(config))
    room.write_table("batch_size.csv", points)
    best = sizes.smallest(points)
    title = f"Batch sizes: {config['model']['name']} on {config['dataset']['name']}"
    figures.save(figures.sizes(points, best, title), room / "batch_size.png")
    most = max(points, key=lambda point: point["images_per_second"])
    return best, (
        f"batch_size={best} is the smallest within {1 - sizes.NEAR:.0%} of the most images/s "
        f"({most['images_per_second']:,.0f} at {most['batch_size']}); "
        f"the largest that was tried and fits is {points[-1]['batch_size']}"
    )
