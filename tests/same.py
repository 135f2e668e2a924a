"""Equality of whole checkpoints, at tolerance zero."""

from collections.abc import Iterator
from typing import Any

import torch


def differences(a: Any, b: Any, where: str = "") -> Iterator[str]:
    """Paths at which two nested values differ."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.dtype != b.dtype or not torch.equal(a, b):
            yield where
    elif isinstance(a, dict) and isinstance(b, dict):
        yield from (f"{where}/{key}" for key in a.keys() ^ b.keys())
        for key in a.keys() & b.keys():
            yield from differences(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for index, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from differences(one, other, f"{where}/{index}")
    elif a != b:
        yield f"{where}: {a!r} != {b!r}"


def assert_same(first: Any, second: Any) -> None:
    """Two checkpoint files hold the same, to the bit."""
    a, b = (torch.load(path, weights_only=True) for path in (first, second))
    found = list(differences(a, b))
    assert not found, found[:10]
