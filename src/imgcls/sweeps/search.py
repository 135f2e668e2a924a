"""A search for the best values: Optuna asks, the workers answer, and a journal keeps the study.

A study belongs to no process. Whoever has the same command adds trials until there are `n_trials`; a trial
whose process has gone is taken over, and goes on from its run's checkpoint.
"""

import math
import random
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from imgcls import naming
from imgcls.cli.composing import plain
from imgcls.errors import ConfigError
from imgcls.sweeps import findings, results
from imgcls.sweeps.job import Job
from imgcls.sweeps.space import Dimension, grid, split

JOURNAL = "study.journal"
WORDS, RUN, OWNER, SPACE = "overrides", "run", "owner", "space"  # attributes of a trial; the last of a study
DIVERGED = 5  # exit code of a training that did
STATES = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Search:
    """The trials of one study.

    Args:
        settings: of hydra.sweeper, but `params`.
        lines: the overrides, with what is to be chosen from.
        launcher: of imgcls: it makes the jobs, and has the sweep that runs them.
    """

    def __init__(self, settings: dict[str, Any], lines: Sequence[str], launcher: Any) -> None:
        self.settings, self.launcher, self.sweep = settings, launcher, launcher.sweep
        self.fixed, self.space = split(lines, plain(launcher.config))
        self.folder = results.folder(self.sweep.output, self.sweep.typed)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.study = self._study()
        self.grid = grid(self.space) if settings["sampler"] == "grid" else []
        self.most = min(settings["n_trials"], len(self.grid) or settings["n_trials"])
        self.me = uuid.uuid4().hex
        self._mine: dict[int, tuple[Trial, Job]] = {}
        self._lock = FileLock(self.folder / ".study.lock")

    def run(self) -> None:
        """Run what is missing of the study, and write what it has found."""
        with FileLock(self._sign(self.me)):
            self.sweep.board.total = self.most
            self.sweep.run([], self.tick, self.more)
        self._sign(self.me).unlink(missing_ok=True)
        self.sweep.jobs += self._others()
        findings.write(self.study, self.space, self.folder)

    def _study(self) -> optuna.Study:
        storage = self.settings["storage"] or str(self.folder / JOURNAL)
        if "://" not in storage:
            backend = JournalFileBackend(storage)
            storage = optuna.storages.JournalStorage(backend)
        study = optuna.create_study(
            storage=storage,
            study_name=self.settings["study_name"] or self.folder.name,
            direction=self.settings["direction"],
            load_if_exists=True,
            pruner=self._pruner(),
        )
        space = [*map(str, self.space), *self.fixed, self.settings["direction"]]
        if study.user_attrs.get(SPACE, space) != space:
            raise ConfigError(f"study {study.study_name} searched something else. Choose another study_name.")
        study.set_user_attr(SPACE, space)
        return study

    def _pruner(self) -> optuna.pruners.BasePruner:
        first, epochs = self.settings["startup_trials"], self.settings["warmup_epochs"]
        return {
            "median": optuna.pruners.MedianPruner(first, epochs),
            "hyperband": optuna.pruners.HyperbandPruner(max(1, epochs)),
            "none": optuna.pruners.NopPruner(),
        }[self.settings["pruner"]]

    # Which job comes next

    def more(self) -> Job | None:
        """The next trial's job; None if the study has enough, or too many run at a time."""
        if len(self._mine) >= (self.settings["n_jobs"] or math.inf):
            return None
        with self._lock:  # of two processes, one at a time counts and asks
            trials = self.study.get_trials(deepcopy=False)
            held = [t for t in trials if t.state == TrialState.RUNNING]
            alive = self._alive({t.user_attrs.get(OWNER) for t in held})
            runs = {t.user_attrs[RUN] for t in held if t.user_attrs.get(OWNER) in alive}
            left = [t for t in held if t.user_attrs.get(OWNER) not in alive]
            for trial in left:
                if job := self._take_over(trial, runs):
                    return job
            while self._begun < self.most:
                if job := self._fresh(runs):
                    return job
        return None

    @property
    def _begun(self) -> int:
        trials = self.study.get_trials(deepcopy=False)
        return sum(trial.state != TrialState.WAITING for trial in trials)

    def _take_over(self, frozen: FrozenTrial, runs: set[str]) -> Job | None:
        """A trial whose process has gone, but not while another trial does the same run."""
        if OWNER not in frozen.user_attrs:  # it was killed while it was asked for
            self.study.tell(frozen.number, state=TrialState.FAIL)
            return None
        if frozen.user_attrs[RUN] in runs:
            return None
        trial = Trial(self.study, frozen._trial_id)
        return self._begin(trial, self.launcher.job(frozen.user_attrs[WORDS], frozen.number))

    def _fresh(self, runs: set[str]) -> Job | None:
        """A new trial; None if its very run is under way, which it will share when that has ended."""
        trial = self._ask()
        words = [*self.fixed, *(each.override(trial.params[each.key]) for each in self.space)]
        job = self.launcher.job(words, trial.number)
        name = naming.name(job.config)
        trial.set_user_attr(WORDS, words)
        trial.set_user_attr(RUN, name)
        if name in runs:
            trial.set_user_attr(OWNER, "")
            return None
        return self._begin(trial, job)

    def _begin(self, trial: Trial, job: Job) -> Job:
        trial.set_user_attr(OWNER, self.me)
        self._mine[trial.number] = (trial, job)
        return job

    def _ask(self) -> Trial:
        """A trial with values: they depend on the seed, its number and what was found before alone."""
        number = len(self.study.get_trials(deepcopy=False))
        if self.grid and not self.study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
            self.study.enqueue_trial(self.grid[number])
        self.study.sampler = self._sampler(random.Random(f"{self.settings['seed']}/{number}").getrandbits(32))
        return self.study.ask({each.key: distribution(each) for each in self.space})

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        if self.settings["sampler"] == "tpe":
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        if self.settings["sampler"] == "cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        return optuna.samplers.RandomSampler(seed)

    # What becomes of the jobs

    def tick(self, ended: Sequence[Job]) -> None:
        """Report new epochs, give up what has no hope, and tell what has ended."""
        for trial, job in self._mine.values():
            self._report(trial, job)
        for job in ended:
            if not job.worth_another_try:
                self._tell(job)

    def _report(self, trial: Trial, job: Job) -> None:
        told = len(self.study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        for row in job.rows[told:]:
            trial.report(row.get("val/acc", math.nan), int(row["epoch"]))
        running = job.state == "running" and not job.hopeless
        if len(job.rows) > told and running and len(job.rows) < job.config["epochs"] and trial.should_prune():
            self.sweep.pool.stop(job)

    def _tell(self, job: Job) -> None:
        """What was stopped stays open: the same command goes on with it."""
        trial, _ = self._mine.pop(job.number)
        if job.code == DIVERGED or job.outcome == "diverged":
            job.state = "pruned"  # a finding: from a failure a sampler learns nothing
        if job.state not in STATES:
            return
        value, state = job.value, STATES[job.state]
        if job.state == "finished" and (value is None or not math.isfinite(value)):
            state = TrialState.FAIL
        self.study.tell(trial, value if state == TrialState.COMPLETE else None, state)

    def _others(self) -> list[Job]:
        """The finished and the pruned trials that this process did not run, for the table."""
        known = {job.number for job in self.sweep.jobs}
        found = []
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED]):
            if trial.number not in known:
                job = self.launcher.job(trial.user_attrs[WORDS], trial.number)
                job.state = "finished" if trial.state == TrialState.COMPLETE else "pruned"
                found.append(job)
        return found

    # Which processes are at work: each holds a lock, which the system frees however it ends

    def _sign(self, owner: str) -> Path:
        return self.folder / f".{owner}.lock"

    def _alive(self, owners: set[str | None]) -> set[str]:
        return {owner for owner in owners if owner and (owner == self.me or self._held(owner))}

    def _held(self, owner: str) -> bool:
        if not self._sign(owner).exists():
            return False
        try:
            with FileLock(self._sign(owner), blocking=False):
                return False
        except Timeout:
            return True


def distribution(of: Dimension) -> BaseDistribution:
    """Optuna's word for a dimension."""
    if of.low is None:
        return CategoricalDistribution(of.words)
    if of.whole:
        return IntDistribution(int(of.low), int(of.high), of.log, int(of.step or 1))
    return FloatDistribution(of.low, of.high, of.log, of.step)
