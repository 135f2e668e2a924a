"""The program of Clark 2020: what its options come to, and a saved model that is trained further."""

import os
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from imgcls import deeper_networks, naming, papers
from imgcls.__main__ import register_resolvers
from imgcls.cli import command
from imgcls.deeper_networks import DATASETS, NETWORKS, NEW, How, jobs, overrides, read
from imgcls.runs import Run

OPTIONS = [  # of the report
    *("--help", "--epochs", "--restart", "--resume", "--all-data", "--all-arch", "--sgd", "--mnist"),
    *("--cifar10", "--scaling", "--conv", "--dropout", "--vgg", "--nin", "--res20", "--res32", "--res56"),
]


def commands(*argv: str) -> list[dict[str, str]]:
    """The settings of the commands that the options come to."""
    return [dict(word.split("=", 1) for word in words) for words in jobs(read(argv))]


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        deeper_networks.main(["-h"])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert [option for option in OPTIONS if f"{option} " not in said.replace(",", " ")] == []


@pytest.mark.parametrize(("dataset", "network"), zip(cycle(DATASETS), NETWORKS, strict=False))
def test_every_network_is_a_good_command(dataset: str, network: str) -> None:
    register_resolvers()
    config, problems = command.check(overrides(dataset, network, How(7, True, 3)))
    assert problems == []
    assert (config["model"]["name"], config["dataset"]["name"]) == (NETWORKS[network], dataset)
    assert (config["epochs"], config["scaling"]["factor"]) == (7, 3)
    assert (config["optimizer"]["name"], config["optimizer"]["momentum"]) == ("sgd", 0.1)


@pytest.mark.parametrize(
    ("row", "how"),
    [
        ("text.02 mnist dropout", NEW),
        ("text.04 mnist vgg", NEW._replace(sgd=True, scaling=3)),
        ("text.12 cifar10 nin", NEW),
        ("text.15 cifar10 res56", NEW),
    ],
)
def test_a_network_of_the_report_is_its_row(row: str, how: How) -> None:
    """The same run, with the same folder, as `python -m imgcls` makes of the row."""
    register_resolvers()
    name, *pair = row.split()
    told = command.check(papers.rows(name, "clark")[0].overrides)[0]
    assert naming.folder(command.check(overrides(*pair, how))[0]) == naming.folder(told)


