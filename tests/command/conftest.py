"""A command line in an empty folder, with tasks that need no torch."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.plugins import Plugins

from imgcls import __main__ as entry

Answer = tuple[int, list[str], str]  # exit code, lines on stderr, stdout


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty working folder; what Hydra does to logging and sys.argv is undone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["imgcls"])
    # In this process, where a test can see the jobs. Hydra has its own copies of the classes of plugins
    launcher = Plugins.instance().class_name_to_class["hydra_plugins.imgcls_launchers.PoolLauncher"]
    for method in ("setup", "launch"):
        monkeypatch.setattr(launcher, method, getattr(BasicLauncher, method))
    yield tmp_path
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def answer(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run a command line."""

    def run(*words: str) -> Answer:
        code: Any = 0
        try:
            entry.main(list(words))
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, err.splitlines(), out

    return run


@pytest.fixture
def jobs(here: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The configurations that reach the task; a fake one, which needs no torch."""
    seen: list[dict[str, Any]] = []

    def main(config: dict[str, Any], folder: Path, typed: list[str]) -> float:
        seen.append(config | {"folder": folder, "typed": typed})
        return 0.5

    monkeypatch.setitem(sys.modules, "imgcls.tasks.train", SimpleNamespace(main=main))
    return seen


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write files into a folder for --config-dir."""
    folder = tmp_path_factory.mktemp("own")

    def write(file: str, text: str) -> Path:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return folder

    return write
