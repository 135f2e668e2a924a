"""Which device, precision and layout to compute with, said in words."""

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from imgcls import memory
from imgcls.distributed import launch
from imgcls.errors import ConfigError

log = logging.getLogger(__name__)


def accelerator(wanted: str) -> str:
    """`auto` resolved to gpu, mps or cpu; ConfigError if what was asked for is not here."""
    have = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, there in have.items() if there)
    if not have[wanted]:
        there = ", ".join(name for name, is_there in have.items() if is_there)
        raise ConfigError(
            f"trainer.accelerator={wanted}, but this machine has only: {there}. Use trainer=auto."
        )
    return wanted


def native_bf16(device: str) -> bool:
    """Whether the device multiplies in bfloat16 in hardware."""
    if device == "gpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def precision(wanted: str, device: str) -> str:
    """`auto` resolved to the fastest the device has natively, as Lightning spells it."""
    if wanted != "auto":
        return wanted
    if native_bf16(device):
        return "bf16-mixed"
    return "16-mixed" if device == "gpu" else "32-true"


def describe(device: str) -> str:
    """The device's own name."""
    if device == "gpu":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()


@cache
def _own_threads() -> int:
    """What this process began with: a job before may have had a number of its own."""
    return torch.get_num_threads()


def settle(trainer: Mapping[str, Any]) -> tuple[str, str]:
    """(accelerator, precision) for the trainer group, said in the log."""
    device = accelerator(trainer["accelerator"])
    _check(trainer, device)
    exact = precision(trainer["precision"], device)
    if device == "cpu":
        memory.keep_freed()
    own = _own_threads()
    torch.set_num_threads(trainer["threads"] or own)
    layout = "channels_last" if trainer["channels_last"] else "channels_first"
    threads = f", {torch.get_num_threads()} threads" if device == "cpu" else ""
    why = (
        " (native here; trainer.precision=32-true for full)"
        if trainer["precision"] == "auto" and "bf16" in exact
        else ""
    )
    log.info("device: %s (%s%s), precision %s%s, %s", device, describe(device), threads, exact, why, layout)
    if (ranks := launch.count(trainer)) > 1:
        norm = "all devices" if trainer["sync_batchnorm"] else "each device's own"
        log.info("%d devices (%s); batch norm over %s images", ranks, trainer["strategy"], norm)
    return device, exact


def _check(trainer: Mapping[str, Any], device: str) -> None:
    """Raise ConfigError unless there are as many devices, and they can do what is asked."""
    there = torch.cuda.device_count()
    if device == "gpu" and trainer["devices"] > there:
        raise ConfigError(
            f"trainer.devices={trainer['devices']}, but this machine has {there} GPUs. "
            f"Use trainer.devices={there}."
        )
    if trainer["sync_batchnorm"] and device != "gpu":
        raise ConfigError(
            f"trainer.sync_batchnorm=true: torch has it on GPUs only, not on {device}. "
            "Use trainer.sync_batchnorm=false."
        )
