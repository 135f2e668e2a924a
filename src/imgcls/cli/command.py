"""What is wrong with a command, before Hydra runs it: every mistake in one line, all of them at once.

Hydra composes here as it will later; nothing imports torch, so that a typo is answered in half a second.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from omegaconf import DictConfig

from imgcls.cli import names, overrides, rules
from imgcls.cli.arguments import ALIASES, normalise
from imgcls.cli.composing import LOCAL, Conf, hydra_keys, own_place, plain, replaced
from imgcls.cli.conflicts import conflicts
from imgcls.cli.help import conf_folder
from imgcls.cli.kinds import spelt
from imgcls.cli.overrides import Setting
from imgcls.errors import ConfigError
from imgcls.naming import flat
from imgcls.sweeps import queue, space, teams

MOST_JOBS = 2000  # of a larger sweep; each job is checked again when it starts


@dataclass
class Checked:
    """What came of a command: overrides that Hydra takes, a configuration for each job, and complaints."""

    overrides: list[str] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    first: DictConfig | None = None  # of the first job, with Hydra's own part
    problems: list[str] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        """The keys and groups that were typed."""
        return [line.split("=")[0].lstrip("+~") for line in self.overrides]


def check(typed: Sequence[str], config_dir: str | None = None) -> tuple[dict[str, Any], list[str]]:
    """(configuration, problems) of the overrides of a single job."""
    done = examine([normalise(text) for text in typed], config_dir=config_dir)
    config = done.jobs[0] if done.jobs else {}
    return config, done.problems or conflicts(config)


def examine(typed: Sequence[str], sweeps: bool = False, config_dir: str | None = None) -> Checked:
    """Compose what was typed, and find all that is wrong with its names and values."""
    hidden: list[str] = []
    with initialize_config_dir(str(conf_folder()), version_base="1.3", job_name="imgcls"):
        places = [text for text in typed if text.startswith("hydra.searchpath=")]
        if config_dir:
            places = [own_place(Path(config_dir))]
            hidden = _hidden(Path(config_dir))
        try:
            done = examined(Conf(places), typed, sweeps)
        except ConfigError as error:  # in a file that every command needs
            done = Checked(problems=[str(error)])
    done.problems = [*hidden, *done.problems]
    return done


def examined(conf: Conf, typed: Sequence[str], sweeps: bool = False) -> Checked:
    """The same while Hydra is initialised, as it is for many commands after one another."""
    done = Checked()
    try:
        _Examiner(done, conf).examine(typed, sweeps)
    except ConfigError as error:
        done.problems.append(str(error))
    done.problems = list(dict.fromkeys(done.problems))
    return done


def _hidden(own: Path) -> list[str]:
    """Files that Hydra would pass over without a word: it looks into conf/ first."""
    files = {path: path.relative_to(own) for path in sorted(own.glob("*/**/*.yaml"))}
    hidden = {path: file for path, file in files.items() if (conf_folder() / file).exists()}
    return [f"{path} is hidden by conf/{file}. Give it another name." for path, file in hidden.items()]


def _is_in(defaults: Mapping[str, Any], key: str) -> bool:
    """Whether a setting is there; a file's `{}` is for any."""
    return key in defaults or any(key.startswith(f"{k}.") for k, value in defaults.items() if value == {})


