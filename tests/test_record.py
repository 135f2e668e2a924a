"""What a result says of its network and machine: costs worked out by hand, and facts as they are."""

import platform
import re
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

import imgcls
from imgcls import record
from imgcls.models.convnet import convnet
from imgcls.models.resnet_cifar import resnet20


def conv(side: int, inputs: int, outputs: int) -> int:
    """Multiply-adds of a 3x3 convolution that gives `outputs` channels of side x side."""
    return side * side * outputs * inputs * 9


def test_cost_of_convnet() -> None:
    """28 px grey, 10 classes: sides 26, 11 and 3 after the convolutions, 576 = 3 x 3 x 64 values then."""
    parameters = (9 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 64 + 64) + (576 * 64 + 64) + (64 * 10 + 10)
    multiply_adds = conv(26, 1, 32) + conv(11, 32, 64) + conv(3, 64, 64) + 576 * 64 + 64 * 10
    assert (parameters, multiply_adds) == (93_322, 2_794_240)
    found = record.cost(convnet(num_classes=10, in_channels=1, image_size=28), 1, 28)
    assert found == {"parameters": parameters, "trainable": parameters, "multiply_adds": multiply_adds}


def test_cost_of_resnet20() -> None:
    """32 px colour, 10 classes: 1 + 6 + 6 + 6 convolutions without bias, each with a norm, and one layer."""
    wide = conv(32, 16, 16)
    assert wide == conv(16, 32, 32) == conv(8, 64, 64)
    multiply_adds = conv(32, 3, 16) + 6 * wide + (conv(16, 16, 32) + 5 * wide) + (conv(8, 32, 64) + 5 * wide)
    filters = 9 * (3 * 16 + 6 * 16 * 16 + (16 * 32 + 5 * 32 * 32) + (32 * 64 + 5 * 64 * 64))
    parameters = filters + 2 * (7 * 16 + 6 * 32 + 6 * 64) + 64 * 10 + 10
    assert (parameters, multiply_adds + 640) == (269_722, 40_551_040)
    found = record.cost(resnet20(num_classes=10, in_channels=3, image_size=32), 3, 32)
    assert found == {"parameters": parameters, "trainable": parameters, "multiply_adds": multiply_adds + 640}


def test_cost_counts_frozen_parameters_apart() -> None:
    network = convnet(num_classes=10, in_channels=1, image_size=28)
    network.conv1.requires_grad_(False)
    found = record.cost(network, 1, 28)
    assert (found["parameters"], found["trainable"]) == (93_322, 93_322 - 320)


def test_cost_grows_with_the_image() -> None:
    network = resnet20(num_classes=10, in_channels=3, image_size=32)
    small, large = (record.cost(network, 3, side)["multiply_adds"] - 640 for side in (32, 64))
    assert large == 4 * small


@pytest.mark.parametrize("training", [True, False])
def test_cost_leaves_the_network_as_it_was(training: bool) -> None:
    network = resnet20(num_classes=10, in_channels=3, image_size=32).train(training)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    record.cost(network, 3, 32)
    assert all(module.training is training for module in network.modules())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_cost_needs_no_batch() -> None:
    """A batch norm over one value per channel could not be computed in training mode."""
    network = nn.Sequential(nn.Conv2d(1, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).train()
    assert record.cost(network, 1, 8)["multiply_adds"] == 4 * 64 + 4 * 2


def test_the_machine_is_told_in_full() -> None:
    found = record.machine("cpu", "32-true")
    assert list(found) == [
        *("device", "device_name", "precision", "threads", "peak_memory_mb", "platform", "python"),
        *("imgcls", "versions", "commit"),
    ]
    assert (found["device"], found["precision"]) == ("cpu", "32-true")
    assert found["threads"] == torch.get_num_threads()
    assert found["python"] == platform.python_version()
    assert found["imgcls"] == imgcls.__version__
    assert found["versions"] == {package: version(package) for package in record.PACKAGES}
    assert found["device_name"]


def test_peak_memory_is_that_of_this_process_in_megabytes() -> None:
    now = psutil.Process().memory_info().rss / 1e6
    assert 0.9 * now <= record.peak_memory_mb() < 50 * now


def test_peak_memory_counts_bytes_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrusage", lambda who: SimpleNamespace(ru_maxrss=123_456_789))
    monkeypatch.setattr("sys.platform", "darwin")
    assert record.peak_memory_mb() == 123.5
    monkeypatch.setattr("sys.platform", "linux")
    assert record.peak_memory_mb() == 126_419.8


def test_an_unknown_package_has_no_version() -> None:
    assert record._version("imgcls-no-such-package") == "unknown"


def git(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(Path(__file__).parent), *words], capture_output=True, text=True, check=True
    ).stdout


def test_the_commit_is_gits_with_a_plus_for_changes() -> None:
    if not (Path(__file__).parents[1] / ".git").exists():
        assert record.commit() is None
        return
    found = record.commit()
    assert found is not None and re.fullmatch(r"[0-9a-f]{10}\+?", found)
    assert found.rstrip("+") == git("rev-parse", "HEAD")[:10]


def answers(monkeypatch: pytest.MonkeyPatch, root: Path, status: str) -> None:
    """Let git answer these, whatever the state of this checkout."""

    def run(command: list[str], **_: object) -> SimpleNamespace:
        said = {"--show-toplevel": f"{root}\n", "--short=10": "0123456789\n", "--porcelain": status}
        return SimpleNamespace(stdout=next(said[word] for word in command if word in said))

    monkeypatch.setattr("subprocess.run", run)


ROOT = Path(record.__file__).parents[2]


@pytest.mark.parametrize(("status", "expected"), [("", "0123456789"), (" M src/x.py\n", "0123456789+")])
def test_a_plus_says_that_files_differ(monkeypatch: pytest.MonkeyPatch, status: str, expected: str) -> None:
    answers(monkeypatch, ROOT, status)
    assert record.commit() == expected


def test_an_installed_copy_in_some_other_checkout_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ROOT.parent, "")
    assert record.commit() is None


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("git"),
        subprocess.CalledProcessError(128, "git"),
        subprocess.TimeoutExpired("git", 5),
    ],
)
def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def run(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("subprocess.run", run)
    assert record.commit() is None


def test_now_is_this_second_with_its_zone() -> None:
    before = datetime.now().astimezone().replace(microsecond=0)
    said = record.now()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", said)
    assert before <= datetime.fromisoformat(said) <= datetime.now().astimezone()
