"""The command line before Hydra sees it: accepted spellings, and every mistake answered in one line.

Nothing here imports torch: a typo is answered in a second.
"""

import difflib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from imgcls import help as help_page
from imgcls import rules, runs
from imgcls.errors import ConfigError

# What users of other tools type, and what it is called here.
ALIASES = {"lr": "optimizer.lr", "model.optimizer.lr": "optimizer.lr", "max_epochs": "epochs"}
RENAMED = {
    "data": "dataset",
    "data.batch_size": "batch_size",
    "datamodule": "dataset",
    "trainer.max_epochs": "epochs",
    "scheduler": "schedule",
    "ckpt_path": "run",
    "callbacks.early_stopping.patience": "early_stopping.patience",
}
# Values that are paths: quoted for the user, because Hydra's grammar stops at '=', spaces and umlauts.
PATHS = ("run", "source", "dataset.root", "output", "hydra.run.dir")


def conf_folder() -> Path:
    """The configurations: packed into the wheel, or beside src/ in a checkout."""
    packed = Path(__file__).parent / "conf"
    return packed if packed.is_dir() else Path(__file__).parents[2] / "conf"


def _quoted(value: str) -> str:
    bare = not value or value[0] in "'\"$[{" or value.startswith("choice(")
    return value if bare else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def normalise(argument: str) -> str:
    """One argument as Hydra wants it: `--key=value` and `+group=x` pass, paths are quoted, aliases named."""
    if argument.startswith("--") and "=" in argument and not argument.startswith(("--config", "--hydra")):
        argument = argument[2:]  # as W&B's sweep agent writes it
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-"):
        return argument
    if key in ("+experiment", "+debug"):
        key = key[1:]
    key = ALIASES.get(key, key)
    return f"{key}={_quoted(value) if key in PATHS else value}"


def _near(word: str, known: Iterable[str]) -> list[str]:
    """The nearest known names, also where only the last part of a dotted key was typed."""
    known = sorted(known)
    same_end = [k for k in known if k.endswith("." + word.rsplit(".", 1)[-1])]
    return list(dict.fromkeys(same_end[:3] + difflib.get_close_matches(word, known, 3, 0.6)))[:3]


def _values(override: Override) -> list[Any]:
    """The values an override stands for: one, or those of a sweep."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return [_plain(v) for v in value.list]
    return [] if override.is_sweep_override() else [_plain(value)]


def _plain(value: Any) -> Any:
    """A parsed value without Hydra's quoting."""
    return getattr(value, "text", value) if type(value).__name__ == "QuotedString" else value


class Checker:
    """Finds all that is wrong with a list of overrides, without running anything."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.groups = help_page.options(list(folders))
        self.problems: list[str] = []

    def check(self, arguments: list[str]) -> dict[str, Any]:
        """The composed configuration (of a sweep: with first values); problems gather in `problems`."""
        overrides = self._parse(arguments)
        good_groups = [o for o in overrides if self._is_group(o) and self._check_group(o)]
        base = self._compose([self._first(o) for o in good_groups])
        others = [o for o in overrides if not self._is_group(o)]
        good = [o for o in others if self._check_key(o, base)]
        config = self._compose([self._first(o) for o in good_groups + good])
        self._check_values(good, runs.flat(base), config)
        return config

    def _parse(self, arguments: list[str]) -> list[Override]:
        parser, parsed = OverridesParser.create(), []
        for argument in arguments:
            try:
                parsed += parser.parse_overrides([argument])
            except HydraException:
                hint = "Write KEY=VALUE, and quote values with special characters: 'KEY=\"a b\"'."
                self.problems.append(f"cannot read {argument!r}. {hint}")
        return parsed

    def _is_group(self, override: Override) -> bool:
        return override.key_or_group in self.groups or override.key_or_group.startswith("hydra/")

    @staticmethod
    def _first(override: Override) -> str:
        """The override with a sweep replaced by its first value, so that it composes."""
        if not override.is_sweep_override():
            return str(override.input_line)
        value = override.value()
        first = (
            value.list[0] if isinstance(value, ChoiceSweep) else next(iter(override.sweep_string_iterator()))
        )
        text = first if isinstance(first, str) else Override._get_value_element_as_str(first)
        return f"{override.get_key_element()}={text}"

    def _check_group(self, override: Override) -> bool:
        group = override.key_or_group
        if group.startswith("hydra/") or override.type == OverrideType.DEL:
            return True
        names = [n for value in _values(override) for n in (value if isinstance(value, list) else [value])]
        wrong = [n for n in names if n is not None and n not in self.groups[group]]
        for name in wrong:
            choices = ", ".join(_near(str(name), self.groups[group]) or self.groups[group])
            self.problems.append(f"{group}={name} is not known. Choose from: {choices}.")
        return not wrong

    def _check_key(self, override: Override, base: dict[str, Any]) -> bool:
        key = override.key_or_group
        if key.split(".")[0] == "hydra":
            return True
        if OmegaConf.select(OmegaConf.create(base), key, default=...) is not ...:
            if override.type == OverrideType.ADD:  # a plus before a key that exists is harmless
                override.type, override.input_line = OverrideType.CHANGE, str(override.input_line).lstrip("+")
            return True
        known = [*runs.flat(base), *self.groups]
        near = [RENAMED[key]] if key in RENAMED else _near(key, known)
        hint = f"Did you mean {' or '.join(near)}?" if near else "--cfg job lists all keys."
        self.problems.append(f"unknown key {key}={override.get_value_element_as_str()}. {hint}")
        return False

    def _check_values(
        self, overrides: list[Override], defaults: dict[str, Any], config: dict[str, Any]
    ) -> None:
        typed = {o.key_or_group: _values(o) for o in overrides}
        values = {key: typed.get(key, [value]) for key, value in runs.flat(config).items()}
        found = [rules.problem(k, v, defaults.get(k)) for k, vs in values.items() for v in vs]
        self.problems += [problem for problem in found if problem]
        if config.get("name"):
            try:
                runs.check_name(str(config["name"]))
            except ConfigError as error:
                self.problems.append(str(error))
        if not self.problems:
            self.problems += rules.conflicts(config)

    def _compose(self, arguments: list[str]) -> dict[str, Any]:
        return compose_plain(arguments)


def compose_plain(arguments: list[str]) -> dict[str, Any]:
    """The configuration as plain values. Raises ConfigError with one line where Hydra has many."""
    try:
        config = OmegaConf.to_container(compose("config", overrides=arguments), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(" ".join(str(error).split("\n")[0].split()) + " See --help.") from error
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def check(arguments: list[str], config_dir: str | None = None) -> tuple[dict[str, Any], list[str]]:
    """(configuration, problems) of a list of overrides."""
    folders = [conf_folder()] + ([Path(config_dir)] if config_dir else [])
    extra = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    with initialize_config_dir(str(folders[0]), version_base="1.3", job_name="imgcls"):
        checker = Checker(folders)
        try:
            return checker.check([*extra, *arguments]), checker.problems
        except ConfigError as error:
            logging.getLogger(__name__).debug("composition failed", exc_info=True)
            return {}, checker.problems or [str(error)]
