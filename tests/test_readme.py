"""Every command of the README is understood, and those that need no download run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgcls.cli import arguments, command

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.replace("\\\n", "").splitlines()]
COMMANDS = [line.removeprefix("python -m imgcls ") for line in LINES if line.startswith("python -m imgcls")]
DOWNLOADS = ("dataset=mnist", "dataset=fashion_mnist", "=cifar10", "paper=", "rows=")
QUICK = ["epochs=1", "dataset.limit=40", "batch_size=16", "dataset.val_fraction=0.2", "trainer.threads=1"]


def run(*words: str, folder: Path) -> str:
    """What a command prints; it must succeed."""
    line, offline = [sys.executable, "-m", "imgcls", *words], {**os.environ, "WANDB_MODE": "offline"}
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=folder, env=offline)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run called NAME, photos and the README's own group."""
    folder = tmp_path_factory.mktemp("home")
    run(*QUICK, "name=NAME", folder=folder)
    for number in range(40):
        path = folder / "photos" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 30, 3), 5 * number, np.uint8)).save(path)
    script = next(block for block in BLOCKS if "YAML" in block).split("python -m")[0]
    subprocess.run(["bash", "-c", script], cwd=folder, check=True)
    return folder


def test_there_are_commands() -> None:
    """The README has not lost them."""
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("words", [c for c in COMMANDS if not c.startswith("--")])
def test_each_is_understood(words: str) -> None:
    """Without a problem."""
    typed = arguments.read(shlex.split(words))
    assert command.examine(typed.overrides, typed.sweeps, typed.options.config_dir).problems == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [c for c in COMMANDS if not any(d in c for d in DOWNLOADS)])
def test_each_runs(words: str, home: Path) -> None:
    """As it stands, on a sliver of the data."""
    trains = "task=" not in words and "--help" not in words and "debug=" not in words
    more = [f"output={home / 'outputs'}", *(QUICK if trains else [])]
    out = run(
        *[word.split(",")[0] if "batch_size" in word else word for word in shlex.split(words)],
        *more,
        folder=home,
    )
    assert out


def test_debug_run_from_another_folder(tmp_path: Path) -> None:
    """The quickest whole run there is, with conf/ found from anywhere."""
    out = run("debug=fdr", folder=tmp_path)
    assert "test accuracy" in out
    assert len(list((tmp_path / "outputs").glob("debug-digits-*/result.json"))) == 1
