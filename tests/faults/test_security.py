"""Weights and run folders of others run no code, and nothing secret is kept (faults 118-129).

Each payload would make a file, the marker. For each there is a control: what the stock reader does with it.
"""

import importlib.metadata
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from torchvision import models

from imgcls import report
from imgcls.cli import command
from imgcls.compare import answers
from imgcls.errors import CheckpointError, DataError, ImgclsError
from imgcls.health import software
from imgcls.models import adapt
from imgcls.runs import BEST, CONFIG, LAST, Run
from imgcls.tasks import evaluate, explain, predict, train
from imgcls.trust import refuse_code, targets

ROOT = Path(__file__).parents[2]
BASE = ["model=resnet20", "model.width=4", "dataset.limit=60", "batch_size=20", "epochs=1", "progress=none"]
TASKS = {"evaluate": evaluate, "predict": predict, "explain": explain}
CANARY = "canary-5f2c91d07be8"
TORCHLESS = """
import sys
from imgcls.__main__ import main
try:
    main()
finally:
    assert "torch" not in sys.modules
"""


class Payload:
    """A call that runs when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def composed(*words: str) -> dict[str, Any]:
    config, problems = command.check(words)
    assert problems == []
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, and an image beside it to be labelled."""
    place = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_API_KEY", CANARY)
        patch.setattr(report.Ending, "_draw", lambda self: None)
        train.main(composed(*BASE, f"output={place}", "logger=tensorboard"), place / "run")
    return place / "run"


