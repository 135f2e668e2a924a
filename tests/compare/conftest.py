"""A small sweep that looks finished."""

from pathlib import Path

import fabricate
import pytest

from imgcls.compare import collect, prepare


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve finished runs on the digits; nobody may write here."""
    folder = tmp_path_factory.mktemp("swept") / "outputs"
    fabricate.sweep(folder)
    return folder


@pytest.fixture(scope="session")
def compared(outputs: Path) -> prepare.Comparison:
    """The twelve runs side by side."""
    return prepare.compare(collect.load(collect.find(None, str(outputs))).entries)
