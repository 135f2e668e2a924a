"""Runs that train as one program end where each would by itself, and leave the same folders."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf
from same import differences
from torch.nn import functional as F

from imgcls import build, naming
from imgcls.cli.arguments import read
from imgcls.cli.command import examine
from imgcls.models.convnet import convnet
from imgcls.models.resnet_cifar import resnet20
from imgcls.runs import Run
from imgcls.sweeps.job import Job
from imgcls.sweeps.teams import form
from imgcls.together import team, train
from imgcls.together.stack import Stack, has_dropout

SMALL = ["dataset.limit=200", "trainer.threads=1", "trainer.precision=32-true", "batch_size=60"]
RESNET = [*SMALL, "model=resnet20", "model.width=4"]
DROPOUT = [*SMALL, "model=convnet", "model.padding=same", "model.dropout=0.5"]
CLOSE = {
    "rtol": 1e-5,
    "atol": 1e-5,
}  # of a few steps, small enough that no ReLU changes its mind for a rounding


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize(("make", "side"), [(resnet20, 8), (convnet, 20)])
def test_one_pass_is_each_ones_pass(make: Callable[..., torch.nn.Module], side: int, dropout: float) -> None:
    """Logits, gradients, running statistics and what is dropped, in double precision."""
    torch.manual_seed(0)
    made = [make(num_classes=10, in_channels=3, image_size=side, dropout=dropout).double() for _ in range(3)]
    networks = [network.to(memory_format=torch.channels_last) for network in made]
    alone = [deepcopy(network) for network in networks]
    images = torch.randn(3, 8, 3, side, side, dtype=torch.float64)
    labels = torch.randint(10, (3, 8))
    stack = Stack(networks, deepcopy(networks[0]))
    draws = [torch.Generator().manual_seed(seed).get_state() for seed in range(3)]
    logits = stack.forward([*images], draws if has_dropout(networks[0]) else [])
    torch.autograd.backward([F.cross_entropy(out, y) for out, y in zip(logits, labels, strict=True)])
    stack.hand_out(networks)
    for seed, (mine, its) in enumerate(zip(networks, alone, strict=True)):
        torch.manual_seed(seed)
        out = its(images[seed].to(memory_format=torch.channels_last))
        F.cross_entropy(out, labels[seed]).backward()
        torch.testing.assert_close(logits[seed], out)
        torch.testing.assert_close(dict(mine.named_buffers()), dict(its.named_buffers()))
        for ours, theirs in zip(mine.parameters(), its.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)
            assert (
                ours.stride() == theirs.stride() == ours.grad.stride()
            )  # fused optimizers take them as lines


def apart(configs: list[dict[str, Any]]) -> None:
    """Train each by itself."""
    for config in configs:
        run = Run(naming.folder(config))
        run.claim(config)
        trainer = build.trainer(config, run)
        images = build.data(config)
        trainer.fit(build.classifier(config, images), datamodule=images)
        run.release()


def checkpoint(config: dict[str, Any]) -> dict[str, Any]:
    return torch.load(naming.folder(config) / "last.ckpt", weights_only=True)


def assert_close(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """The same checkpoints and rows, up to rounding."""
    for one, other in zip(ours, theirs, strict=True):
        a, b = checkpoint(one), checkpoint(other)
        torch.testing.assert_close(a.pop("state_dict"), b.pop("state_dict"), **CLOSE)
        (mine,), (its,) = a.pop("optimizer_states"), b.pop("optimizer_states")
        torch.testing.assert_close(mine["state"], its["state"], **CLOSE)
        assert mine["param_groups"] == its["param_groups"]
        assert a.pop("callbacks").keys() == b.pop("callbacks").keys()
        assert list(differences(a, b)) == []
        rows = [
            [{k: v for k, v in row.items() if k != "seconds"} for row in Run(naming.folder(c)).history()]
            for c in (one, other)
        ]
        assert rows[0] == [pytest.approx(row, rel=1e-4) for row in rows[1]]


@pytest.mark.parametrize(
    ("common", "own"),
    [
        (RESNET, ["seed=0 optimizer.lr=0.001", "seed=0 optimizer.lr=0.002", "seed=2 optimizer.lr=0.001"]),
        # Parts, clipping, lengths and draws of their own. (Where there is next to no gradient, Adam divides
        # rounding by rounding: its rate is small.)
        (
            [*DROPOUT, "accumulate=2"],
            [
                "seed=1 optimizer.lr=0.001 augmentation.mixup=0.2",
                "seed=2 optimizer=adamw optimizer.lr=1e-6 clip=1",
                "seed=3 augmentation=none optimizer.lr=0.001 epochs=2",
            ],
        ),
    ],
)
def test_each_ends_where_it_would_alone(
    compose: Callable[..., Any], tmp_path: Path, common: list[str], own: list[str]
) -> None:
    def configs(folder: str) -> list[dict[str, Any]]:
        return [compose("epochs=1", *common, *words.split(), f"output={tmp_path / folder}") for words in own]

    train.main(configs("together"))
    apart(configs("apart"))
    assert_close(configs("together"), configs("apart"))
    sizes = [
        {naming.folder(c).name: (naming.folder(c) / "last.ckpt").stat().st_size for c in configs(folder)}
        for folder in ("together", "apart")
    ]
    assert sizes[0] == sizes[1]  # a member's checkpoint holds no other's weights


class RaiseAt(Callback):
    """Sends this process a signal after so many steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0.01)  # in which the main thread hears it


