"""Drawn configurations: what is valid builds and takes a step, what is not is answered in a line.

`pytest -m slow` draws more, and of all networks.
"""

import math
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hydra import initialize_config_dir
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from imgcls import build
from imgcls.cli import command, help, rules
from imgcls.cli.composing import Conf
from imgcls.cli.conflicts import conflicts
from imgcls.cli.kinds import Choice, Kind, Number, Numbers
from imgcls.errors import ConfigError, printable
from imgcls.naming import flat
from imgcls.runs import Run

SLOW = [pytest.mark.slow, pytest.mark.timeout(3600)]
FUZZ = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck], print_blob=False
)
OPTIONS = help.options([help.conf_folder()])
SMALL = ("convnet", "dropnet", "resnet20", "vgg7")
OTHERS = (
    "torchvision",
    "timm",
    "experiment",
    "sweep",
)  # which are tried in tests/models, tests/test_configs.py
LARGE = re.compile(
    r"densenet|resnet(50|110)|vgg1[169]|googlenet|airbench96"
)  # a second or more for each step

# Settings that go with every choice of options, and what they may be
FREE: dict[str, Any] = {
    "accumulate": [1, 2, 3],
    "clip": ["null", 0.5, 10],
    "ema": ["null", 0.9, 0.999],
    "seed": [0, 1, 2**32 - 1],
    "dataset.normalize": ["zero_one", "mean_std", "imagenet", "mean_pixel"],
    "dataset.channels": ["null", 1, 3],
    "dataset.resident": ["auto", "true", "false"],
    "dataset.val_fraction": [0, 0.25],
    "optimizer.weight_decay": [0, 0.01],
    "optimizer.decay_all": ["true", "false"],
    "augmentation.hflip": [0, 0.5, 1],
    "augmentation.crop": [0, 2],
    "augmentation.rotate": [0, 180],
    "augmentation.brightness": [0, 1],
    "augmentation.cutout": [0, 3, 50],
    "augmentation.mixup": [0, 0.2],
    "augmentation.label_smoothing": [0, 0.1],
    "scaling.interpolation": ["nearest", "bilinear", "bicubic"],
    "trainer.precision": ["32-true", "bf16-mixed"],
    "trainer.channels_last": ["true", "false"],
    "early_stopping.patience": ["null", 1],
}


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    """Hydra is started once for all that is asked here."""
    with initialize_config_dir(str(help.conf_folder()), version_base="1.3", job_name="imgcls"):
        CONF.append(Conf([]))
        yield
        CONF.clear()


CONF: list[Conf] = []


def asked(words: list[str], sweeps: bool = False) -> command.Checked:
    """What came of some words."""
    return command.examined(CONF[0], [command.normalise(word, sweeps) for word in words], sweeps)


@st.composite
def valid(draw: st.DrawFn, networks: tuple[str, ...]) -> list[str]:
    """Words that choose an option of each group, and some settings beside."""
    groups = ("augmentation", "optimizer", "schedule", "init")
    words = [f"{group}={draw(st.sampled_from(sorted(OPTIONS[group])))}" for group in groups]
    chosen = draw(st.lists(st.sampled_from(sorted(FREE)), unique=True, max_size=6))
    words += [f"{key}={draw(st.sampled_from(FREE[key]))}" for key in chosen]
    rate = draw(st.sampled_from((1e-5, 1e-4)))  # at which a deep network without batch norm does not diverge
    return [f"model={draw(st.sampled_from(networks))}", f"optimizer.lr={rate}", *words]


def step(words: list[str]) -> float:
    """The loss of an epoch of two steps on a dozen digits of 32 px."""
    fixed = "dataset.limit=12 dataset.num_workers=0 batch_size=6 epochs=1 progress=none"
    done = asked([*words, *fixed.split(), "trainer=cpu", "trainer.threads=1"])
    if problems := done.problems or conflicts(done.jobs[0]):
        raise ConfigError(*problems)
    config = done.jobs[0]
    images = build.data(config)
    classifier = build.classifier(config, images)
    with tempfile.TemporaryDirectory() as place:
        trainer = build.trainer(config, Run(place))
        trainer.fit(classifier, datamodule=images)
    assert trainer.global_step == math.ceil(len(images.train_rows) / 6)
    assert all(torch.isfinite(p).all() for p in classifier.network.parameters())
    return float(classifier.epoch["train/loss"])


def follow(words: list[str]) -> float:
    """The same; where it is refused, the remedy that the answer names has to help."""
    try:
        return step(words)
    except ConfigError as error:
        line = str(error)
        assert line.isprintable() and re.search(r"Use|Add|Choose|Leave", line), line
        keys = [word.split("=")[0] for word in words]
        remedies = re.findall(r"(?<=Use |Add | or )[a-z_.]+=[\w./-]*\w", line)
        assert remedies, line
        event("a remedy was followed")
        remedy = remedies[0]
        kept = [w for w, key in zip(words, keys, strict=True) if key != remedy.split("=")[0]]
        if remedy.startswith("scaling.size="):
            kept = [w for w in kept if not w.startswith("scaling=")]
        return step([*kept, remedy])


