"""Hydra's door to imgcls.sweeps: the launchers `serial` (the default) and `pool`.

Every Hydra program in the environment imports this file, so it imports nothing heavy. Hydra 1.3 takes
launchers from the namespace hydra_plugins alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


@dataclass
class Serial:
    """One job after another, in one process of their own."""

    _target_: str = "hydra_plugins.imgcls_launchers.PoolLauncher"
    workers: int | None = 1
    together: int = 1  # jobs of one network that a worker trains as one program


@dataclass
class Pool:
    """Several jobs at a time: as many as `workers`, or as there are devices times `per_device`."""

    _target_: str = "hydra_plugins.imgcls_launchers.PoolLauncher"
    workers: int | None = None
    per_device: int = 1
    together: int = 1


ConfigStore.instance().store(group="hydra/launcher", name="serial", node=Serial)
ConfigStore.instance().store(group="hydra/launcher", name="pool", node=Pool)


class PoolLauncher(Launcher):
    """Runs the jobs of a sweep in worker processes, which a job may take down with it."""

    def __init__(self, workers: int | None, per_device: int = 1, together: int = 1) -> None:
        self.count, self.per_device, self.together = workers, per_device, together

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what jobs are composed from."""
        self.loader, self.config = hydra_context.config_loader, config
        self.sweep.warm(1)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run the jobs, but those that have finished before; a failed one returns None."""
        self.sweep.warm(len(job_overrides))
        jobs = [self.job(list(words), number) for number, words in enumerate(job_overrides, initial_job_idx)]
        self.sweep.run(jobs)
        return [self._returned(job) for job in jobs]

    @property
    def sweep(self) -> Any:
        """The sweep that this command is: one, however often a sweeper comes with more jobs."""
        from imgcls.sweeps.sweep import Sweep

        if Sweep.current is None:
            Sweep.current = Sweep(self.config, self.workers(), self.together)
        return Sweep.current

    def workers(self) -> list[Any]:
        """Who does the jobs."""
        from imgcls.sweeps import pool

        devices = pool.gpus() if self.count != 1 else []
        return [*map(pool.Worker, pool.environments(self.count, self.per_device, pool.cores(), devices))]

    def job(self, overrides: list[str], number: int) -> Any:
        """One job, composed."""
        from imgcls.sweeps.job import Job

        return Job(number, overrides, self._composed(overrides, number))

    def _composed(self, overrides: list[str], number: int) -> DictConfig:
        config = self.loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
        return config

    def _returned(self, job: Any) -> JobReturn:
        return JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED, _return_value=job.value)
