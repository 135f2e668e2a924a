"""The files in conf/: each composes, is called what it says, and has no setting that nobody checks."""

from typing import Any

import pytest
from hydra import initialize_config_dir

from imgcls.cli import command, help, rules
from imgcls.cli.composing import Conf, plain
from imgcls.cli.conflicts import conflicts
from imgcls.cli.kinds import like
from imgcls.naming import flat

OPTIONS = [(group, name) for group, names in help.options([help.conf_folder()]).items() for name in names]
TOP = {
    *("task", "seed", "epochs", "batch_size", "accumulate", "clip", "ema", "select", "early_stopping"),
    *("lookahead", "hardest", "freeze_after", "tta"),
    *(
        "checkpoint_minutes",
        "on_divergence",
        "output",
        "name",
        "restart",
        "run",
        "trust",
        "score",
        "source",
        "shards",
        "shard_mb",
        "what",
        "filter",
        "layer",
        "fit",
        "debug",
        "progress",
        "freeze",
        "features",
    ),
    *("paper", "rows", "seeds", "plan", "budget", "fraction", "axes", "runs", "to"),
    *("augmentation", "scaling", "optimizer", "schedule", "trainer", "dataset", "model", "init", "logger"),
}

Configs = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def configs() -> Configs:
    """What each option of each group composes to, with everything else as usual."""
    composed: Configs = {}
    with initialize_config_dir(str(help.conf_folder()), version_base="1.3"):
        conf = Conf([])
        for group, name in OPTIONS:
            composed[group, name] = plain(conf.compose([conf.choose(group, name)]))
    return composed


def test_every_option_can_run(configs: Configs) -> None:
    """All of its values are good, and go together with everything else as usual."""
    found = {option: rules.problems(config, flat(config)) for option, config in configs.items()}
    found = {option: lines or conflicts(configs[option]) for option, lines in found.items()}
    assert {option: lines for option, lines in found.items() if lines} == {}


def test_every_option_is_called_as_its_file(configs: Configs) -> None:
    """Debug options, which may set anything, say it in `debug`; a dataset may add which part of it.

    Loggers add up, so that there is no one name, and a sweep sets several values.
    """
    nameless = ("experiment", "logger", "sweep")
    named = {option: config for option, config in configs.items() if option[0] not in nameless}
    for (group, name), config in named.items():
        said = str(config["debug"] if group == "debug" else config[group]["name"])
        assert said == name or said.startswith(f"{name}_")


def test_the_settings_that_every_run_has(configs: Configs) -> None:
    """A list to be changed on purpose: runs that users keep are read by these names."""
    assert {key for config in configs.values() for key in config} == TOP
    assert all(set(config) == TOP for config in configs.values())


def test_every_setting_is_checked(compose: Any) -> None:
    """By a rule; or else by the kind of its value, if that says all: true or false, any list, any text."""
    by_kind = {key: value for key, value in flat(compose()).items() if key not in rules.RULES}
    assert [key for key, value in by_kind.items() if like(value) is None] == []
    texts = {key for key, value in by_kind.items() if isinstance(value, str)}
    assert {key for key in texts if not key.endswith((".name", "._target_"))} == set()


def test_every_rule_is_of_a_setting(configs: Configs) -> None:
    known = {key for config in configs.values() for key in flat(config)}
    assert set(rules.RULES) - known == set()


@pytest.mark.parametrize("group", ["dataset", "optimizer", "scaling", "trainer"])
def test_what_the_code_reads_is_what_all_options_have(group: str, configs: Configs) -> None:
    shared = [set(config[group]) for (g, _), config in configs.items() if g == group]
    beside = {"fused"}  # goes to the optimizer, as it does in all of torch's
    assert set.intersection(*shared) - beside == set(rules.NEEDED[group].split())


def test_every_group_has_an_option_by_default(compose: Any) -> None:
    """Only experiments, sweeps, debug options and loggers need not be chosen."""
    chosen = {key for key, value in compose().items() if isinstance(value, dict) and "name" in value}
    assert {group for group, _ in OPTIONS} - {"debug", "experiment", "logger", "sweep"} == chosen


def test_a_dataset_brings_its_augmentation_and_what_is_typed_wins(compose: Any) -> None:
    assert compose("dataset=cifar10")["augmentation"]["name"] == "flip_crop"
    assert compose("dataset=cifar10", "augmentation=none")["augmentation"]["name"] == "none"


def test_data_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMGCLS_DATA", raising=False)
    assert command.check([])[0]["dataset"]["root"] == "data"
    monkeypatch.setenv("IMGCLS_DATA", "/mnt/data")
    assert command.check([])[0]["dataset"]["root"] == "/mnt/data"
