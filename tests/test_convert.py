"""From a folder to shards to a trained network: whole or not at all, and exact to the bit."""

import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from same import assert_same
from test_resume import fit

from imgcls import build, runs
from imgcls.__main__ import register_resolvers
from imgcls.cli import command
from imgcls.errors import ConfigError, DataError, ResourceError
from imgcls.tasks import convert, evaluate

SMALL = [
    *("model=resnet20", "model.width=4", "augmentation=affine", "epochs=3", "batch_size=16"),
    *("dataset.image_size=8", "dataset.val_fraction=0.2", "progress=none", "trainer.threads=1"),
]


def photos(root: Path, count: int = 50) -> Path:
    """Two classes of noise, one darker."""
    draw = np.random.default_rng(0)
    for label, name in enumerate(("ant", "bee")):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 128 + 120 * label, (12, 10, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def config_of(*words: str) -> dict[str, Any]:
    register_resolvers()
    config, problems = command.check(list(words))
    assert not problems, problems
    return config


def converted(root: Path, target: Path, *more: str) -> Path:
    words = ("task=convert", "dataset=folder", f"dataset.root={root}", f"shards={target}", *more)
    convert.main(config_of("shard_mb=0.004", *words), target.parent)
    return target


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return converted(photos(tmp_path / "photos"), tmp_path / "shards")


def streamed(shards: Path, *more: str) -> dict[str, Any]:
    return config_of(*SMALL, "dataset=streaming", f"dataset.root={shards}", "dataset.window=2", *more)


def test_a_conversion_says_what_it_made_and_how_to_use_it(tmp_path: Path, capsys: Any) -> None:
    target = converted(photos(tmp_path / "photos"), tmp_path / "shards")
    out = capsys.readouterr().out
    assert f"100 images in {len(list(target.glob('*.tar')))} shards" in out
    assert f"dataset=streaming dataset.root={target}" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "shards"]


def test_it_needs_a_new_folder_and_image_files(tmp_path: Path) -> None:
    words = ["task=convert", "dataset=folder", f"shards={tmp_path}"]
    assert command.check(words)[1] == [
        f"shards={tmp_path} is there already. Name another folder, or remove it."
    ]
    assert command.check(["task=convert"])[1] == [
        "task=convert needs a folder to make. Add shards=FOLDER.",
        "task=convert makes shards of image files, not of dataset=digits. Use dataset=folder.",
    ]
    assert command.check(["shards=x"])[1] == ["shards=x is for task=convert. Add that, or leave it out."]


