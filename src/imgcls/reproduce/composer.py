"""Commands as jobs of a sweep, with what is typed changed in all of them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from omegaconf import DictConfig, open_dict

from imgcls import naming
from imgcls.cli import command, rules
from imgcls.cli.composing import Conf, own_place, plain, replaced
from imgcls.cli.conflicts import batches, conflicts
from imgcls.cli.help import conf_folder
from imgcls.data.facts import FACTS
from imgcls.errors import ConfigError
from imgcls.reproduce.words import key
from imgcls.sweeps.job import Job


@contextmanager
def composing(config_dir: str | None, changes: Sequence[str], fraction: float | None) -> Iterator["Composer"]:
    """Composes commands as Hydra does, with the user's changes."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3", job_name="imgcls"):
        conf = Conf([own_place(Path(config_dir))] if config_dir else [])
        yield Composer(conf, changes, fraction)


class Composer:
    """Makes jobs of commands."""

    def __init__(self, conf: Conf, changes: Sequence[str], fraction: float | None) -> None:
        self.conf, self.changes, self.fraction = conf, list(changes), fraction
        self.jobs: dict[Path, Job] = {}
        self._known: dict[tuple[str, ...], set[str]] = {}

    def words(self, words: Sequence[str], changes: Sequence[str] | None = None) -> list[str]:
        """A command with changes, by default the user's: they win, and a group that is chosen anew keeps
        those of the command's settings that its new option has."""
        changes = self.changes if changes is None else list(changes)
        keys = {key(word) for word in changes}
        groups = [word for word in changes if key(word) in self.conf.usual]
        there = self._settings(tuple(groups))
        anew = {key(word) for word in groups}

        def stays(name: str) -> bool:
            return name not in keys and (name.partition(".")[0] not in anew or name in there or name in anew)

        return [word for word in words if stays(key(word))] + changes

    def _settings(self, groups: tuple[str, ...]) -> set[str]:
        """The settings that there are with some options; ConfigError if one of those is not known."""
        if groups and groups not in self._known:
            done = command.examined(self.conf, groups)
            if done.problems:
                raise ConfigError(done.problems[0])
            self._known[groups] = set(naming.flat(done.jobs[0]))
        return self._known.get(groups, set())

    def check(self, words: Sequence[str]) -> None:
        """Find misspellings in the changes of a command, and spell them as Hydra takes them.

        Raises:
            ConfigError: with the first that is wrong.
        """
        if not self.changes:
            return
        done = command.examined(self.conf, self.words(words))
        if done.problems:
            raise ConfigError(done.problems[0])
        keys = {key(word) for word in self.changes}
        self.changes = [word for word in done.overrides if key(word) in keys]

    def make(self, label: str, words: Sequence[str], seeds: int = 1) -> list[Job]:
        """The jobs of a command, one for each seed; a job that another command needs, too, is the same.

        Raises:
            ConfigError: its settings cannot run.
        """
        words = self.words(words)
        # That a run diverges is an outcome: another try would only repeat it
        composed = self.conf.compose(["on_divergence=record", *words, "hydra.mode=MULTIRUN"])
        values = self._limit(plain(composed))
        wanted = [[("seed", n)] for n in range(seeds)] if seeds > 1 else [[]]
        return [self._job(label, words, composed, [*values, *seed]) for seed in wanted]

    def _job(self, label: str, words: list[str], composed: DictConfig, values: list[tuple[str, Any]]) -> Job:
        config = replaced(composed, values)
        number = len(self.jobs)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
        settings = plain(config)
        if wrong := rules.problems(settings) or conflicts(settings):
            raise ConfigError(f"{label}: {wrong[0]}")
        name = " ".join([label, *(f"seed={value}" for key, value in values if key == "seed")])
        job = Job(number, [*words, *(f"{key}={value}" for key, value in values)], config, label=name)
        return self.jobs.setdefault(job.run.path, job)

    def _limit(self, config: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """How many images a fraction of the dataset is: a few more where a last batch would be too small."""
        if not self.fraction or self.fraction == 1:
            return []
        if not (facts := FACTS.get(config["dataset"]["name"])):
            raise ConfigError(
                f"fraction={self.fraction:g}: dataset={config['dataset']['name']} is of any size. "
                "Use dataset.limit=IMAGES."
            )
        share = config["dataset"]["val_fraction"]

        def fits(limit: int) -> bool:
            return not any(batches(config["batch_size"], limit - int(limit * share + 1e-9)))

        least = max(2, round(self.fraction * facts.train))
        return [("dataset.limit", next(limit for limit in count(least) if fits(limit)))]
