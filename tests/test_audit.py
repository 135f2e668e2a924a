"""make audit: what it fails on, and what it only says."""

import runpy
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

AUDIT = runpy.run_path(str(Path(__file__).parents[1] / ".ci" / "audit.py"))


def found(*fixes: str, needs: tuple[str, ...] = ("thing>=1,<2",)) -> tuple[bool, str]:
    """What is said of one vulnerability that these versions mend."""
    flaw = {"id": "PYSEC-1", "fix_versions": list(fixes)}
    packages: list[dict[str, Any]] = [
        {"name": "Thing", "version": "1.1", "vulns": [flaw]},
        {"name": "good", "version": "1", "vulns": []},
        {"name": "ours", "skip_reason": "not on the index"},
    ]
    (row,) = AUDIT["findings"]({"dependencies": packages}, AUDIT["bounds"](needs))
    return row


def test_what_a_version_within_all_bounds_mends() -> None:
    assert found("1.2", "2.0") == (True, "Thing 1.1: PYSEC-1. Use 1.2.")
    assert found("9.0", needs=()) == (True, "Thing 1.1: PYSEC-1. Use 9.0.")


@pytest.mark.parametrize("needs", [("thing>=1,<2",), ("thing>=1", "Thing<1.5", "thing>5 ; extra == 'other'")])
def test_what_none_mends(needs: tuple[str, ...]) -> None:
    good, line = found("2.0", needs=needs)
    assert not good
    assert line.startswith("Thing 1.1: PYSEC-1. No version within <")
    assert found(needs=needs)[0] is False


def test_every_requirement_here_is_understood() -> None:
    bounds = AUDIT["bounds"](need for package in distributions() for need in package.requires or [])
    assert not bounds["lightning"].contains("2.6.3")
    assert bounds["safetensors"].contains("0.8.0")
