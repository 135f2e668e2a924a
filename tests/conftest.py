"""What tests of many files need."""

import signal
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import pytest

from imgcls.cli import command

# A shell that runs the tests in the background has Ctrl-C ignored, here and in all that is started from here
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tests run side by side; torch with all cores in each would be slower, not faster."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def outside_hydra() -> Iterator[None]:
    """A command that Hydra ran in this process leaves its configuration there, which is over."""
    yield
    if "hydra.core.hydra_config" in sys.modules:
        sys.modules["hydra.core.hydra_config"].HydraConfig.instance().cfg = None


@cache
def _composed(*overrides: str) -> dict[str, Any]:
    config, problems = command.check(overrides)
    assert problems == []
    return config


@pytest.fixture
def compose() -> Callable[..., dict[str, Any]]:
    """Overrides → the plain configuration that they compose to, without a mistake in it."""
    return lambda *overrides: deepcopy(_composed(*overrides))