def test_beginnings_of_options() -> None:
    """The example of the report."""
    assert commands("--drop", "--cifar", "--epochs", "5") == commands("--dropout", "--cifar10", "--epochs=5")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--res", "--mnist"], "ambiguous option: --res could match --restart, --resume, --res20"),
        (["--all", "--mnist"], "ambiguous option: --all could match --all-data, --all-arch"),
        (["--res20"], "no datasets named. Add --all-data or some of --mnist --cifar10"),
        (["--mnist"], "no networks named. Add --all-arch or some of --conv"),
        (["--conv", "--mnist", "--restart", "--resume"], "not allowed with argument --restart"),
        (["--conv", "--mnist", "--epochs", "x"], "argument --epochs: invalid int value: 'x'"),
    ],
)
def test_mistakes(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        deeper_networks.main(argv)
    assert (stop.value.code, said in capsys.readouterr().err) == (2, True)


def test_a_mistake_of_imgcls_has_its_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        deeper_networks.main(["--conv", "--mnist", "--scaling", "0", f"output={tmp_path}"])
    assert stop.value.code == 2
    assert "scaling.factor=0 must be a whole number" in capsys.readouterr().err


def test_adam_unless_sgd() -> None:
    plain, sgd = commands("--vgg", "--mnist")[0], commands("--vgg", "--mnist", "--sgd")[0]
    assert (plain["optimizer"], plain["optimizer.lr"], "optimizer.momentum" in plain) == (
        "adam",
        "0.001",
        False,
    )
    assert (sgd["optimizer"], sgd["optimizer.lr"], sgd["optimizer.momentum"]) == ("sgd", "0.01", "0.1")


def test_all_pairs() -> None:
    pairs = [(job["dataset"], job["model"]) for job in commands("--all-data", "--all-arch")]
    assert pairs == [(data, model) for data in ("mnist", "cifar10") for model in NETWORKS.values()]
    assert len(commands("--mnist", "--cifar10", "--res20", "--res56")) == 4


def test_restart_and_further_settings() -> None:
    job = commands("--conv", "--mnist", "--restart", "batch_size=64")[0]
    assert (job["restart"], job["batch_size"], job["epochs"]) == ("true", "64", "50")


# ------------------------------------------------------------------------------------------- resuming


@pytest.fixture
def save(tmp_path: Path) -> Any:
    """Leave the folder of a run with these options, as training would."""
    register_resolvers()

    def make(how: How, epochs: int | None, when: int) -> Run:
        config = command.check(overrides("mnist", "conv", how, [f"output={tmp_path}"]))[0]
        run = Run(naming.folder(config))
        run.claim(config)
        run.release()
        (run / "last.ckpt").write_bytes(str(how).encode())
        (run / "metrics.csv").write_text("epoch\n1\n")
        os.utime(run / "last.ckpt", (when, when))
        if epochs:
            (run / "result.json").write_text(f'{{"epochs": {epochs}}}')
        return run

    return make


def resumed(folder: Path, *argv: str) -> dict[str, str]:
    return commands("--conv", "--mnist", "--resume", *argv, f"output={folder}")[0]


def test_resuming_nothing_trains_a_new_model(tmp_path: Path) -> None:
    assert (
        resumed(tmp_path, "--sgd", "--epochs", "3")
        == commands("--conv", "--mnist", "--sgd", "--epochs", "3", f"output={tmp_path}")[0]
    )


def test_a_finished_model_is_trained_further(tmp_path: Path, save: Any) -> None:
    """With its own optimizer and scaling, by as many epochs as are asked for, from its last state."""
    done = save(How(3, True, 2), 3, 1)
    job = resumed(tmp_path, "--epochs", "4")
    assert (job["epochs"], job["optimizer"], job["scaling.factor"]) == ("7", "sgd", "2")
    there = naming.folder(command.check([f"{key}={value}" for key, value in job.items()])[0])
    assert (there / "last.ckpt").read_bytes() == (done / "last.ckpt").read_bytes()
    assert sorted(path.name for path in there.iterdir()) == ["last.ckpt", "metrics.csv"]


def test_an_interrupted_model_is_trained_to_its_end(tmp_path: Path, save: Any) -> None:
    save(How(3), None, 1)
    assert resumed(tmp_path, "--epochs", "4")["epochs"] == "3"


def test_a_model_whose_loss_fell_no_more_stays(tmp_path: Path, save: Any) -> None:
    save(How(30), 12, 1)
    assert resumed(tmp_path)["epochs"] == "30"


def test_of_several_the_latest_has_the_settings(tmp_path: Path, save: Any) -> None:
    """And of those alike the longest trained goes on: the others are parts of it."""
    save(How(3, True), 3, 1)
    save(How(20), 20, 2)
    save(How(10), 10, 3)
    job = resumed(tmp_path, "--epochs", "5")
    assert (job["optimizer"], job["epochs"]) == ("adam", "25")


def test_other_settings_are_another_model(tmp_path: Path, save: Any) -> None:
    save(How(3), 3, 1)
    assert resumed(tmp_path, "batch_size=64")["epochs"] == "50"


@pytest.mark.slow
@pytest.mark.skipif("IMGCLS_DATA" not in os.environ, reason="needs MNIST in IMGCLS_DATA")
def test_two_epochs_and_three_more_are_five(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resuming after the end gives what training without a break gives."""
    monkeypatch.chdir(tmp_path)

    def train(output: str, *argv: str) -> list[Run]:
        small = ["dataset.limit=300", "progress=none", f"output={output}"]
        deeper_networks.main(["--drop", "--mnist", *argv, *small])
        return [Run(path) for path in sorted(Path(output).glob("mnist-dropnet-*"))]

    train("a", "--epochs", "2")
    both, whole = train("a", "--epochs", "3", "--resume"), train("b", "--epochs", "5")
    longer = next(run for run in both if run.path.name == whole[0].path.name)
    assert (longer.result or {})["test"] == (whole[0].result or {})["test"]
    kept = [[{**row, "seconds": 0} for row in run.history()] for run in (longer, whole[0])]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 5
