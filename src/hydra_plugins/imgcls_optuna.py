"""Hydra's door to imgcls.sweeps.search: `hydra/sweeper=optuna`, in the grammar of Hydra's own plugin.

Every Hydra program in the environment imports this file, so it imports nothing heavy. The plugin of Hydra's
authors asks, for Hydra 1.3, for an Optuna of 2022.
"""

import sys
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class Optuna:
    """A search for the best values of what is swept."""

    _target_: str = "hydra_plugins.imgcls_optuna.OptunaSweeper"
    n_trials: int = 20  # of the study in all: with a larger number the same command goes on
    n_jobs: int | None = None  # at a time; null: as many as the launcher has workers
    sampler: str = "tpe"  # tpe | random | grid | cmaes
    seed: int = 0
    direction: str = "maximize"  # of the validation accuracy
    study_name: str | None = None  # null: that of the sweep's folder
    storage: str | None = None  # a journal's file or a database's URL; null: in the sweep's folder
    pruner: str = "median"  # median | hyperband | none
    startup_trials: int = 5  # that are never pruned
    warmup_epochs: int = 0  # in which no trial is pruned
    params: dict[str, str] = field(default_factory=dict)  # the space, where it stands in a file


if "imgcls" in sys.modules:  # for other programs this name is that of Hydra's plugin
    ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=Optuna)


class OptunaSweeper(Sweeper):
    """Runs trials until the study has enough of them."""

    def __init__(self, params: dict[str, str], **settings: Any) -> None:
        self.settings = settings  # the entry point has put `params` among the overrides, and checked all

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what trials are made from."""
        self.launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search among the values that the overrides name."""
        from imgcls.sweeps.search import Search

        Search(self.settings, arguments, self.launcher).run()
