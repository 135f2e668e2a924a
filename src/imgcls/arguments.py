"""What was typed: flags on one side, overrides in Hydra's spelling on the other. Text only; imports no Hydra."""

import argparse
import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from imgcls.errors import ConfigError

ALIASES = {"lr": "optimizer.lr"}
# Their values are text, whatever they look like. Hydra's grammar would stop at '=', spaces and umlauts, split
# at commas, and make the number 7 of 007.
PATHS = ("run", "source", "output", "dataset.root", "hydra.run.dir", "hydra.sweep.dir")
TEXTS = ("name", *PATHS)
# Hydra's flags that imgcls keeps. --config-path, --config-name and --experimental-rerun would go round conf/.
SWITCHES = {
    "--help": "-h",
    "--version": "--version",
    "--hydra-help": "--hydra-help",
    "--resolve": "--resolve",
}
COMMANDS = {"--run": "-r", "--multirun": "-m", "--shell-completion": "-sc"}
FLAGS = [*SWITCHES, *COMMANDS, *SWITCHES.values(), *COMMANDS.values()]
FLAGS += ["--cfg", "-c", "--info", "-i", "--package", "-p", "--config-dir", "-cd"]


@dataclass
class Typed:
    """A command line, taken apart."""

    options: argparse.Namespace
    flags: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def sweeps(self) -> bool:
        """Whether values separated by commas are values of a sweep."""
        return self.options.multirun or "hydra.mode=MULTIRUN" in self.overrides

    @property
    def shows(self) -> bool:
        """True for commands that show something of the configuration instead of running a task."""
        return bool(self.options.cfg or self.options.info)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Instead of a page of usage and an exit."""
        raise ConfigError(f"{message}. See --help.")


def _parser() -> _Parser:
    parser = _Parser(add_help=False, allow_abbrev=False)
    one = parser.add_mutually_exclusive_group()
    for names in SWITCHES.items():
        parser.add_argument(*dict.fromkeys(names), action="store_true")
    for names in COMMANDS.items():
        one.add_argument(*names, action="store_true")
    one.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    kinds = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
    one.add_argument("--info", "-i", nargs="?", const="all", choices=kinds)
    parser.add_argument("--package", "-p")
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("overrides", nargs="*")
    return parser


def read(arguments: Sequence[str]) -> Typed:
    """Take a command line apart; flags may stand anywhere, also between overrides."""
    words, parser = [_without_dashes(a) for a in arguments], _parser()
    try:
        # Hydra's own parser loses what stands behind a flag in the middle; flags go first, so that it does not.
        options, unknown = parser.parse_known_intermixed_args(words)
    except ConfigError as error:
        nothing = parser.parse_args([])
        nothing.help = bool({"-h", "--help"} & set(words))
        return Typed(nothing, problems=[str(error)])
    flags = [w for w in words if w not in (*options.overrides, *unknown)]
    typed = Typed(options, flags, options.overrides, [_unknown(flag) for flag in unknown])
    typed.overrides = [normalise(w, typed.sweeps) for w in options.overrides]
    if options.resolve and not options.cfg:
        typed.problems.append("--resolve shows a configuration. Write --cfg job --resolve.")
    if options.config_dir and not os.path.isdir(options.config_dir):  # noqa: PTH112
        typed.problems.append(f"--config-dir {options.config_dir} is not a folder. Check its spelling.")
    return typed


def _without_dashes(word: str) -> str:
    """`--batch-size=8` as `batch_size=8`: so write W&B's sweep agent, and users of flags."""
    key, equals, value = word.partition("=")
    if not (equals and key.startswith("-")) or key in FLAGS:
        return word
    return f"{key.lstrip('-').replace('-', '_')}={value}"


def _unknown(flag: str) -> str:
    near = difflib.get_close_matches(flag, FLAGS, 1, 0.7)
    setting = f"Write settings as {flag.lstrip('-').replace('-', '_')}=VALUE, without dashes."
    return f"{flag} is not known. " + (f"Did you mean {near[0]}?" if near else setting)


def normalise(word: str, sweeps: bool = False) -> str:
    """An override as Hydra wants it: short names in full, text in quotes."""
    key, equals, value = word.partition("=")
    full = ALIASES.get(key, key)
    if not equals or full not in TEXTS:
        return full + equals + value
    values = value.split(",") if sweeps and not value.startswith(("'", '"', "choice(")) else [value]
    return f"{full}={','.join(_text(v, full in PATHS) for v in values)}"


def _text(value: str, path: bool) -> str:
    if value in ("", "null") or value.startswith(("'", '"', "choice(")):
        return value
    return quoted(os.path.expanduser(value) if path else value)  # noqa: PTH111


def quoted(value: str) -> str:
    """The value in single quotes, in Hydra's way: backslashes count only before a quote."""
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + m[2].replace("'", r"\'"), value) + "'"
