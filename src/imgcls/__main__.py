"""The one entry point: `python -m imgcls …` and the script `imgcls …`. Imports no torch.

Answers mistakes, lets Hydra compose, and hands the configuration to the task it names.
"""

import logging
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from imgcls import __version__, memory
from imgcls.cli import arguments
from imgcls.distributed import launch
from imgcls.errors import (
    SWEEP_FAILED,
    ConfigError,
    ImgclsError,
    ResourceError,
    printable,
    resource_trouble,
)
from imgcls.reproduce import words as studies

if TYPE_CHECKING:
    from imgcls.cli.command import Checked

STOPPED = 130  # by Ctrl-C
failures: list[tuple[int, str]] = []  # of a sweep's jobs in this process: exit code and what went wrong


def main(argv: list[str] | None = None) -> None:
    """Run a command line; exits with a code of its own for each class of error."""
    memory.end_at_once()
    if launch.waits():
        return _rank()
    typed = arguments.read(sys.argv[1:] if argv is None else argv)
    if typed.options.help:
        from imgcls.cli import help as help_page

        print(help_page.page(__version__, typed.options.config_dir))
    elif typed.options.version:
        print(f"imgcls {__version__}")
    else:
        try:
            _run(typed)
        except KeyboardInterrupt:
            print("imgcls: stopped. The same command goes on.", file=sys.stderr)
            sys.exit(STOPPED)
    return launch.dismiss()


def _rank() -> None:
    """One of several processes of a run, which does its part of the job that another has read."""
    job = None
    try:
        if job := launch.told():
            launch.do(job)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except Exception as error:
        message, code = _answer(error, job["config"]["debug"] if job else None)
        launch.report(error, message, code)
        sys.exit(code)


def _run(typed: arguments.Typed) -> None:
    register_resolvers()
    words = typed.words
    if not typed.for_hydra:
        if studies.asked(typed.overrides) and not typed.shows:
            return _study(typed)
        done = _checked(typed)
        if _only_looks(typed, done):
            return _look(done.jobs, typed.options.config_dir, done.keys)
        words = typed.flags + done.overrides
    sys.argv[1:] = words  # Hydra, and Lightning when it starts more processes, read it there
    failures.clear()
    try:
        _hydra_main()
    except BaseException:
        if sweep := _sweep():
            sweep.close()
        raise
    code = SWEEP_FAILED if failures else 0  # of a launcher that is not ours
    if sweep := _sweep():
        code = max(code, sweep.finish())
    if code:
        sys.exit(code)
    return None


def _sweep() -> Any:
    """The sweep that this command was, after its launcher; None for a single run."""
    sweeps = sys.modules.get("imgcls.sweeps.sweep")
    return sweeps and sweeps.Sweep.current


def _look(jobs: list[dict[str, Any]], config_dir: str | None, keys: Sequence[str] = ()) -> None:
    """Run tasks that write nothing: they need no folder and no log, and so no Hydra."""
    for job in jobs:
        try:
            import_module(f"imgcls.tasks.{job['task']}").main(job, config_dir, keys)
        except Exception as error:
            message, code = _answer(error, job.get("debug"))
            _fail([message], code)


def _study(typed: arguments.Typed) -> None:
    """Run a task that trains many runs: what is typed beside its own settings is for those."""
    twice = ["-m: the task is many runs already. Leave -m out."] if typed.options.multirun else []
    own = studies.own(typed.overrides)
    done = _checked(replace(typed, overrides=own, problems=[*typed.problems, *twice]))
    try:
        task = import_module(f"imgcls.tasks.{done.jobs[0]['task']}")
        code = task.main(done.first, typed.overrides, typed.options.config_dir)
    except Exception as error:
        message, code = _answer(error, None)
        _fail([message], code)
    if code:
        sys.exit(code)


def register_resolvers() -> None:
    """Let conf/ ask for the run folder: it is a function of the whole configuration."""
    from omegaconf import OmegaConf

    from imgcls import naming
    from imgcls.cli.composing import plain

    def folder(_root_: Any) -> str:
        return str(naming.folder(plain(_root_)))

    def room(_root_: Any) -> str:
        return naming.room(plain(_root_))

    OmegaConf.register_new_resolver("imgcls_folder", folder, replace=True)
    OmegaConf.register_new_resolver("imgcls_room", room, replace=True)


