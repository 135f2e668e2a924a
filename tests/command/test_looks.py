"""Tasks that only look: no folder, no log, and an answer to what they do not know."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def test_it_leaves_nothing_behind(answer: Any, here: Path) -> None:
    code, errors, out = answer("task=list", "what=options", "filter=schedule")
    assert (code, errors) == (0, [])
    assert "schedule=cosine" in out
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("task=list what=lr", "task=list what=lr is not known. Choose from: models, datasets, runs, groups,"),
        ("task=list", "task=list needs what=…. Choose from: models"),
        ("task=find what=models", "task=find what=models is not known. Choose from: lr, batch_size."),
        ("what=models", "what=models is for task=list. Add that, or leave it out."),
        ("what=nonsense", "what=nonsense is for task=list or task=find."),
        ("filter=resnet", "filter=resnet is for task=list."),
    ],
)
def test_a_wrong_what_is_answered_with_the_choices(words: str, said: str, answer: Any) -> None:
    code, errors, _ = answer(*words.split())
    assert code == 2
    assert len(errors) == 1
    assert said in errors[0]


def test_doctor_leaves_nothing_behind(answer: Any, here: Path) -> None:
    """A folder that it cannot write to is bad, whatever else is good."""
    code, errors, out = answer("task=doctor", "output=/proc/nowhere")
    assert (code, errors) == (4, [])
    assert "bad\toutput\t/proc cannot be written" in out
    assert list(here.iterdir()) == []


def test_a_broken_plugin_is_named(here: Path) -> None:
    """Hydra imports all plugins for every command, so each says which to remove; the doctor still works."""
    plugin = here / "path" / "hydra_plugins" / "worn_out"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text("raise ValueError('mutable default')")
    for task, output in (("train", "stderr"), ("doctor", "stdout")):
        done = subprocess.run(
            [sys.executable, "-m", "imgcls", f"task={task}"],
            env={**os.environ, "PYTHONPATH": str(here / "path")},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 4
        assert "hydra_plugins.worn_out" in getattr(done, output)
        assert "cannot be imported (ValueError: mutable default)" in getattr(done, output)
        assert "Traceback" not in done.stderr