@pytest.fixture
def theirs(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, as somebody else might hand it on."""
    return shutil.copytree(trained, tmp_path / "theirs")


def use(task: str, run: Path) -> None:
    """Give a run to a task that uses runs, which makes its own checks first."""
    from PIL import Image

    image = run.with_name("image.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(image)
    source = [] if task == "evaluate" else [f"source={image}"]
    TASKS[task].main(composed(f"task={task}", f"run={run}", *source, "progress=none"), run / task, ["run"])


# --------------------------------------------------------------------------------------- pickles in weights


@pytest.mark.parametrize("variable", [None, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
@pytest.mark.parametrize("task", TASKS)
def test_fault_118_a_pickle_as_checkpoint(
    task: str, variable: str | None, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable of the environment can switch the check off."""
    if variable:
        monkeypatch.setenv(variable, "1")
    marker = tmp_path / "marker"
    for file in (BEST, LAST):
        checkpoint = torch.load(theirs / file, weights_only=True)
        torch.save(checkpoint | {"more": Payload(marker)}, theirs / file)
    (theirs / "manifest.json").unlink(missing_ok=True)  # made by the one who made the payload
    with pytest.raises(CheckpointError) as caught:
        use(task, theirs)
    assert not marker.exists() and str(caught.value).isprintable()


def test_fault_118_to_plain_torch(tmp_path: Path) -> None:
    """It runs the code wherever a caller does not think of it, or where the variable is set."""
    torch.save(Payload(tmp_path / "marker"), tmp_path / "x.ckpt")
    torch.load(tmp_path / "x.ckpt", weights_only=False)
    assert (tmp_path / "marker").exists()


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pickle in the place of torchvision's weights of ResNet-18, in torch's cache; gives the marker."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    file = tmp_path / "torch/hub/checkpoints" / models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save({"fc.bias": Payload(tmp_path / "marker")}, file)
    return tmp_path / "marker"


def test_fault_118_a_pickle_as_pretrained_weights(poisoned: Path) -> None:
    with pytest.raises(DataError, match="the weights of resnet18 cannot be loaded"):
        adapt.from_torchvision("resnet18", True, 10, 3)
    assert not poisoned.exists()


def test_fault_118_as_pretrained_weights_to_plain_torchvision(poisoned: Path) -> None:
    """Its hub reads with weights_only=False, also what lies in the cache."""
    with pytest.raises(RuntimeError):
        models.resnet18(weights=models.ResNet18_Weights.DEFAULT)
    assert poisoned.exists()


@pytest.mark.parametrize("before", [None, "0"])
def test_reading_weights_leaves_the_environment_alone(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        monkeypatch.delenv(name, raising=False)
        if before:
            monkeypatch.setenv(name, before)
    unchanged = dict(os.environ)
    with adapt.data_only():
        assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
    assert dict(os.environ) == unchanged


def test_fault_118_a_pickle_as_predictions(theirs: Path, tmp_path: Path) -> None:
    """What task=compare reads of a run."""
    array = np.array([Payload(tmp_path / "marker")], object)
    np.savez(theirs / "predictions.npz", labels=array, top=array, confidence=array)
    assert answers.read(type("Entry", (), {"run": Run(theirs)})) is None  # type: ignore[arg-type]
    assert not (tmp_path / "marker").exists()


def test_fault_119_our_checkpoints_hold_data_only(trained: Path) -> None:
    found = {
        file: torch.serialization.get_unsafe_globals_in_checkpoint(trained / file) for file in (BEST, LAST)
    }
    assert found == {BEST: [], LAST: []}


def test_fault_124_an_instantiator(theirs: Path, tmp_path: Path) -> None:
    """Hyper-parameters that name what is to be called are not looked at: the registry makes the network."""
    marker = tmp_path / "marker"
    for file in (BEST, LAST):
        checkpoint = torch.load(theirs / file, weights_only=True)
        checkpoint["hyper_parameters"] = {"_instantiator": "os.system", "command": f"touch {marker}"}
        checkpoint["hparams_name"] = "kwargs"
        torch.save(checkpoint, theirs / file)
    (theirs / "manifest.json").unlink(missing_ok=True)
    use("evaluate", theirs)
    assert not marker.exists()


def test_fault_126_a_tensor_that_claims_to_be_huge(theirs: Path) -> None:
    """Shapes are compared with the network's before anything is copied: 4 TB are refused at once."""
    for file in (BEST, LAST):
        checkpoint = torch.load(theirs / file, weights_only=True)
        name = next(name for name, tensor in checkpoint["state_dict"].items() if tensor.ndim == 4)
        checkpoint["state_dict"][name] = torch.zeros(1).expand(10**6, 10**6)  # one number in the file
        torch.save(checkpoint, theirs / file)
    (theirs / "manifest.json").unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="do not fit this network"):
        use("evaluate", theirs)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


# ------------------------------------------------------------------------------------ names in configurations


def hostile(marker: Path) -> dict[str, dict[str, Any]]:
    """What a configuration that came with weights may ask for, by the group that asks."""
    touch = f"touch {marker}"
    return {
        "os.system as dataset": {"dataset": {"_target_": "os.system", "command": touch}},
        "subprocess as dataset": {"dataset": {"_target_": "subprocess.getoutput", "cmd": touch}},
        "open as dataset": {"dataset": {"_target_": "builtins.open", "file": str(marker), "mode": "w"}},
        "a model of theirs": {"model": {"_target_": "theirs.network"}},
        "an optimizer of theirs": {"optimizer": {"_target_": "theirs.SGD"}},
        "our own importer": {"dataset": {"_target_": "imgcls.build.locate", "path": "theirs.network"}},
        "_partial_": {"model": {"_partial_": True}},
        "_args_": {"model": {"_args_": [touch]}},
        "_target_ within": {"model": {"options": {"_target_": "os.system", "command": touch}}},
        "_target_ elsewhere": {"init": {"_target_": "os.system", "command": touch}},
        "hydra.callbacks": {"hydra": {"callbacks": {"x": {"_target_": "os.system", "command": touch}}}},
        "oc.env": {"logger": {"notes": "${oc.env:WANDB_API_KEY}"}},
        "a resolver": {"output": "${imgcls_folder:}"},
    }


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", [pytest.param(name, id=f"fault-122: {name}") for name in hostile(Path())])
def test_a_configuration_that_asks_for_code(
    name: str, task: str, theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before anything is imported or resolved, and the remedy has to be typed."""
    marker = tmp_path / "marker"
    (tmp_path / "theirs.py").write_text(f"open({str(marker)!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    config = yaml.safe_load((theirs / CONFIG).read_text())
    for group, settings in hostile(marker)[name].items():
        config[group] = config.get(group, {}) | settings if isinstance(settings, dict) else settings
    config["trust"] = True  # which is for the user to say
    (theirs / CONFIG).write_text(yaml.safe_dump(config))
    (theirs / "manifest.json").unlink(missing_ok=True)
    with pytest.raises(
        CheckpointError, match=r"asks for code that is no part of imgcls .* Add trust=true"
    ) as caught:
        use(task, theirs)
    assert not marker.exists() and str(caught.value).isprintable()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/object/new:os.system"])
def test_fault_122_yaml_tags(tag: str, theirs: Path, tmp_path: Path) -> None:
    text = (theirs / CONFIG).read_text()
    (theirs / CONFIG).write_text(f"{text}x: {tag} ['touch {tmp_path}/marker']\n")
    (theirs / "manifest.json").unlink(missing_ok=True)
    with pytest.raises(CheckpointError):
        use("evaluate", theirs)
    assert not (tmp_path / "marker").exists()


def test_fault_122_by_command(theirs: Path, tmp_path: Path) -> None:
    """The answer comes before torch does."""
    config = yaml.safe_load((theirs / CONFIG).read_text())
    config["dataset"] |= {"_target_": "os.system", "command": f"touch {tmp_path}/marker"}
    (theirs / CONFIG).write_text(yaml.safe_dump(config))
    words = [sys.executable, "-c", TORCHLESS, "task=evaluate", f"run={theirs}"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    said = (
        f"imgcls: error: run={theirs} asks for code that is no part of imgcls (dataset._target_=os.system). "
    )
    assert (done.returncode, done.stderr) == (6, f"{said}Add trust=true if you trust who made it.\n")
    assert not (tmp_path / "marker").exists()


def test_what_a_user_trusts_runs(theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of one's own is used again once that is said."""
    text = "from imgcls.models.resnet_cifar import resnet20 as network"
    (tmp_path / "my_network.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(report.Ending, "_draw", lambda self: None)
    config = yaml.safe_load((theirs / CONFIG).read_text())
    config["model"]["_target_"] = "my_network.network"
    (theirs / CONFIG).write_text(yaml.safe_dump(config))
    (theirs / "manifest.json").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match=r"model\._target_=my_network\.network"):
        use("evaluate", theirs)
    words = ("task=evaluate", f"run={theirs}", "trust=true", "progress=none")
    assert 0 <= evaluate.main(composed(*words), theirs / "evaluate", ["run", "trust"]) <= 1


def test_all_that_conf_makes_may_be_asked_for(trained: Path) -> None:
    assert {"imgcls.data.sources.digits", "torch.optim.SGD", "imgcls.models.zoo.timm_net"} <= targets()
    assert all(
        name.startswith(("imgcls.data.", "imgcls.models.", "imgcls.optim.", "torch.optim."))
        for name in targets()
    )
    refuse_code(trained, Run(trained).config)


@pytest.mark.parametrize(
    "settings",
    [
        {"_target_": "builtins.open", "file": "FILE", "mode": "w"},
        {"_target_": "shutil.copyfile", "src": "SOURCE", "dst": "FILE"},
    ],
    ids=["open", "copyfile"],
)
def test_fault_122_to_plain_hydra(settings: dict[str, str], tmp_path: Path) -> None:
    """Its list of what may not be called is no boundary."""
    (tmp_path / "source").write_text("x")
    places = {"FILE": str(tmp_path / "marker"), "SOURCE": str(tmp_path / "source")}
    instantiate({key: places.get(value, value) for key, value in settings.items()})
    assert (tmp_path / "marker").exists()


# --------------------------------------------------------------------------------------------------- secrets


def test_fault_123_to_plain_omegaconf(monkeypatch: pytest.MonkeyPatch) -> None:
    """It resolves the environment of whoever opens a configuration."""
    monkeypatch.setenv("WANDB_API_KEY", CANARY)
    assert OmegaConf.create({"x": "${oc.env:WANDB_API_KEY}"}).x == CANARY


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET"])
def test_fault_123_a_secret_in_a_configuration(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the file of somebody else brings it in."""
    monkeypatch.setenv(name, CANARY)
    (tmp_path / "experiment").mkdir()
    shared = f"# @package _global_\nlogger:\n  notes: run by ${{oc.env:{name}}}\n"
    (tmp_path / "experiment/shared.yaml").write_text(shared)
    _, problems = command.check(["experiment=shared"], str(tmp_path))
    what = f"logger.notes holds the value of the environment variable {name}"
    assert problems == [f"{what}, which would be saved with the run. Leave it out."]


def test_fault_123_no_secret_in_a_run(trained: Path) -> None:
    """Trained while the key was in the environment; TensorBoard's file is among those searched."""
    files = [path for path in trained.rglob("*") if path.is_file()]
    assert len(files) > 8 and any("tfevents" in path.name for path in files)
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


# -------------------------------------------------------------------------------- the package and its friends


def sources() -> dict[Path, str]:
    return {path: path.read_text() for path in sorted((ROOT / "src").rglob("*.py"))}


@pytest.mark.parametrize(
    "pattern",
    [
        r"weights_only\s*=\s*(False|None)",
        r"torch\.load\((?![^\n]*weights_only=True)",
        r"allow_pickle\s*=\s*True",
        r"\bpickle\.loads?\(|\bimport (cloud)?pickle\b|\bjoblib\b",
        r"yaml\.(unsafe_|full_)?load\((?!.*loader\))",
        r"\b(eval|exec)\(|os\.system|shell\s*=\s*True",
        r"load_from_checkpoint",
        r"\binstantiate\((?!config\.hydra\.launcher)",  # which the user chose
    ],
)
def test_what_runs_code_is_not_in_the_package(pattern: str) -> None:
    """`eval()` without arguments is torch's switch of a network."""
    found = [
        f"{path.name}:{text[: match.start()].count(chr(10)) + 1}"
        for path, text in sources().items()
        for match in re.finditer(pattern, text)
        if text[match.start() : match.end() + 1] != "eval()"
    ]
    assert found == []


KNOWN_BAD = {
    "lightning": ["2.6.2", "2.6.3", "2.6.5", "2.5.6"],  # malicious; CVE-2026-58659
    "hydra-core": [
        "1.3.6",
        "1.3.2",
        "1.4.0.dev1",
        "1.1.0.dev7",
    ],  # CVE-2026-106439; plugins that want a dev version
    "omegaconf": ["2.3.0", "2.4.0.dev3"],
}


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [Requirement(line) for line in [*project["dependencies"], *extras]]


@pytest.mark.parametrize(
    ("name", "version"),
    [
        pytest.param(name, version, id=f"fault-125: {name} {version}")
        for name, versions in KNOWN_BAD.items()
        for version in versions
    ],
)
def test_no_known_bad_version_is_let_in(name: str, version: str) -> None:
    (wanted,) = [r for r in requirements() if r.name == name]
    assert not wanted.specifier.contains(version, prereleases=True)


def test_fault_125_every_dependency_has_a_floor_and_is_within_its_bounds() -> None:
    floors = {r.name: any(s.operator in (">=", "==", "~=") for s in r.specifier) for r in requirements()}
    assert [name for name, floor in floors.items() if not floor] == []
    outside = []
    for wanted in requirements():
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of an extra
        if not wanted.specifier.contains(version, prereleases=True):
            outside.append(f"{wanted} ({version})")
    assert outside == []


def test_fault_125_doctor_knows_the_malicious_ones() -> None:
    assert {("lightning", version) for version in KNOWN_BAD["lightning"][:2]} <= set(software.MALICIOUS)


def test_fault_129_it_is_said_that_a_configuration_is_code() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert (
        "A training configuration is code, as everywhere in Hydra: run only configurations that you trust."
        in text
    )


def test_messages_are_one_line() -> None:
    """Whatever a file is called."""
    assert str(ImgclsError("a\nb\x1b[2J \udcff ü")) == r"a\nb\x1b[2J \udcff ü"