class _Examiner:
    """Goes step by step, so that one mistake does not hide the others."""

    def __init__(self, done: Checked, conf: Conf) -> None:
        self.done, self.conf = done, conf

    def examine(self, typed: Sequence[str], sweeps: bool) -> None:
        """Fill `done`."""
        settings = [setting for text in typed if (setting := self._read(text, sweeps))]
        groups = [s for s in settings if s.key in self.conf.usual or self.conf.options(s.key)]
        keys = [s for s in settings if s not in groups]
        choices = [lines for s in groups if (lines := self._choices(s))]
        first = [line for line, *_ in choices]
        for ready in self._ready_made(first, {s.key for s in settings}, sweeps):
            if ready.key in self.conf.usual:
                choices.append(self._choices(ready))
            else:
                keys.append(ready)
        self.chooses = any(len(lines) > 1 for lines in choices)
        # What keys there are depends on the options: each choice of a sweep is looked at by itself
        for chosen in product(*choices):
            self._examine_jobs(chosen, keys)
        # model=a, model=b → model=a,b
        joined = [",".join([first, *(line.partition("=")[2] for line in more)]) for first, *more in choices]
        self.done.overrides = joined + self.done.overrides

    def _read(self, text: str, sweeps: bool) -> Setting | None:
        try:
            return overrides.read(text, sweeps, self.conf.options)
        except ConfigError as error:
            # `imgcls train resnet18` is clear enough to say how to write it
            groups = [group for group in self.conf.usual if self.conf.has(group, text)]
            groups += ["task"] if text in rules.TASKS else []
            hint = f"cannot read {text!r}. Write {groups[0]}={text}." if groups else str(error)
            self.done.problems.append(hint)
            return None

    def _ready_made(self, chosen: Sequence[str], typed: set[str], sweeps: bool) -> list[Setting]:
        """What the chosen options (sweep=…) have to be swept, but for what is typed."""
        try:
            hydra = (self.conf.compose(chosen) if chosen else self.conf.default).hydra
        except ConfigError:
            return []  # what composes the jobs says why
        self.sweeps = sweeps or str(hydra.mode) == "RunMode.MULTIRUN"
        if not self.sweeps:
            return []
        params = (hydra.sweeper.get("params") or {}).items()
        return [s for key, value in params if key not in typed and (s := self._read(f"{key}={value}", True))]

    def _choices(self, setting: Setting) -> list[str]:
        """The overrides, one for each value, that choose a group's options; none if one is not known."""
        group, optional = setting.key, self.conf.optional(setting.key)
        if optional and setting.values == [None]:  # Hydra knows no GROUP=null
            return [f"~{group}"]
        wrong: list[str] = []
        for value, word in zip(setting.values, setting.words, strict=True):
            one = value if isinstance(value, str) else word
            several = map(str, value) if isinstance(value, list) and self.conf.several(group) else [one]
            wrong += [option for option in several if not self.conf.has(group, option)]
        known = self.conf.options(group)
        for option in wrong:
            near = ", ".join(names.near(option, known, 0.6) or known)
            hint = f"Choose from: {near}." if near else f"--config-dir DIR finds DIR/{group}/{option}.yaml."
            self.done.problems.append(f"{group}={option} is not known. {hint}")
        return [] if wrong else [self.conf.choose(group, word) for word in setting.words]

    def _examine_jobs(self, chosen: Sequence[str], keys: list[Setting]) -> None:
        """All jobs that one choice of options has."""
        try:
            config = self.conf.compose(chosen) if chosen else self.conf.default
            defaults, settings = self.conf.defaults(config), flat(plain(config))
        except ConfigError as error:
            raise ConfigError(": ".join([*chosen, str(error)])) from error
        unknown = {key: value for key, value in settings.items() if not _is_in(defaults, key)}
        if unknown:  # what an experiment sets there, which Hydra lets pass
            self._unknown_in_files(unknown, defaults, chosen, self.conf.free(config))
        good = [s for s in keys if self._is_known(s, defaults, config)]
        self._check_search(good, config)
        typed, sweeper = [(s.key, s.values[0]) for s in good], config.hydra.runtime.choices["hydra/sweeper"]
        self.done.problems += teams.problems(typed, self.sweeps, sweeper)
        self.done.problems += queue.problems(config.hydra.runtime.choices["hydra/launcher"])
        there = (*defaults, *hydra_keys(config))
        self.done.overrides = [
            s.line(force=s.key not in there or isinstance(s.values[0], dict)) for s in good
        ]
        for values in islice(product(*([(s.key, value) for value in s.values] for s in good)), MOST_JOBS):
            job = replaced(config, values)
            self.done.first = self.done.first or job
            self.done.jobs.append(plain(job))
            self.done.problems += rules.problems(self.done.jobs[-1], defaults)

    def _is_known(self, setting: Setting, defaults: Mapping[str, Any], config: DictConfig) -> bool:
        """Whether all that a setting sets is there to be set."""
        before = len(self.done.problems)
        group, _, last = setting.key.rpartition(".")
        if setting.of_hydra:
            if not self.conf.takes(config, setting.key):
                self._unknown(setting.key, setting.typed, hydra_keys(config))
            elif not setting.typed:
                self.done.problems.append(f"{setting.key}= has no value. Give it one, or leave it out.")
        elif last == "name" and group in self.conf.usual:
            self.done.problems.append(f"{setting.key}={setting.typed} names no option. Write {group}=OPTION.")
        else:
            for value, word in zip(setting.values, setting.words, strict=True):
                for key, part in flat({setting.key: value}).items():
                    if not _is_in(defaults, key):
                        self._unknown(key, word if key == setting.key else spelt(part), defaults)
        return len(self.done.problems) == before

    def _check_search(self, settings: list[Setting], config: DictConfig) -> None:
        """What a search plugin needs, or, without one, what only such a plugin understands."""
        sweeper = config.hydra.runtime.choices["hydra/sweeper"]
        if sweeper == "optuna":
            config = replaced(config, [(s.key, s.values[0]) for s in settings])
            swept = [s for s in settings if not s.of_hydra]
            self.done.problems += space.problems(config, swept, self.chooses, self.sweeps)
        for setting in settings:
            if "interval(" in setting.typed and len(setting.values) > 1 and sweeper == "basic":
                named = f"{setting.key}={','.join(setting.words)}"
                ways = f"Add hydra/sweeper=optuna, or name the values: {named}."
                self.done.problems.append(f"{setting.key}={setting.typed} is for a search. {ways}")

    def _unknown_in_files(
        self, unknown: Mapping[str, Any], known: Iterable[str], chosen: Sequence[str], free: Mapping[str, str]
    ) -> None:
        """Complain about keys of experiments: misspelt, or of an option in whose place another is chosen."""
        where = " and ".join(f"{group}={option}" for group, option in free.items())
        for line in chosen:
            group = line.partition("=")[0]
            others = [key for key in unknown if key.startswith(f"{group}.")]
            if others and group not in free:
                unknown = {key: value for key, value in unknown.items() if key not in others}
                self.done.problems.append(
                    f"{where}: not written for {line}, which has no {', '.join(others)}. "
                    "Change a copy of its file; --config-dir DIR finds DIR/experiment/NAME.yaml."
                )
        for key, value in unknown.items():
            self._unknown(key, spelt(value), known, free)

    def _unknown(
        self, key: str, word: str, known: Iterable[str], free: Mapping[str, str] | None = None
    ) -> None:
        """Complain about a key that was typed, or that stands in one of the files that may set anything."""
        groups = [group for group in self.conf.usual if group != LOCAL]
        short = [alias for alias in ALIASES if "." not in alias]
        hint = names.advice(key, word, [*known, *groups, *short])
        if key.split(".")[0] in (free or {}):
            hint = "Begin its file with '# @package _global_'."
        where = "".join(f"{group}={option}: " for group, option in (free or {}).items())
        self.done.problems.append(f"{where}unknown key {key}={word}. {hint}")
