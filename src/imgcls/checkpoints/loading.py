"""Reading checkpoints: only those that are as they were written, and without running any code."""

import logging
import zipfile
from pathlib import Path
from typing import Any

import torch

from imgcls import manifest
from imgcls.errors import CheckpointError
from imgcls.manifest import REMEDY, Altered
from imgcls.runs import BEST, LAST, PREVIOUS, Run

log = logging.getLogger(__name__)


def load(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint of ours, exactly as it was written.

    Raises:
        CheckpointError: it is missing, damaged, or something else.
    """
    try:
        return _read(path, map_location or "cpu")
    except Altered as flaw:
        raise CheckpointError(f"{path} is {flaw}. {REMEDY}") from flaw.__cause__


def newest(run: Run) -> Path | None:
    """The newest good checkpoint of a run, to go on from; None where it has none at all.

    One that is no good is named in a line; last.ckpt is then put aside: it must not take a good one's place.

    Raises:
        CheckpointError: there are some, but none is good.
    """
    good, flawed = {}, {}
    for file in (LAST, BEST, PREVIOUS):
        if (run / file).exists():
            try:
                found = _read(run / file, "cpu")
                good[file] = f"{file} (epoch {found['epoch'] + 1}, step {found['global_step']})"
            except Altered as flaw:
                flawed[file] = str(flaw)
    if flawed and not good:
        what = ", ".join(f"{file} is {flaw}" for file, flaw in flawed.items())
        raise CheckpointError(f"{run.path} has no good checkpoint: {what}. {REMEDY}")
    for file, why in flawed.items():
        log.warning("%s is %s; going on from %s.", run / file, why, next(iter(good.values())))
    if LAST in flawed:
        (run / LAST).replace(run / f"{LAST}.damaged")
    return run / next(iter(good)) if good else None


def _read(path: Path, map_location: Any) -> dict[str, Any]:
    if not path.is_file():
        raise Altered("missing")
    try:
        manifest.recorded(path)
    except LookupError:  # of an older version, or by itself
        _check_zip(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for damaged and foreign files
        raise Altered(f"damaged or not a checkpoint ({path.stat().st_size:,} bytes)") from error
    if not isinstance(checkpoint, dict) or "imgcls" not in checkpoint:
        raise Altered("not a checkpoint of imgcls")
    return checkpoint


def _check_zip(path: Path) -> None:
    """Look at the CRC-32 of each part of the file, which torch does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except Exception as error:  # it may be anything
        raise Altered(f"damaged or not a checkpoint ({path.stat().st_size:,} bytes)") from error
    if bad:
        raise Altered(f"damaged (CRC-32 of {bad})")
