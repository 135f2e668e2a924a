"""A process that dies anywhere in the writing of a checkpoint leaves a good one, and none under suspicion."""

import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from checkpointed import folder, save, state
from same import differences

from imgcls import checkpoints, manifest
from imgcls.runs import BEST, LAST, MANIFEST, PREVIOUS, Run

DIED = 9
# What a folder has before, and what is saved then
CASES = {
    "first of all": ([], LAST),
    "first best": ([], BEST),
    "last beside a best": ([(BEST, 10), (LAST, 20)], LAST),
    "another best": ([(BEST, 10), (LAST, 10)], BEST),
    "first best after savings inside an epoch": ([(LAST, 3), (LAST, 6)], BEST),
    "last after the first best": ([(LAST, 3), (LAST, 6), (BEST, 10)], LAST),
    "second without a hold-out": ([(LAST, 10)], LAST),
    "third without a hold-out": ([(LAST, 10), (LAST, 20)], LAST),
}


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk: it is processes that die here, not the machine."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def died(number: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that dies before its call `number` of fsync, rename or unlink."""
    if not (child := os.fork()):
        left = number

        def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
            def perhaps(*args: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(DIED)
                return call(*args, **more)

            return perhaps

        try:
            for name in ("fsync", "replace", "unlink"):
                setattr(os, name, deadly(getattr(os, name)))
            work()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, DIED)
    return code == DIED


def assert_good(run: Run, steps: set[int]) -> None:
    """Each checkpoint that is there is whole, of one of these steps, and as the manifest says."""
    for path in run.path.glob("*.ckpt"):
        found = checkpoints.load(path)
        assert found["global_step"] in steps
        assert not list(differences(found, state(found["global_step"])))


@pytest.mark.parametrize("twice", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["", "twice"])
@pytest.mark.parametrize(
    "recorded", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["", "older version"]
)
@pytest.mark.parametrize("case", CASES)
def test_at_every_kill_point_there_is_a_good_one(
    case: str, recorded: bool, twice: bool, tmp_path: Path
) -> None:
    """Every file that is there is good, none is older than what was there, and the same command goes on."""
    before, file = CASES[case]
    steps = [step for _, step in before]
    for number in count():
        run = folder(tmp_path / f"{number}", *before)
        if not recorded:
            (run / MANIFEST).unlink(missing_ok=True)
        works = [lambda: save(run, file, 30)] + [lambda: save(run, file, 40)] * twice  # noqa: B023
        first, *_ = [died(number, work) for work in works]
        if not first:
            break
        assert_good(run, {*steps, 30, 40})
        newest = checkpoints.newest(run)
        assert not steps or newest is not None
        assert not steps or checkpoints.load(newest)["global_step"] >= max(s for f, s in before if f == LAST)
        save(run, LAST, 50)
        assert checkpoints.newest(run) == run / LAST
        assert_good(run, {*steps, 30, 40, 50})
        assert len(manifest.read(run.path)[LAST]) == 1
        shutil.rmtree(run.path)
    assert number >= 6  # flushing and renaming a file and its entry, and the entry once more


def test_what_is_kept_beside_the_last(tmp_path: Path) -> None:
    """The last but one, until there is a best."""
    run = folder(tmp_path / "run", (LAST, 1))
    assert {path.name for path in run.path.iterdir()} == {LAST, MANIFEST}
    save(run, LAST, 2)
    save(run, LAST, 3)
    assert {path.name for path in run.path.iterdir()} == {LAST, PREVIOUS, MANIFEST}
    assert checkpoints.load(run / PREVIOUS)["global_step"] == 2
    save(run, BEST, 4)
    save(run, LAST, 5)
    assert {path.name for path in run.path.iterdir()} == {LAST, BEST, MANIFEST}
    assert set(manifest.read(run.path)) == {LAST, BEST}