def test_a_signal_saves_all_inside_an_epoch(
    compose: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def configs(folder: str) -> list[dict[str, Any]]:
        words = (*RESNET, "optimizer.lr=0.001", "epochs=2", f"output={tmp_path / folder}")
        return [compose(*words, f"seed={seed}") for seed in (0, 2)]

    train.main(configs("whole"))
    usual = build.callbacks
    monkeypatch.setattr(build, "callbacks", lambda *args: [RaiseAt(4), *usual(*args)])
    with pytest.raises(SystemExit) as end:
        train.main(configs("stopped"))
    assert end.value.code == 128 + signal.SIGTERM
    for config in configs("stopped"):
        progress = checkpoint(config)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        assert progress["current"]["ready"] in (1, 2)  # of 3, in the second epoch
    monkeypatch.setattr(build, "callbacks", usual)
    first, second = configs("stopped")
    apart_again = Run(naming.folder(first))  # one by itself, the other in a team of one
    images = build.data(first)
    build.trainer(first, apart_again).fit(
        build.classifier(first, images), datamodule=images, ckpt_path=apart_again / "last.ckpt"
    )
    train.main([second])
    assert_close(configs("stopped"), configs("whole"))


def test_a_member_that_fails_leaves_the_others(compose: Callable[..., Any], tmp_path: Path) -> None:
    words = [*RESNET, "epochs=1"]
    good, bad = (compose(*words, f"output={tmp_path}", f"optimizer.lr={lr}") for lr in (0.001, 1e30))
    train.main([bad, good])
    alone = compose(*words, f"output={tmp_path / 'alone'}", "optimizer.lr=0.001")
    apart([alone])
    assert_close([good], [alone])
    assert not (naming.folder(bad) / "last.ckpt").exists()


class TwoHeads(torch.nn.Linear):
    """Says more than logits, as GoogLeNet in training."""

    def forward(self, images: torch.Tensor) -> Any:
        logits = super().forward(images)
        return logits, [(logits, 0.3)]


def test_a_network_that_cannot_be_stacked_ends_its_team() -> None:
    networks = [TwoHeads(3, 2), TwoHeads(3, 2)]
    members = [team.Member(n, partial(n, torch.zeros(5, 3)), nullcontext) for n in networks]
    team.train(members)
    assert [type(member.error) for member in members] == [ValueError, ValueError]


def test_teams_are_of_one_network_and_one_shape_of_batches(
    compose: Callable[..., Any], tmp_path: Path
) -> None:
    words = ["seed=1", "optimizer.lr=0.3", "epochs=2", "model.width=4", "ema=0.9", "seed=5", "seed=6"]
    jobs = [Job(n, [word], OmegaConf.create(compose(word))) for n, word in enumerate(words)]
    teams, alone, line = form(jobs, 4, tmp_path)
    assert [[member.number for member in team.members] for team in teams] == [[0, 1, 2, 5]]
    assert [job.number for job in alone] == [3, 4, 6]
    other = "no other is of the same network, images and batches"
    assert line == f"together: 4 jobs in 1 team, alone 1 (ema=0.9); 2 ({other})"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("seed=1 sweep.together=8", "sweep.together=8 is for a sweep. Add -m, and values to sweep"),
        ("-m seed=1,2 sweep.together=0", "sweep.together=0 must be a whole number >= 1."),
        ("-m lr=0.1,0.2 hydra/sweeper=optuna sweep.together=2", "sweep.together=2 needs to know all runs"),
    ],
)
def test_where_it_makes_no_sense(words: str, line: str) -> None:
    typed = read(words.split())
    found = examine(typed.overrides, typed.sweeps).problems
    assert [problem for problem in found if problem.startswith(line)]
    good = read(["-m", "seed=1,2", "sweep.together=2"])
    assert examine(good.overrides, good.sweeps).problems == []


def sweep(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "imgcls", "-m", *RESNET, "augmentation=none", "optimizer.lr=0.02"]
    return subprocess.Popen(
        [*command, f"output={folder}", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_sweep_goes_on_and_leaves_the_usual_folders(tmp_path: Path, number: int) -> None:
    """Killed in a team, gone on with in a team or one at a time: the same files."""
    one, other = ("seed=0,2", "epochs=8", "sweep.together=2"), ("seed=0,2", "epochs=8")
    process = sweep(tmp_path / "a", *one)
    while len(list((tmp_path / "a").glob("digits-*/metrics.csv"))) < 2:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(60) == (-number if number == signal.SIGKILL else 128 + number)
    time.sleep(5 if number == signal.SIGKILL else 0)  # the worker hears that its parent is dead, and saves
    assert not list((tmp_path / "a").glob("digits-*/result.json"))
    done = sweep(tmp_path / "a", *(one if number == signal.SIGKILL else other))
    assert done.wait(200) == 0, done.communicate()
    plain = sweep(tmp_path / "b", *other)
    assert plain.wait(200) == 0, plain.communicate()
    for run in sorted((tmp_path / "b").glob("digits-*")):
        again = tmp_path / "a" / run.name
        assert {file.name for file in again.iterdir()} == {file.name for file in run.iterdir()}
        assert [row["epoch"] for row in Run(again).history()] == list(range(1, 9))
        assert Run(again).history()[0]["train/loss"] == pytest.approx(Run(run).history()[0]["train/loss"])
