"""Whatever happens to the bytes of a checkpoint: a line that says so, never other weights without a word."""

import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpointed import folder, state
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from same import differences

from imgcls import checkpoints
from imgcls.errors import CheckpointError
from imgcls.runs import BEST, LAST, MANIFEST, PREVIOUS, Run

PAGE = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>nginx</body></html>"
Mutation = Callable[[random.Random, bytes, bytes], bytes]  # of a checkpoint; the other file is the second


def flip(draw: random.Random, good: bytes, other: bytes) -> bytes:
    """One bit."""
    place, bad = draw.randrange(len(good)), bytearray(good)
    bad[place] ^= 1 << draw.randrange(8)
    return bytes(bad)


def flips(draw: random.Random, good: bytes, other: bytes) -> bytes:
    """Several bits."""
    for _ in range(draw.randint(2, 50)):
        good = flip(draw, good, other)
    return good


def truncated(draw: random.Random, good: bytes, other: bytes) -> bytes:
    """The beginning, be it nothing, or all but a byte."""
    return good[: draw.choice([0, 1, len(good) - 1, draw.randrange(len(good))])]


def overwritten(draw: random.Random, good: bytes, other: bytes) -> bytes:
    """Zeros, or noise, over a part: blocks that never reached the disk."""
    begin = draw.randrange(len(good))
    size = min(draw.choice([1, 64, 512, 4096]), len(good) - begin)
    return (
        good[:begin] + (bytes(size) if draw.random() < 0.5 else draw.randbytes(size)) + good[begin + size :]
    )


def moved(draw: random.Random, good: bytes, other: bytes) -> bytes:
    """A block in the place of another."""
    size = draw.choice([4, 64, 512])
    begin, end = draw.randrange(len(good) - size), draw.randrange(len(good) - size)
    return good[:end] + good[begin : begin + size] + good[end + size :]


def longer(draw: random.Random, good: bytes, other: bytes) -> bytes:
    """With something behind it, or before."""
    more = draw.choice([b"\0", b"\n", draw.randbytes(100), bytes(70_000), good])
    return good + more if draw.random() < 0.7 else more + good


def replaced(draw: random.Random, good: bytes, other: bytes) -> bytes:
    """Something else: a page of a server, zeros, noise, half of another checkpoint."""
    half = len(good) // 2
    return draw.choice([PAGE, bytes(len(good)), draw.randbytes(len(good)), other[:half] + good[half:]])


def swapped(draw: random.Random, good: bytes, other: bytes) -> bytes:
    """The run's other checkpoint, which is whole."""
    return other


IN_PLACE: tuple[Mutation, ...] = (flip, flips, truncated, overwritten, moved, longer, replaced)
MANY = [*range(40), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(40, 1000))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A folder with a best of step 30 and a last of step 40; another without a manifest is made of it."""
    return folder(tmp_path_factory.mktemp("run") / "run", (BEST, 30), (LAST, 40))


@pytest.mark.parametrize("seed", MANY)
def test_a_mutated_checkpoint_is_refused(seed: int, run: Run, tmp_path: Path) -> None:
    """With its digest always, unless nothing changed; by its CRC-32 alone, if it would give other weights."""
    draw, good, other = random.Random(seed), (run / LAST).read_bytes(), (run / BEST).read_bytes()
    mutation = (*IN_PLACE, swapped)[seed % (len(IN_PLACE) + 1)]
    bad = mutation(draw, good, other)
    recorded, alone = tmp_path / "run", tmp_path / "alone.ckpt"
    recorded.mkdir()
    for file in (BEST, MANIFEST):
        (recorded / file).write_bytes((run / file).read_bytes())
    (recorded / LAST).write_bytes(bad)
    if bad != good:
        with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged \(.*\)\. Restore it from a copy"):
            checkpoints.load(recorded / LAST)
        assert checkpoints.newest(Run(recorded)) == recorded / BEST
    alone.write_bytes(bad)
    if mutation is not swapped:
        try:
            found = checkpoints.load(alone)
        except CheckpointError as error:
            assert str(error).startswith(f"{alone} is ")
        else:
            assert not list(differences(found, state(40)))


DAMAGES = {
    "damaged (truncated: 100 of {size:,} bytes)": lambda good: good[:100],
    "damaged (its SHA-256 is not that of the {size:,} bytes that were written)": lambda good: good[::-1],
}


@pytest.mark.parametrize("other", [BEST, PREVIOUS])
@pytest.mark.parametrize("how", DAMAGES)
def test_the_next_good_one_is_gone_on_from(
    how: str, other: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says which and why; the damaged file is kept aside, where it cannot replace the good one."""
    run = folder(tmp_path / "run", (BEST if other == BEST else LAST, 30), (LAST, 40))
    good = (run / LAST).read_bytes()
    (run / LAST).write_bytes(DAMAGES[how](good))
    assert checkpoints.newest(run) == run / other
    what = how.format(size=len(good))
    assert caplog.messages == [f"{run / LAST} is {what}; going on from {other} (epoch 4, step 30)."]
    assert (run / f"{LAST}.damaged").read_bytes() == DAMAGES[how](good)
    assert checkpoints.newest(run) == run / other
    assert len(caplog.messages) == 1


