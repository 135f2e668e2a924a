"""The reports in conf/papers/: every row is a good command, and says what the report says.

The reports themselves are not part of the project; where their catalogue is at hand (IMGCLS_REPORTS, or
shared/reports beside the repository), every figure and every setting is compared with it.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from imgcls import build, papers
from imgcls.__main__ import register_resolvers
from imgcls.cli import command, help, rules
from imgcls.data.facts import FACTS
from imgcls.data.sources import Images, Source
from imgcls.errors import ConfigError
from imgcls.models.adapt import without_weights

ROWS = {row.id: row for row in papers.rows()}
CATALOGUE = Path(os.environ.get("IMGCLS_REPORTS", Path(__file__).parents[2] / "shared" / "reports"))
FIGURES = {
    **{key: key for key in ("precision", "recall", "f1", "loss")},
    "accuracy": "test_acc",
    "train_accuracy": "train_acc",
}
REMARKS = {"baseline_accuracy", "accuracy_gain_over_vgg_a", "per_class_accuracy"}  # are in our notes
MODELS = {"conv": "convnet", "drop": "dropnet", "vgg_a": "vgg11", "res20": "resnet20", "res56": "resnet56"}
COUNTS = {  # row: what the catalogue calls its network, and the parameters that it counts
    "asif.table1.01": ("vgg16, 4096 fc, 10 classes, 224 input", 134_301_514),
    "asif.table1.05": (
        "10 classes, two aux heads, BN, 3x3 in place of 5x5 (the torchvision form)",
        9_960_638,
    ),
    "asif.table1.09": ("10 classes, 3 channels", 11_181_642),
    "hisariya.table1.01": ("10 classes, no BN", 139_611_210),
    "hisariya.table1.02": ("10 classes, BN", 139_622_218),
    "hisariya.table1.03": ("10 classes", 21_289_802),
    "hisariya.table1.05": ("10 classes", 6_964_106),
    "clark.text.01": ("MNIST 28x28x1, no padding", 93_322),
    "clark.text.08": ("CIFAR-10 32x32x3, no padding", 122_570),
    "clark.text.03": ("MNIST 28x28, last map 1x1", 28_142_858),
    "clark.text.04": ("MNIST 84x84, last map 3x3", 44_920_074),
    "clark.text.10": ("CIFAR-10 32x32, 10 classes", 28_144_010),
    "clark.text.05": ("MNIST, sketch", 377_226),
    "clark.text.12": ("CIFAR-10, sketch", 380_426),
    "clark.text.07": ("res20 MNIST, projection shortcut", 272_778),
    "clark.text.14": ("res20 CIFAR-10, projection shortcut", 273_066),
    "clark.text.15": ("res56 CIFAR-10", 857_706),
    "ma.text.03": ("as listed", 33_638_218),
}


def words(row: papers.Row) -> dict[str, str]:
    """A row's overrides by key."""
    return dict(word.split("=", 1) for word in row.overrides)


@cache
def checked(row: str) -> tuple[dict[str, Any], list[str]]:
    """(configuration, problems) of a row."""
    register_resolvers()
    return command.check(ROWS[row].overrides)


def first_of_each(kind: Callable[[papers.Row], Any]) -> list[str]:
    """The first row of each kind, or better one whose configuration another test needs too."""
    found: dict[Any, str] = {}
    for row in sorted(ROWS.values(), key=lambda row: row.id not in COUNTS):
        found.setdefault(kind(row), row.id)
    return list(found.values())


@pytest.mark.parametrize("row", first_of_each(lambda row: frozenset(words(row))))
def test_rows_are_good_commands(row: str) -> None:
    """One of those that set the same keys, whatever to."""
    assert checked(row)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_a_good_command(row: str) -> None:
    config, problems = checked(row)
    assert problems == []
    numbers = {key: int(value) for key, value in words(ROWS[row]).items() if key in ("epochs", "batch_size")}
    assert numbers.items() <= config.items()


