"""Which part of a network trains: `none`, `backbone`, `all_but=<names>` or `until=<name>` is frozen.

A frozen module takes no gradients and stays in eval mode: its dropout is off and its batch norms keep the
statistics that they came with. So does a module that holds a frozen one, for what it computes itself.
"""

import difflib
from collections.abc import Iterable

from torch import nn

from imgcls.errors import ConfigError
from imgcls.models.adapt import head


def freeze(network: nn.Module, what: str) -> list[nn.Module]:
    """Freeze a part of the network; returns the frozen modules, which `hold` keeps in eval mode."""
    kind, _, names = what.partition("=")
    if kind == "none":
        return []
    if kind == "backbone":
        last = head(network)
        trained = {name for name, module in network.named_modules() if module is last}
    elif kind == "all_but" and names:
        trained = _under(network, [known(network, name) for name in names.split(",")])
    elif kind == "until" and names:
        trained = _after(network, known(network, names))
    else:
        raise ConfigError(
            f"freeze={what} is not known. Use none, backbone, all_but=NAME,NAME or until=NAME "
            f"with names such as {', '.join(name for name, _ in network.named_children())}."
        )
    frozen = [module for name, module in network.named_modules() if name not in trained]
    for name, parameter in network.named_parameters():  # a class token belongs to no layer
        parameter.requires_grad_(name.rpartition(".")[0] in trained)
    hold(frozen)
    if not any(p.requires_grad for p in network.parameters()):
        raise ConfigError(f"freeze={what} leaves nothing to train. Freeze less.")
    return frozen


def hold(frozen: Iterable[nn.Module]) -> None:
    """Put frozen modules back into eval mode; `network.train()` has just moved them out of it."""
    for module in frozen:
        module.training = False  # not eval(), which reaches trained modules inside


def known(network: nn.Module, name: str, setting: str = "freeze") -> str:
    """The name, if it is that of a part of the network; else ConfigError with the nearest."""
    names = [n for n, _ in network.named_modules() if n]
    if name not in names:
        near = difflib.get_close_matches(name, names, 3) or [n for n, _ in network.named_children()]
        raise ConfigError(f"{setting}: the network has no part {name}. Nearest: {', '.join(near)}.")
    return name


def _under(network: nn.Module, roots: list[str]) -> set[str]:
    """Names of the given parts and of everything inside them."""
    return {n for n, _ in network.named_modules() if any(n == r or n.startswith(r + ".") for r in roots)}


def _after(network: nn.Module, last: str) -> set[str]:
    """Names of everything that is defined after a part (and not inside it)."""
    names = [n for n, _ in network.named_modules() if n]
    inside = [i for i, n in enumerate(names) if n == last or n.startswith(last + ".")]
    return set(names[inside[-1] + 1 :])
