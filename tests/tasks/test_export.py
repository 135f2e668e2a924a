"""task=export: the files say what the run says, to the bit; and weights of others, taken in or refused."""

import json
import pickle
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from imgcls import __main__ as entry
from imgcls import build, card, checkpoints, manifest, naming, published, report
from imgcls.cli import command
from imgcls.cli.conflicts import conflicts
from imgcls.errors import CheckpointError, ConfigError
from imgcls.models.adapt import without_weights
from imgcls.runs import Run
from imgcls.tasks import evaluate, export, train
from imgcls.weights import opened, read_into

# Two epochs, the second of which is no better: best and last are different weights
BASE = ["model.width=4", "epochs=2", "progress=none", "trainer.threads=1", "optimizer.lr=0.3", "scaling=x2"]
WEIGHTS = "model.safetensors"
Change = Callable[[dict[str, torch.Tensor]], object]


def export_of(run: Path, *words: str) -> Path:
    """What the command writes."""
    entry.main(["task=export", f"run={run}", *words])
    return run / "export"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("outputs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report.Ending, "_draw", lambda self: None)
        train.main(command.check([*BASE, "dataset.channels=3"])[0], folder)
    return folder


@pytest.fixture(scope="module")
def exported(trained: Path) -> Path:
    """It, published."""
    return export_of(trained, "to=pt2")


@pytest.fixture
def file(exported: Path, tmp_path: Path) -> Path:
    """A copy of the weights, to be spoilt."""
    return shutil.copy(exported / WEIGHTS, tmp_path / WEIGHTS)


@pytest.fixture(scope="module")
def ours(trained: Path) -> Any:
    """The run's classifier, as evaluate makes it."""
    run = Run(trained)
    return build.restored(run.config, checkpoints.load(run / "best.ckpt")).eval()


def digits(count: int) -> torch.Tensor:
    return build.data(command.check([])[0]).tested.pixels[:count].permute(0, 3, 1, 2)


def facts(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as opened_file:
        return {k: v if k == "format" else json.loads(v) for k, v in opened_file.metadata().items()}


# ------------------------------------------------------------------------------------------ what is published


def test_the_weights_are_the_checkpoints(trained: Path, exported: Path) -> None:
    """Every tensor of the network, under its own name, to the bit; nothing else."""
    state = checkpoints.load(trained / "best.ckpt")["state_dict"]
    network = {k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")}
    there = load_file(exported / WEIGHTS)
    assert there.keys() == network.keys()
    assert all(torch.equal(there[name], network[name]) for name in network)
    assert all(there[name].dtype == network[name].dtype for name in network)


def test_the_logits_are_the_runs(exported: Path, ours: Any) -> None:
    """To the bit; of the program, of batches of other sizes than it was traced with, to 1e-5."""
    net = published.network(exported / WEIGHTS)
    program = torch.export.load(exported / "model.pt2").module()
    for count in (1, 7, 64):
        images = digits(count)
        with torch.no_grad():
            assert torch.equal(net(images), ours(images))
            assert torch.allclose(program(images), ours(images), rtol=1e-5, atol=1e-5)


def test_the_file_says_what_it_is(trained: Path, exported: Path, ours: Any) -> None:
    run, said = Run(trained), facts(exported / WEIGHTS)
    assert said["format"] == "pt"
    assert said["classes"] == [str(digit) for digit in range(10)]
    assert said["model"] == run.config["model"]
    assert (said["image_size"], said["image_channels"], said["size"], said["channels"]) == (8, 1, 16, 3)
    assert torch.equal(torch.tensor(said["mean"]), ours.prepare.mean)
    assert torch.equal(torch.tensor(said["std"]), ours.prepare.std)
    assert said["scores"] == (run.result or {})["test"]
    assert said["weights"] == "best"
    assert said["checkpoint"]["sha256"] == manifest.entry(trained / "best.ckpt")["sha256"]
    assert said["torch"] == torch.__version__


def test_the_card_has_scores_settings_and_digests(trained: Path, exported: Path) -> None:
    text, result = (exported / "README.md").read_text(), Run(trained).result
    assert result
    assert text.startswith("# resnet20 on Digits\n")
    assert f"| test accuracy | {result['test']['acc']:.2%}  (360 images) |" in text
    assert "| model | resnet20 (shortcut identity, width 4) |" in text
    assert "| epochs | 2 |" in text
    assert "1,294 images; 143 more were held out" in text
    for name in (WEIGHTS, "model.pt2"):
        assert f"`{name}`: {(exported / name).stat().st_size:,} bytes" in text
        assert manifest.entry(exported / name)["sha256"] in text
    assert str(trained.parent) not in text


def test_what_the_card_says_runs(exported: Path, ours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece of Python gives the run's logits; torch's plain memory format rounds otherwise."""
    monkeypatch.chdir(exported)
    blocks = re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    expected = ours(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    for block in blocks:
        found: dict[str, Any] = {}
        exec(block, found)
        assert torch.allclose(found["logits"], expected, rtol=1e-5, atol=1e-5)


def test_the_cards_command_is_understood(exported: Path) -> None:
    line = re.search(r"^python -m imgcls (.*)$", (exported / "README.md").read_text(), re.MULTILINE)
    assert line
    config, problems = command.check(line[1].split())
    assert problems == []
    assert conflicts(config) == []
    assert config["model"]["width"] == 4


def test_the_folder_has_nothing_else(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No log, no configuration with paths; a program of weights exported before is gone."""
    copy = shutil.copytree(trained, trained.with_name("again"))
    (copy / "export").mkdir(exist_ok=True)
    (copy / "export" / "model.pt2").write_bytes(b"of other weights")
    out = export_of(copy, "select=last")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", WEIGHTS]
    assert "read back: the logits of 7 images are the run's, to the bit" in capsys.readouterr().out
    said = facts(out / WEIGHTS)
    assert (said["weights"], said["checkpoint"]["epoch"], said["scores"]) == ("last", 2, None)
    text = (out / "README.md").read_text()
    assert "None: these are its last weights. The run tested its best weights." in text
    assert "test accuracy" not in text


def test_a_file_that_says_otherwise_is_removed(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Run(shutil.copytree(trained, tmp_path / "run"))
    packed = published.packed

    def wrong(network: Any, said: Any) -> bytes:
        return packed(network, {**said, "mean": [[[[100.0]]]]})

    monkeypatch.setattr(published, "packed", wrong)
    with pytest.raises(CheckpointError, match=r"model\.safetensors gave other logits than the run"):
        export.export(copy, evaluate.settings_of(copy, command.check([])[0], []))
    assert list((copy / "export").iterdir()) == []


def test_a_run_that_is_not_finished(trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained, tmp_path / "run")
    (copy / "result.json").unlink()
    with pytest.raises(SystemExit) as end:
        export_of(copy)
    assert end.value.code == CheckpointError.exit_code
    (copy / "result.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"result\.json has not what the card says"):
        export.export(Run(copy), evaluate.settings_of(Run(copy), command.check([])[0], []))


def test_a_network_that_cannot_be_traced() -> None:
    class Fickle(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ConfigError, match=r"^to=pt2: torch\.export refuses this network \(.*Leave to out\.$"):
        export.traced(Fickle(), torch.zeros(2, 1, 8, 8))


def test_a_file_imports_no_code_of_others(file: Path) -> None:
    """Nor is a network made that is larger than its file."""
    save_file(load_file(file), file, spoilt(file, {"_target_": "os.system", "name": "x"}))
    with pytest.raises(
        CheckpointError, match=r"code that is no part of imgcls \(model\._target_=os\.system\)"
    ):
        published.network(file)
    model = command.check([])[0]["model"]
    save_file(load_file(file), file, spoilt(file, {**model, "width": 2**20}))
    with pytest.raises(CheckpointError, match=r"conv1\.weight is 4 x 3 x 3 x 3 in the file and 1048576 x"):
        published.network(file)


def spoilt(file: Path, model: dict[str, Any]) -> dict[str, str]:
    """The metadata, of another network."""
    with safe_open(file, "pt") as there:
        return {**there.metadata(), "model": json.dumps(model)}


def test_a_file_of_others_does_not_say_which_network(file: Path) -> None:
    save_file(load_file(file), file)
    with pytest.raises(CheckpointError, match=r"does not say which network it holds .* init\.file="):
        published.network(file)


# ------------------------------------------------------------------------------------------ weights taken in


def started(file: Path, *words: str) -> Any:
    """The network at the beginning of a training from a file."""
    more = ["dataset.channels=3", f"init.file={file}", *words]
    config, problems = command.check([*BASE, *more])
    assert problems + conflicts(config) == []
    return build.classifier(config, build.data(config)).network


def test_training_starts_from_the_weights(exported: Path) -> None:
    state, there = started(exported / WEIGHTS).state_dict(), load_file(exported / WEIGHTS)
    assert state.keys() == there.keys()
    assert all(torch.equal(state[name], there[name]) for name in there)


def test_a_new_head_is_the_seeds(exported: Path, tmp_path: Path) -> None:
    """Whatever the file has of it, be it of other classes, or nothing."""
    config = command.check([*BASE, "dataset.channels=3"])[0]
    drawn = build.classifier(config, build.data(config)).network.state_dict()
    there = load_file(exported / WEIGHTS)
    for head in ({"fc.weight": torch.ones(5, 16), "fc.bias": torch.ones(5)}, {}):
        others = {k: v for k, v in there.items() if not k.startswith("fc.")} | head
        save_file(others, tmp_path / "others.safetensors")
        state = started(tmp_path / "others.safetensors", "init.head=new").state_dict()
        assert torch.equal(state["fc.weight"], drawn["fc.weight"])
        assert torch.equal(state["conv1.weight"], there["conv1.weight"])


def test_of_pretrained_only_the_form_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet's weights, which are not here, are not read."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    words = ["model=torchvision", "model.net=squeezenet1_1", "model.pretrained=true", "scaling.factor=8"]
    config = command.check(["dataset.channels=3", *words])[0]
    with without_weights():
        network = build.classifier(config, build.data(config)).network
    file = tmp_path / WEIGHTS
    save_file({k: torch.full_like(v, 0.5).contiguous() for k, v in network.state_dict().items()}, file)
    more = {**config["init"], "file": str(file)}
    made = build.classifier({**config, "init": more}, build.data(config)).network
    assert all((weight == 0.5).all() for weight in made.parameters())


def test_half_precision_is_taken(exported: Path, tmp_path: Path) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in load_file(exported / WEIGHTS).items()}
    save_file(half, tmp_path / "half.safetensors")
    state = started(tmp_path / "half.safetensors").state_dict()
    assert torch.equal(state["fc.weight"], half["fc.weight"].float())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t.update({"fc.weight": torch.ones(5, 16)}),
            "fc.weight is 5 x 16 in the file and 10 x 16 in ",
        ),
        (
            lambda t: t.update({"conv1.weight": t["conv1.weight"][:1]}),
            "conv1.weight is 1 x 3 x 3 x 3 in the file",
        ),
        (
            lambda t: t.pop("layer1.0.conv1.weight"),
            "layer1.0.conv1.weight is not in the file. Choose the model",
        ),
        (
            lambda t: t.update({"more": torch.ones(1)}),
            "more is in the file and not in the network. Choose the",
        ),
        (
            lambda t: t.update({"fc.bias": torch.ones(10).int()}),
            "fc.bias is I32 in the file and torch.float32 in the",
        ),
    ],
)
def test_tensors_that_do_not_fit(change: Change, said: str, file: Path, ours: Any) -> None:
    """One line that names file, tensor and remedy, and the network keeps what it had."""
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    network = deepcopy(ours.network)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        read_into(network, file)
    assert str(error.value).startswith(f"{file}: {said}")
    assert ("init.head=new" in str(error.value)) == ("fc" in said)
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


def header(entries: Any, data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda whole: whole[:-1],
    "cut in the header": lambda whole: whole[:100],
    "longer": lambda whole: whole + b"\0",
    "empty": lambda whole: b"",
    "a header of 4 EB": lambda whole: struct.pack("<Q", 2**62) + whole[8:],
    "a header beyond the end": lambda whole: struct.pack("<Q", len(whole)) + whole[8:],
    "a tensor beyond the end": lambda whole: header({"a": form(1 << 40, [0, 1 << 42])}, b"\0" * 8),
    "a shape beyond its bytes": lambda whole: header({"a": form(1 << 40, [0, 8])}, b"\0" * 8),
    "a size beyond all numbers": lambda whole: header({"a": form(1 << 62, [0, 8])}, b"\0" * 8),
    "tensors that overlap": lambda whole: header({"a": form(2, [0, 8]), "b": form(2, [4, 12])}, b"\0" * 12),
    "a list": lambda whole: header([1, 2]),
    "text": lambda whole: b"no weights at all" * 10,
}


def form(length: int, place: list[int]) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [length], "data_offsets": place}


@pytest.mark.parametrize("how", SPOILT)
def test_files_that_are_not_whole(how: str, file: Path) -> None:
    """Refused from the header, before a tensor is made."""
    file.write_bytes(SPOILT[how](file.read_bytes()))
    with pytest.raises(CheckpointError) as error, opened(file):
        pass
    assert str(error.value).startswith(f"{file} is no whole safetensors file (")
    assert str(error.value).endswith("Restore it from a copy, or name another file.")


class Payload:
    """A call that runs when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_by_that_name_does_not_run(write: Any, tmp_path: Path) -> None:
    """The control: unpickled, it leaves its marker. (torch.load takes what is called so for no pickle.)"""
    file, marker = tmp_path / WEIGHTS, tmp_path / "marker"
    write({"fc.weight": Payload(marker)}, file)
    with pytest.raises(CheckpointError, match="no whole safetensors file"):
        started(file)
    with pytest.raises(CheckpointError, match="no whole safetensors file"):
        published.network(file)
    assert not marker.exists()
    if write is torch.save:
        torch.load(file.rename(tmp_path / "model.pt"), weights_only=False)
    else:
        pickle.loads(file.read_bytes())
    assert marker.exists()


# ------------------------------------------------------------------------------------------ the command


@pytest.mark.parametrize("how", ["missing", "truncated"])
def test_the_command_looks_before_any_work(
    how: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(SystemExit) as end:
        entry.main([f"init.file={file}", f"output={tmp_path / 'outputs'}"])
    assert end.value.code == CheckpointError.exit_code
    err = capsys.readouterr().err
    assert err.startswith(f"imgcls: error: {file} is no") and err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["task=export"], "task=export needs the folder of a run. Add run=outputs/NAME."),
        (["task=export", "run=x", "to=csv"], "to=csv is for task=compare. Add that, or leave it out."),
        (["to=pt2"], "to=pt2 is for task=export. Add that, or leave it out."),
        (
            ["init=he", "init.file=a.safetensors"],
            "init=he would overwrite the weights of init.file=a.safetensors.",
        ),
        (["init.file=a.pt"], "init.file=a.pt must be a .safetensors file or null."),
    ],
)
def test_mistakes(words: list[str], line: str) -> None:
    config, problems = command.check(words)
    assert [found for found in problems or conflicts(config) if found.startswith(line)]


def test_a_frozen_backbone_may_come_from_a_file(compose: Any) -> None:
    assert conflicts(compose("init.file=a.safetensors", "freeze=backbone")) == []


def test_no_file_is_in_no_runs_name(compose: Any) -> None:
    """And a file is."""
    assert naming.digest(compose("init.file=null", "init.head=file")) == naming.digest(compose())
    assert naming.digest(compose("init.file=a.safetensors")) != naming.digest(compose())


def test_texts_mean_nothing_to_markdown() -> None:
    assert card._text("a|b\n<img>") == r"a\|b\n&lt;img>"


def test_the_header_needs_no_torch(exported: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from imgcls.weights import forms, opened\n"
        f"with opened(Path({str(exported / WEIGHTS)!r})) as file: assert len(forms(file)) > 50\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
