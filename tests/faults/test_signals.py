"""Signals in every phase of a run, a pair of ranks and a sweep: saved, the right code, nobody left.

Training on one and on two ranks, killed launchers and sweeps: tests/test_resume.py, tests/test_ranks.py,
tests/sweeps/test_sweep.py. Here are the phases that those do not reach.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from same import assert_same
from slowly import PHASES, Program, ended, wait_for

from imgcls.runs import Run


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


TWO = ("trainer=ddp_cpu", "trainer.timeout=60")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The last checkpoint of a run that nobody stops, on one or two ranks."""
    program = Program(tmp_path_factory.mktemp("whole"))

    def last(*words: str) -> Path:
        name = f"run-{len(words)}"
        program.finish(f"name={name}", *words)  # the second time it is only shown
        return program.folder / "out" / name / "last.ckpt"

    return last


TO: dict[str, Callable[["subprocess.Popen[str]", int], None]] = {
    "process": lambda process, number: process.send_signal(number),
    "group": lambda process, number: os.killpg(process.pid, number),
}
CASES = [
    ("fault-36", signal.SIGTERM, "test", "process", ()),
    *(("fault-37", signal.SIGINT, phase, "process", ()) for phase in PHASES),
    *(("fault-36 kubernetes", signal.SIGTERM, phase, "process", ()) for phase in PHASES[:2]),
    *(("fault-38", signal.SIGHUP, phase, "process", ()) for phase in ("training", "test")),
    *(("fault-38 slurm", signal.SIGUSR1, phase, "process", ()) for phase in ("training", "test")),
    *(
        (fault, number, phase, "group", ("dataset.resident=false", "dataset.num_workers=2"))
        for fault, number in (("fault-37 loaders", signal.SIGINT), ("fault-36 loaders", signal.SIGTERM))
        for phase in PHASES
    ),
]


def name(case: tuple[Any, ...]) -> str:
    fault, number, phase, to, _ = case
    return f"{fault} {number.name} {phase} {to}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "number", "phase", "to", "words"), CASES, ids=[name(case) for case in CASES]
)
def test_one_process(
    fault: str, number: int, phase: str, to: str, words: tuple[str, ...], program: Program, whole: Any
) -> None:
    """128 + n, a line that says how to go on, no complaint, and then the bits of an uninterrupted run."""
    process = program.start("name=run", *words, seconds=0.3)
    wait_for(program, process, phase)
    out, err = ended(process, lambda: TO[to](process, number))
    assert (process.returncode, err) == (128 + number, "")
    said = out.splitlines()[-1]
    if phase == "test":
        assert said == "stopped. The same command continues."
    else:
        assert said.startswith("stopped at epoch ") and said.endswith("; saved. The same command continues.")
    assert program.run.result is None
    told = program.finish("name=run", *words)
    assert "continues from" in told and "test accuracy" in told
    assert_same(whole(), program.run / "last.ckpt")


@pytest.mark.slow
def test_fault_37_a_second_ctrl_c_stops_at_once(program: Program) -> None:
    """In the middle of a step, with nothing saved."""
    process = program.start("name=run", seconds=8)
    while not (program.folder / "phases").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    _, err = ended(process, lambda: process.send_signal(signal.SIGINT))
    assert process.returncode == 130
    assert err == "imgcls: stopped. The same command goes on.\n"


@pytest.mark.slow
def test_fault_36_a_kill_after_the_grace(program: Program) -> None:
    """Kubernetes and SLURM: SIGTERM, then SIGKILL before a step has ended. What was saved before goes on."""
    process = program.start("name=run", seconds=1)
    while len(program.run.history()) < 1 or not program.is_in("training", program.run):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    ended(process, process.kill)
    assert process.returncode in (-signal.SIGKILL, 128 + signal.SIGTERM)
    assert "continues from" in program.finish("name=run")
    assert [row["epoch"] for row in program.run.history()] == [1, 2]


RANKS = [
    *(
        ("fault-115", number, phase, "group")
        for number in (signal.SIGINT, signal.SIGTERM)
        for phase in PHASES[1:]
    ),
    *(("fault-115", signal.SIGTERM, "test", to) for to in ("rank 0", "rank 1")),
    *(("fault-115", signal.SIGINT, "validation", to) for to in ("rank 0", "rank 1")),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "phase", "to"), [case[1:] for case in RANKS], ids=[name((*case, ())) for case in RANKS]
)
def test_two_ranks(number: int, phase: str, to: str, program: Program, whole: Any) -> None:
    """A signal to the group or to one rank ends both, in validation and in the test, too."""
    words = ("name=run", *TWO)
    process = program.start(*words, seconds=0.3)
    wait_for(program, process, phase)
    ranks = {p.environ()["RANK"]: p for p in psutil.Process(process.pid).children() if "RANK" in p.environ()}

    def send() -> None:
        if to == "group":
            os.killpg(process.pid, number)
        else:
            ranks[to[-1]].send_signal(number)

    _, err = ended(process, send)
    assert (process.returncode, err) == (128 + number, "")
    program.finish(*words)
    assert_same(whole(*TWO), program.run / "last.ckpt")


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES[1:])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to", TO)
def test_a_sweep(to: str, number: int, phase: str, program: Program) -> None:
    """Faults 39 and 40: what runs is saved, no other job is begun, and the same command does the rest."""
    words = ("-m", "optimizer.lr=0.1,0.01", "batch_size=16")
    process = program.start(*words, seconds=0.3)

    def first() -> Run:
        return Run(next(iter(program.folder.glob("out/digits-*/config.yaml")), Path("none/x")).parent)

    while not program.is_in(phase, first()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    out, err = ended(process, lambda: TO[to](process, number))
    assert (process.returncode, err) == (128 + number, "")
    assert out.splitlines()[-1] == "imgcls: stopped; saved. The same command continues the sweep."
    assert "stopped" in out and "waiting" in out
    done = program.finish(*words)
    assert "best: " in done
    assert len(list(program.folder.glob("out/digits-*/result.json"))) == 2
