"""How a search went: its trials in their order, which values mattered, and where the best ones lie."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls.figures.style import BLUE, FAINT, INK, PALE, RED, fit, new_figure, percent, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
FEW_VALUES = 6  # of a key that were tried again and again: named choices


@styled()
def search(
    trials: Rows, importances: Mapping[str, float], keys: Sequence[str], logs: Collection[str], highest: bool
) -> Figure:
    """History, importances, and the score over the one or two most important keys.

    Args:
        trials: rows of trial (a number), state (COMPLETE, PRUNED, FAIL …), value (0..1 or None) and the keys.
        importances: share of each key.
        keys: one or two, for the last panel.
        logs: keys that are drawn on a log scale.
        highest: whether the highest value is the best.
    """
    figure = new_figure(f"search of {len(trials)} trials", 13, 4.2)
    history, shares, where = figure.subplots(1, 3, width_ratios=[1.2, 0.9, 1.2])
    done = [row for row in trials if row["state"] == "COMPLETE"]
    _history(history, trials, done, highest)
    _shares(shares, importances)
    _contour(where, done, keys, logs, highest)
    return figure


def _history(axes: Axes, trials: Rows, done: Rows, highest: bool) -> None:
    numbers, values = [row["trial"] for row in done], [row["value"] for row in done]
    best = (np.maximum if highest else np.minimum).accumulate(values)
    axes.scatter(numbers, values, s=16, color=PALE, label="finished")
    axes.step(numbers, best, where="post", color=BLUE, label="best so far")
    pruned = [row for row in trials if row["state"] == "PRUNED" and row["value"] is not None]
    if pruned:
        at, scores = ([row[key] for row in pruned] for key in ("trial", "value"))
        axes.scatter(at, scores, s=16, color=FAINT, marker="x", linewidths=1, label="pruned")
    if failed := [row["trial"] for row in trials if row["state"] == "FAIL"]:
        axes.plot(failed, [0.02] * len(failed), "|", color=RED, transform=axes.get_xaxis_transform())
    axes.set_title(fit(f"best {percent(round(best[-1], 4))}, failed {len(failed)}", 260, 11))
    axes.set(xlabel="trial", ylabel="validation accuracy")
    axes.locator_params(axis="x", integer=True)
    axes.yaxis.set_major_formatter(percent)
    axes.grid(axis="y")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=9)


def _shares(axes: Axes, importances: Mapping[str, float]) -> None:
    names = [fit(key, 110, 10) for key in importances]
    axes.barh(names, list(importances.values()), color=PALE, height=0.66)
    axes.invert_yaxis()
    axes.set(title="importance", xlim=(0, 1))
    axes.xaxis.set_major_formatter(percent)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def _contour(axes: Axes, done: Rows, keys: Sequence[str], logs: Collection[str], highest: bool) -> None:
    """The score as colour over two keys, or as height over one; the best trial is ringed."""
    values = np.array([row["value"] for row in done])
    sides = dict(zip(keys, "xy", strict=False))
    places = [_axis(axes, key, [row[key] for row in done], side, key in logs) for key, side in sides.items()]
    best = int(values.argmax() if highest else values.argmin())
    if len(keys) == 1:
        places.append(values)
        axes.set_ylabel("validation accuracy")
        axes.yaxis.set_major_formatter(percent)
        axes.scatter(places[0], values, s=20, color=BLUE)
    else:
        words = any(isinstance(row[key], str) for row in done for key in keys)
        if not words:  # between which there is nothing
            _levels(axes, places, values, [key in logs for key in keys])
        points = axes.scatter(
            places[0], places[1], c=values, s=24, cmap="Blues", edgecolors=INK, linewidths=0.5
        )
        axes.figure.colorbar(points, ax=axes, format=percent)
    axes.use_sticky_edges = False
    axes.margins(0.06)
    axes.scatter(places[0][best], places[1][best], s=80, c="none", edgecolors=RED, linewidths=1.8)
    axes.set_title(fit("best at " + ", ".join(f"{_short(done[best][key])}" for key in keys), 260, 11))


def _axis(axes: Axes, key: str, values: Sequence[Any], side: str, log: bool) -> np.ndarray:
    """Where values lie along an axis: numbers at their place; words, and a few numbers, side by side."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if numbers and len(set(values)) > min(FEW_VALUES, len(values) - 1):
        axes.set(**{f"{side}label": key} | ({f"{side}scale": "log"} if log else {}))
        getattr(axes, f"{side}axis").set_major_formatter(lambda value, _: f"{value:g}")
        return np.array(values, dtype=float)
    names = sorted(set(values)) if numbers else [*dict.fromkeys(map(str, values))]
    ticks = {f"{side}ticks": range(len(names)), f"{side}ticklabels": [*map(str, names)]}
    axes.set(**{f"{side}label": key} | ticks)
    return np.array([names.index(value if numbers else str(value)) for value in values], dtype=float)


def _levels(axes: Axes, places: Sequence[np.ndarray], values: np.ndarray, logs: Sequence[bool]) -> None:
    """Lines of equal score between the trials, where these span an area."""
    flat = [np.log10(place) if log else place for place, log in zip(places, logs, strict=True)]
    flat = [(place - place.mean()) / (np.ptp(place) or 1) for place in flat]
    if len(values) < 4 or np.linalg.matrix_rank(np.stack(flat), 1e-3) < 2:
        return
    from matplotlib.tri import Triangulation

    triangles = Triangulation(*flat).triangles  # of the scaled places: raw ones are slivers
    axes.tricontourf(
        Triangulation(places[0], places[1], triangles), values, levels=8, cmap="Blues", alpha=0.6
    )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
