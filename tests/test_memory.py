"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys, torch
from imgcls import memory
if sys.argv[1] == "keep":
    memory.keep_freed()
def step():
    torch.ones(16 << 20)  # 64 MB
for _ in range(3): step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20): step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_a_step_asks_the_system_for_nothing():
    def faults(word: str) -> int:
        run = subprocess.run([sys.executable, "-c", COUNT, word], capture_output=True, text=True, check=True)
        return int(run.stdout)

    assert faults("keep") < 1000
    assert faults("leave") > 20 * 1000  # why it is there: 16,384 pages of 4 kB in each block


def test_the_end_is_quick_and_silent():
    """Where all that was imported is freed piece by piece, that takes over a second."""
    code = "from imgcls import build, memory, report; memory.pass_over_modules(); print('said')"
    end = "import sys; print('heard', file=sys.stderr); raise SystemExit(3)"
    run = subprocess.run([sys.executable, "-c", f"{code}; {end}"], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (3, "said\n", "heard\n")
