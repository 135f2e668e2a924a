"""Choosing loggers, and the search that W&B drives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from imgcls import naming
from imgcls.cli import command, help


@pytest.mark.parametrize(
    ("typed", "chosen"),
    [
        ("", []),
        ("logger=none", []),
        ("logger=csv", []),
        ("logger=[]", []),
        ("logger=wandb", ["wandb"]),
        ("logger=tensorboard", ["tensorboard"]),
        ("logger=[wandb,tensorboard]", ["tensorboard", "wandb"]),
        ("logger=[csv,wandb]", ["wandb"]),
        ("logger=[wandb,tensorboard] debug=limit", ["tensorboard", "wandb"]),
    ],
)
def test_loggers_are_chosen_and_do_not_name_a_run(typed: str, chosen: list[str], compose: Any) -> None:
    config = compose(*typed.split())
    assert [name for name in ("tensorboard", "wandb") if config["logger"][name]] == chosen
    assert naming.digest(config) == naming.digest(compose(*typed.split()[1:]))


@pytest.mark.parametrize(
    "typed", ["logger.every=7", "logger.tags=[a]", "logger.notes=x", "logger.artifacts=true"]
)
def test_settings_of_loggers_do_not_name_a_run(typed: str, compose: Any) -> None:
    assert naming.digest(compose(typed)) == naming.digest(compose())


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("logger=tb", "logger=tb is not known. Choose from: csv, none, tensorboard, wandb."),
        ("logger=[wandb,tb]", "logger=tb is not known. Choose from: csv, none, tensorboard, wandb."),
        ("logger=tensorboard,wandb", "Write [tensorboard,wandb], or add -m for a sweep."),
        ("model=[resnet20,resnet18]", "model=[resnet20,resnet18] is not known."),
        ("logger.every=0", "logger.every=0 must be a whole number >= 1."),
        ("logger.tags=a", "logger.tags=a must be a list of words, as [a,b]."),
        ("logger.project=a/b", "logger.project=a/b must be a project of W&B"),
        ("tags=[a]", "Did you mean logger.tags=[a]?"),
    ],
)
def test_mistakes(typed: str, said: str) -> None:
    problems = command.check([typed])[1]
    assert len(problems) == 1 and said in problems[0]


def test_a_missing_package_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgcls.cli.conflicts.find_spec", lambda name: None)
    wanted = "logger=tensorboard needs the package tensorboard. pip install tensorboard, or leave it out."
    assert command.check(["logger=tensorboard"])[1] == [wanted]


def test_the_sweep_file_gives_commands_that_are_understood(compose: Callable[..., Any]) -> None:
    """Rendered by W&B's own agent, for the ends of each range and each choice."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load((Path(help.conf_folder()) / "wandb_sweep.yaml").read_text())
    ranges = {
        key: what.get("values") or [what[k] for k in ("value", "min", "max") if k in what]
        for key, what in sweep["parameters"].items()
    }
    for trial in range(max(map(len, ranges.values()))):
        values = {key: {"value": given[trial % len(given)]} for key, given in ranges.items()}
        arguments = create_sweep_command_args({"args": values})
        words = " ".join(create_sweep_command(sweep["command"])).split()
        assert words[-4:] == ["-m", "imgcls", "logger=wandb", "${args_no_hyphens}"]
        config, problems = command.check(["logger=wandb", *arguments["args_no_hyphens"]])
        assert problems == [] and config["logger"]["wandb"]
        assert config["optimizer"]["lr"] == values["optimizer.lr"]["value"]
        assert config["batch_size"] == values["batch_size"]["value"]
