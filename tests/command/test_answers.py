"""What is answered without a task: help, configurations, folders that do not serve. Soon, without torch."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from imgcls import __version__
from imgcls.cli import command, help


@pytest.mark.parametrize("place", ["file/below", "/proc/imgcls"])
@pytest.mark.parametrize("words", ["output=", "hydra.run.dir=", "-m hydra.sweep.dir="])
def test_an_unwritable_folder(words: str, place: str, answer: Any, here: Path) -> None:
    (here / "file").write_text("")
    code, lines, out = answer(*(words + place).split())
    assert (code, len(lines), out) == (4, 1, "")
    assert lines[0].startswith(f"imgcls: error: cannot write to {place}")
    assert [path.name for path in here.iterdir()] == ["file"]


def test_a_run_that_is_not_there(answer: Any, here: Path) -> None:
    for name in ("digits-resnet20-1ac93cc5", "digits-resnet20-794423a4", "mnist-convnet-00000000"):
        (here / "outputs" / name).mkdir(parents=True)
        (here / "outputs" / name / "last.ckpt").touch()
    code, lines, _ = answer("task=evaluate", "run=digits-resnet20-1ac9")
    names = [Path(word).name for word in lines[0].partition("near: ")[2].strip(".").split(", ")]
    assert (code, len(lines), names[0]) == (6, 1, "digits-resnet20-1ac93cc5")


def test_what_a_run_has_settled_is_refused_at_once(answer: Any, here: Path) -> None:
    """Before torch is loaded, and before anything is written into the run."""
    run = here / "outputs" / "run"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("{dataset: {name: digits}, model: {name: x}, epochs: 20}")
    assert answer("task=evaluate", "run=outputs/run", "epochs=5")[:2] == (
        2,
        [
            "imgcls: error: outputs/run was trained with epochs=20, not 5. "
            "Leave epochs out, or train a new run."
        ],
    )
    assert [path.name for path in run.iterdir()] == ["config.yaml"]


def test_help(answer: Any) -> None:
    """Tasks, groups with what each option says of itself, keys, and six examples that run."""
    code, _, out = answer("--help")
    assert code == 0
    assert answer("-h", "--foo", "lr=abc")[2] == out
    for task in ("train", "evaluate", "predict"):
        assert f"\n  {task:<12}" in out
    for group, options in help.options([help.conf_folder()]).items():
        assert f"\n  {group}=\n" in out
        for option, comment in options.items():
            assert comment  # every file opens with what it is
            assert f"    {option}" in out
            assert f" {comment}\n" in out
    assert out.index("resnet20 ") < out.index("resnet110 ")
    examples = [
        line.split("   ")[0].split() for line in out.split("EXAMPLES\n")[1].split("\n\n")[0].splitlines()
    ]
    assert len(examples) == 6
    for python, flag, program, *words in examples:
        assert (python, flag, program) == ("python", "-m", "imgcls")
        sweeps = words[:1] == ["-m"]
        assert command.examine(words[sweeps:], sweeps).problems == []


def test_version(answer: Any) -> None:
    assert answer("--version") == (0, [], f"imgcls {__version__}\n")


def test_showing_the_configuration_asks_for_no_run(answer: Any, here: Path) -> None:
    """And writes nothing."""
    code, lines, out = answer("--cfg", "job", "task=evaluate", "lr=0.2")
    assert (code, lines) == (0, [])
    assert "\n  lr: 0.2\n" in out
    assert answer("--info", "defaults")[:2] == (0, [])
    assert list(here.iterdir()) == []


def test_completion(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", "imgcls optimizer=ada")
    monkeypatch.setenv("COMP_POINT", "20")
    assert answer("-sc", "query=bash")[2].split() == ["optimizer=adam", "optimizer=adamw"]


TORCHLESS = """
import sys
from imgcls.__main__ import main
try:
    main({words!r})
finally:
    heavy = {{"torch", "lightning", "numpy", "matplotlib", "sklearn"}} & set(sys.modules)
    assert not heavy, heavy
"""


@pytest.mark.parametrize(
    ("words", "code", "seconds"),
    [
        ("--help", 0, 0.8),
        ("--version", 0, 0.8),
        ("--cfg job", 0, 3),
        ("model=nosuch", 2, 3),
        ("optimizer.lrr=1 lr=abc", 2, 3),
        ("-m lr=0.1,0.2 seed=0,1,2 batch_size=64,0", 2, 3),
        ("optimizer._target_=torch.optim.Adamm", 2, 3),
        ("task=evaluate run=nosuch", 6, 3),
    ],
)
def test_answers_are_quick_and_need_no_torch(words: str, code: int, seconds: float, here: Path) -> None:
    """As a user starts it. Twice the time is allowed: machines that run tests are busy."""
    script = TORCHLESS.format(words=words.split())
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    took = time.perf_counter() - start
    print(f"{words}: {took:.2f} s")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert took < 2 * seconds
    assert list(here.iterdir()) == []


def test_python_m_and_the_script_are_the_same(here: Path) -> None:
    script = Path(sys.executable).with_name("imgcls")
    answers = [
        subprocess.run([*start, "epochs=0"], capture_output=True, text=True)
        for start in ([sys.executable, "-m", "imgcls"], [str(script)])
    ]
    assert {(a.returncode, a.stdout, a.stderr) for a in answers} == {
        (2, "", "imgcls: error: epochs=0 must be a whole number >= 1.\n")
    }
