"""What dashboards may know of a configuration: plain values, and no secrets."""

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from imgcls.naming import NOT_NUMBERS

SECRET = re.compile(r"(^|[_.-])(token|secret|password|passwd|api_?key|credentials?)$", re.IGNORECASE)
LONG = 128  # characters that W&B takes for a group's name


def public(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without texts that are secret by their key, or by an environment variable."""
    hidden = [*secrets().values()]
    return {key: _public(key, value, hidden) for key, value in config.items()}


def secrets() -> dict[str, str]:
    """The environment variables that are secret by their names."""
    return {name: text for name, text in os.environ.items() if SECRET.search(name) and len(text) >= 8}


def _public(key: str, value: Any, secrets: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {name: _public(name, part, secrets) for name, part in value.items()}
    if isinstance(value, list):
        return [_public(key, part, secrets) for part in value]
    hidden = isinstance(value, str) and (SECRET.search(key) or any(secret in value for secret in secrets))
    return "(hidden)" if hidden else value


def sweep() -> str | None:
    """What the jobs of a sweep have in common: the words it was started with. None outside of one."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    words = [word for word in sys.argv[1:] if not word.startswith("-") and _counts(word)]
    return " ".join(words)[:LONG] or None


def _counts(word: str) -> bool:
    """Whether an override can change a number."""
    key = word.partition("=")[0].lstrip("+")
    return key not in NOT_NUMBERS and not key.startswith(("logger", "hydra"))
