"""What the folder of a run may ask for.

A configuration that comes with weights is data: nothing that it names is imported or resolved, unless conf/
names the same, or the user trusts the run.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from imgcls.cli.help import conf_folder
from imgcls.cli.kinds import spelt
from imgcls.errors import CheckpointError
from imgcls.naming import flat

MADE = ("model._target_", "dataset._target_", "optimizer._target_")  # what imgcls.build makes objects of


@cache
def targets() -> frozenset[str]:
    """All that the files in conf/ make objects of."""
    texts = (path.read_text(encoding="utf-8") for path in conf_folder().glob("*/*.yaml"))
    return frozenset(name for text in texts for name in re.findall(r"^_target_: *(\S+)", text, re.MULTILINE))


def refuse_code(path: Path, config: Mapping[str, Any]) -> None:
    """Raise CheckpointError if the configuration in the run folder `path` asks for anything but data."""
    for key, value in flat(config).items():
        if _asks_for_code(key, value):
            what = f"run={path} asks for code that is no part of imgcls ({key}={spelt(value)})"
            raise CheckpointError(f"{what}. Add trust=true if you trust who made it.")


def _asks_for_code(key: str, value: object) -> bool:
    if key in MADE:
        return value not in targets()
    special = any(part.startswith("_") for part in key.split("."))  # _target_, _partial_, _args_, … of Hydra
    return special or key.split(".")[0] == "hydra" or "${" in str(value)
