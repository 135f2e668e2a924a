"""What the command line takes: short names, other spellings, any path."""

import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        ("epochs=5", "epochs", 5),
        ("batch_size=32", "batch_size", 32),
        ("optimizer.lr=0.2", "optimizer.lr", 0.2),
        ("lr=0.2", "optimizer.lr", 0.2),
        ("lr=1", "optimizer.lr", 1),
        ("lr=1e-3", "optimizer.lr", 0.001),
        ("model=timm net=resnet10t", "model.net", "resnet10t"),
        ("seed=7", "seed", 7),
        ("--epochs=5", "epochs", 5),
        ("--batch-size=32", "batch_size", 32),
        ("--lr=0.2", "optimizer.lr", 0.2),
        ("+optimizer.lr=0.2", "optimizer.lr", 0.2),
        ("++optimizer.lr=0.2", "optimizer.lr", 0.2),
        ("epochs=5 epochs=6", "epochs", 6),
        ("model=resnet18 model=resnet32", "model.name", "resnet32"),
        ("+model=resnet18", "model.name", "resnet18"),
        ("early_stopping={patience:3}", "early_stopping.patience", 3),
        ("dataset.limit=null", "dataset.limit", None),
        ("experiment=null", "debug", None),
        ("+experiment=null", "debug", None),
        ("debug=limit", "debug", "limit"),
        ("debug=limit epochs=2", "epochs", 2),
        ("name=007", "name", "007"),
        ("name=1e5", "name", "1e5"),
        ("name=null", "name", None),
        ("model=torchvision model.pretrained=true freeze=until=layer3", "freeze", "until=layer3"),
        ("model=torchvision model.pretrained=true freeze=all_but=fc,layer4", "freeze", "all_but=fc,layer4"),
        ("model=torchvision model.pretrained=true model.freeze=all_but=fc", "freeze", "all_but=fc"),
        ("model=resnet18 -m seed=3", "seed", 3),
        ("model=resnet18 -m", "model.name", "resnet18"),
        ("model=torchvision model.options.dropout=0.1", "model.options", {"dropout": 0.1}),
        ("model=torchvision model.options={dropout:0.1}", "model.options", {"dropout": 0.1}),
        ("hydra.job.chdir=false", "epochs", 20),
        ("hydra.job.env_set.IMGCLS_X=1", "epochs", 20),
        ("+hydra.job.env_set.IMGCLS_X=1", "epochs", 20),
    ],
)
def test_accepted(words: str, key: str, value: Any, answer: Any, jobs: list[dict[str, Any]]) -> None:
    """Through Hydra to the task."""
    assert answer(*words.split(), "output=out")[:2] == (0, [])
    for part in key.split("."):
        jobs[0] = jobs[0][part]
    assert jobs == [value]


@pytest.mark.parametrize(
    "path",
    [
        "a=b.ckpt",
        "my pictures/ä ö",
        "a,b",
        "1e5",
        "007",
        "it's",
        'say "x"',
        "[ab]*.png",
        "{a}",
        r"C:\data\new",
        "back\\",
        "日本",
        "a$b",
        "(x)",
        "#1",
        "a:b",
        "%",
    ],
)
def test_paths_need_no_quotes(path: str, answer: Any, jobs: list[dict[str, Any]]) -> None:
    assert answer(f"output={path}", f"--dataset.root={path}", "name=x")[:2] == (0, [])
    assert (jobs[0]["output"], jobs[0]["dataset"]["root"]) == (path, path)


def test_a_path_may_be_quoted_or_under_home(
    answer: Any, jobs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    monkeypatch.setenv("HOME", str(here))
    answer("output='a b'", "dataset.root=~/data")
    assert (jobs[0]["output"], jobs[0]["dataset"]["root"]) == ("a b", f"{here}/data")


def test_a_run_folder_of_ones_own(answer: Any, jobs: list[dict[str, Any]], here: Path) -> None:
    assert answer("hydra.run.dir=my run/ä=1")[0] == 0
    assert jobs[0]["folder"] == here / "my run" / "ä=1"
    assert jobs[0]["typed"] == []


def test_the_task_hears_what_was_typed(answer: Any, jobs: list[dict[str, Any]]) -> None:
    answer("lr=0.2", "+seed=3", "model=resnet18")
    assert sorted(jobs[0]["typed"]) == ["model", "optimizer.lr", "seed"]


def test_lightning_finds_the_command_in_its_place(answer: Any, jobs: list[dict[str, Any]]) -> None:
    """It starts further processes with sys.argv: what Hydra understood must stand there."""
    answer("model=resnet18", "-m", "lr=0.1,0.2", "output=a b", "+seed=1")
    assert sys.argv == ["imgcls", "-m", "model=resnet18", "optimizer.lr=0.1,0.2", "output='a b'", "seed=1"]
