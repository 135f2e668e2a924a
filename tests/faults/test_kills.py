"""kill -9 at random moments of writing, with the system's temp folder on another file system."""

import itertools
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from checkpointed import save, state
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from imgcls import checkpoints
from imgcls.errors import CheckpointError
from imgcls.runs import BEST, LAST, Run

pytestmark = pytest.mark.slow
NUMBERS = 5_000_000  # two tensors of so many: 40 MB, which takes long enough to be hit


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """A temp folder on another file system."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    with TemporaryDirectory(dir=shared) as folder:
        yield folder


def writes(writer: CheckpointIO, step: int, files: list[Path], temp: str) -> int:
    """Begin to write checkpoints of rising steps, for ever; returns the process."""
    if child := os.fork():
        return child
    try:
        tempfile.tempdir = temp
        for number in itertools.count(step):
            for file in files:
                writer.save_checkpoint(state(number, NUMBERS), file)
    finally:
        os._exit(1)


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)


@pytest.mark.parametrize("files", [[LAST], [BEST, LAST]], ids=["last", "best and last"])
def test_ours_is_never_broken(files: list[str], tmp_path: Path, elsewhere: str) -> None:
    """Twenty kills, one after another in the same folder: all that is there is good, and never older."""
    run, draw, step = Run(tmp_path), random.Random(0), 0
    for file in files:
        save(run, file, step)
    for _ in range(20):
        process = writes(checkpoints.AtomicIO(), step + 1, [run / file for file in files], elsewhere)
        time.sleep(draw.uniform(0, 2))
        kill(process)
        for path in run.path.glob("*.ckpt"):
            checkpoints.load(path)
        newest = checkpoints.newest(run)
        assert newest is not None
        before, step = step, checkpoints.load(newest)["global_step"]
        assert step >= before
    assert step > 0
    assert not list(Path(elsewhere).iterdir())


def test_the_control_lightnings_own_writer_leaves_half_a_file(tmp_path: Path, elsewhere: str) -> None:
    """Killed while the file under the final name is shorter than it was."""
    path = tmp_path / LAST
    stock = TorchCheckpointIO()
    stock.save_checkpoint(state(1, NUMBERS), path)
    whole = path.stat().st_size
    process = writes(stock, 2, [path], elsewhere)
    while path.stat().st_size == whole:
        pass
    kill(process)
    assert path.stat().st_size < whole
    with pytest.raises(Exception):  # noqa: B017  # torch raises a dozen kinds
        TorchCheckpointIO().load_checkpoint(path, weights_only=True)
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged"):
        checkpoints.load(path)
