"""The one entry point: `python -m imgcls …` and the script `imgcls …`. Imports no torch.

Finds conf/, answers mistakes, lets Hydra compose, and hands the configuration to the task it names.
"""

import logging
import os
import sys
import traceback
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from imgcls import __version__
from imgcls.errors import ImgclsError, ResourceError

SWEEP_FAILED = 7  # exit code of a sweep in which a job failed
_failures: list[str] = []


def main(argv: list[str] | None = None) -> None:
    """Run a command line; exits with a code of its own for each class of error."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if {"-h", "--help"} & set(arguments):
        return _help(arguments)
    if "--version" in arguments:
        return print(f"imgcls {__version__}")
    from imgcls import command

    arguments = [command.normalise(a) for a in arguments]
    register_resolvers()
    if not _only_asks(arguments):
        _check(arguments)
    sys.argv[1:] = arguments  # Hydra, and Lightning when it starts more processes, read them there
    _hydra_main()
    if _failures:
        sys.exit(SWEEP_FAILED)
    return None


def _help(arguments: list[str]) -> None:
    from imgcls import help as help_page

    here = Path(__file__).parent / "conf"
    folders = [here if here.is_dir() else Path(__file__).parents[2] / "conf"]
    own = [Path(b) for a, b in pairwise(arguments) if a in ("--config-dir", "-cd")]
    print(help_page.page(__version__, folders + own))


def _only_asks(arguments: list[str]) -> bool:
    """True for commands that Hydra answers without running a task."""
    asks = ("--cfg", "-c", "--info", "-i", "--shell-completion", "-sc", "--hydra-help")
    return any(a.split("=")[0] in asks for a in arguments)


def register_resolvers() -> None:
    """Let conf/ ask for the run folder: it is a function of the whole configuration."""
    from omegaconf import OmegaConf

    from imgcls import runs

    def folder(_root_: Any) -> str:
        return str(runs.folder(_plain(_root_)))

    def name(_root_: Any) -> str:
        return runs.name(_plain(_root_))

    OmegaConf.register_new_resolver("imgcls_folder", folder, replace=True)
    OmegaConf.register_new_resolver("imgcls_name", name, replace=True)


def _plain(config: Any) -> dict[str, Any]:
    """A composed configuration as plain values, without Hydra's own part."""
    from omegaconf import OmegaConf

    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    return {str(k): v for k, v in OmegaConf.to_container(own, resolve=True).items()}  # type: ignore[union-attr]


def _check(arguments: list[str]) -> None:
    """Stop with all mistakes at once, before anything is loaded or written."""
    from hydra._internal.utils import get_args_parser

    from imgcls import command, runs

    options = get_args_parser().parse_args(arguments)
    try:
        config, problems = command.check(options.overrides, options.config_dir)
        if problems:
            _fail(problems, 2)
        if config["run"]:
            runs.Run.existing(config["run"])
        runs.writable(Path(config["output"]) if options.multirun else runs.folder(config))
    except ImgclsError as error:
        _fail([str(error)], error.exit_code)


def _fail(messages: list[str], code: int) -> None:
    for message in messages:
        print(f"imgcls: error: {message}", file=sys.stderr)
    sys.exit(code)


def _hydra_main() -> None:
    import hydra

    from imgcls.command import conf_folder

    os.environ.setdefault("HYDRA_FULL_ERROR", "0")
    hydra.main(config_path=str(conf_folder()), config_name="config", version_base="1.3")(_task)()


def _task(config: Any) -> float | None:
    """Run the task that a composed configuration names; returns the number a search would maximise."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    job = HydraConfig.get()
    settings, folder = _plain(config), Path(job.runtime.output_dir)
    typed = [override.split("=")[0].lstrip("+~") for override in job.overrides.task]
    try:
        return import_module(f"imgcls.tasks.{settings['task']}").main(settings, folder, typed)
    except ImgclsError as error:
        message, code = str(error), error.exit_code
    except MemoryError:
        message, code = "out of memory. Lower batch_size, or raise accumulate.", ResourceError.exit_code
    except Exception as error:
        what = (str(error).splitlines() or [""])[0]
        message, code = f"{type(error).__name__}: {what} (traceback in {folder / 'imgcls.log'}).", 1
        _log_traceback()
        if settings["debug"]:
            traceback.print_exc()
    print(f"imgcls: error: {message}", file=sys.stderr)
    if job.mode != RunMode.MULTIRUN:
        sys.exit(code)
    _failures.append(message)  # a sweep goes on with its other jobs
    return None


def _log_traceback() -> None:
    """Into the log file only: the terminal gets one line, unless a debug= asks for all."""
    record = logging.LogRecord("imgcls", logging.ERROR, __file__, 0, "failed", None, sys.exc_info())
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(record)


if __name__ == "__main__":
    main()
