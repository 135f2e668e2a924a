"""Several processes on one run: two ranks on the CPU, through gloo."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import on_ranks
import psutil
import pytest
import torch
from same import assert_same

from imgcls import runs
from imgcls.__main__ import register_resolvers
from imgcls.cli import command
from imgcls.distributed import launch
from imgcls.errors import ImgclsError

# No batch norm and no dropout, which a rank has for itself. 129 images to train on: of the last 9, one
# rank has 5 and the other 4.
SAME = [
    *("model=convnet", "model.padding=same", "trainer.precision=32-true", "progress=none"),
    *("epochs=2", "batch_size=30", "dataset.limit=161", "dataset.val_fraction=0.2", "optimizer.lr=0.02"),
]
CASES: dict[str, list[str]] = {
    "plain": ["augmentation=none"],
    "augmented": [
        *("augmentation=affine", "augmentation.hflip=0.5", "augmentation.crop=1", "augmentation.vflip=0.2"),
        *("augmentation.brightness=0.2", "augmentation.contrast=0.3"),
    ],
    "in parts": ["accumulate=3", "clip=0.1", "ema=0.8"],
    "workers": ["dataset.resident=false", "dataset.num_workers=1"],
    "101 images": ["dataset.limit=101"],
    "7 images": ["dataset.limit=7", "batch_size=6"],
    "fsdp": ["trainer.strategy=fsdp", "augmentation=none", "clip=0.1"],
}
# Whatever could break an exact resume: dropout, batch norm, augmentation, a plateau and training scores.
RUN = [
    *("model=resnet20", "model.width=4", "model.dropout=0.2", "augmentation=affine", "schedule=plateau"),
    *("batch_size=30", "dataset.limit=161", "dataset.val_fraction=0.2", "trainer=ddp_cpu"),
]
# (optimizer steps, rank): inside an epoch of five steps, at its end, and twice in one
STOPS: dict[str, list[tuple[int, int]]] = {
    "whole": [],
    "cut": [(1, 0), (3, 1), (5, 1), (6, 1), (8, 0)],
    "whole fsdp": [],
    "cut fsdp": [(3, 1), (5, 0)],
}


def config_of(folder: Path, *words: str) -> dict[str, Any]:
    register_resolvers()
    config, problems = command.check([*words, f"output={folder}"])
    assert not problems, problems
    return config


def on_two_ranks(work: Callable[..., None], config: dict[str, Any], folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        launch.everywhere(work, config, runs.Run(folder))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each case once on one rank, in "1", and once on two, in "2", with those that are interrupted."""
    folder = tmp_path_factory.mktemp("ranks")
    for part in "12":
        (folder / part).mkdir()
    cases: dict[str, Any] = {
        name: (config_of(folder, *SAME, "trainer=ddp_cpu", *words), []) for name, words in CASES.items()
    }
    for name, stops in STOPS.items():
        more = ["trainer.strategy=fsdp"] * name.endswith("fsdp")
        cases[name] = (config_of(folder, *RUN, "epochs=2", "progress=none", *more), stops)
    (folder / "2" / "cases.json").write_text(json.dumps(cases))
    on_two_ranks(on_ranks.fit_all, cases["plain"][0], folder / "2")
    for name, words in CASES.items():
        on_ranks.fit(config_of(folder, *SAME, "trainer=cpu", *words), runs.Run(folder / "1" / name))
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_train_the_same_network_as_one(case: str, fitted: Path) -> None:
    """Weights, scores and predictions, over uneven shares, accumulation and augmentation."""
    one, two = (torch.load(fitted / n / case / "last.ckpt", weights_only=True) for n in "12")
    for key, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][key], value, rtol=0, atol=1e-5, msg=key)
    first, second = (runs.Run(fitted / n / case).history() for n in "12")
    assert [row["step"] for row in first] == [row["step"] for row in second]
    for a, b in zip(first, second, strict=True):
        assert b["train/loss"] == pytest.approx(a["train/loss"], abs=1e-5)
        assert b["val/loss"] == pytest.approx(a["val/loss"], abs=1e-4)
        assert b["train/acc"] == a["train/acc"]


