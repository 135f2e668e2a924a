"""What the processes of a run say to each other. With a single process every function is the identity."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from imgcls.distributed.launch import ROOM, Job, rank
from imgcls.errors import ConfigError

PATIENCE = timedelta(minutes=10)  # of torchrun's processes, until rank 0 has read its command line


@cache
def _store() -> dist.Store:
    """torchrun's own store, which its agent keeps."""
    store, _, _ = next(iter(dist.rendezvous("env://", timeout=PATIENCE)))
    return dist.PrefixStore(f"imgcls-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)


def publish(job: Job | None) -> None:
    """Tell the other processes of torchrun what to do; only the first word counts."""
    if not _store().check(["job"]):
        _store().set("job", json.dumps(job))


def published() -> Job | None:
    """Wait for rank 0's word."""
    _store().wait(["job"], PATIENCE)
    return json.loads(_store().get("job"))


class _Shared:
    """Where the ranks of the group leave notes."""

    store: dist.Store


@contextmanager
def joined(trainer: Mapping[str, Any]) -> Iterator[None]:
    """The processes as one group: gloo between CPUs, NCCL between GPUs."""
    on_gpu = trainer["accelerator"] in ("auto", "gpu") and torch.cuda.is_available()
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    timeout = timedelta(seconds=trainer["timeout"])
    room, ranks = os.environ.get(ROOM), int(os.environ["WORLD_SIZE"])
    store = dist.FileStore(f"{room}/store", ranks) if room else _store()
    store.set_timeout(timeout)
    _Shared.store = store
    dist.init_process_group(backend, store=store, rank=rank(), world_size=ranks, timeout=timeout)
    try:
        yield
    finally:
        dist.destroy_process_group()


def several() -> bool:
    """Whether this process is one of several."""
    return dist.is_initialized() and dist.get_world_size() > 1


@contextmanager
def after_rank_0() -> Iterator[None]:
    """Rank 0 goes ahead, downloads and fills caches; the others follow when it is done."""
    if several() and rank():
        _Shared.store.wait(["ahead"], timedelta(days=1))  # if it fails instead, the launcher ends them
    yield
    if several() and not rank():
        _Shared.store.set("ahead", "")


def total(values: torch.Tensor) -> torch.Tensor:
    """The sum over all ranks; `values` stay as they are."""
    if several():
        values = values.clone()
        dist.all_reduce(values)
    return values


def highest(values: list[float]) -> list[float]:
    """Each value's maximum over all ranks, on the host: no GPU waits for it."""
    if not several():
        return values
    shared = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return shared.tolist()


def gathered(value: torch.Tensor) -> torch.Tensor:
    """Every rank's tensor of one shape, on every rank: (ranks, …)."""
    if not several():
        return value[None].clone()
    found = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(found, value)
    return torch.stack(found)


def collected(value: Any) -> list[Any]:
    """Every rank's object, in their order, on every rank."""
    if not several():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def agree(facts: Mapping[str, str]) -> None:
    """Raise ConfigError if a rank has other facts than rank 0: two halves of one run must not differ."""
    first, *others = collected(dict(facts))
    for number, other in enumerate(others, 1):
        for name, value in first.items():
            if other[name] != value:
                raise ConfigError(
                    f"rank {number} has other {name} ({other[name]}) than rank 0 ({value}). "
                    "Give all nodes the same files and packages."
                )


def shard(network: nn.Module, mesh: Any) -> None:
    """Give each rank its share of every layer's weights (FSDP, Zhao et al. 2023); once."""
    if not isinstance(network, FSDPModule):
        network.to(memory_format=torch.contiguous_format)  # FSDP takes no other
        for child in network.children():
            if any(True for _ in child.parameters()):
                fully_shard(child, mesh=mesh)
        fully_shard(network, mesh=mesh)


def load(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Load whole weights, also where each rank has its share of them; RuntimeError if they do not fit."""
    if any(isinstance(weights, DTensor) for weights in module.parameters()):
        set_model_state_dict(module, dict(state), options=StateDictOptions(full_state_dict=True))
    else:
        module.load_state_dict(state)


def local(weights: torch.Tensor) -> torch.Tensor:
    """What this rank has of a network's weights: all, or its share."""
    return weights.to_local() if isinstance(weights, DTensor) else weights


def as_rank_0(module: nn.Module) -> None:
    """Give a module's buffers (statistics of batch norm) rank 0's values everywhere."""
    if several():
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)
