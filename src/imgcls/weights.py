"""Weights in a safetensors file: names and shapes are compared before a tensor is read; no code is run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from imgcls.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

WHOLE = "Restore it from a copy, or name another file."
FITTING = "Choose the model and the settings that it was saved from, or another file."
# Kinds of numbers that torch turns into each other
REAL, COUNTS = {"F64", "F32", "F16", "BF16"}, {"I64", "I32", "I16", "I8", "U8", "BOOL"}
NEW_HEAD = "Add init.head=new to draw the last layer anew, or choose a dataset with as many classes."


class Form(NamedTuple):
    """What a header says of a tensor."""

    shape: tuple[int, ...]
    kind: str


@contextmanager
def opened(path: Path, framework: str = "np") -> Iterator[Any]:
    """An open safetensors file, its header read and found to fit the bytes that follow; np needs no torch.

    Raises:
        CheckpointError: it is missing, truncated, or something else.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(
            f"{path} is not a file. Name a .safetensors file; task=export makes one of a run."
        )
    try:
        with safe_open(path, framework) as file:
            yield file
    except (SafetensorError, OSError) as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        size = f"{path.stat().st_size:,} bytes"
        raise CheckpointError(f"{path} is no whole safetensors file ({reason}; {size}). {WHOLE}") from error


def forms(file: Any) -> dict[str, Form]:
    """The tensors of an open file, of which none is read."""
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    return {name: Form(tuple(kept.get_shape()), kept.get_dtype()) for name, kept in slices.items()}


def read_into(network: "nn.Module", path: Path, head: str = "file") -> None:
    """Put the weights of a file into a network; with head=new its last layer keeps what it has.

    Raises:
        CheckpointError: it is no such file, or a tensor is missing, left over or of another shape.
    """
    import torch

    own = network.state_dict()
    last = head_names(network)
    with opened(path, "pt") as file:
        there = forms(file)
        if head == "new":
            own, there = ({k: v for k, v in names.items() if k not in last} for names in (own, there))
        compare(path, own, there, last)
        with torch.no_grad():
            for name, weights in own.items():
                weights.copy_(file.get_tensor(name))


def compare(path: Path, own: "Mapping[str, Tensor]", there: Mapping[str, Form], last: set[str]) -> None:
    """Raise CheckpointError unless the file has the network's tensors, all of them and no other."""
    flaws = dict(_flaws(own, there))
    if flaws:
        name, flaw = next(iter(flaws.items()))
        more = f", and {len(flaws) - 1:,} more do not fit" if len(flaws) > 1 else ""
        remedy = NEW_HEAD if flaws.keys() <= last else FITTING
        raise CheckpointError(f"{path}: {name} {flaw}{more}. {remedy}")


def _flaws(own: "Mapping[str, Tensor]", there: Mapping[str, Form]) -> Iterator[tuple[str, str]]:
    """(tensor, what is wrong with it)."""
    for name, weights in own.items():
        shape, kinds = tuple(weights.shape), REAL if weights.is_floating_point() else COUNTS
        if name not in there:
            yield name, "is not in the file"
        elif there[name].shape != shape:
            yield name, f"is {_shape(there[name].shape)} in the file and {_shape(shape)} in the network"
        elif there[name].kind not in kinds:
            yield name, f"is {there[name].kind} in the file and {weights.dtype} in the network"
    for name in sorted(there.keys() - own.keys()):
        yield name, "is in the file and not in the network"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"


def head_names(network: "nn.Module") -> set[str]:
    """The tensors of the last layer."""
    from imgcls.models.adapt import head

    last = head(network)
    place = next(name for name, module in network.named_modules() if module is last)
    return {f"{place}.{name}" if place else name for name in last.state_dict()}
