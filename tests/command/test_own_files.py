"""Options, groups and experiments that users bring, and the mistakes in them."""

from typing import Any

import pytest

MYNET = "# A network of mine\nname: mynet\n_target_: imgcls.models.convnet.convnet\nwidth: 0.5\nact: relu\n"
EXPERIMENT = """# @package _global_
# My best
defaults:
  - override /model: resnet18
  - override /optimizer: adamw
epochs: 3
optimizer: {lr: 0.003}
"""


def test_options_of_ones_own(own: Any, answer: Any, jobs: list[dict[str, Any]]) -> None:
    """A new option of a group: in the help, in the list of nearest names, with settings of its own kinds."""
    folder = own("model/mynet.yaml", MYNET)
    assert "    mynet         A network of mine\n" in answer("--help", f"--config-dir={folder}")[2]
    assert answer("model=mynett", "--config-dir", str(folder))[1] == [
        "imgcls: error: model=mynett is not known. Choose from: mynet."
    ]
    assert answer("--config-dir", str(folder), "model=mynet", "model.width=0.25")[:2] == (0, [])
    target = "imgcls.models.convnet.convnet"
    assert jobs[0]["model"] == {"name": "mynet", "_target_": target, "width": 0.25, "act": "relu"}
    assert answer("--config-dir", str(folder), "model=mynet", "model.act=größer = 3")[:2] == (0, [])
    assert jobs[1]["model"]["act"] == "größer = 3"
    wrong = answer("model=mynet", "model.width=a", "model.act=3", "model.depth=1", f"--config-dir={folder}")
    assert wrong[1] == [
        "imgcls: error: unknown key model.depth=1. model has width, act.",
        "imgcls: error: model.width=a must be a number.",
        "imgcls: error: model.act=3 must be text.",
    ]


def test_a_group_of_ones_own(own: Any, answer: Any, jobs: list[dict[str, Any]]) -> None:
    """With or without the plus that Hydra asks for."""
    folder = own("extra/some.yaml", "# Something\nx: 1\n")
    assert "  extra=\n    some          Something\n" in answer("--help", "-cd", str(folder))[2]
    for words in ("extra=some", "+extra=some", "extra=some extra.x=1"):
        assert answer("-cd", str(folder), *words.split())[:2] == (0, [])
        assert jobs.pop()["extra"] == {"x": 1}
    assert answer("-cd", str(folder), "extra=sone")[1] == [
        "imgcls: error: extra=sone is not known. Choose from: some."
    ]


def test_an_option_must_have_what_the_code_reads(own: Any, answer: Any) -> None:
    folder = own("model/bare.yaml", "depth: 3\n")
    assert answer("model=bare", "-cd", str(folder))[:2] == (
        2,
        ["imgcls: error: model=… lacks name, _target_. Add to its file what those in conf/model/ have."],
    )


def test_a_file_that_hydra_would_pass_over(own: Any, answer: Any) -> None:
    folder = own("model/resnet18.yaml", MYNET)
    assert answer("model=resnet18", "-cd", str(folder))[:2] == (
        2,
        [
            f"imgcls: error: {folder}/model/resnet18.yaml is hidden by conf/model/resnet18.yaml. "
            "Give it another name."
        ],
    )


@pytest.mark.parametrize("words", ["experiment=x", "+experiment=x", "experiment=deep/x", "experiment=[x]"])
def test_experiments(words: str, own: Any, answer: Any, jobs: list[dict[str, Any]]) -> None:
    own("experiment/deep/x.yaml", EXPERIMENT)
    folder = own("experiment/x.yaml", EXPERIMENT)
    assert answer(words, "-cd", str(folder), "batch_size=32")[:2] == (0, [])
    job = jobs[0]
    found = job["model"]["name"], job["optimizer"]["name"], job["optimizer"]["lr"], job["epochs"]
    assert (*found, job["batch_size"]) == ("resnet18", "adamw", 0.003, 3, 32)


def test_experiments_can_be_swept(own: Any, answer: Any, jobs: list[dict[str, Any]]) -> None:
    own("experiment/own_x.yaml", EXPERIMENT)
    folder = own("experiment/own_y.yaml", "# @package _global_\nepochs: 4\n")
    assert answer("-m", "experiment=glob(own_*)", "-cd", str(folder))[0] == 0
    assert [(job["epochs"], job["model"]["name"]) for job in jobs] == [(3, "resnet18"), (4, "resnet20")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("optimizer: {lrr: 1}", "unknown key optimizer.lrr=1. Did you mean optimizer.lr=1?"),
        ("epoch: 3", "unknown key epoch=3. Did you mean epochs=3?"),
        ("early_stopping: 3", "unknown key early_stopping=3. Did you mean early_stopping.patience=3 or …"),
        ("epochs: ${nosuch}", "epochs: Interpolation key 'nosuch' not found."),
        ("a: [1\nb: 2", "while parsing a flow sequence in …"),
        ("defaults: [override /model: foo]", "In 'config': Could not find 'model/foo' Available options …"),
        ("- 1", "In 'experiment/x': …"),
    ],
)
def test_a_mistake_in_an_experiment(text: str, line: str, own: Any, answer: Any) -> None:
    folder = own("experiment/x.yaml", f"# @package _global_\n{text}\n")
    code, lines, _ = answer("experiment=x", "-cd", str(folder))
    wanted = f"imgcls: error: experiment=x: {line}"
    assert (code, len(lines)) == (2, 1)
    assert lines[0] == wanted or (wanted.endswith("…") and lines[0].startswith(wanted[:-1]))


def test_a_bad_value_in_an_experiment(own: Any, answer: Any) -> None:
    folder = own("experiment/x.yaml", "# @package _global_\nepochs: 0\noptimizer: {lr: fast}\n")
    assert answer("+experiment=x", "-cd", str(folder))[:2] == (
        2,
        [
            "imgcls: error: epochs=0 must be a whole number >= 1.",
            "imgcls: error: optimizer.lr=fast must be a number > 0.",
        ],
    )


def test_an_experiment_without_its_header(own: Any, answer: Any) -> None:
    folder = own("experiment/x.yaml", "epochs: 3\n")
    assert answer("experiment=x", "-cd", str(folder))[1] == [
        "imgcls: error: experiment=x: unknown key experiment.epochs=3. "
        "Begin its file with '# @package _global_'."
    ]
