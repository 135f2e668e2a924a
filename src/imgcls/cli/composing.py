"""Hydra's side: which options there are, and the configuration that they compose to."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from imgcls.cli.arguments import quoted
from imgcls.cli.help import PAPERS
from imgcls.cli.rules import SEVERAL
from imgcls.errors import ConfigError
from imgcls.naming import flat

LOCAL = "local"  # a group with one option, which need not be there


def plain(config: DictConfig) -> dict[str, Any]:
    """A composed configuration as plain values, without Hydra's own part."""
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        values = OmegaConf.to_container(own, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {_gist(error)}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def replaced(config: DictConfig, values: Iterable[tuple[str, Any]]) -> DictConfig:
    """A copy of a configuration with other values, put in as Hydra does it."""
    copy = config.copy()
    for key, value in values:
        try:
            OmegaConf.update(copy, key, value, merge=True, force_add=True)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{key}={value}: {_gist(error)}") from error
    return copy


def _gist(error: Exception) -> str:
    """What Hydra, OmegaConf or YAML say in many lines, in one."""
    said = " ".join(str(e) for e in (error, error.__cause__) if e)
    words = said.split("Config search path")[0].split("full_key:")[0].split()
    return " ".join(words)[:400].rstrip(".") + "."


class Conf:
    """conf/ and a folder of the user's own, for use while Hydra is initialised.

    Args:
        places: an override of hydra.searchpath, or nothing.
    """

    def __init__(self, places: list[str]) -> None:
        self.places = places
        self.default = self.compose([])
        # The option of each group in the defaults list; None where there need be none
        self.usual: dict[str, str | None] = dict(self.default.hydra.runtime.choices)

    def compose(self, lines: Iterable[str]) -> DictConfig:
        """The configuration with Hydra's own part. Raises ConfigError with one line where Hydra has many."""
        try:
            return compose("config", overrides=[*self.places, *lines], return_hydra_config=True)
        except Exception as error:  # files can be broken in a dozen ways, each with its own kind of error
            raise ConfigError(_gist(error)) from error

    def options(self, group: str) -> list[str]:
        """Names of a group's options; none if there is no such group."""
        if group == PAPERS:  # to Hydra every folder is a group
            return []
        loader = GlobalHydra.instance().config_loader()
        # A search path costs a parser and a fresh look at all folders
        where: dict[str, Any] = {"config_name": "config", "overrides": self.places} if self.places else {}
        return [name for name in loader.get_group_options(group, **where) if not name.startswith("_")]

    def has(self, group: str, option: str) -> bool:
        """Whether there is such an option, which may be in a folder of the group."""
        *folders, file = option.split("/")
        return file in self.options("/".join([group, *folders]))

    def optional(self, group: str) -> bool:
        """Whether there need be no option of the group."""
        return self.usual.get(group) is None

    def several(self, group: str) -> bool:
        """Whether a list of options may be chosen."""
        return group in SEVERAL or self.optional(group)

    def choose(self, group: str, option: str) -> str:
        """The override that chooses an option: a group beside the defaults list has to be added."""
        return f"{'' if group in self.usual else '+'}{group}={option}"

    def free(self, config: DictConfig) -> dict[str, str]:
        """The chosen options that may set anything: experiments, debug options, this machine's own."""
        choices = config.hydra.runtime.choices
        found = {g: choices[g] for g, usual in self.usual.items() if usual is None and choices.get(g)}
        return found | ({LOCAL: choices[LOCAL]} if self.options(LOCAL) else {})

    def defaults(self, config: DictConfig) -> dict[str, Any]:
        """Each setting with the value that its own file gives it: all but the free options."""
        free = self.free(config)
        if not free:
            return flat(plain(config))
        choices: Mapping[str, Any] = config.hydra.runtime.choices
        kept = {
            g: c for g, c in choices.items() if c and g not in (*free, LOCAL) and not g.startswith("hydra/")
        }
        lines = [self.choose(g, c) for g, c in kept.items()] + [f"~{group}" for group in free]
        return flat(plain(self.compose(lines)))

    def takes(self, config: DictConfig, key: str) -> bool:
        """Whether a key of Hydra's own part is known, or goes where all keys go."""
        if key in hydra_keys(config):
            return True
        while "." in key:
            key = key.rpartition(".")[0]
            if (node := OmegaConf.select(config, key)) is not None:
                return OmegaConf.get_type(node) is dict
        return False


def hydra_keys(config: DictConfig) -> dict[str, Any]:
    """Hydra's own settings by dotted key, as its files have them."""
    return flat({"hydra": OmegaConf.to_container(config.hydra)})


def own_place(folder: Path) -> str:
    """The override that adds a folder of options to conf/."""
    return f"hydra.searchpath=[{quoted(f'file://{folder.resolve()}')}]"
