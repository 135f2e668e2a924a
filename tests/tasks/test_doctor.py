"""The doctor: what is said of good and of bad software, machines, data and settings."""

import importlib
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from imgcls.__main__ import register_resolvers
from imgcls.health import BAD, OK, WARN, Finding, machine, run, software
from imgcls.tasks import doctor


@pytest.fixture(autouse=True)
def resolvers() -> None:
    register_resolvers()


def package(place: Path, name: str, version: str, *needs: str) -> None:
    """An installed package, as far as its metadata goes."""
    folder = place / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (folder / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {need}" for need in needs)]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that come before all others."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def by_check(findings: Any) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def test_what_is_installed_suits(compose: Any) -> None:
    found = by_check(software.packages())
    assert found["hydra-core"] == Finding(OK, "hydra-core", metadata.version("hydra-core"))
    assert {finding.mark for finding in found.values()} <= {OK, WARN}


def test_known_bad_versions(site: Path) -> None:
    """With the reason, and what to install instead."""
    package(site, "ours", "1", "lightning<2.7,>=2.6.6", "hydra-core<1.4,>=1.3.8", "absent-thing>=2")
    package(site, "lightning", "2.6.5")
    package(site, "hydra-core", "1.3.6")
    found = by_check(software.packages(["ours"]))
    assert found["lightning"] == Finding(
        BAD,
        "lightning",
        "2.6.5, but ours needs lightning<2.7,>=2.6.6; "
        "before 2.6.6 a checkpoint can run code (CVE-2026-58659)",
        "pip install 'lightning<2.7,>=2.6.6'",
    )
    assert "CVE-2026-106439" in found["hydra-core"].found
    assert found["absent-thing"].found == "not installed, but ours needs absent-thing>=2"


def test_malicious_versions(site: Path) -> None:
    package(site, "ours", "1", "lightning>=2.6.6")
    package(site, "lightning", "2.6.3")
    found = by_check(software.packages(["ours"]))["lightning"]
    assert (found.mark, found.found) == (BAD, "2.6.3 is a malicious upload")
    assert "change all passwords" in found.remedy


def test_torchvision_for_another_torch(site: Path) -> None:
    """Found by what torchvision itself asks for."""
    package(site, "ours", "1", "torch", "torchvision")
    package(site, "torch", "2.14.0+cpu")
    package(site, "torchvision", "0.30.0", "torch==2.15.0")
    found = by_check(software.packages(["ours"]))["torch"]
    assert (found.mark, found.found) == (BAD, "2.14.0+cpu, but torchvision needs torch==2.15.0")


def test_plugins_of_hydra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that breaks is bad, with its package; one that holds others back is a warning."""
    for name, text in {"breaks": "raise ValueError('mutable default')", "works": ""}.items():
        (tmp_path / "hydra_plugins" / name).mkdir(parents=True)
        (tmp_path / "hydra_plugins" / name / "__init__.py").write_text(text)
    package(tmp_path, "hydra-breaks", "1.2.0")
    package(tmp_path, "hydra-optuna-sweeper", "1.3.0")
    for name, module in {"hydra_breaks-1.2.0": "breaks", "hydra_optuna_sweeper-1.3.0": "works"}.items():
        (tmp_path / f"{name}.dist-info" / "RECORD").write_text(f"hydra_plugins/{module}/__init__.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("hydra_plugins")]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    found = by_check(software.plugins())
    assert found["hydra_plugins.breaks"] == Finding(
        BAD,
        "hydra_plugins.breaks",
        "cannot be imported (ValueError: mutable default)",
        "pip uninstall hydra-breaks",
    )
    assert found["hydra-optuna-sweeper"].mark == WARN
    assert "hydra_plugins.works" not in found


def test_dashboards_without_looking_at_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert by_check(software.dashboards())["W&B"].found.endswith("no key: runs stay on this machine")
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password sesame\n")
    found = by_check(software.dashboards())["W&B"].found
    assert found.endswith("a key is there")
    assert "sesame" not in found


def test_device(compose: Any) -> None:
    assert machine.device(compose("trainer=cpu")["trainer"]).found.startswith("cpu (")
    if not torch.cuda.is_available():
        assert machine.device(compose("trainer=gpu")["trainer"]).mark == BAD


def test_too_many_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container may use half a core of the many that it sees."""
    (tmp_path / "cpu.max").write_text("50000 100000")
    (tmp_path / "memory.max").write_text("1000")
    (tmp_path / "memory.current").write_text("600")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.usable_cores() == 0.5
    assert machine.free_memory() == 400
    torch.set_num_threads(2)
    assert machine.processors() == Finding(WARN, "CPU", "2 threads on 0.5 cores", "trainer.threads=1")


def test_shared_memory_is_for_workers(compose: Any) -> None:
    assert list(machine.shared_memory(compose("dataset.resident=true"))) == []
    big = compose("dataset.resident=false", "dataset.num_workers=256", "batch_size=1024")
    (found,) = machine.shared_memory(big)
    assert found.found.endswith("for 256 workers, which need up to 14.5 GB")  # 2 x 256 x 1024 x 3 x 96^2 B


def test_disk(tmp_path: Path) -> None:
    assert machine.disk(tmp_path / "not" / "yet", 1000).mark == OK
    assert not (tmp_path / "not").exists()
    assert machine.disk(tmp_path, 10**18).mark == BAD
    assert machine.disk("/proc/nowhere", 0).mark == BAD


def mnist(root: Path, size: int) -> None:
    """MNIST's files, as far as their sizes go: zeros."""
    from imgcls.data.sources import PUBLISHED

    for file, length in PUBLISHED["mnist"]().files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        with (root / file).open("wb") as out:
            out.truncate(int(length or 0) + size)


def test_data_that_is_whole_damaged_or_missing(tmp_path: Path, compose: Any) -> None:
    """Nothing is downloaded, unpacked or made."""

    def look(*words: str) -> Finding:
        return run.data(compose("dataset=mnist", f"dataset.root={tmp_path}/data", *words)["dataset"])

    missing = look()
    assert (missing.mark, missing.found) == (
        WARN,
        f"MNIST is not in {tmp_path}/data: the first run downloads 12 MB",
    )
    assert look("dataset.download=false").mark == BAD
    assert not (tmp_path / "data").exists()
    mnist(tmp_path / "data", 0)
    assert look() == Finding(OK, "data", f"MNIST is in {tmp_path}/data, as published")
    mnist(tmp_path / "data", 1)
    assert (look().mark, "bytes, expected" in look().found) == (BAD, True)


def test_other_data(compose: Any, tmp_path: Path) -> None:
    assert run.data(compose()["dataset"]).mark == OK
    assert run.data(compose("dataset=folder", f"dataset.root={tmp_path}")["dataset"]).mark == OK
    assert run.data(compose("dataset=folder", f"dataset.root={tmp_path}/no")["dataset"]).mark == BAD
    assert (
        "image-net.org" in run.data(compose("dataset=imagenet", f"dataset.root={tmp_path}")["dataset"]).found
    )


@pytest.mark.parametrize(("words", "states"), [("optimizer=sgd", 1), ("optimizer=adam", 2)])
def test_a_run_takes(words: str, states: int, compose: Any) -> None:
    """resnet18 on CIFAR-10 has 11,173,962 parameters; Adam keeps two numbers for each, SGD one."""
    config = compose("model=resnet18", "dataset=cifar10", words)
    needs = run.estimate(config)
    assert needs.parameters == 11_173_962
    assert needs.checkpoint == pytest.approx(4 * 11_173_962 * (1 + states), rel=1e-4)
    assert needs.images == 60_000 * 32 * 32 * 3


def test_activations_grow_with_the_part(compose: Any) -> None:
    """Not with the whole batch, if it is accumulated."""
    small, large, parts = (
        run.estimate(compose(*words)).training
        for words in (["batch_size=64"], ["batch_size=128"], ["batch_size=128", "accumulate=2"])
    )
    assert small == parts < large


def test_activations_are_those_of_autograd(compose: Any) -> None:
    """A linear layer keeps its input, a ReLU its output."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5), torch.nn.ReLU()).to("meta")
    assert run.saved(net, 3, 2) == 4 * (12 + 5)


def test_too_large_for_memory(compose: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose("trainer=cpu")
    needs = run.estimate(config)
    monkeypatch.setattr(machine, "free_memory", lambda: needs.memory - 1)
    assert run.memory(config, needs).mark == BAD
    monkeypatch.setattr(machine, "free_memory", lambda: 10 * needs.memory)
    assert run.memory(config, needs).mark == OK


def test_pretrained_weights_are_not_fetched(compose: Any) -> None:
    pretrained = compose("model=torchvision", "model.pretrained=true", "dataset.channels=3", "scaling=to32")
    assert run.estimate(pretrained).parameters == 11_181_642  # torchvision's resnet18 with 10 classes


def test_the_whole_table(compose: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every part is there; the exit code says that something is bad."""
    with pytest.raises(SystemExit) as stop:
        doctor.main(compose("task=doctor", "output=/proc/nowhere"))
    assert stop.value.code == 4
    head, *lines, counts = capsys.readouterr().out.splitlines()
    assert head.split("\t") == ["mark", "check", "found", "remedy"]
    checks = [line.split("\t")[1] for line in lines]
    assert {"python", "torch", "W&B", "device", "CPU", "data", "memory", "output"} <= set(checks)
    assert sum(int(part.split()[0]) for part in counts.split(", ")) == len(lines)