@pytest.mark.parametrize(("case", "images"), [("101 images", 101), ("7 images", 7), ("plain", 161)])
def test_every_test_image_counts_once(case: str, images: int, fitted: Path) -> None:
    """Uneven shares, also empty ones: predictions in the order of the set, counts of them in the scores."""
    kept = [np.load(fitted / n / case / "kept.npz") for n in "12"]
    scores = json.loads((fitted / "2" / case / "scores.json").read_text())
    labels, top = kept[1]["labels"], kept[1]["top"]
    assert labels.tolist() == kept[1]["asked"].tolist()
    assert top.tolist() == kept[0]["top"].tolist()
    np.testing.assert_allclose(kept[1]["confidence"], kept[0]["confidence"], atol=1e-4)
    assert scores["n"] == images == len(labels)
    assert scores["acc"] == np.count_nonzero(top[:, 0] == labels) / images
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (labels, top[:, 0]), 1)
    assert scores["confusion"] == confusion.tolist()


@pytest.mark.parametrize("kind", ["", " fsdp"])
def test_one_rank_is_sent_sigterm_and_the_rest_of_the_run_is_exact(kind: str, fitted: Path) -> None:
    """In every place, several times: complete final checkpoints of two ranks, at tolerance zero."""
    whole, cut = fitted / "2" / f"whole{kind}", fitted / "2" / f"cut{kind}"
    assert_same(whole / "last.ckpt", cut / "last.ckpt")
    assert_same(whole / "best.ckpt", cut / "best.ckpt")
    rows = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in runs.Run(f).history()]
        for f in (whole, cut)
    ]
    assert rows[0] == rows[1]


def test_the_first_error_is_the_one_that_is_told(tmp_path: Path) -> None:
    """Rank 1's own, with its exit code; rank 0 only lost rank 1."""
    with pytest.raises(ImgclsError, match=r"^photo.jpg is damaged. Delete it.$") as caught:
        on_two_ranks(on_ranks.fail, config_of(tmp_path, *RUN), tmp_path)
    assert caught.value.exit_code == 3


@pytest.mark.slow
def test_fault_117_ranks_that_disagree_do_not_train(tmp_path: Path) -> None:
    """Two halves of one run on other images, or with other software."""
    with pytest.raises(
        ImgclsError, match=r"^rank 1 has other data \(images 1\) than rank 0 \(images 0\)\."
    ) as caught:
        on_two_ranks(on_ranks.disagree, config_of(tmp_path, *RUN), tmp_path)
    assert caught.value.exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, r"rank 1 of 2 was ended by SIGKILL\. The same command goes on"),
        (signal.SIGSTOP, r"rank 1 of 2 no longer answered \(trainer\.timeout\)"),
    ],
)
def test_a_rank_that_dies_or_freezes_ends_all(number: int, words: str, tmp_path: Path) -> None:
    """Within trainer.timeout and the time that others have to end."""
    config = config_of(tmp_path, *RUN, f"seed={number:d}", "trainer.timeout=2")
    with pytest.raises(ImgclsError, match=words) as caught:
        on_two_ranks(on_ranks.die, config, tmp_path)
    assert caught.value.exit_code == 4
    assert not psutil.Process().children(recursive=True)


NOT_TOGETHER = {
    "batch_size=65": "batch_size=65 cannot be shared out evenly to 2 devices. Use batch_size=64 or 66.",
    "accumulate=3": "accumulate=3 does not divide batch_size=64 on 2 devices. Use accumulate=2.",
    "batch_size=40 dataset.limit=135": (
        "batch_size=40 leaves a last batch of 2 images for 2 devices (122 images), which batch norm cannot "
        "use. Use batch_size=42 or 38."
    ),
    "trainer.sync_batchnorm=true": (
        "trainer.sync_batchnorm=true: torch has it on GPUs only. Use trainer.sync_batchnorm=false."
    ),
    "trainer.num_nodes=2": (
        "trainer.num_nodes=2: start one process for each device, with "
        "torchrun --nnodes=2 --nproc_per_node=2 -m imgcls …"
    ),
    "trainer.strategy=fsdp ema=0.9": (
        "trainer.strategy=fsdp cannot go with ema=0.9. Use trainer.strategy=ddp."
    ),
    "task=evaluate run=x": "trainer.devices=2: task=evaluate uses one device. Use trainer.devices=1.",
}


