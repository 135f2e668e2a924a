"""The machine: device, cores, memory, disk."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch

from imgcls import devices
from imgcls.errors import ConfigError
from imgcls.health import BAD, OK, WARN, Finding

CGROUP = Path("/sys/fs/cgroup")
SHARED = Path("/dev/shm")


def size(count: float) -> str:
    """Bytes in words: 12 MB, 3.4 GB (powers of ten)."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def check(config: Mapping[str, Any]) -> Iterator[Finding]:
    """All that concerns the machine."""
    yield device(config["trainer"])
    yield processors()
    yield from shared_memory(config)


def device(trainer: Mapping[str, Any]) -> Finding:
    """Which device a run would use, and in which precision."""
    try:
        kind = devices.accelerator(trainer["accelerator"])
    except ConfigError as error:
        return Finding(BAD, "device", str(error).rstrip("."), "Use trainer=auto.")
    precision = devices.precision(trainer["precision"], kind)
    said = f"{kind} ({devices.describe(kind)}), precision {precision}"
    if kind == "cpu" and trainer["accelerator"] == "auto" and Path("/proc/driver/nvidia/version").exists():
        return Finding(
            WARN,
            "device",
            f"{said}; torch {torch.__version__} cannot use the NVIDIA GPU that is here",
            "Install torch for its driver: https://pytorch.org/get-started/locally",
        )
    if "bf16" in precision and not devices.native_bf16(kind):
        return Finding(WARN, "device", f"{said}, which it only emulates", "trainer.precision=auto")
    return Finding(OK, "device", said)


def usable_cores() -> float:
    """Cores that this process may use: of its affinity, and of its control group."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return min(own, int(quota) / int(period))  # "max" is no number
    except (OSError, ValueError):
        return own


def processors() -> Finding:
    """Threads against cores."""
    cores, threads = usable_cores(), torch.get_num_threads()
    said = f"{threads} threads on {cores:g} cores"
    if threads > max(1, cores):
        return Finding(WARN, "CPU", said, f"trainer.threads={max(1, int(cores))}")
    return Finding(OK, "CPU", said)


def free_memory() -> int:
    """Bytes that can be had, in the machine and in its control group."""
    free = psutil.virtual_memory().available
    try:
        limit = int((CGROUP / "memory.max").read_text())  # "max" is no number
        return min(free, limit - int((CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):
        return free


def shared_memory(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Room for the batches that workers hand over; two for each are under way."""
    data = config["dataset"]
    if not SHARED.is_dir() or data["resident"] is True or not data["num_workers"]:
        return
    side, free = data.get("image_size", 96), shutil.disk_usage(SHARED).free
    needed = 2 * data["num_workers"] * config["batch_size"] * 3 * side**2
    said = f"{size(free)} free for {data['num_workers']} workers, which need up to {size(needed)}"
    remedy = "dataset.resident=true or dataset.num_workers=0, or docker run --shm-size=2g"
    yield Finding(WARN, str(SHARED), said, remedy) if needed > free else Finding(OK, str(SHARED), said)


def existing(path: str | Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = Path(path).expanduser().absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def disk(output: str | Path, needed: int) -> Finding:
    """Whether run folders can be written: a file is made where the nearest folder is, and removed."""
    place = existing(output)
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        return Finding(
            BAD, "output", f"{place} cannot be written ({error.strerror or error})", "Choose output=FOLDER."
        )
    free = shutil.disk_usage(place).free
    said = f"{output}: {size(free)} free, a run's checkpoints take {size(needed)}"
    if needed > free:
        return Finding(BAD, "output", said, "Free space, or choose output=FOLDER.")
    return Finding(WARN if 5 * needed > free else OK, "output", said)