def test_a_damaged_best_is_named_before_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = folder(tmp_path / "run", (BEST, 30), (LAST, 40))
    (run / BEST).write_bytes(PAGE)
    assert checkpoints.newest(run) == run / LAST
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{run / BEST} is damaged (truncated: {len(PAGE)} of ")
    assert caplog.messages[0].endswith("; going on from last.ckpt (epoch 5, step 40).")


def test_none_good_is_refused_and_nothing_touched(tmp_path: Path) -> None:
    """Exit code 6; training anew, which would lose what might be restored, must be asked for."""
    run = folder(tmp_path / "run", (BEST, 30), (LAST, 40))
    for file in (BEST, LAST):
        (run / file).write_bytes(PAGE)
    with pytest.raises(CheckpointError) as error:
        checkpoints.newest(run)
    assert error.value.exit_code == 6
    assert str(error.value).startswith(f"{run.path} has no good checkpoint: last.ckpt is damaged (")
    assert str(error.value).endswith("Restore it from a copy, or train anew (restart=true).")
    assert {path.name for path in run.path.iterdir()} == {BEST, LAST, MANIFEST}


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert checkpoints.newest(Run(tmp_path)) is None


def in_a_tensor(path: Path) -> bytes:
    """The file with one flipped bit, high in the exponent of a weight."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda each: each.file_size)
        content = archive.read(largest)
    bad = bytearray(path.read_bytes())
    bad[bad.index(content[:64]) + 3] ^= 64
    return bytes(bad)


def test_the_control_lightnings_own_reader_takes_a_flipped_bit_without_a_word(tmp_path: Path) -> None:
    """And gives other weights. Ours refuses, with and without a manifest."""
    run = folder(tmp_path / "run", (LAST, 40))
    (run / LAST).write_bytes(in_a_tensor(run / LAST))
    plain = TorchCheckpointIO().load_checkpoint(run / LAST, map_location="cpu", weights_only=True)
    changed = list(differences(plain, state(40)))
    assert len(changed) == 1
    assert "weight" in changed[0] or "momentum" in changed[0]
    for how in ("SHA-256", "CRC-32"):
        with pytest.raises(CheckpointError, match=rf"last\.ckpt is damaged \(.*{how}.*\)"):
            checkpoints.load(run / LAST)
        (run / MANIFEST).unlink(missing_ok=True)


def test_a_file_that_torch_wrote_for_somebody_else(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / LAST)
    with pytest.raises(CheckpointError, match=r"last\.ckpt is not a checkpoint of imgcls\."):
        checkpoints.load(tmp_path / LAST)
