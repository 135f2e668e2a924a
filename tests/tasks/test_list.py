"""What there is, as tables: off a terminal one line a row with tabs between."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgcls import table
from imgcls.__main__ import register_resolvers
from imgcls.cli import help
from imgcls.data.facts import FACTS
from imgcls.data.origins import ORIGINS
from imgcls.errors import ConfigError
from imgcls.models import zoo
from imgcls.runs import Run
from imgcls.tasks import list as listing

LIBRARIES = ("torchvision", "timm")
Rows = Callable[..., list[dict[str, str]]]


@pytest.fixture
def rows(compose: Any, capsys: pytest.CaptureFixture[str]) -> Rows:
    """Overrides → the rows that are printed, by their columns."""

    def run(*words: str, config_dir: str | None = None) -> list[dict[str, str]]:
        register_resolvers()
        listing.main(compose("task=list", *words), config_dir)
        head, *lines = capsys.readouterr().out.splitlines()
        return [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]

    return run


def test_networks_with_their_costs(rows: Rows) -> None:
    """resnet18: 11,689,512 parameters and 1.814e9 multiply-adds at 224 px, by all three ways to choose it."""
    found = {row["choose"]: row for row in rows("what=models", "filter=resnet18")}
    assert {"model=resnet18", "model=torchvision net=resnet18", "model=timm net=resnet18"} <= found.keys()
    for choose in ("model=resnet18", "model=torchvision net=resnet18", "model=timm net=resnet18"):
        row = found[choose]
        assert (row["name"], row["parameters_M"], row["image_px"]) == ("resnet18", "11.690", "224")
        assert row["multiply_adds_G"] == "1.814"
    assert zoo.row("torchvision", "resnet18", 224)[2:] == (11_689_512, 1_814_073_344, 224)


def test_a_small_network_at_small_images(rows: Rows) -> None:
    """ResNet-110 of the paper's section 4.2: 1.7 M parameters at 32 px."""
    (row,) = rows("what=models", "filter=resnet110")
    assert list(row.values()) == ["resnet110", "1.728", "0.253", "32", "model=resnet110"]


def test_without_a_filter_all_names_and_no_counts(rows: Rows) -> None:
    """Of conf/model and of both libraries, whose names are their own."""
    found = rows("what=models")
    named = [name for name in help.options([help.conf_folder()])["model"] if name not in LIBRARIES]
    assert [row["name"] for row in found] == named + [name for _, name, _ in zoo.known()]
    assert {row["parameters_M"] for row in found} == {listing.UNKNOWN}


def test_a_network_of_the_users_own(rows: Rows, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    text = "{name: mine, _target_: imgcls.models.resnet_cifar.resnet20, width: 8}"
    (tmp_path / "model" / "mine.yaml").write_text(text)
    (row,) = rows("what=models", "filter=mine", config_dir=str(tmp_path))
    assert (row["choose"], row["parameters_M"]) == ("model=mine", "0.068")


def test_a_pattern_matches_whole_names(rows: Rows) -> None:
    assert [row["choose"] for row in rows("what=options", "filter=scaling=x*")] == [
        f"scaling=x{factor}" for factor in (2, 3, 4, 5)
    ]


def test_no_match_names_the_nearest(rows: Rows) -> None:
    with pytest.raises(ConfigError, match=r"filter=cifar1O matches none of the datasets.*cifar10.*cifar100"):
        rows("what=datasets", "filter=cifar1O")
    with pytest.raises(ConfigError, match="Leave filter out"):
        rows("what=groups", "filter=qqqqqq")


def test_datasets_with_their_facts(rows: Rows) -> None:
    found = {row["name"]: row for row in rows("what=datasets")}
    numbers = ["50000", "10000", "10", "32", "3"]
    assert list(found["cifar10"].values()) == [
        *("cifar10", *numbers),
        *("170 MB", "not stated", "dataset=cifar10"),
    ]
    assert found["emnist_letters"]["choose"] == "dataset=emnist dataset.split=letters"
    assert (found["flowers102"]["train"], found["flowers102"]["test"]) == ("2040", "6149")
    assert found["imagenet"]["download"] == "154.6 GB"
    assert found["digits"]["download"] == "none"
    assert FACTS.keys() <= found.keys()
    assert ORIGINS.keys() - {"emnist"} <= found.keys()


def test_runs_finished_and_not(rows: Rows, tmp_path: Path, compose: Any) -> None:
    """What lies inside a run is no run."""
    done, half = Run(tmp_path / "a"), Run(tmp_path / "b")
    for run in (done, half):
        run.claim(compose("epochs=2"))
        run.write_history([{"epoch": 1, "train/loss": 1.0}])
        run.release()
    (tmp_path / "a" / "find").mkdir()
    (tmp_path / "a" / "result.json").write_text(
        '{"test": {"acc": 0.98765}, "finished": "2026-01-02T03:04:05+00:00"}'
    )
    first, second = rows("what=runs", f"output={tmp_path}")
    assert list(first) == ["run", "state", "test_accuracy", "epochs", "date", "dataset", "model"]
    values = ["a", "finished", "0.9877", "1/2", "2026-01-02 03:04", "digits", "resnet20"]
    assert list(first.values()) == values
    assert (second["run"], second["state"], second["test_accuracy"]) == ("b", "unfinished", "-")
    assert [row["run"] for row in rows("what=runs", f"output={tmp_path}", "filter=b")] == ["b"]


def test_no_runs_yet(compose: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listing.main(compose("task=list", "what=runs", f"output={tmp_path}"))
    assert capsys.readouterr().out == f"no runs in {tmp_path}/\n"


def test_groups_and_options(rows: Rows) -> None:
    groups = {row["group"]: row for row in rows("what=groups")}
    assert groups["init"] == {
        "group": "init",
        "usual": "default",
        "choices": "4",
        "names": "default he whitened xavier",
    }
    options = {row["choose"] for row in rows("what=options")}
    assert options == {
        f"{group}={name}" for group, names in help.options([help.conf_folder()]).items() for name in names
    }


def test_names_are_whole_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the last column is wrapped."""
    for key, value in {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "COLUMNS": "40"}.items():
        monkeypatch.setenv(key, value)
    name = "a_network_with_a_name_of_more_than_forty_letters"
    assert table.show(["name", "number", "what"], [[name, "1", "some words " * 9]]) == 1
    assert name in capsys.readouterr().out
