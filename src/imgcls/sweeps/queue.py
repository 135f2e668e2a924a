"""What a launcher that hands jobs to a cluster needs. Imports no submitit."""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec


def problems(launcher: str) -> Iterator[str]:
    """What is wrong with `hydra/launcher=submitit_…` on this machine, one line each."""
    if not launcher.startswith("submitit_"):
        return
    if not find_spec("submitit"):
        yield f"hydra/launcher={launcher} needs the package submitit. pip install 'imgcls[slurm]'"
    if launcher == "submitit_slurm" and not shutil.which("srun"):
        yield "hydra/launcher=submitit_slurm: there is no srun here. Start it where SLURM is, or use pool."