def _checked(typed: arguments.Typed) -> "Checked":
    """What is to be run; exits with all mistakes at once, before anything is loaded or written."""
    from imgcls.cli import command
    from imgcls.cli.conflicts import conflicts, shared
    from imgcls.cli.idle import idle

    try:
        done = command.examine(typed.overrides, typed.sweeps, typed.options.config_dir)
    except Exception as error:
        _blame_plugins(error, "task=doctor" in typed.overrides)
    problems = typed.problems + done.problems
    if not problems and not typed.shows:
        problems = [line for job in done.jobs for line in conflicts(job)] + shared(done.jobs)
        if typed.sweeps and launch.started():
            problems = ["a sweep starts its own processes. Leave torchrun out."]
    if problems:
        _fail(problems, ConfigError.exit_code)
    if not typed.shows and not _only_looks(typed, done):
        _check_folders(done, typed.sweeps)
        for line in idle(done.jobs, done.keys):
            print(f"imgcls: warning: {printable(line)}", file=sys.stderr)
    return done


def _only_looks(typed: arguments.Typed, done: "Checked") -> bool:
    """Whether it is a task that writes nothing."""
    from imgcls.cli.conflicts import LOOKS

    return not typed.shows and done.jobs[0]["task"] in LOOKS


def _blame_plugins(error: Exception, doctor: bool) -> NoReturn:
    """A plugin of Hydra's that cannot be imported stops every command, be it in use or not."""
    from imgcls.health import software

    if doctor:
        _look([{"task": "doctor"}], None)
    broken = [f"{found.check}: {found.found}. {found.remedy}" for found in software.broken_plugins()]
    if not broken:
        raise error
    _fail(broken, ResourceError.exit_code)


def _check_folders(done: "Checked", sweeps: bool) -> None:
    """What the jobs read must be there, and what they write must be writable."""
    from omegaconf import OmegaConf

    from imgcls import runs, weights
    from imgcls.compare import collect
    from imgcls.tasks import evaluate

    try:
        for job in done.jobs:
            if job["run"]:
                run = runs.Run.existing(job["run"], job["output"])
                evaluate.settings_of(run, job, done.keys)
            if file := job["init"].get("file"):
                with weights.opened(Path(file).expanduser()):
                    pass  # whether it fits is known once there is a network
            if job["task"] == "compare":
                collect.find(job["runs"], job["output"])
        assert done.first is not None  # there are no problems
        sweeps |= str(OmegaConf.select(done.first, "hydra.mode")) == "RunMode.MULTIRUN"
        runs.writable(Path(OmegaConf.select(done.first, f"hydra.{'sweep' if sweeps else 'run'}.dir")))
    except ImgclsError as error:
        _fail([str(error)], error.exit_code)


def _fail(messages: list[str], code: int) -> NoReturn:
    for message in dict.fromkeys(messages):
        print(f"imgcls: error: {printable(message)}", file=sys.stderr)
    sys.exit(code)


def _hydra_main() -> None:
    import hydra

    from imgcls.cli.help import conf_folder

    hydra.main(config_path=str(conf_folder()), config_name="config", version_base="1.3")(task)()


def task(config: Any) -> float | None:
    """Run the task that a composed configuration names; returns the number a search would maximise."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from imgcls.cli.composing import plain

    job = HydraConfig.get()
    settings, folder = plain(config), Path(job.runtime.output_dir)
    typed = [override.split("=")[0].lstrip("+~") for override in job.overrides.task]
    try:
        refuse(settings)
        return import_module(f"imgcls.tasks.{settings['task']}").main(settings, folder, typed)
    except Exception as error:
        message, code = _answer(error, settings["debug"])
    print(f"imgcls: error: {message}", file=sys.stderr)
    if job.mode != RunMode.MULTIRUN:
        sys.exit(code)
    failures.append((code, message))  # a sweep goes on with its other jobs
    return None


def refuse(settings: dict[str, Any]) -> None:
    """The check of last resort: a search plugin draws its values when all else has been checked."""
    from imgcls.cli import rules
    from imgcls.cli.conflicts import conflicts

    if wrong := rules.problems(settings) or conflicts(settings):
        raise ConfigError(" ".join(wrong))


def _answer(error: Exception, debug: str | None) -> tuple[str, int]:
    """(line to print, exit code); the traceback of the unexpected goes into the log."""
    if isinstance(error, ImgclsError):
        return str(error), error.exit_code
    if trouble := resource_trouble(error):
        return trouble, ResourceError.exit_code
    log = _log_traceback()
    if debug or not log:
        traceback.print_exc()
    what = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {what} (traceback {f'in {log}' if log else 'above'}).", 1


def _log_traceback() -> str | None:
    """Into the log file only: the terminal gets one line, unless a debug= asks for all. Returns the file."""
    record = logging.LogRecord("imgcls", logging.ERROR, __file__, 0, "failed", None, sys.exc_info())
    files = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler)]
    for handler in files:
        handler.handle(record)
    return files[0].baseFilename if files else None


if __name__ == "__main__":
    main()
