"""Check that a run folder still is what its training left: digests, counts and scores. Changes nothing."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from imgcls import manifest, table
from imgcls.errors import CheckpointError
from imgcls.runs import BEST, CONFIG, LAST, MANIFEST, METRICS, PREDICTIONS, PREVIOUS, RESULT, Run
from imgcls.tasks import evaluate

UNRECORDED = "no digest is recorded"


class Check(NamedTuple):
    """One thing that was looked at: in which file, what was found, and whether that is as it should be."""

    file: str
    found: str
    good: bool = True


def main(config: Mapping[str, Any], config_dir: str | None = None, typed: Sequence[str] = ()) -> None:
    """Print what was checked, and of the score too if that is asked for.

    Raises:
        CheckpointError: naming the first file that is not as it was.
    """
    run = Run.existing(config["run"], config["output"])
    done: list[Check] = []

    def rows() -> Iterator[list[str]]:
        for check in examine(run, config, typed):
            done.append(check)
            yield ["ok" if check.good else "BAD", check.file, check.found]

    table.show(["mark", "file", "found"], rows(), {"ok": "green", "BAD": "bold red"})
    if bad := [check for check in done if not check.good]:
        others = dict.fromkeys(check.file for check in bad[1:] if check.file != bad[0].file)
        more = f" (and {', '.join(others)})" if others else ""
        raise CheckpointError(f"{run / bad[0].file}: {bad[0].found}{more}. {manifest.REMEDY}")
    print(f"{run.path}: {len(done)} checks, everything as it was written")


def examine(run: Run, config: Mapping[str, Any], typed: Sequence[str]) -> Iterator[Check]:
    """All checks; what they tell of a score makes sense only where the files are good."""
    found = list(files(run))
    yield from found
    if all(check.good for check in found):
        found = list(counts(run))
        yield from found
        if config["score"] and all(check.good for check in found):
            yield score(run, config, typed)


def files(run: Run) -> Iterator[Check]:
    """Each file that is recorded, or ought to be."""
    try:
        entries = manifest.read(run.path)
    except CheckpointError:
        yield Check(MANIFEST, "damaged", good=False)
        entries = {}
    for file in entries:
        try:
            yield Check(file, described(manifest.recorded(run / file)))
        except manifest.Altered as how:
            yield Check(file, str(how), good=False)
    for file in (LAST, BEST, PREVIOUS):
        if file not in entries and (run / file).exists():
            yield loaded(run / file)
    for file in (CONFIG, METRICS, PREDICTIONS, RESULT):
        if file not in entries and (run / file).exists():
            yield Check(file, UNRECORDED)


def described(entry: manifest.Entry) -> str:
    """What a good file is."""
    where = f" (epoch {entry['epoch']}, step {entry['step']})" if "step" in entry else ""
    return f"{entry['bytes']:,} bytes as they were written{where}"


def loaded(path: Path) -> Check:
    """A checkpoint that is not recorded: what its zip format says of itself."""
    from imgcls import checkpoints

    try:
        checkpoints.load(path)
    except CheckpointError as error:
        return Check(path.name, str(error).removeprefix(f"{path} is ").partition(". ")[0], good=False)
    return Check(path.name, f"{UNRECORDED}; its CRC-32 is right")


def counts(run: Run) -> Iterator[Check]:
    """The numbers of a finished run against each other."""
    if not (run / RESULT).exists():
        yield Check(RESULT, "is not there: the run is not finished")
        return
    try:
        result = json.loads((run / RESULT).read_bytes())
        test, data, epochs = result["test"], result["data"], result["epochs"]
        labels, said = answers(run / PREDICTIONS)
    except (OSError, ValueError, LookupError, TypeError) as error:
        yield Check(RESULT, f"cannot be read, or {PREDICTIONS} beside it ({error})", good=False)
        return
    counted = [sum(map(sum, test["confusion"]))] if test["confusion"] else []  # very many classes have none
    there = (test["n"], data["test"], *counted)
    yield _compared(PREDICTIONS, "images", len(labels), *there)
    right = sum(label == answer for label, answer in zip(labels, said, strict=True))
    yield _compared(PREDICTIONS, "of them right, which is the accuracy", right / len(labels), test["acc"])
    yield _compared(METRICS, "epochs", len(run.history()), epochs)


def answers(path: Path) -> tuple[list[int], list[int]]:
    """(labels, first answers) of the test images."""
    import numpy as np

    with np.load(path) as kept:
        return kept["labels"].tolist(), kept["top"][:, 0].tolist()


def _compared(file: str, what: str, here: float, *there: float) -> Check:
    if all(abs(here - other) < 1e-7 for other in there):  # a score may be in single precision
        return Check(file, f"{here:,} {what}, as in {RESULT}")
    others = ", ".join(f"{other:,}" for other in there)
    return Check(file, f"{here:,} {what}, but {others} in {RESULT}", good=False)


def score(run: Run, config: Mapping[str, Any], typed: Sequence[str]) -> Check:
    """The test once more, with the weights and the settings of the run."""
    settings = evaluate.settings_of(run, config, typed)
    again, kept, _ = evaluate.tested(run, settings)
    result = run.result
    assert result is not None  # its file has been read
    if again["data"]["digest"] != result["data"]["digest"]:
        return Check(RESULT, "is of other data than what is here now", good=False)
    labels, said = answers(run / PREDICTIONS)
    same = sum(old == new for old, new in zip(said, kept["top"][:, 0].tolist(), strict=True))
    now, then = again["test"]["acc"], result["test"]["acc"]
    told = f"tested again: accuracy {now:.6g}, {same:,} of {len(labels):,} answers the same"
    if now == then:
        return Check(RESULT, told)
    return Check(RESULT, f"{told}; it says {then:.6g}, on {result['device_name']}", good=False)
