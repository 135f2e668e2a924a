"""The notebooks: as they are stored, and run from top to bottom on a sliver of data."""

import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from imgcls import notebooks, papers
from imgcls.errors import ConfigError

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
SMALL = "epochs=1 dataset.limit=100 trainer.threads=1"


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def test_there_is_a_tour_one_for_own_images_and_one_for_each_paper() -> None:
    assert sorted(["tour", "your_own_images", *(paper.name for paper in papers.papers())]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_is_valid_and_stripped(name: str) -> None:
    book = read(name)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert all(set(cell.metadata) == set() for cell in book.cells)
    assert set(book.metadata) == {"kernelspec", "language_info"}
    assert len(code) < len(book.cells) < 3 * len(code)  # it says what it does


@pytest.mark.parametrize("name", NAMES)
def test_it_begins_with_a_title_and_its_parameters(name: str) -> None:
    first, second, *_ = read(name).cells
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert {"IMGCLS_SMALL", "IMGCLS_OUTPUT"} <= set(re.findall(r"IMGCLS_\w+", second.source))


def execute(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run it where Jupyter would, with its runs in another folder; returns it with its outputs."""
    monkeypatch.setenv("IMGCLS_SMALL", SMALL)
    monkeypatch.setenv("IMGCLS_OUTPUT", str(folder))
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    client = NotebookClient(
        read(name), timeout=200, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    before = sorted(FOLDER.iterdir())
    book = client.execute()
    assert sorted(FOLDER.iterdir()) == before  # all it writes is in the other folder
    return book


def outputs(book: Any, kind: str) -> int:
    """How many outputs of a kind there are."""
    return sum(kind in out.get("data", {}) for cell in book.cells for out in cell.get("outputs", []))


def test_own_images_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outputs(execute("your_own_images", tmp_path, monkeypatch), "image/png") == 3


@pytest.mark.slow
def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outputs(execute("tour", tmp_path, monkeypatch), "image/png") == 5


@pytest.mark.slow
@pytest.mark.parametrize("name", [paper.name for paper in papers.papers()])
def test_a_papers_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = execute(name, tmp_path, monkeypatch)
    assert outputs(book, "text/markdown") == 1  # the tables
    assert outputs(book, "image/png") == 1
    assert len(list(tmp_path.glob("digits-*/result.json"))) >= 2


def test_a_table_has_our_number_where_there_is_a_run(tmp_path: Path) -> None:
    """And says of the others that they are not run."""
    before = notebooks.beside("clark", str(tmp_path))
    run = before.entries[6].jobs[0].run
    run.path.mkdir(parents=True)
    result = '{"test": {"acc": 0.9876, "n": 10000, "loss": 0.1}, "last": {"train/acc": 0.99}, "best": null, '
    result += '"epochs": 50, "seconds": 60, "versions": {}, "finished": "2026-01-01", "device_name": "x", '
    result += '"precision": "32-true", "commit": null, "seed": 0, "parameters": 1, "dataset": "mnist"}'
    (run / "result.json").write_text(result)
    text = notebooks.tables(notebooks.beside("clark", str(tmp_path)))
    row = next(line for line in text.splitlines() if line.startswith("| text.07 "))
    assert "98.76" in row
    assert run.path.name in row
    assert text.count("| not run |") == 14


def test_a_mistake_is_raised() -> None:
    with pytest.raises(ConfigError, match="epochs=0 must be a whole number"):
        notebooks.run("epochs=0")
