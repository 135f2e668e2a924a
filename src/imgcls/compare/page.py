"""The page: one HTML file with its data, its pictures and plotly.js in it, which opens without a network."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.compare import pairs, pictures, swept
from imgcls.compare import prepare as prepared
from imgcls.compare.answers import reliability
from imgcls.compare.collect import Entry
from imgcls.compare.prepare import Comparison, TestSet
from imgcls.figures.style import PALETTE
from imgcls.runs import write_text

INDEX = "index.html"
ASSETS = Path(__file__).parent / "assets"
# Of a run folder, with what a link to each is called
LINKS = {
    "curves": "curves",
    "confusion": "confusion",
    "per_class": "classes",
    "right": "right",
    "wrong": "wrong",
}
DECIMALS = 5


def write(folder: Path, found: Comparison, facts: Sequence[str], root: str | None) -> Path:
    """Write index.html; `facts` are lines for its top, `root` is as for `pictures.load`."""
    data = {
        "facts": list(facts),
        "palette": PALETTE,
        "alpha": pairs.ALPHA,
        "by": found.by.key if found.by else None,
        # Beside the names, where no scrolling hides them
        "columns": [asdict(c) for c in sorted(found.columns, key=lambda c: c.key not in found.metrics)],
        "rows": [_row(folder, *each) for each in zip(found.entries, found.rows, strict=True)],
        "drawn": [*range(min(prepared.TOP, len(found.rows)))],
        "curves": [prepared.curves(entry) for entry in found.entries],
        "swept": swept.panels(found.columns, found.rows, found.metrics),
        "sets": [_test_set(tests, found, root) for tests in found.sets],
    }
    names = [tests.title for tests in found.sets]
    where = ", ".join(names) if len(names) < 4 else f"{len(names)} test sets"
    title = f"{len(found.rows):,} runs on {where}"
    write_text(folder / INDEX, _filled(title, data))
    return folder / INDEX


def _filled(title: str, data: Mapping[str, Any]) -> str:
    from html import escape

    from plotly.offline import get_plotlyjs

    parts = {name: (ASSETS / f"{name}.js").read_text("utf-8") for name in ("table", "plots", "pairs")}
    parts["style"] = (ASSETS / "style.css").read_text("utf-8")
    parts["title"] = escape(title)
    parts["plotly"] = get_plotlyjs()
    # Within a script element, only this sequence could end it
    parts["data"] = json.dumps(_rounded(data), separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    text = (ASSETS / "page.html").read_text("utf-8")
    pieces = [piece.partition("}}") for piece in text.split("{{")]
    return pieces[0][0] + "".join(parts[name] + after for name, _, after in pieces[1:])


def _rounded(value: Any) -> Any:
    """Numbers with as many digits as anybody can see."""
    if isinstance(value, float):
        return float(f"{value:.{DECIMALS}g}")
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value


def _row(folder: Path, entry: Entry, row: Mapping[str, Any]) -> dict[str, Any]:
    """A run with links that hold as long as its folder and the page's are moved together."""
    place = Path(os.path.relpath(entry.run.path.resolve(), folder.resolve()))
    there = {text: f"{name}.png" for name, text in LINKS.items() if (entry.run / f"{name}.png").exists()}
    return {
        "run": row["run"],
        "link": _address(place) + "/",
        "pictures": [[text, _address(place / file)] for text, file in there.items()],
        "cells": {key: value for key, value in row.items() if key not in ("run", "dir")},
    }


def _address(path: Path) -> str:
    from urllib.parse import quote

    return quote(path.as_posix())


def _test_set(tests: TestSet, found: Comparison, root: str | None) -> dict[str, Any]:
    results = [found.entries[place].result["test"] for place in tests.top]
    readable = len(tests.classes) <= prepared.CLASSES
    return {
        "title": tests.title,
        "about": about(tests, found),
        "images": tests.images,
        "classes": tests.classes,
        "runs": len(tests.runs),
        "top": tests.top,
        "pairs": tests.pairs,
        "recall": [result["classes"]["recall"] for result in results],
        "confusion": [result["confusion"] for result in results] if readable else None,
        "reliability": [reliability(each) for each in tests.answers],
        **_shots(tests, found.entries, root),
    }


def about(tests: TestSet, found: Comparison) -> str:
    """Which runs are compared in pairs, in a sentence."""
    if len(tests.top) < 2:
        return f"{tests.title}: it takes two runs with predictions.npz on the same test images."
    order = {"val_acc": "validation accuracy", "test_acc": "test accuracy"}[found.metric]
    which = "All" if len(tests.top) == len(tests.runs) else f"The {len(tests.top)} best by {order} of"
    return (
        f"{which} {len(tests.runs):,} runs on {tests.title} ({tests.images:,} test images). "
        "To compare others, name them: runs=[FOLDER,FOLDER]."
    )


def _shots(tests: TestSet, entries: Sequence[Entry], root: str | None) -> dict[str, Any]:
    """Images that one run has right and another wrong, or why there are none."""
    if len(tests.top) < 2:
        return {"sheet": None, "note": ""}
    wanted = pictures.rows_of(tests)
    rows = sorted({row for each in wanted.values() for row in each})
    if not rows:
        return {"sheet": None, "note": "The runs have the same images right."}
    images, why = pictures.load(tests, entries, root)
    if images is None:
        return {"sheet": None, "note": why}
    small = pictures.thumbnails(images.pixels, rows)
    tiles = {row: tile for tile, row in enumerate(rows)}
    return {
        "sheet": pictures.sheet(small),
        "tile": [small.shape[2], small.shape[1]],
        "across": pictures.ACROSS,
        "shots": {key: [_shot(tests, key, row, tiles[row]) for row in each] for key, each in wanted.items()},
    }


def _shot(tests: TestSet, key: str, row: int, tile: int) -> dict[str, Any]:
    """One image: what it is, and what the run that has it wrong said with what confidence."""
    wrong = tests.answers[int(key.partition("/")[2])]
    sure = float(np.round(wrong.confidence[row], 4))
    return {"tile": tile, "is": int(wrong.labels[row]), "said": int(wrong.said[row]), "sure": sure}
