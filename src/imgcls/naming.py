"""How a run is named: by its configuration.

The hash covers everything that can change the numbers, and nothing else, so that the same command always
finds the same folder, to continue in it or to show its result.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Settings that cannot change a number: where things lie, how they are shown and loaded; and all of logger.*
NOT_NUMBERS = {
    *("task", "name", "output", "restart", "run", "trust", "source", "fit", "progress", "checkpoint_minutes"),
    *("features", "what", "filter", "layer", "runs", "to", "on_divergence", "score"),
    *("dataset.root", "dataset.download", "dataset.resident", "dataset.num_workers", "dataset.cache"),
    *("shards", "shard_mb", "dataset.depot", "dataset.depot_gb"),
    *("paper", "rows", "seeds", "plan", "budget", "fraction", "axes"),
    *("trainer.profiler", "trainer.timeout"),
}
# Settings that change nothing at these values, as if they were not there: what is off is in no run's name
OFF: dict[str, Any] = {
    "tta": "none",
    "lookahead": None,
    "hardest": None,
    "freeze_after": None,
    "init.first": "default",
    "init.file": None,
    "init.head": "file",
    "optimizer.bias_lr": 1.0,
    "optimizer.head_lr": 1.0,
}
STUDIES = ("reproduce", "study")  # tasks that train many runs, each in a folder of its own


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The configuration as {dotted key: value}; lists stay values, and so does a mapping without keys."""
    rows: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            rows.update(flat(value, f"{prefix}{key}."))
        else:
            rows[f"{prefix}{key}"] = value
    return rows


def numbers(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that can change the numbers."""
    return {
        key: _exact(v)
        for key, v in flat(config).items()
        if key not in NOT_NUMBERS
        and not key.startswith("logger.")
        and not _is_label(key)
        and not (key in OFF and OFF[key] == v)
    }


def _is_label(key: str) -> bool:
    """What an option is called changes nothing: scaling=x2 is scaling.factor=2."""
    # By a schedule's name the code knows its shape
    return key.endswith(".name") and key != "schedule.name"


def _exact(value: Any) -> Any:
    """1 and 1.0 are the same setting."""
    if isinstance(value, list):
        return [_exact(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def digest(config: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name a configuration."""
    text = json.dumps(numbers(config), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def name(config: Mapping[str, Any]) -> str:
    """The run folder's name: `<dataset>-<model>-<hash>`, or what the user called it; rehearsals say so."""
    stem = config.get("name") or f"{config['dataset']['name']}-{config['model']['name']}-{digest(config)}"
    return f"debug-{stem}" if config.get("debug") else str(stem)


def folder(config: Mapping[str, Any]) -> Path:
    """Where this configuration's task writes: the run folder, or a room of its own in it."""
    if config["task"] == "convert":  # its log; what it makes is no run
        return Path(config["output"]) / f"convert-{Path(config['shards'] or '').name}"
    if config["task"] in STUDIES:
        return Path(config["output"]) / "papers"
    if config["task"] == "compare":  # the same runs, as they were asked for, have the same page
        asked = hashlib.sha256(json.dumps(config["runs"]).encode()).hexdigest()[:8]
        return Path(config["output"]) / "compare" / (config["name"] or (asked if config["runs"] else "all"))
    run = home(config["run"]) if config.get("run") else Path(config["output"]) / name(config)
    return run if config["task"] == "train" else run / str(config["task"])


def home(path: str | Path) -> Path:
    """The run folder that a path names, be it of a checkpoint in it."""
    path = Path(path)
    return path.parent if path.suffix == ".ckpt" else path


def room(config: Mapping[str, Any]) -> str:
    """Where a job of a sweep writes, below `hydra.sweep.dir`: an absolute path leaves that."""
    return name(config) if config["task"] == "train" else str(folder(config).resolve())
