"""A rank that dies, freezes or fails in any phase ends the other, in time; the cause is told last."""

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from same import assert_same
from slowly import Program, ended, wait_for

TIMEOUT = 8  # seconds that a rank waits for another (trainer.timeout)
TWO = ("name=run", "trainer=ddp_cpu", f"trainer.timeout={TIMEOUT}")
DIED = "imgcls: error: rank 1 of 2 was ended by SIGKILL. The same command goes on from the last checkpoint; "
FROZE = "imgcls: error: rank 1 of 2 no longer answered (trainer.timeout). The same command goes on "
# In the middle of an epoch a rank raises what nobody expected
RAISING = """
    import os
    import slow
    class Raising(slow.Slow):
        def forward(self, x):
            if self.training and os.environ["RANK"] == "1":
                raise KeyError("nobody expected this")
            return super().forward(x)
    def network(**facts):
        made = slow.network(**facts)
        made.__class__ = Raising
        return made
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def hit(process: Any, number: int) -> None:
    """Send rank 1 a signal."""
    (rank,) = (p for p in psutil.Process(process.pid).children() if p.environ().get("RANK") == "1")
    rank.send_signal(number)


CASES = [
    *(("fault-113", signal.SIGKILL, phase, DIED) for phase in ("training", "validation", "test")),
    *(("fault-114", signal.SIGSTOP, phase, FROZE) for phase in ("training", "test")),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "phase", "said"),
    [case[1:] for case in CASES],
    ids=[f"{fault} {number.name} {phase}" for fault, number, phase, _ in CASES],
)
def test_a_rank_is_lost(number: int, phase: str, said: str, program: Program) -> None:
    """One line says which and what to do, exit code 4; no process is left, and the same command goes on."""
    process = program.start(*TWO, seconds=0.3)
    wait_for(program, process, phase)
    _, err = ended(process, lambda: hit(process, number), within=TIMEOUT + 10)
    assert process.returncode == 4
    assert err.splitlines()[-1].startswith(said)
    assert "test accuracy" in program.finish(*TWO)
    program.finish("name=whole", *TWO[1:])
    assert_same(program.run.path.with_name("whole") / "last.ckpt", program.run / "last.ckpt")


@pytest.mark.slow
def test_fault_113_a_rank_that_raises(program: Program) -> None:
    """Its own error is the last line, not what the other says of the connection."""
    program.add("raising", RAISING)
    process = program.start(*TWO, "model=raising", seconds=0.1)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("imgcls: error: KeyError: 'nobody expected this' (traceback in ")
    assert not psutil.pid_exists(process.pid)
