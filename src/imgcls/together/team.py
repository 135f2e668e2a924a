"""Runs in threads, one of which is awake at a time: they meet where their network is to be computed.

What a run does between two passes of its network (draw, augment, step, validate, save) it does by itself,
with the code of any other run; so whatever a configuration says goes here, too, and comes out the same.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from imgcls.together.stack import Stack, generator, has_dropout


class Member:
    """One run of a team.

    Args:
        network: what the team computes for it, in training mode.
        work: the run; it calls `network` and, with the loss, `backward`.
        context: of a forward pass, as autocast.
    """

    def __init__(
        self, network: nn.Module, work: Callable[[], None], context: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        self.network, self.work, self.context = network, work, context
        self.skeleton, self._alone = deepcopy(network), network.forward
        self.draws = has_dropout(network)
        self.stack: Any = None  # the Stack that its weights are in
        self.error: BaseException | None = None
        self.asks: Any = None  # images to pass forward, or a loss to pass backward
        self.answer: Any = None
        self._turn, self._pause = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        network.forward = self._forward
        # A slice that is saved as it is takes the whole stack into the file
        network.register_state_dict_post_hook(_own_copies)
        self._thread.start()

    def go_on(self) -> bool:
        """Let it work until it asks for something; False if it has ended."""
        self._turn.release()
        self._pause.acquire()
        return self.asks is not None

    def _run(self) -> None:
        self._turn.acquire()
        torch.set_num_threads(1)  # of this thread: small work between two passes, and no second pool of cores
        try:
            self.work()
        except BaseException as error:
            self.error = error
        self.asks = None
        self._pause.release()

    def _forward(self, images: Tensor) -> Any:
        """Logits; in training, of the team's pass."""
        if not self.network.training:
            return self._alone(images)
        return self._ask(images)

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """Add to the gradients."""
        self._ask(loss)

    def _ask(self, what: Tensor) -> Any:
        host, mine = torch.default_generator, generator(what.device)
        before, self.state = host.get_state(), mine.get_state()
        self.asks = what
        self._pause.release()
        self._turn.acquire()
        host.set_state(before)  # others have drawn since
        mine.set_state(self.state)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def _own_copies(network: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[key] = state[key].clone()


def train(members: Sequence[Member]) -> None:
    """Let all members come to their end, in the order in which they are given."""
    there = list(members)
    while there := [member for member in there if member.go_on()]:
        try:
            _answer(there)
        except Exception as error:  # a network that cannot be stacked, memory: nobody can go on here
            for member in there:
                member.answer = error


def _answer(members: Iterable[Member]) -> None:
    """Compute what is asked for: those with batches of one shape together."""
    losses = [member for member in members if not member.asks.ndim]
    passes = [member for member in members if member.asks.ndim]
    if losses:
        _backward(losses)
    for _, group in groupby(sorted(passes, key=_shape), _shape):
        _forward([*group])


def _shape(member: Member) -> tuple[int, ...]:
    return tuple(member.asks.shape)


def _forward(members: list[Member]) -> None:
    first, networks = members[0], tuple(member.network for member in members)
    if first.stack is None or first.stack.networks != networks:  # somebody has left, or is elsewhere
        stack = Stack(networks, first.skeleton)
        for member in members:
            member.stack = stack
    draws = [member.state for member in members] if first.draws else []
    with first.context():
        logits = first.stack.forward([member.asks for member in members], draws)
    for member, their in zip(members, logits, strict=True):
        member.answer = their
    for member, state in zip(members, draws, strict=False):
        member.state = state


def _backward(members: list[Member]) -> None:
    torch.autograd.backward([member.asks for member in members])
    for stack in dict.fromkeys(member.stack for member in members):
        stack.hand_out([member.network for member in members if member.stack is stack])
    for member in members:
        member.answer = None
