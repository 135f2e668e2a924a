"""Packages against what is asked of them, Hydra's plugins, and what shows scores elsewhere."""

import os
import pkgutil
import platform
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module, metadata
from netrc import NetrcParseError, netrc
from pathlib import Path

from packaging.requirements import Requirement

from imgcls.health import BAD, OK, WARN, Finding

MALICIOUS = {("lightning", "2.6.2"), ("lightning", "2.6.3")}
REASONS = {
    "lightning": "before 2.6.6 a checkpoint can run code (CVE-2026-58659)",
    "hydra-core": "before 1.3.7 a configuration can lift the ban on dangerous targets (CVE-2026-106439)",
}
# Imported by others when they are there, and then a broken one breaks `import lightning`
GUESTS = ("transformers", "timm", "tensorboard")
# Plugins that import but do not work with Hydra 1.3, or hold others back
PLUGINS = {"hydra-optuna-sweeper": "keeps optuna below 3, and cannot keep a study in a file"}


def check() -> Iterator[Finding]:
    """All that concerns software."""
    yield Finding(OK, "python", f"{platform.python_version()} at {sys.executable}")
    yield from packages()
    yield from imports()
    yield from plugins()
    yield from dashboards()


def packages(roots: Iterable[str] = ("imgcls",)) -> Iterator[Finding]:
    """What imgcls needs; and whether all that is there suits each other, as far as packages say."""
    installed = [name for name in (*GUESTS, *_plugin_packages()) if _version(name)]
    direct: dict[str, str] = {}
    wrong: list[Finding] = []
    for by, need in _needs([*roots, *installed]):
        version = _version(need.name)
        if by in roots:
            direct[need.name] = version or "not installed"
        if not version or not need.specifier.contains(version, prereleases=True):
            # Of what others ask, only torch and the like are fatal
            mark = BAD if by in roots or need.name in direct else WARN
            wrong.append(_unmet(mark, by, need, version))
    bad = {finding.check for finding in wrong}
    yield from (_package(name, version) for name, version in direct.items() if name not in bad)
    yield from wrong


def _package(name: str, version: str) -> Finding:
    if (name, version) in MALICIOUS:
        return Finding(
            BAD,
            name,
            f"{version} is a malicious upload",
            f"pip install -U {name}, and change all passwords and keys that this machine knows.",
        )
    return Finding(OK, name, version)


def _unmet(mark: str, by: str, need: Requirement, version: str | None) -> Finding:
    if (need.name, version) in MALICIOUS:
        return _package(need.name, str(version))
    asked = f"{need.name}{need.specifier}"
    reason = f"; {REASONS[need.name]}" if need.name in REASONS else ""
    found = f"{version or 'not installed'}, but {by} needs {asked}{reason}"
    return Finding(mark, need.name, found, f"pip install '{asked}'")


def _needs(roots: list[str]) -> Iterator[tuple[str, Requirement]]:
    """(package, one of its requirements) for all that is installed of what the roots need, at any depth."""
    seen: set[str] = set()
    while roots:
        name = roots.pop(0)
        if name in seen or not _version(name):
            continue
        seen.add(name)
        for text in metadata.requires(name) or []:
            need = Requirement(text)
            if not need.marker or need.marker.evaluate({"extra": ""}):
                yield name, need
                roots.append(need.name)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def imports() -> Iterator[Finding]:
    """Whether what is compiled, or breaks by what stands beside it, can be loaded at all."""
    for module, remedy in (
        ("torch", "Install torch anew: https://pytorch.org/get-started/locally"),
        ("torchvision.ops", "Install torch and torchvision anew, together."),
        ("lightning.pytorch", "Update or uninstall the package that it names."),
    ):
        try:
            import_module(module)
        except Exception as error:  # compiled code has its own kinds
            yield Finding(BAD, f"import {module}", _gist(error), remedy)


def _gist(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def plugins() -> Iterator[Finding]:
    """Hydra's plugins: each is imported by every command, be it in use or not."""
    broken = list(broken_plugins())
    yield from broken
    packages = _plugin_packages()
    for name in packages:
        if name in PLUGINS:
            yield Finding(WARN, name, f"{_version(name)} {PLUGINS[name]}", f"pip uninstall {name}")
    if not broken:
        others = [f"{name} {_version(name)}" for name in packages if name not in PLUGINS]
        yield Finding(OK, "Hydra's plugins", ", ".join(others) or "none of other packages")


def broken_plugins() -> Iterator[Finding]:
    """Those whose import fails."""
    for name in _plugin_modules():
        try:
            import_module(name)
        except Exception as error:
            package = _package_of(name)
            remedy = f"pip uninstall {package}" if package else f"Remove it from {_place(name)}."
            yield Finding(BAD, name, f"cannot be imported ({_gist(error)})", remedy)


def _plugin_modules() -> list[str]:
    try:
        places = import_module("hydra_plugins").__path__
    except ModuleNotFoundError:
        return []
    # As Hydra looks for them; what cannot be imported is not looked into
    found = pkgutil.walk_packages(places, "hydra_plugins.", onerror=lambda name: None)
    return [module.name for module in found if not module.name.rpartition(".")[2].startswith("_")]


def _place(module: str) -> str:
    for place in import_module("hydra_plugins").__path__:
        if any(Path(place).glob(f"{module.rpartition('.')[2]}*")):
            return place
    return "sys.path"


def _plugin_packages() -> list[str]:
    """The packages, other than imgcls, that bring plugins of Hydra's."""
    names = metadata.packages_distributions().get("hydra_plugins", [])
    return sorted({name.lower() for name in names} - {"imgcls"})


def _package_of(module: str) -> str | None:
    """The package that a plugin came with."""
    start = module.replace(".", "/")
    for name in _plugin_packages():
        if any(str(file).startswith(start) for file in metadata.files(name) or []):
            return name
    return None


def dashboards() -> Iterator[Finding]:
    """Whether scores can be shown elsewhere; nothing is asked of a network."""
    if mode := os.environ.get("WANDB_MODE"):
        yield Finding(OK, "W&B", f"{_version('wandb')}, WANDB_MODE={mode}")
    elif _knows_wandb():
        yield Finding(OK, "W&B", f"{_version('wandb')}, a key is there")
    else:
        yield Finding(OK, "W&B", f"{_version('wandb')}, no key: runs stay on this machine", "wandb login")
    board = _version("tensorboard")
    yield Finding(
        OK,
        "TensorBoard",
        board or "not installed",
        "" if board else "pip install 'imgcls[tensorboard]', to use it",
    )


def _knows_wandb() -> bool:
    """Whether there is a key, in the environment or where `wandb login` puts it; it is not looked at."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return "api.wandb.ai" in netrc(str(file)).hosts
    except (OSError, NetrcParseError):
        return False
