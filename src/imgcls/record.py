"""What a result says of how it came about: cost of the network, speed, memory, versions, machine."""

import platform
import resource
import subprocess
import sys
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from imgcls import __version__, devices

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "omegaconf", "numpy")


def cost(network: nn.Module, channels: int, size: int) -> dict[str, int]:
    """Trainable and all parameters, and multiply-adds for one image (half of torch's count of FLOPs)."""
    image = torch.zeros(1, channels, size, size, device=next(network.parameters()).device)
    was_training = network.training
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    network.train(was_training)
    parameters = list(network.parameters())
    return {
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "multiply_adds": counter.get_total_flops() // 2,
    }


def peak_memory_mb() -> float:
    """The most memory this process held so far, in MB (10^6 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def commit() -> str | None:
    """The commit of this checkout, with a + if files differ from it; None for an installed copy."""

    def git(*words: str) -> str:
        folder = str(Path(__file__).parent)
        return subprocess.run(
            ["git", "-C", folder, *words], capture_output=True, text=True, timeout=5, check=True
        ).stdout

    try:
        root = Path(git("rev-parse", "--show-toplevel").strip())
        if not Path(__file__).is_relative_to(root / "src"):
            return None  # installed into some other project's folder
        return git("rev-parse", "--short=10", "HEAD").strip() + (
            "+" if git("status", "--porcelain", "-uno") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def machine(device: str, precision: str) -> dict[str, Any]:
    """Where and with what this ran."""
    gpu = {"gpu_memory_mb": round(torch.cuda.max_memory_allocated() / 1e6, 1)} if device == "gpu" else {}
    return {
        "device": device,
        "device_name": devices.describe(device),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "peak_memory_mb": peak_memory_mb(),
        **gpu,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "imgcls": __version__,
        "versions": {package: _version(package) for package in PACKAGES},
        "commit": commit(),
    }


def now() -> str:
    """The time, to the second, with its zone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