@pytest.mark.parametrize(
    ("networks", "count"),
    [
        pytest.param(SMALL, 6, id="small"),
        pytest.param(
            tuple(name for name in sorted(OPTIONS["model"]) if name not in OTHERS and not LARGE.search(name)),
            200,
            id="all but the large",
            marks=SLOW,
        ),
    ],
)
def test_what_is_valid_takes_a_step(networks: tuple[str, ...], count: int) -> None:
    @settings(FUZZ, max_examples=count)
    @given(valid(networks))
    def check(words: list[str]) -> None:
        assert math.isfinite(follow([*words, "scaling=to32"])), words

    check()


# ------------------------------------------------------------------------------------------ what is not valid

RULED = {key: rules.kind_of(key, value) for key, value in flat(command.check([])[0]).items()}


def wrong(kind: Kind) -> st.SearchStrategy[str]:
    """How values that a kind does not take are typed."""
    words = st.sampled_from(
        ["", "abc", "nan", "-inf", "1e999", "[1]", "{a:1}", "'7'", "0x10", "ümlaut", "a b", "${x}"]
    )
    numbers = st.one_of(st.integers(-(10**12), 10**12), st.floats(allow_nan=False)).map(str)
    bools = st.sampled_from(["true", "false", "null"])
    if isinstance(kind, Number | Numbers):
        return st.one_of(words, numbers, bools)
    return st.one_of(words, numbers, bools, st.text(st.characters(exclude_categories=["Cs"]), max_size=8))


@st.composite
def misspelt(draw: st.DrawFn) -> str:
    """A setting with a letter of its key lost, doubled or changed."""
    key = draw(st.sampled_from(sorted(RULED)))
    at = draw(st.integers(0, len(key) - 1))
    letter = draw(st.sampled_from("abcxyz_"))
    return draw(
        st.sampled_from(
            [key[:at] + key[at + 1 :], key[:at] + letter + key[at:], key[:at] + letter + key[at + 1 :]]
        )
    )


@st.composite
def invalid(draw: st.DrawFn) -> tuple[str, str]:
    """(what the answer names, the word)."""
    if draw(st.booleans()):
        key = draw(misspelt().filter(lambda key: key and key not in RULED and "=" not in key))
        return key, f"{key}=1"
    key = draw(
        st.sampled_from(
            sorted(key for key, kind in RULED.items() if isinstance(kind, Number | Numbers | Choice))
        )
    )
    return key, f"{key}={draw(wrong(RULED[key]))}"


def is_taken(word: str) -> bool:
    """Whether what was drawn happens to be right."""
    kind = RULED.get(word.partition("=")[0])
    try:
        read = command.overrides.read(word, False, lambda group: [])
    except ConfigError:
        return False
    return bool(kind and kind.accepts(read.values[0])) if kind else False


@pytest.mark.parametrize("count", [10, pytest.param(1500, marks=SLOW)])
def test_what_is_not_valid_is_refused_in_a_line(count: int) -> None:
    seen = 0

    @settings(FUZZ, max_examples=count)
    @given(invalid())
    def check(drawn: tuple[str, str]) -> None:
        nonlocal seen
        name, word = drawn
        if is_taken(word):
            return
        done = asked([word])
        lines = [printable(line) for line in done.problems or conflicts(done.jobs[0])]  # as they are shown
        seen += 1
        assert lines, word
        # A letter more may make a short name, or a key of another program
        assert any(name in line or name in rules.RULES or "key" in line for line in lines), lines
        assert all(len(line.splitlines()) == 1 for line in lines)

    check()
    assert seen > count / 2


@pytest.mark.parametrize("count", [10, pytest.param(1500, marks=SLOW)])
def test_any_words_at_all_are_answered(count: int) -> None:
    """Never by an exception."""
    some = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    keys = st.sampled_from(
        [*sorted(RULED), *sorted(OPTIONS), "hydra.run.dir", "hydra/launcher", "hydra.mode"]
    )
    words = st.one_of(
        some,
        st.tuples(st.sampled_from(["", "+", "++", "~"]), keys, some).map(lambda t: f"{t[0]}{t[1]}={t[2]}"),
    )

    @settings(FUZZ, max_examples=count)
    @given(st.lists(words, min_size=1, max_size=3), st.booleans())
    def check(typed: list[str], sweeps: bool) -> None:
        done = asked(typed, sweeps)
        assert done.problems or done.jobs

    check()
