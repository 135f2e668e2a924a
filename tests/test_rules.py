"""What settings may be: the same that the code behind them accepts, and every conflict between them."""

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from imgcls.cli import command, rules
from imgcls.cli.conflicts import conflicts
from imgcls.cli.kinds import Choice, Kind, Number, Numbers, Text, like, spelt
from imgcls.data.augment import Augment
from imgcls.data.datamodule import ImageData
from imgcls.data.sources import digits
from imgcls.errors import ConfigError
from imgcls.models.convnet import convnet
from imgcls.models.resnet import resnet18
from imgcls.models.resnet_cifar import resnet20
from imgcls.optim import schedules

NOTHING = (None, True, "1", "", [], [1], {}, math.nan, math.inf, -math.inf)


@pytest.mark.parametrize(
    ("kind", "words", "good", "bad"),
    [
        (Number(), "a number", (0, -1, 0.5, 1e300), NOTHING),
        (Number(1, whole=True), "a whole number >= 1", (1, 10**9), (0, -1, 1.0, 1.5, *NOTHING)),
        (Number(0, 1), "a number >= 0 and <= 1", (0, 0.5, 1, 1.0), (-0.1, 1.1, *NOTHING)),
        (Number(0, above=True), "a number > 0", (1e-30, 5), (0, 0.0, -1, *NOTHING)),
        (Number(0, 1, below=True), "a number >= 0 and < 1", (0, 0.999), (1, 1.0, *NOTHING)),
        (Number(2, null=True), "a number >= 2 or null", (None, 2), (1, *NOTHING[1:])),
        (
            Number(0, 2**32 - 1, whole=True),
            "a whole number >= 0 and <= 4294967295",
            (0, 4294967295),
            (-1, 4294967296, *NOTHING),
        ),
        (
            Numbers(Number(0, 1)),
            "a list, as [2,3], of numbers >= 0 and <= 1",
            ([], [0, 1]),
            ([2], 0.5, None, ["a"]),
        ),
        (Numbers(Number(), 2), "a list of 2, as [2,3], of numbers", ([1, 2.5],), ([1], [1, 2, 3], [1, None])),
        (Choice(("a", "b")), "a or b", ("a", "b"), ("A", "", None, 1, ["a"])),
        (Choice((None, 1, 3)), "one of null, 1, 3", (None, 1, 3), (True, 1.0, "1", 2, False)),
        (Choice((True, False)), "true or false", (True, False), (1, 0, "true", None)),
        (Text("a folder"), "a folder", ("a", "a b", "ä"), ("", None, 7, True, ["a"])),
        (Text("a folder", null=True), "a folder or null", ("a", None), ("", 7)),
        (Text("a flag", flag=True), "a flag", ("a", True, False), ("", None, 1)),
    ],
)
def test_kinds(kind: Kind, words: str, good: tuple[Any, ...], bad: tuple[Any, ...]) -> None:
    assert str(kind) == words
    assert [value for value in good if not kind.accepts(value)] == []
    assert [value for value in bad if kind.accepts(value)] == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "null"),
        (True, "true"),
        (0.1, "0.1"),
        ("abc", "abc"),
        ("0.1", "'0.1'"),
        ("1e-3", "'1e-3'"),
        ("null", "'null'"),
        ("1,5", "1,5"),
        ([1, None, "a"], "[1,null,a]"),
    ],
)
def test_values_are_spelt_as_one_types_them(value: Any, words: str) -> None:
    assert spelt(value) == words


def test_settings_without_a_rule_keep_their_kind() -> None:
    defaults = (True, 3, 0.5, "relu", [1, 2], ["a"], None, {})
    said = [
        "true or false",
        "a whole number",
        "a number",
        "text",
        "a list, as [2,3], of numbers",
        *["None"] * 3,
    ]
    assert [str(like(value)) for value in defaults] == said
    assert rules.problem("model.depth", 0.5, 3) == "model.depth=0.5 must be a whole number."
    assert rules.problem("model.depth", 5, 3) is None


