"""Hydra's door to imgcls.sweeps.cluster: `hydra/launcher=submitit_slurm` and `submitit_local`.

The settings have the names of Hydra's own plugin, which loses what fails: a job's exit code never comes back.
"""

import sys
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore

from hydra_plugins.imgcls_launchers import PoolLauncher


@dataclass
class Local:
    """The queue's way on this machine, to try it out."""

    _target_: str = "hydra_plugins.imgcls_submitit.SubmititLauncher"
    cluster: str = "local"
    submitit_folder: str = "${hydra.sweep.dir}/.submitit/%j"
    array_parallelism: int = 2  # jobs in the queue at a time
    timeout_min: int = 60  # of a job
    max_num_timeout: int = 100  # how often a job whose time is up goes on in another
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    mem_gb: float | None = None
    name: str = "imgcls"


@dataclass
class Slurm(Local):
    """SLURM; what is null is left to the cluster."""

    cluster: str = "slurm"
    array_parallelism: int = 256
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gres: str | None = None
    comment: str | None = None
    setup: list[str] | None = None  # commands before the job's, as `module load cuda`
    signal_delay_s: int = 120  # before the time is up, to save in
    additional_parameters: dict[str, Any] = field(default_factory=dict)  # of sbatch, by name


if "imgcls" in sys.modules:  # for other programs these names are those of Hydra's plugin
    ConfigStore.instance().store(group="hydra/launcher", name="submitit_local", node=Local)
    ConfigStore.instance().store(group="hydra/launcher", name="submitit_slurm", node=Slurm)

SHARED = ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb", "name")  # by all clusters


class SubmititLauncher(PoolLauncher):
    """Hands the jobs of a sweep to a queue."""

    def __init__(
        self,
        cluster: str,
        submitit_folder: str,
        array_parallelism: int,
        max_num_timeout: int,
        **settings: Any,
    ) -> None:
        super().__init__(array_parallelism)
        self.cluster, self.folder, self.timeouts = cluster, submitit_folder, max_num_timeout
        self.settings = settings

    def workers(self) -> list[Any]:
        """Places in the queue."""
        import submitit
        from omegaconf import OmegaConf

        from imgcls.sweeps.cluster import QueueWorker

        executor = submitit.AutoExecutor(self.folder, self.cluster, slurm_max_num_timeout=self.timeouts)
        plain: Any = OmegaConf.to_container(OmegaConf.create(self.settings), resolve=True)
        given = {key: value for key, value in plain.items() if value not in (None, {})}
        executor.update_parameters(
            **{key if key in SHARED else f"{self.cluster}_{key}": value for key, value in given.items()}
        )
        return [QueueWorker(executor) for _ in range(self.count or 1)]
