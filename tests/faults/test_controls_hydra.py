"""What a plain Hydra application does: its sweeps, its folders and its answers to mistakes.

As in test_controls.py, what fails here has been mended there, and our way round it can go.
"""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import hydra
import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

APP = """
    import os, signal, sys
    import hydra
    from hydra.experimental.callback import Callback

    class Sees(Callback):
        def on_multirun_end(self, config, **more):
            print("seen to the end", flush=True)

    class Fails(Callback):
        def on_job_end(self, config, **more):
            raise RuntimeError("the results are lost")

    @hydra.main(config_path=".", config_name="config", version_base="1.3")
    def main(config):
        print(f"job {config.x}", flush=True)
        if config.x == 1:
            if config.how == "raise":
                raise KeyError("nobody expected this")
            if config.how == "exit":
                sys.exit(7)
            if config.how == "signal":
                os.kill(os.getpid(), signal.SIGINT)
        1 / (1 + config.x)

    main()
"""


class App:
    """The application in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "app.py").write_text(dedent(APP))
        (folder / "config.yaml").write_text("x: 0\nhow: none\nhydra: {sweep: {dir: out}, run: {dir: out}}\n")

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        asked = [sys.executable, "app.py", *words]
        return subprocess.run(asked, cwd=self.folder, capture_output=True, text=True, timeout=60)


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(tmp_path)


def jobs(done: subprocess.CompletedProcess[str]) -> list[str]:
    return re.findall(r"job (\S+)$", done.stdout, re.MULTILINE)


def test_fault_39_ctrl_c_in_a_sweep(app: App) -> None:
    """No word on what was not begun, and callbacks do not hear of the end (Hydra 3078, 3262)."""
    done = app("-m", "x=0,1,2", "how=signal", "+hydra.callbacks.sees._target_=__main__.Sees")
    assert jobs(done) == ["0", "1"]
    assert done.returncode not in (0, 130)
    assert "seen to the end" not in done.stdout and "x=2" not in done.stderr


def test_fault_41_jobs_that_raise(app: App) -> None:
    """Of two only the first is told, and the logs in their folders are empty (Hydra 2284, 3215, 3227)."""
    done = app("-m", "x=0,1,-1", "how=raise")
    assert (jobs(done), done.returncode) == (["0", "1", "-1"], 1)
    assert "KeyError" in done.stderr and "ZeroDivisionError" not in done.stderr
    assert [(app.folder / f"out/{job}/app.log").stat().st_size for job in range(3)] == [0, 0, 0]


def test_fault_42_a_job_that_exits(app: App) -> None:
    """Takes the sweep along."""
    done = app("-m", "x=0,1,2", "how=exit")
    assert (jobs(done), done.returncode) == (["0", "1"], 7)


def test_fault_43_the_same_command_again(app: App) -> None:
    """Begins with the first job (Hydra 1407, 3328)."""
    assert [jobs(app("-m", "x=0,2")) for _ in range(2)] == [["0", "2"]] * 2


def test_fault_44_a_bad_value_in_the_middle(app: App) -> None:
    """The job before has run by then."""
    done = app("-m", "x=0,abc,2")
    assert jobs(done)[:2] == ["0", "abc"] and done.returncode == 1


def test_fault_45_a_callback_that_fails(app: App) -> None:
    """Is a warning; whatever it had to write is lost."""
    done = app("+hydra.callbacks.fails._target_=__main__.Fails")
    assert done.returncode == 0 and "the results are lost" in done.stderr


def test_fault_46_two_runs_in_one_second(app: App) -> None:
    """Folders are named by the second, and taken if they are there (Hydra 1817, 2925)."""
    default = Path(hydra.__file__).with_name("conf") / "hydra/output/default.yaml"
    assert "dir: outputs/${now:%Y-%m-%d}/${now:%H-%M-%S}" in default.read_text()
    assert [app("hydra.run.dir=out/12-00-00").returncode for _ in range(2)] == [0, 0]
    assert len([path for path in (app.folder / "out").iterdir() if path.is_dir()]) == 1


def test_fault_62_a_key_that_was_added_as_told(tmp_path: Path) -> None:
    """Hydra's own advice on a misspelt key leads to an error of another kind, and of many lines."""
    (tmp_path / "config.yaml").write_text("optim: {_target_: torch.optim.SGD, lr: 0.1}\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = compose("config", ["+optim.momentun=0.9"])
    with pytest.raises(InstantiationException) as caught:
        instantiate(config.optim, params=nn.Linear(1, 1).parameters())
    assert len(str(caught.value).splitlines()) > 1 and "momentum" not in str(caught.value)


def test_fault_66_a_comma_for_a_point(app: App) -> None:
    """Several lines, none of which says what was meant."""
    done = app("x=0,1")
    assert done.returncode == 1 and "0.1" not in done.stderr and len(done.stderr.splitlines()) > 2


def test_fault_78_words_that_are_no_setting(app: App) -> None:
    """A traceback."""
    done = app("=3")
    assert done.returncode == 1 and len(done.stderr.splitlines()) > 2


def test_fault_79_a_class_that_is_misspelt() -> None:
    """The nearest name is not told."""
    with pytest.raises(InstantiationException) as caught:
        instantiate({"_target_": "torch.optim.Adamm"}, params=[])
    assert re.search(r"\bAdam\b", str(caught.value)) is None


def test_fault_127_a_name_that_leaves_its_folder(app: App) -> None:
    """A folder is taken as it is typed."""
    assert app("+name=../escaped", "hydra.run.dir=out/${name}").returncode == 0
    assert (app.folder / "escaped").is_dir()