def test_every_option_and_value_of_a_row_is_known() -> None:
    options = help.options([help.conf_folder()])
    typed = {item for row in ROWS.values() for item in words(row).items()}
    assert {key: value for key, value in typed if key in options and value not in options[key]} == {}
    problems = [rules.problem(key, yaml.safe_load(value)) for key, value in typed if key not in options]
    assert list(filter(None, problems)) == []


def test_ids_begin_with_the_paper_and_are_unique() -> None:
    ids = [row.id for paper in papers.papers() for row in paper.rows]
    assert len(ids) == len(set(ids)) == 107
    assert all(row.id.split(".")[0] == paper.name for paper in papers.papers() for row in paper.rows)


def test_figures_are_of_the_vocabulary_and_shares_of_1() -> None:
    for row in ROWS.values():
        assert set(row.reported) <= set(papers.METRICS), row.id
        shares = [row.reported.get(key) for key in papers.METRICS[:5]]
        assert all(share is None or 0 <= share <= 1 for share in shares), row.id


def test_a_duplicate_has_the_settings_and_figures_of_another_row() -> None:
    pairs = {row.id: row.duplicate_of for row in ROWS.values() if row.duplicate_of}
    assert pairs == {
        "gilbert.table2.05": "gilbert.table1.01",
        "gilbert.table3.03": "gilbert.table2.07",
        "gilbert.figure4.05": "gilbert.table1.03",
        "gilbert.figure6.03": "gilbert.table3.05",
        "ma.table2.03": "ma.table1.01",
    }
    for row, first in pairs.items():
        assert words(ROWS[row]) == words(ROWS[first])
        assert ROWS[row].reported == ROWS[first].reported


@pytest.mark.parametrize("row", COUNTS)
def test_networks_have_the_parameters_counted_from_the_reports(row: str) -> None:
    config = checked(row)[0]
    facts, scaling = FACTS[config["dataset"]["name"]], config["scaling"]
    with torch.device("meta"):
        network = build.call(
            config["model"],
            num_classes=len(facts.classes),
            in_channels=config["dataset"]["channels"] or facts.channels,
            image_size=scaling["size"] or facts.image_size * scaling["factor"],
        )
    assert sum(p.numel() for p in network.parameters()) == COUNTS[row][1]


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("ma.table2.05", None, ["ma.table2.05"]),
        ("table2.05", "ma", ["ma.table2.05"]),
        ("table1.01", None, ["asif.table1.01", "gilbert.table1.01", "hisariya.table1.01", "ma.table1.01"]),
        ("table2.*", "hisariya", [f"hisariya.table2.0{i}" for i in range(1, 5)]),
        ("*.text.*", "hisariya", ["hisariya.text.01"]),
        ("all", "clark", [f"clark.text.{i:02}" for i in range(1, 16)]),
        ("all", None, list(ROWS)),
    ],
)
def test_a_pattern_means_rows(pattern: str, name: str | None, expected: list[str]) -> None:
    assert [row.id for row in papers.rows(pattern, name)] == expected


