"""What was typed: flags on one side, overrides in Hydra's spelling on the other. Only text: no Hydra here."""

import argparse
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from imgcls.errors import ConfigError

ALIASES = {
    "lr": "optimizer.lr",
    "net": "model.net",
    "model.freeze": "freeze",
    "pool.per_device": "hydra.launcher.per_device",
    "sweep.together": "hydra.launcher.together",
}
# Their values are text, whatever they look like. Hydra's grammar would stop at '=', spaces and umlauts, split
# at commas, and make the number 7 of 007.
PATHS = ("run", "source", "output", "dataset.root", "hydra.run.dir", "hydra.sweep.dir")
TEXTS = ("name", "freeze", "filter", "rows", *PATHS)

SWITCH: dict[str, Any] = {"action": "store_true"}
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
# Hydra's flags, but --config-path, --config-name and --experimental-rerun, which would go round conf/.
COMMANDS: dict[tuple[str, ...], dict[str, Any]] = {
    ("--run", "-r"): SWITCH,
    ("--multirun", "-m"): SWITCH,
    ("--shell-completion", "-sc"): SWITCH,
    ("--cfg", "-c"): {"choices": ("job", "hydra", "all")},
    ("--info", "-i"): {"nargs": "?", "const": "all", "choices": INFO},
}
OPTIONS: dict[tuple[str, ...], dict[str, Any]] = {
    ("--help", "-h"): SWITCH,
    ("--version",): SWITCH,
    ("--hydra-help",): SWITCH,
    ("--resolve",): SWITCH,
    ("--package", "-p"): {},
    ("--config-dir", "-cd"): {},
}
FLAGS = [name for names in (*COMMANDS, *OPTIONS) for name in names]


@dataclass
class Typed:
    """A command line, taken apart."""

    words: list[str]
    options: argparse.Namespace
    flags: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def sweeps(self) -> bool:
        """Whether values separated by commas are the values of a sweep."""
        ready_made = any(word.startswith(("sweep=", "+sweep=")) for word in self.overrides)
        study = "task=study" in self.overrides  # of one setting after another
        return self.options.multirun or ready_made or study or "hydra.mode=MULTIRUN" in self.overrides

    @property
    def for_hydra(self) -> bool:
        """True for what Hydra answers without the configuration."""
        return bool(self.options.hydra_help or self.options.shell_completion)

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
    one_of = parser.add_mutually_exclusive_group()
    for names, options in COMMANDS.items():
        one_of.add_argument(*names, **options)
    for names, options in OPTIONS.items():
        parser.add_argument(*names, **options)
    parser.add_argument("overrides", nargs="*")
    return parser


def read(arguments: Sequence[str]) -> Typed:
    """Take a command line apart; flags may stand anywhere, also between overrides."""
    words, parser = [_without_dashes(a) for a in arguments], _parser()
    try:
        options, unknown = parser.parse_known_intermixed_args(words)
    except ConfigError as error:
        nothing = parser.parse_args([])
        nothing.help = bool({"-h", "--help"} & set(words))
        return Typed(words, nothing, problems=[str(error)])
    # Apart, because Hydra's own parser loses the overrides behind a flag in the middle.
    flags = [w for w in words if w not in (*options.overrides, *unknown)]
    typed = Typed(words, options, flags, options.overrides, [_unknown(flag) for flag in unknown])
    typed.overrides = [normalise(w, typed.sweeps) for w in options.overrides]
    if options.resolve and not options.cfg:
        typed.problems.append("--resolve shows a configuration. Write --cfg job --resolve.")
    if options.config_dir and not Path(options.config_dir).is_dir():
        typed.problems.append(f"--config-dir {options.config_dir} is not a folder. Check its spelling.")
        options.config_dir = None
    return typed


def _without_dashes(word: str) -> str:
    """`--batch-size=8` as `batch_size=8`: so write W&B's sweep agent, and users of other programs."""
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
    if not equals:
        return word
    full = ALIASES.get(key, key)
    if full not in TEXTS or value.startswith(("'", '"', "choice(")):
        return f"{full}={value}"
    values = value.split(",") if sweeps else [value]
    return f"{full}={','.join(_text(v, full in PATHS) for v in values)}"


def _text(value: str, path: bool) -> str:
    if value in ("", "null"):
        return value
    # Only some shells replace the ~ in KEY=~/FOLDER.
    return quoted(str(Path(value).expanduser()) if path and value.startswith("~/") else value)


def quoted(value: str) -> str:
    """The value in single quotes, in Hydra's way: backslashes count only before a quote."""
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + m[2].replace("'", r"\'"), value) + "'"