@pytest.mark.parametrize("words", NOT_TOGETHER)
def test_what_cannot_go_with_several_devices_says_so(words: str) -> None:
    """One line each."""
    _, problems = command.check(["trainer=ddp_cpu", *words.split()])
    assert problems == [NOT_TOGETHER[words]]


def start(folder: Path, *more: str, before: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    own = [f"output={folder}", "epochs=12", "name=run", "progress=lines"]
    words = [*(before or (sys.executable,)), "-m", "imgcls", *RUN, *own, *more]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finished(folder: Path, *more: str, before: tuple[str, ...] = ()) -> tuple[str, str]:
    """Run to the end; gives what it printed."""
    process = start(folder, *more, before=before)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return out, err


Send = Callable[["subprocess.Popen[str]", list[psutil.Process], int], None]
TO: dict[str, Send] = {
    "launcher": lambda process, ranks, number: process.send_signal(number),
    "group": lambda process, ranks, number: os.killpg(process.pid, number),
    "rank 0": lambda process, ranks, number: ranks[0].send_signal(number),
    "rank 1": lambda process, ranks, number: ranks[1].send_signal(number),
    "all": lambda process, ranks, number: [p.send_signal(number) for p in (process, *ranks)] and None,
}


def stopped(folder: Path, send: Send, number: int, epochs: int = 1) -> tuple[int, str, str, float]:
    """Start, send a signal after so many epochs: (exit code, stdout, stderr, seconds that the end took)."""
    process = start(folder)
    while process.poll() is None and len(runs.Run(folder / "run").history()) < epochs:
        time.sleep(0.01)
    ranks = sorted(psutil.Process(process.pid).children(), key=lambda p: int(p.environ()["RANK"]))
    began = time.monotonic()
    send(process, ranks, number)
    out, err = process.communicate(timeout=60)
    took = time.monotonic() - began
    assert not [rank for rank in ranks if rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE]
    return process.returncode, out, err, took


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A run that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    finished(folder)
    return runs.Run(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to", TO)
def test_a_signal_to_any_process_stops_all(to: str, number: int, whole: runs.Run, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM: it saves, ends in time with its code, and goes on to the bits of the whole run."""
    code, out, err, took = stopped(tmp_path, TO[to], number)
    assert (code, err) == (128 + number, "")
    assert took < 10
    assert out.splitlines()[-1].endswith("saved. The same command continues.")
    out, _ = finished(tmp_path)
    assert "continues from" in out
    run = runs.Run(tmp_path / "run")
    assert_same(whole / "last.ckpt", run / "last.ckpt")
    assert_same(whole / "best.ckpt", run / "best.ckpt")
    assert run.result is not None and whole.result is not None
    assert run.result["test"] == whole.result["test"]


@pytest.mark.slow
def test_a_launcher_that_is_killed_takes_its_ranks_along(tmp_path: Path) -> None:
    """kill -9: they end at once, and the same command goes on."""
    code, _, _, took = stopped(tmp_path, TO["launcher"], signal.SIGKILL, epochs=2)
    assert code == -signal.SIGKILL and took < 10
    out, _ = finished(tmp_path)
    assert "continues from" in out


@pytest.mark.slow
def test_a_sweep_leaves_one_folder_for_each_job(tmp_path: Path) -> None:
    """Not one for each rank."""
    finished(tmp_path, "-m", "optimizer.lr=0.1,0.01", "epochs=1", "name=null")
    found = sorted(tmp_path.glob("digits-*"))
    assert len(found) == 2
    assert all((folder / "result.json").exists() for folder in found)
    assert all((folder / "imgcls.log").read_text().count("2 devices (ddp)") == 1 for folder in found)


@pytest.mark.slow
def test_torchrun_does_as_the_launcher(whole: runs.Run, tmp_path: Path) -> None:
    """The same bits, one folder; the second time the result is shown."""
    torchrun = (str(Path(sys.executable).with_name("torchrun")), "--nproc_per_node=2")
    finished(tmp_path, before=torchrun)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert_same(whole / "last.ckpt", tmp_path / "run" / "last.ckpt")
    out, _ = finished(tmp_path, before=torchrun)
    assert "finished already" in out