def test_broken_files_are_named_or_left_out(tmp_path: Path) -> None:
    root, target = photos(tmp_path / "photos"), tmp_path / "shards"
    (root / "ant" / "empty.png").touch()
    whole = (root / "bee" / "1.png").read_bytes()
    (root / "bee" / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot be read: ant/empty.png \(is empty\)") as caught:
        converted(root, target)
    assert not target.exists() and str(root) in str(caught.value)
    (root / "ant" / "empty.png").unlink()
    with pytest.raises(DataError, match=r"1 of 101 images cannot be read: bee/half.png \("):
        converted(root, target)
    converted(root, target, "dataset.on_bad_image=skip")
    assert len(build.data(streamed(target)).source.train) == 85


def test_a_missing_library_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(
        ConfigError, match=r"^task=convert needs .*webdataset.*pip install 'imgcls\[stream\]'\.$"
    ):
        converted(tmp_path / "none", tmp_path / "shards")


def test_a_full_disk_is_noticed_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(convert.shutil.disk_usage(tmp_path))(10**9, 10**9, 10)
    monkeypatch.setattr(convert.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ResourceError, match="0 MB free"):
        converted(photos(tmp_path / "photos"), tmp_path / "shards")


def test_what_reads_back_otherwise_is_no_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that loses a bit: found at the end, and no folder is left that looks good."""
    from imgcls.data import shards as module

    write = module.write

    def spoilt(folder: Path, *rest: Any) -> Any:
        index = write(folder, *rest)
        path = next(folder.glob("*.tar"))
        data = bytearray(path.read_bytes())
        data[int(index.rows[list(index.shards).index(path.name) == index.rows[:, 0]][0, 1]) + 9] ^= 1
        path.write_bytes(data)
        return index

    monkeypatch.setattr(module, "write", spoilt)
    with pytest.raises(DataError, match="is damaged at byte"):
        converted(photos(tmp_path / "photos"), tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


def test_a_killed_conversion_leaves_no_shards_and_can_be_repeated(tmp_path: Path) -> None:
    """kill -9 of a process that has written a few shards of many."""
    root, target = photos(tmp_path / "photos", 400), tmp_path / "shards"
    process = get_context("fork").Process(target=converted, args=(root, target))
    process.start()
    while process.is_alive() and not list(tmp_path.glob("shards.part/train-00000[3-9].tar")):
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not target.exists() and list(tmp_path.glob("shards.part/*.tar"))
    assert not list(tmp_path.glob("shards.part/index.json"))
    assert len(build.data(streamed(converted(root, target))).source.train) == 680
    assert not (tmp_path / "shards.part").exists()


def test_two_conversions_do_not_mix(tmp_path: Path) -> None:
    with (
        convert._made(tmp_path / "shards"),
        pytest.raises(ResourceError, match="in use by another"),
        convert._made(tmp_path / "shards"),
    ):
        pass


def test_logits_are_those_of_the_folder_to_the_bit(tmp_path: Path, shards: Path) -> None:
    """A run trained on shards, tested on them and on the folder they were made of."""
    config = streamed(shards, f"output={tmp_path}")
    assert fit(config, tmp_path / "run")
    run = runs.Run(tmp_path / "run")
    other = config_of(*SMALL, "dataset=folder", f"dataset.root={tmp_path / 'photos'}")["dataset"]
    rooms = [runs.Run(tmp_path / name) for name in ("streamed", "folder")]
    results = [
        evaluate.evaluate(run, config, room, dataset)
        for room, dataset in zip(rooms, (None, other), strict=True)
    ]
    assert results[0]["test"] == results[1]["test"]
    first, second = (np.load(room / "predictions.npz") for room in rooms)
    assert set(first) == set(second) and all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_stopped_anywhere_and_continued_equals_uninterrupted(
    workers: int, tmp_path: Path, shards: Path
) -> None:
    """68 images of 16 a step: first batch, inside an epoch, its end, twice in one."""
    config = streamed(shards, f"dataset.num_workers={workers}")
    assert fit(streamed(shards, "dataset.num_workers=1"), tmp_path / "whole")
    for step in (1, 3, 5, 7, 8):
        assert not fit(config, tmp_path / "cut", stop=step)
    assert fit(config, tmp_path / "cut")
    for file in ("last.ckpt", "best.ckpt"):
        assert_same(tmp_path / "whole" / file, tmp_path / "cut" / file)


@pytest.mark.slow
def test_kill_9_and_the_same_command_again(tmp_path: Path, shards: Path) -> None:
    """Real processes, with workers; killed in the middle of the second epoch."""
    words = [sys.executable, "-m", "imgcls", *SMALL, "dataset=streaming", f"dataset.root={shards}"]
    words += ["epochs=4", "name=run", "dataset.num_workers=1", "dataset.window=2"]
    processes = [subprocess.Popen([*words, f"output={tmp_path / folder}"]) for folder in "ab"]
    while processes[1].poll() is None and not runs.Run(tmp_path / "b" / "run").history():
        time.sleep(0.002)
    processes[1].send_signal(signal.SIGKILL)
    assert processes[1].wait() == -signal.SIGKILL and processes[0].wait(timeout=120) == 0
    assert subprocess.run([*words, f"output={tmp_path / 'b'}"], timeout=120, check=False).returncode == 0
    for file in ("last.ckpt", "best.ckpt"):
        assert_same(tmp_path / "a" / "run" / file, tmp_path / "b" / "run" / file)


def test_a_run_is_named_by_its_images_and_window_and_not_by_the_depot(shards: Path) -> None:
    from imgcls.naming import digest

    first = digest(streamed(shards))
    assert digest(streamed(shards, "dataset.depot=x", "dataset.depot_gb=9")) == first
    assert digest(streamed(shards, "dataset.window=3")) != first