@pytest.mark.parametrize(
    ("pattern", "name", "message"),
    [
        ("all", "clrk", "paper=clrk is not known. Choose from: clark."),
        ("all", "x", "paper=x is not known. Choose from: asif, clark, gilbert, hisariya, ma."),
        ("ma.table2.10", None, "rows=ma.table2.10 is no row. Choose from: ma.table2.09, ma.table2.08, "),
        ("table4.*", "ma", "rows=table4.* is no row of ma. Choose from: ma.table3.*, ma.table2.*"),
        ("x", "clark", "rows=x is no row of clark. Choose from: clark.text.*."),
    ],
)
def test_what_is_not_there_is_answered_with_the_nearest(pattern: str, name: str | None, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        papers.rows(pattern, name)
    assert str(caught.value).startswith(message)


def test_a_row_wins_over_what_all_rows_share() -> None:
    assert words(ROWS["ma.table2.09"])["optimizer.lr"] == "0.01"
    assert words(ROWS["ma.table2.08"])["optimizer.lr"] == "0.001"


def test_learning_rates_fall_as_clark_says() -> None:
    """The row names a schedule only; its settings are the report's."""
    assert checked("clark.text.01")[0]["schedule"] == {
        "name": "plateau",
        "monitor": "train/loss",
        "factor": 0.5,
        "patience": 3,
        "min_delta": 0.0001,
    }


def test_reading_the_papers_does_not_import_torch() -> None:
    code = "import sys; from imgcls import papers; print(len(papers.rows()), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["107", "False"]


def test_the_folder_is_no_group_of_options() -> None:
    assert help.PAPERS not in help.options([help.conf_folder()])
    assert command.check(["papers=ma"])[1] == ["unknown key papers=ma. Did you mean paper=ma?"]


def test_a_setting_may_be_called_paper() -> None:
    """To Hydra a folder of that name in conf/ would make paper=ma the choice of an option."""
    assert not (help.conf_folder() / "paper").exists()


# Against the catalogue


@pytest.fixture(scope="module")
def reports() -> dict[str, Any]:
    """The catalogue's reports by our names."""
    file = CATALOGUE / "catalogue.yaml"
    if not file.is_file():
        pytest.skip(f"no {file}")
    said = yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {report["id"].split("-")[0]: report for report in said["reports"]}


def runs(report: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """The rows of a report's tables and what stands in its text and figures, by our ids."""
    found = [row for table in report["tables"] for row in table["rows"]] + report["prose_runs"]
    return {f"{name}.{run['id'].partition('.')[2]}": run for run in found}


@pytest.mark.parametrize("paper", papers.papers(), ids=lambda paper: paper.name)
def test_figures_are_those_of_the_catalogue(paper: papers.Paper, reports: dict[str, Any]) -> None:
    said = {
        row: {FIGURES[key]: value for key, value in run["paper"].items() if key not in REMARKS}
        for row, run in runs(reports[paper.name], paper.name).items()
    }
    beside = ("minutes", "parameters")
    ours = {row.id: {k: v for k, v in row.reported.items() if k not in beside} for row in paper.rows}
    assert ours == said
    assert paper.title == reports[paper.name]["title"]
    assert paper.year == reports[paper.name]["year"]


@pytest.mark.parametrize("paper", papers.papers(), ids=lambda paper: paper.name)
def test_times_and_sizes_are_those_of_the_catalogue(paper: papers.Paper, reports: dict[str, Any]) -> None:
    times = [time.get("minutes", time.get("hours", 0) * 60) for time in reports[paper.name]["times"]]
    minutes = [row.reported["minutes"] for row in paper.rows if "minutes" in row.reported]
    assert sorted(minutes) == sorted(time for time in times if time)
    stated = {
        model["name"]: model.get("parameters_stated")
        for model in reports[paper.name]["models"]
        if "name" in model
    }
    for row in (row for row in paper.rows if "parameters" in row.reported):
        name = {ours: theirs for theirs, ours in MODELS.items()}.get(words(row)["model"], words(row)["model"])
        assert row.reported["parameters"] == stated[name], row.id


def test_all_duplicates_of_the_catalogue_are_ours(reports: dict[str, Any]) -> None:
    said = {
        row: f"{name}.{run['duplicate_of'].partition('.')[2]}"
        for name, report in reports.items()
        for row, run in runs(report, name).items()
        if "duplicate_of" in run
    }
    assert len(said) == 3
    assert said == {row: ROWS[row].duplicate_of for row in said}


@pytest.mark.parametrize("paper", papers.papers(), ids=lambda paper: paper.name)
def test_settings_are_those_of_the_catalogue(paper: papers.Paper, reports: dict[str, Any]) -> None:
    for row, run in runs(reports[paper.name], paper.name).items():
        said = {key: value for key, value in stated(run["config"]).items() if value is not None}
        ours = words(ROWS[row])
        assert {key: ours.get(key) for key in said} == said, row


def stated(config: dict[str, Any]) -> dict[str, str | None]:
    """What the catalogue says of a run in our words; None where it is silent."""
    size, native = (config["input_size"] or [None])[0], FACTS[config["dataset"]].image_size
    lr, options = config["lr"], config["model_options"] or {}
    number = {"optimizer.momentum": config["momentum"], "dataset.val_fraction": config["val_split"]}
    return {
        "model": MODELS.get(config["model"], config["model"]),
        "dataset": config["dataset"],
        "optimizer": config["optimizer"],
        "optimizer.lr": f"{lr:.10f}".rstrip("0") if lr else None,
        "batch_size": _spelt(config["batch_size"]),
        "epochs": _spelt(config["epochs"]),
        "scaling": {224: "to224", 32: "to32", 3 * native: "x3", 5 * native: "x5", native: None}.get(size),
        "augmentation": "none" if config["augmentation"] == [] else None,
        "init": {"glorot_uniform": "xavier"}.get(config["init"], config["init"]),
        "freeze": "backbone" if config["frozen"] else None,
        "model.dropout": _spelt(options.get("head_dropout") or None),
        "model.se": "true" if options.get("se_block") else None,
        "model.stem": {7: "imagenet", 3: "cifar"}.get(options.get("stem_kernel")) if size == native else None,
        "schedule": "plateau" if config["scheduler"] else None,
        "early_stopping.patience": _spelt((config["early_stopping"] or {}).get("patience")),
        **{key: _spelt(value) for key, value in number.items()},
    }


def _spelt(value: float | None) -> str | None:
    return None if value is None else str(value)


def test_counts_are_those_of_the_catalogue(reports: dict[str, Any]) -> None:
    for row, (words_there, count) in COUNTS.items():
        models = reports[row.split(".")[0]]["models"]
        counts = [model.get("parameters_computed", {}).get(words_there) for model in models]
        assert count in counts, row


# Training


def few(name: str, count: int = 2) -> Source:
    """Noise of the size and channels of a dataset, for training and for the test."""
    facts, draw = FACTS[name], torch.Generator().manual_seed(0)
    shape = (count, facts.image_size, facts.image_size, facts.channels)
    pixels = torch.randint(256, shape, dtype=torch.uint8, generator=draw)
    images = Images(pixels, torch.arange(count) % len(facts.classes))
    return Source(name, facts.title, facts.classes, images, images)


def few_mnist() -> Source:
    return few("mnist")


def few_cifar10() -> Source:
    return few("cifar10")


def network_and_training(row: papers.Row) -> frozenset[str]:
    """What a row sets, but for how much and how fast it learns."""
    return frozenset(
        w for w in row.overrides if not w.startswith(("epochs=", "batch_size=", "optimizer.lr="))
    )


@pytest.mark.slow
@pytest.mark.parametrize("row", first_of_each(network_and_training))
def test_every_configuration_takes_a_training_step(row: str) -> None:
    """On two images, without reading pretrained weights; what is frozen stays, and nothing else."""
    config = checked(row)[0] | {"epochs": 1, "batch_size": 2, "progress": "none"}
    few = {"_target_": f"{__name__}.few_{config['dataset']['name']}", "val_fraction": 0.0}
    config["dataset"] = config["dataset"] | few
    with without_weights():
        images = build.data(config)
        classifier, trainer = build.classifier(config, images), build.trainer(config)
    before = {name: p.detach().clone() for name, p in classifier.network.named_parameters()}
    trainer.fit(classifier, datamodule=images)
    assert trainer.global_step == 1
    assert classifier.epoch["train/loss"] > 0
    after = dict(classifier.network.named_parameters())
    moved = {name for name, p in after.items() if not torch.equal(p, before[name])}
    trained = {name for name, p in after.items() if p.requires_grad}
    assert moved and moved <= trained
    assert (config["freeze"] == "backbone") == (len(trained) == 2)  # weights and biases of the last layer
