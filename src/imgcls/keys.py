"""Every random draw is a function of what it is for: (seed, purpose, epoch, batch, rank).

No generator's state is ever carried over, so a resumed run draws what an uninterrupted one would have.
"""

import hashlib

import torch


def key(*parts: int | str) -> int:
    """A 63-bit seed for the given purpose; near keys give unrelated seeds."""
    text = ",".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator of its own for one purpose."""
    return torch.Generator().manual_seed(key(*parts))


def seed_default(device: torch.device, *parts: int | str) -> None:
    """Seed the default generator of the CPU and of `device`: what dropout and augmentation draw from."""
    value = key(*parts)
    torch.default_generator.manual_seed(value)  # 1 µs, where torch.manual_seed takes a hundred
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(value)
    elif device.type == "mps":
        torch.mps.manual_seed(value)
