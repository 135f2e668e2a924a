"""A search: how many trials it runs and which, what it makes of failures, and that it can always go on."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna
import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext
from optuna.trial import TrialState

from hydra_plugins.imgcls_launchers import PoolLauncher
from hydra_plugins.imgcls_optuna import Optuna
from imgcls import figures
from imgcls.__main__ import register_resolvers
from imgcls.cli.composing import replaced
from imgcls.cli.help import conf_folder
from imgcls.cli.overrides import PARSER
from imgcls.sweeps import pool
from imgcls.sweeps.job import Job
from imgcls.sweeps.pool import Worker
from imgcls.sweeps.search import Search
from imgcls.sweeps.space import Dimension, grid, split
from imgcls.sweeps.sweep import Sweep

RATE = "optimizer.lr=tag(log,interval(0.0001,1))"
SMALL = [
    *("model=resnet20", "model.width=4", "dataset.limit=200", "augmentation=none", "trainer.threads=1"),
    "epochs=1",
]


class Formula(Worker):
    """Instead of training: the score is highest at lr 0.1, falls by 0.1 a decade, and grows over the epochs.

    One epoch passes with each look. A learning rate above 0.5 diverges, one below 0.0001 is refused.
    """

    done: ClassVar[list[str]] = []

    def __init__(self) -> None:
        super().__init__({})

    def start(self, job: Job) -> None:
        """Begin a job."""
        self.job, job.state, job.attempts, self.ended = job, "running", job.attempts + 1, None
        job.run.path.mkdir(parents=True, exist_ok=True)
        self.done.append(job.run.path.name)

    def look(self) -> Job | None:
        """Train an epoch."""
        if (job := self.job) is None:
            return None
        rate, epoch = job.config["optimizer"]["lr"], len(job.run.history()) + 1
        score = (0.9 - 0.1 * abs(math.log10(rate) + 1)) * epoch / job.config["epochs"]
        rows = [*job.run.history(), {"epoch": epoch, "train/acc": score, "val/acc": score, "seconds": 1.0}]
        if self.ended is None:
            job.run.write_history(rows)
        if rate > 0.5:
            self.ended = (5, "diverged")
        elif rate < 0.0001:
            self.ended = (2, "refused")
        elif self.ended is None and epoch == job.config["epochs"]:
            result = {"best": {"val/acc": score}, "test": {"acc": score}, "seconds": 1.0}
            (job.run / "result.json").write_text(json.dumps(result))
            self.ended = (0, "")
        if self.ended is None:
            return None
        self.job = None
        job.end(*self.ended)
        return job

    def signal(self, number: int) -> None:
        """Stop after this epoch."""
        self.ended = (128 + number, "")

    def close(self) -> None:
        """There is no process."""


class Launcher(PoolLauncher):
    """With that formula for its workers."""

    def workers(self) -> list[Any]:
        """As many as are asked for."""
        return [Formula() for _ in range(self.count or 1)]

    def _composed(self, overrides: list[str], number: int) -> Any:
        """Hydra composes ten times as slowly; the tests of whole commands have it do so."""
        settings = [PARSER.parse_override(word) for word in overrides]
        return replaced(self.config, [(each.key_or_group, each.value()) for each in settings])


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Search]]:
    """Make a search of its own: lines and settings → Search, as a process of that command would have it."""
    register_resolvers()
    monkeypatch.setattr(pool, "TICK", 0.0)
    Formula.done = []

    def make(*lines: str, workers: int = 1, **settings: Any) -> Search:
        typed = ["epochs=4", f"output={tmp_path}", "progress=none", *lines]
        plugins = ["hydra/launcher=pool", "hydra/sweeper=optuna", "hydra.mode=MULTIRUN"]
        config = hydra_compose("config", [*plugins, *typed[:3]], return_hydra_config=True)
        config.hydra.overrides.task = typed
        launcher, context = Launcher(workers), HydraContext(GlobalHydra.instance().config_loader(), None)  # type: ignore[arg-type]
        launcher.setup(hydra_context=context, task_function=lambda _: None, config=config)
        Sweep.current = None
        usual = {key: value for key, value in vars(Optuna()).items() if key not in ("_target_", "params")}
        return Search(usual | settings, typed, launcher)

    with initialize_config_dir(str(conf_folder()), version_base="1.3", job_name="imgcls"):
        yield make
    Sweep.current = None


def states(search: Search) -> list[str]:
    return [trial.state.name for trial in search.study.get_trials(deepcopy=False)]


def test_hydras_grammar() -> None:
    lines = [
        *("b=1,2", "c=choice(x,y)", "i=interval(1,8)", "j=int(interval(1,8))", "f=interval(0.5,2)"),
        *("r=range(1,8,2)", "l=tag(log,interval(1e-4,1e-1))", "s=range(0.25,1,0.25)", "fixed=3"),
    ]
    fixed, space = split(lines, {})
    assert fixed == ["fixed=3"]
    assert space == [
        Dimension("b", ("1", "2")),
        Dimension("c", ("x", "y")),
        Dimension("f", low=0.5, high=2),
        Dimension("i", low=1, high=8),
        Dimension("j", low=1, high=8, whole=True),
        Dimension("l", low=1e-4, high=1e-1, log=True),
        Dimension("r", ("1", "3", "5", "7"), 1, 7, 2, whole=True),
        Dimension("s", ("0.25", "0.5", "0.75"), 0.25, 0.75, 0.25),
    ]
    assert len(grid([space[0], space[6]])) == 8


def test_what_counts_things_is_drawn_whole(compose: Any) -> None:
    _, (flips, epochs) = split(["epochs=interval(1,9)", "augmentation.hflip=interval(0,1)"], compose())
    assert (epochs.key, epochs.whole) == ("epochs", True)
    assert (flips.key, flips.whole) == ("augmentation.hflip", False)


def test_a_number_is_typed_with_six_digits_unless_they_leave_the_interval() -> None:
    rate = Dimension("lr", low=0.1, high=0.123456789)
    assert rate.override(0.11111111111) == "lr=0.111111"
    assert rate.override(0.1234567889) == "lr=0.1234567889"
    assert Dimension("b", ("16",)).override("16") == "b=16"


def test_the_same_command_runs_exactly_what_is_missing(search: Any) -> None:
    first = search(RATE, n_trials=6, pruner="none")
    first.run()
    assert len(states(first)) == len(Formula.done) == 6
    second = search(RATE, n_trials=9, pruner="none")
    second.run()
    assert len(states(second)) == 9
    assert len(Formula.done) == len(set(Formula.done)) == 9
    assert sorted(job.number for job in second.sweep.jobs) == [*range(9)]
    search(RATE, n_trials=9, pruner="none").run()
    assert len(Formula.done) == 9


def test_a_study_that_was_interrupted_draws_what_it_would_have_drawn(search: Any, tmp_path: Path) -> None:
    for number in (3, 14):
        split_up = search(RATE, f"output={tmp_path / 'a'}", n_trials=number)
        split_up.run()
    whole = search(RATE, f"output={tmp_path / 'b'}", n_trials=14)
    whole.run()
    found = [[t.params["optimizer.lr"] for t in each.study.trials] for each in (split_up, whole)]
    assert found[0] == found[1]
    assert len(set(found[0])) == 14  # no seed came twice


@pytest.mark.parametrize(
    "sampler", ["tpe", *(pytest.param(name, marks=pytest.mark.slow) for name in ("random", "cmaes"))]
)
def test_samplers_search_the_interval(search: Any, sampler: str) -> None:
    done = search(RATE, "optimizer.momentum=interval(0,0.9)", sampler=sampler, n_trials=12)
    done.run()
    rates = [trial.params["optimizer.lr"] for trial in done.study.trials]
    assert len(set(rates)) == 12
    assert all(1e-4 <= rate <= 1 for rate in rates)


def test_tpe_gathers_where_the_score_is_high(search: Any) -> None:
    done = search(RATE, n_trials=30, pruner="none")
    done.run()
    decades = [abs(math.log10(trial.params["optimizer.lr"]) + 1) for trial in done.study.trials]
    assert np.median(decades[20:]) < np.median(decades[:10])
    assert states(done).count("PRUNED") < 10
    assert done.study.best_value > 0.88


def test_a_grid_takes_every_point_once(search: Any) -> None:
    done = search("optimizer.lr=0.1,0.01,0.002", "batch_size=range(16,64,16)", sampler="grid", n_trials=100)
    done.run()
    points = [(t.params["batch_size"], t.params["optimizer.lr"]) for t in done.study.trials]
    rates = ("0.1", "0.01", "0.002")
    assert points == [(size, rate) for size in (16, 32, 48) for rate in rates]


def test_what_fails_is_told_so_and_counts(search: Any) -> None:
    done = search("optimizer.lr=0.1,0.00002", sampler="grid", n_trials=2)
    done.run()
    assert states(done) == ["COMPLETE", "FAIL"]
    assert [job.state for job in done.sweep.jobs] == ["finished", "failed"]


def test_a_rate_that_diverges_is_no_failure_but_hopeless(search: Any) -> None:
    done = search("optimizer.lr=0.1,0.9", sampler="grid", n_trials=2)
    done.run()
    assert states(done) == ["COMPLETE", "PRUNED"]
    assert [(job.state, job.reason) for job in done.sweep.jobs] == [("finished", ""), ("pruned", "diverged")]


def test_nothing_is_chosen_where_all_fail(search: Any, capsys: Any) -> None:
    done = search("optimizer.lr=0.00008,0.00009", sampler="grid")
    done.run()
    assert "no trial has finished (2 failed)" in capsys.readouterr().out
    assert not (done.folder / "optimization_results.yaml").exists()


def test_the_hopeless_are_pruned_and_the_others_are_not(search: Any) -> None:
    rates = "optimizer.lr=0.1,0.05,0.2,0.0002"
    done = search(rates, sampler="grid", startup_trials=2)
    done.run()
    # 0.2 is as far off as 0.05 is, below the median of that and 0.1
    assert states(done) == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    pruned = done.sweep.jobs[3]
    assert (pruned.state, pruned.reason, len(pruned.rows)) == ("pruned", "", 1)
    unpruned = search(rates, "seed=1", sampler="grid", pruner="none")
    unpruned.run()
    assert set(states(unpruned)) == {"COMPLETE"}


def test_two_trials_of_one_configuration_train_once(search: Any) -> None:
    done = search("optimizer.lr=0.1,0.01", workers=4, sampler="random", n_trials=8)
    done.run()
    assert states(done) == ["COMPLETE"] * 8
    assert sorted(set(Formula.done)) == sorted(Formula.done)
    assert len(Formula.done) == 2


def test_a_trial_of_a_process_that_has_gone_is_taken_over(search: Any) -> None:
    gone = search(RATE, n_trials=3)
    job = gone.more()
    assert states(gone) == ["RUNNING"]
    after = search(RATE, n_trials=3)
    after.run()
    assert len(states(after)) == 3
    assert "RUNNING" not in states(after)
    assert Formula.done[0] == job.run.path.name


def test_a_trial_of_a_process_at_work_is_left_to_it(search: Any) -> None:
    other, mine = search(RATE, n_trials=3), search(RATE, n_trials=3)
    from filelock import FileLock

    with FileLock(other._sign(other.me)):
        job = other.more()
        mine.run()
        assert states(mine).count("RUNNING") == 1
        assert len(states(mine)) == 3
        assert job.run.path.name not in Formula.done


def test_n_jobs_limits_what_runs_at_a_time(search: Any) -> None:
    done = search(RATE, workers=4, n_jobs=2, n_trials=6)
    assert [bool(done.more()) for _ in range(4)] == [True, True, False, False]


def test_another_space_is_another_study(search: Any, tmp_path: Path) -> None:
    storage = str(tmp_path / "mine.journal")
    search(RATE, storage=storage, study_name="a", n_trials=1).run()
    with pytest.raises(Exception, match="study a searched something else"):
        search("optimizer.lr=interval(0.1,0.2)", storage=storage, study_name="a")
    other = search("optimizer.lr=interval(0.1,0.2)", storage=storage, study_name="b", n_trials=1)
    assert states(other) == []


@pytest.mark.slow
def test_a_database_keeps_a_study_too(search: Any, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    search(RATE, storage=storage, n_trials=2).run()
    search(RATE, storage=storage, n_trials=3).run()
    assert len(Formula.done) == 3


def test_what_is_written(search: Any) -> None:
    done = search("optimizer.lr=0.1,0.01,0.002", "batch_size=16,32", sampler="grid", pruner="none")
    done.run()
    found = yaml.safe_load((done.folder / "optimization_results.yaml").read_text())
    assert found["name"] == "optuna"
    assert found["best_params"] == {"batch_size": 16, "optimizer.lr": 0.1}
    assert found["best_value"] == pytest.approx(0.9)
    assert found["importances"]["optimizer.lr"] > 0.95
    assert (done.folder / "search.png").stat().st_size > 20_000
    assert {path.name for path in done.folder.iterdir()} == {
        *("optimization_results.yaml", "search.png", "study.journal", ".study.lock")
    }


def test_the_picture_of_one_key_and_of_words() -> None:
    rows = [
        {"trial": n, "state": "COMPLETE", "value": n / 10, "optimizer": name, "lr": 10.0**-n}
        for n, name in enumerate(("sgd", "adam", "sgd", "adamw"))
    ]
    two = figures.search(rows, {"lr": 0.7, "optimizer": 0.3}, ["lr", "optimizer"], ["lr"], True)
    history, shares, where = two.axes[:3]
    assert history.get_title(loc="left") == "best 30 %, failed 0"
    assert [bar.get_width() for bar in shares.patches] == [0.7, 0.3]
    assert where.get_xscale() == "log"
    assert [text.get_text() for text in where.get_yticklabels()] == ["sgd", "adam", "adamw"]
    one = figures.search(rows, {"lr": 1.0}, ["lr"], [], False)
    assert one.axes[2].get_title(loc="left") == "best at 1"


# The whole command


def command(folder: Path, *words: str) -> list[str]:
    sweeper = ["hydra/sweeper=optuna", "hydra.sweeper.pruner=none"]
    return [sys.executable, "-m", "imgcls", "-m", *SMALL, f"output={folder}", *sweeper, *words]


def trained(folder: Path) -> list[int]:
    """How often each run of a folder has trained its epoch."""
    return [path.read_text().count("\nepoch ") for path in sorted(folder.glob("*/output.log"))]


def study(folder: Path) -> optuna.Study:
    (file,) = folder.glob("sweeps/*/study.journal")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(file)))
    return optuna.load_study(study_name=file.parent.name, storage=storage)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["serial", "pool"])
def test_a_real_search_goes_on(tmp_path: Path, launcher: str) -> None:
    words = [RATE, "+experiment=null", f"hydra/launcher={launcher}"]
    for count in (2, 4):
        done = subprocess.run(
            command(tmp_path, *words, f"hydra.sweeper.n_trials={count}"), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert trained(tmp_path) == [1] * count
    with next(tmp_path.glob("sweeps/*/sweep.csv")).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    best = max(float(row["val_acc"]) for row in rows)
    assert study(tmp_path).best_value == pytest.approx(best)


@pytest.mark.slow
def test_two_processes_share_a_study(tmp_path: Path) -> None:
    words = command(tmp_path, RATE, "hydra.sweeper.n_trials=5")
    both = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [each.wait(timeout=250) for each in both] == [0, 0]
    assert [trial.state for trial in study(tmp_path).trials] == [TrialState.COMPLETE] * 5
    assert trained(tmp_path) == [1] * 5


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_search_that_was_stopped_goes_on_with_its_trial(tmp_path: Path, number: signal.Signals) -> None:
    words = command(tmp_path, RATE, "epochs=60", "hydra.sweeper.n_trials=1")
    first = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while not list(tmp_path.glob("*/last.ckpt")):
        time.sleep(0.1)
        assert first.poll() is None
    os.kill(first.pid, number)
    first.wait(timeout=100)
    (trial,) = study(tmp_path).trials
    assert trial.state == TrialState.RUNNING
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.glob("*/metrics.csv")
    assert len(run.read_text().splitlines()) == 61
    assert [each.state for each in study(tmp_path).trials] == [TrialState.COMPLETE]
    assert "continues from" in (run.parent / "output.log").read_text()


@pytest.mark.slow
def test_a_hopeless_rate_is_stopped_in_the_middle(tmp_path: Path) -> None:
    rates = "optimizer.lr=0.1,0.05,0.000001"
    words = ["epochs=30", "hydra.sweeper.sampler=grid", "hydra.sweeper.startup_trials=2"]
    pruning = ["hydra.sweeper.pruner=median", "hydra.sweeper.warmup_epochs=15"]
    done = subprocess.run(command(tmp_path, rates, *words, *pruning), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    trials = study(tmp_path).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "PRUNED"]
    assert 15 <= len(trials[2].intermediate_values) < 30