def test_a_network_of_ones_own_may_mean_something_else() -> None:
    """Its width may be a factor; ours counts channels."""
    assert rules.problem("model.width", 0.5, 16) == "model.width=0.5 must be a whole number >= 1."
    assert rules.problem("model.width", 0.5, 1.0) is None
    assert rules.problem("optimizer.lr", 0, 0) == "optimizer.lr=0 must be a number > 0."


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("torch.optim.AdamW", None),
        ("torch.optim.adam.Adam", None),
        ("imgcls.models.convnet.convnet", None),
        ("os.system", None),  # a module may make its names as it runs
        ("math.sqrt", None),  # and may have no source
        ("plain.net.Net", None),  # a folder of the user's, without __init__.py
        ("torch.optim.Adamm", f"Adamm is not in {torch.optim.__file__}. Did you mean Adam or …"),
        ("imgcls.models.convnett.convnet", "convnett is not in … Did you mean convnet?"),
        ("imgcls.models.convnet.Nothing", "Nothing is not in … Check its spelling."),
        ("nosuch.Net", "there is no package 'nosuch'. Install it, or run with PYTHONPATH=FOLDER."),
        ("", "there is no package ''. Install it, or run with PYTHONPATH=FOLDER."),
    ],
)
def test_targets_are_looked_up_without_importing_them(
    path: str, problem: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    found = rules.problem("model._target_", path)
    if problem is None:
        assert found is None
    else:
        pattern = ".*".join(re.escape(part) for part in problem.split("…"))
        assert re.fullmatch(f"model._target_={re.escape(path)}: {pattern}", str(found))


# --------------------------------------------------------------- the same as the code that the settings go to

PROBES = (
    -1,
    0,
    0.0,
    1,
    2,
    0.5,
    0.9,
    0.95,
    0.999,
    1.0,
    1.5,
    90,
    180,
    181,
    3.0,
    "a",
    "reflect",
    math.nan,
    math.inf,
)
NETWORKS: dict[str, Callable[..., Any]] = {"convnet": convnet, "resnet20": resnet20, "resnet18": resnet18}
WORDS = ("valid", "same", "identity", "projection", "auto", "imagenet", "cifar", None, True, False, "foo")


def accepts(call: Callable[[], Any]) -> bool:
    try:
        call()
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("key", [key for key in rules.RULES if key.startswith("augmentation.")])
def test_augmentation_takes_what_the_rules_let_through(key: str) -> None:
    """The rules are stricter where the last value would leave nothing to learn: shifts and smoothing of 1."""
    name = key.removeprefix("augmentation.")
    let = [value for value in PROBES if rules.RULES[key].accepts(value)]
    taken = [value for value in PROBES if accepts(lambda value=value: Augment(**{name: value}))]  # type: ignore
    assert [value for value in let if value not in taken] == []
    stricter = {"translate": [1, 1.0], "label_smoothing": [1, 1.0]}
    assert [value for value in taken if value not in let] == stricter.get(name, [])


@pytest.mark.parametrize(
    ("network", "option"),
    [
        ("convnet", "dropout"),
        ("convnet", "padding"),
        ("resnet20", "dropout"),
        ("resnet20", "width"),
        ("resnet20", "shortcut"),
        ("resnet18", "stem"),
        ("resnet18", "stem_pool"),
        ("resnet18", "se_reduction"),
    ],
)
def test_networks_take_what_the_rules_let_through(network: str, option: str) -> None:
    def build(value: object) -> None:
        NETWORKS[network](num_classes=2, in_channels=1, image_size=64, **{option: value})

    values = [v for v in (*PROBES, *WORDS) if not isinstance(v, bool) or option == "stem_pool"]
    let = [value for value in values if rules.RULES[f"model.{option}"].accepts(value)]
    with torch.device("meta"):  # no memory, no draws
        taken = [value for value in values if accepts(lambda value=value: build(value))]  # type: ignore
    assert [value for value in let if value not in taken] == []
    stricter = {"stem_pool": [0, 0.0, 1, 1.0]}  # where Python takes them for false and true
    assert [v for v in taken if not rules.RULES[f"model.{option}"].accepts(v)] == stricter.get(option, [])


def test_schedules_are_those_that_there_are(compose: Any) -> None:
    rule = rules.RULES["schedule.name"]
    assert isinstance(rule, Choice)
    for name in rule.words:
        schedule = compose(f"schedule={name}")["schedule"]
        factor = schedules.factor(schedule, 100)
        assert (factor is None) == (name in ("constant", "plateau"))


@pytest.mark.parametrize("limit", [None, 2, 5, 33, 256, 1437, 9999])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
def test_the_rules_count_images_as_the_data_does(limit: int | None, share: float, compose: Any) -> None:
    config = compose()
    config["batch_size"] = 10_000
    config["dataset"] |= {"limit": limit, "val_fraction": share}
    try:
        data = ImageData(digits("data", False), batch_size=1, val_fraction=share, limit=limit)
    except ConfigError as error:
        assert str(error).startswith(f"dataset.val_fraction={share} holds out no image")
        assert conflicts(config)[-1].startswith(f"dataset.val_fraction={share} holds out no image")
        return
    n = len(data.train_rows)
    assert conflicts(config) == [
        f"batch_size=10000 is larger than the training set ({n} images). Use at most {n}."
    ]


# -------------------------------------------------------------------------------------------------- conflicts

BATCH = (
    "batch_size={} leaves a last batch of one image ({} images), which batch norm cannot use. "
    "Use batch_size={}."
)


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        ({"batch_size": 1}, []),
        ({"batch_size": 2}, []),
        ({"batch_size": 1293}, [BATCH.format(1293, 1294, "1294 or 1292")]),
        ({"batch_size": 3}, [BATCH.format(3, 1294, "4 or 2")]),
        # 2 and 3 leave one image, too
        ({"batch_size": 3, "dataset.limit": 7, "dataset.val_fraction": 0}, [BATCH.format(3, 7, "4 or 1")]),
        ({"batch_size": 1294}, []),
        (
            {"batch_size": 1295},
            ["batch_size=1295 is larger than the training set (1294 images). Use at most 1294."],
        ),
        ({"batch_size": 5000, "dataset.name": "mine"}, []),
        ({"batch_size": 60_000, "dataset.name": "mnist", "dataset.val_fraction": 0}, []),
        (
            {"batch_size": 9, "accumulate": 6},
            ["accumulate=6 does not divide batch_size=9. Use accumulate=3."],
        ),
        ({"schedule.monitor": "val/loss"}, []),
        ({"early_stopping.monitor": "val/acc", "dataset.val_fraction": 0}, []),
        (
            {"schedule.monitor": "val/loss", "dataset.val_fraction": 0},
            [
                "schedule.monitor=val/loss needs a hold-out. Use schedule.monitor=train/loss, "
                "or dataset.val_fraction=0.1."
            ],
        ),
        ({"scaling.size": 32}, []),
        (
            {"scaling.size": 32, "scaling.factor": 2},
            [
                "scaling.size=32 and scaling.factor=2 exclude each other. "
                "Use scaling.factor=1 or scaling.size=null."
            ],
        ),
        ({"augmentation.crop": 8}, []),
        ({"augmentation.crop": 7, "augmentation.crop_mode": "reflect"}, []),
        (
            {"augmentation.crop": 8, "augmentation.crop_mode": "reflect"},
            [
                "augmentation.crop=8: images 8 pixels wide reflect at most 7. "
                "Use less, or augmentation.crop_mode=zero."
            ],
        ),
        ({"task": "evaluate", "run": "x", "batch_size": 9999}, []),
        ({"trainer.devices": 2}, []),
        (
            {"trainer.devices": 2, "trainer.accelerator": "mps"},
            ["trainer.devices=2: there is one mps device. Use trainer.devices=1."],
        ),
        ({"source": "x"}, ["source=x is for task=predict and task=explain. Add one, or leave it out."]),
        # all at once
        (
            {
                "batch_size": 2000,
                "accumulate": 3,
                "dataset.val_fraction": 0,
                "run": "x",
                "early_stopping.monitor": "val/acc",
                "early_stopping.patience": 3,
            },
            [
                "batch_size=2000 is larger than the training set (1437 images). Use at most 1437.",
                "accumulate=3 does not divide batch_size=2000. Use accumulate=2.",
                "early_stopping.monitor=val/acc needs a hold-out. Use early_stopping.monitor=train/loss, "
                "or dataset.val_fraction=0.1.",
                "run=x is for other tasks. Add task=evaluate or task=predict, or leave it out.",
            ],
        ),
    ],
)
def test_conflicts(changes: dict[str, Any], lines: list[str], usual: dict[str, Any]) -> None:
    config = copy.deepcopy(usual)
    for key, value in changes.items():
        group, _, name = key.rpartition(".")
        (config[group] if group else config)[name] = value
    assert conflicts(config) == lines


@pytest.fixture(scope="module")
def usual() -> dict[str, Any]:
    """The configuration of a bare command."""
    from imgcls.cli import command

    return command.check([])[0]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["model=vgg16", "freeze=backbone"],
            "freeze=backbone would keep random weights. Add model.pretrained=true, or use freeze=none.",
        ),
        (
            ["freeze=backbone"],
            "freeze=backbone would keep random weights. Choose model=resnet18, vgg16, torchvision or another "
            "that has model.pretrained, or use freeze=none.",
        ),
        (
            ["model=torchvision", "model.pretrained=true", "init=he"],
            "init=he would overwrite the pretrained weights",
        ),
    ],
)
def test_weights_must_make_sense(typed: list[str], said: str) -> None:
    problems = command.check(typed)[1]
    assert [line for line in problems if said in line]
