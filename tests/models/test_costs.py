"""Parameters and multiply-adds of every named network, against the goldens beside.

To change them on purpose: python tests/models/test_costs.py
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from imgcls import build, record
from imgcls.__main__ import register_resolvers
from imgcls.cli import command
from imgcls.errors import ConfigError

GOLDEN = Path(__file__).parents[1] / "golden" / "costs.json"
NETWORKS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
INPUTS = {"28 px, grey": (1, 28), "32 px, colour": (3, 32), "224 px, colour": (3, 224)}
# For 1,000 classes at 224 px, as torchvision and its documentation publish them
PUBLISHED = {
    "resnet18": (11_689_512, 1.81e9),
    "resnet34": (21_797_672, 3.66e9),
    "resnet50": (25_557_032, 4.09e9),
    "densenet121": (7_978_856, 2.83e9),
    "densenet169": (14_149_480, 3.36e9),
    "densenet201": (20_013_928, 4.29e9),
}


def settings_of(name: str) -> dict[str, Any]:
    register_resolvers()
    config, problems = command.check([f"model={name}"])
    assert not problems
    return dict(config["model"])


def cost(name: str, channels: int, size: int, classes: int = 10) -> dict[str, int] | str:
    """Parameters and multiply-adds, counted without memory; why not, where a network refuses."""
    try:
        with torch.device("meta"):
            network = build.call(
                settings_of(name), num_classes=classes, in_channels=channels, image_size=size
            )
            return record.cost(network, channels, size)
    except ConfigError as error:
        return str(error)


def costs(name: str) -> dict[str, Any]:
    return {words: cost(name, *shape) for words, shape in INPUTS.items()}


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in ("torchvision", "timm")])
def test_cost_is_the_golden_one(name: str) -> None:
    assert costs(name) == json.loads(GOLDEN.read_text())[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_cost_is_the_published_one(name: str) -> None:
    counted = cost(name, 3, 224, classes=1000)
    parameters, multiply_adds = PUBLISHED[name]
    assert isinstance(counted, dict)
    assert counted["parameters"] == parameters
    assert counted["multiply_adds"] == pytest.approx(multiply_adds, rel=0.005)


if __name__ == "__main__":
    found = {name: costs(name) for name in NETWORKS if name not in ("torchvision", "timm")}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
