"""The ledger of faults: each has its tests, those are there, and the documentation counts as it does."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

TESTS = Path(__file__).parents[1]
DOCS = TESTS.with_name("docs") / "reliability.md"
LEDGER: dict[int, dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("ledger.yaml").read_text())
COUNT = 129
NAMED = re.compile(r"(?P<file>[\w/]+\.py)::(?P<test>test_\w+)(\[(?P<case>.+)\])?")


@cache
def contents(file: str) -> tuple[str, set[str]]:
    """(text, names of the test functions) of a file."""
    text = (TESTS / file).read_text(encoding="utf-8")
    found = {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    return text, {name for name in found if name.startswith("test_")}


def is_there(case: str, text: str) -> bool:
    """Whether a case's id stands in a file, or fault-N in a table with a row that begins with N."""
    number = case.removeprefix("fault-")
    row = rf'^\s*\(\s*{number},\s*f?"' if number.isdigit() else "$^"
    return f'"{case}' in text or re.search(row, text, re.MULTILINE) is not None


def test_every_fault_has_its_entry() -> None:
    assert list(LEDGER) == list(range(1, COUNT + 1))
    assert len({entry["title"] for entry in LEDGER.values()}) == COUNT
    for number, entry in LEDGER.items():
        assert entry.keys() <= {"title", "tests", "control", "left"}, number
        assert entry.get("tests") or entry.get("left"), number


@pytest.mark.parametrize("number", LEDGER)
def test_what_is_named_is_there(number: int) -> None:
    entry = LEDGER[number]
    for named in [*entry.get("tests", ()), *filter(None, [entry.get("control")])]:
        found = NAMED.fullmatch(named)
        assert found, named
        text, tests = contents(found["file"])
        assert found["test"] in tests, named
        assert not found["case"] or is_there(found["case"], text), named


@pytest.mark.parametrize(
    "file", sorted(path.name for path in Path(__file__).parent.glob("test_controls*.py"))
)
def test_every_control_is_of_a_fault(file: str) -> None:
    named = " ".join(str(entry.get("control")) for entry in LEDGER.values())
    assert [name for name in sorted(contents(f"faults/{file}")[1]) if f"{file}::{name}" not in named] == []


def test_the_documentation_counts_as_the_ledger() -> None:
    text = " ".join(DOCS.read_text(encoding="utf-8").split())
    having = {key: sum(key in entry for entry in LEDGER.values()) for key in ("tests", "control", "left")}
    assert f"{having['tests']} of the {COUNT} faults have a case, {having['control']} a control" in text
    assert f"Of {having['left']} a part is left:" in text
