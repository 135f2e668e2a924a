"""Bad settings cost no time: a line or two that name key and value, exit code 2, before torch or data load.

The very words of the answers are held by tests/command/test_mistakes.py. Here each fault of a configuration
is tried with values of its own, in one process, which never imports torch. What has no effect is said, too.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SECRET = "8c1f0a77d2e94b55"  # of an environment variable
SCRIPT = """
import contextlib, io, json, sys, time, types
from imgcls import __main__ as entry
sys.modules["imgcls.tasks.train"] = types.SimpleNamespace(main=lambda *job: 0.5)
for words in json.load(sys.stdin):
    out, err, code, start = io.StringIO(), io.StringIO(), 0, time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            entry.main(words)
        except SystemExit as end:
            code = end.code
    assert "torch" not in sys.modules, words
    print(json.dumps([code, err.getvalue().splitlines(), time.process_time() - start]))
"""

Answer = tuple[int, list[str], float]  # exit code, lines on stderr, seconds of computing

# fault, words, and what the answer has to name: key=value, or the key and the value where they stand apart
BAD: list[tuple[int, str, str]] = [
    (44, "-m lr=0.1,0.2,slow", "optimizer.lr=slow"),
    (44, "-m batch_size=8,-8", "batch_size=-8"),
    (44, "-m model=resnet18,vgg12", "model=vgg12"),
    (56, "lr=.nan", "optimizer.lr=.nan"),
    (56, "lr=1e400", "optimizer.lr=inf"),
    (56, "lr=-inf", "optimizer.lr=-inf"),
    (57, "batch_size=1293", "batch_size=1293|last batch of one image"),
    (61, "model=resnet21", "model=resnet21|Choose from"),
    (61, "optimizer=lion", "optimizer=lion|Choose from"),
    (61, "augmentation=autoaugment", "augmentation=autoaugment|Choose from"),
    (62, "model.depht=3", "model.depht=3"),
    (62, "+optimizer.momentun=0.9", "optimizer.momentun=0.9|optimizer.momentum"),
    (62, "++trainer.precison=32-true", "trainer.precison=32-true|trainer.precision"),
    (62, "еpochs=3", "'еpochs=3'|KEY=VALUE"),  # its first letter is Cyrillic
    (63, "lr=-0.5", "optimizer.lr=-0.5|> 0"),
    (63, "optimizer.weight_decay=-1", "optimizer.weight_decay=-1|>= 0"),
    (63, "optimizer.momentum=1", "optimizer.momentum=1|< 1"),
    (63, "optimizer=adam optimizer.betas=[0.9]", "optimizer.betas=[0.9]|a list of 2"),
    (64, "lr=0.0", "optimizer.lr=0.0|> 0"),
    (65, "lr=fast", "optimizer.lr=fast|a number"),
    (65, "lr='1e-3'", "optimizer.lr='1e-3'|not text"),
    (65, "lr=[1e-3]", "optimizer.lr=[0.001]|a number"),
    (66, "lr=0,05", "optimizer.lr=0,05|0.05"),
    (67, "batch_size=-1", "batch_size=-1|>= 1"),
    (67, "batch_size=1e3", "batch_size=1000.0|a whole number"),
    (67, "batch_size=null", "batch_size=null|a whole number"),
    (67, "accumulate=5", "accumulate=5|accumulate=4"),
    (68, "batch_size=1295", "batch_size=1295|1294"),
    (68, "dataset.limit=1", "dataset.limit=1|>= 2"),
    (69, "epochs=-1", "epochs=-1|>= 1"),
    (69, "epochs=2.5", "epochs=2.5|a whole number"),
    (69, "epochs=many", "epochs=many|a whole number"),
    (69, "epochs=true", "epochs=true|a whole number"),
    (70, "scaling.factor=abc", "scaling.factor=abc|a whole number"),
    (70, "scaling.factor=65", "scaling.factor=65|<= 64"),
    (70, "scaling.size=0", "scaling.size=0|>= 1"),
    (70, "scaling.factor=2 scaling.size=32", "scaling.size=32|scaling.factor=2"),
    (70, "model.width=-16", "model.width=-16|>= 1"),
    (71, "model=densenet121 model.growth_rate=-3", "model.growth_rate=-3|>= 1"),
    (71, "model=resnet20 model.depth=-3", "model.depth=-3"),
    (72, "model.num_classes=2", "model.num_classes=2"),
    (72, "dataset.channels=4", "dataset.channels=4|null, 1, 3"),
    (73, "seed=-5", "seed=-5|>= 0"),
    (73, "seed=4294967296", "seed=4294967296|<= 4294967295"),
    (73, "seed=1e3", "seed=1000.0|a whole number"),
    (74, "trainer.accelerator=banana", "trainer.accelerator=banana|auto, cpu, gpu, mps"),
    (74, "trainer.precision=8", "trainer.precision=8|bf16-mixed"),
    (74, "trainer=tpu", "trainer=tpu|Choose from"),
    (75, "trainer.devices=3 batch_size=64", "batch_size=64|3 devices"),
    (75, "trainer.devices=2 task=find what=lr", "trainer.devices=2|task=find"),
    (75, "trainer.devices=2 trainer.num_nodes=2", "trainer.num_nodes=2|torchrun"),
    (
        76,
        "early_stopping.monitor=val/los early_stopping.patience=2",
        "early_stopping.monitor=val/los|val/loss",
    ),
    (76, "schedule=plateau schedule.monitor=val/acc", "schedule.monitor=val/acc|val/loss"),
    (
        77,
        "schedule=plateau schedule.monitor=val/loss dataset.val_fraction=0",
        "schedule.monitor=val/loss|hold-out",
    ),
    (77, "dataset.val_fraction=0.0001", "dataset.val_fraction=0.0001|holds out no image"),
    (78, "momentum", "'momentum'|KEY=VALUE"),
    (78, "--epochs", "--epochs|epochs=VALUE"),
    (78, "epochs= 3", "epochs=|'3'|KEY=VALUE"),
    (79, "optimizer._target_=torch.optim.AdamWW", "optimizer._target_=torch.optim.AdamWW|AdamW"),
    (79, "model._target_=imgcls.models.convnet.convnett", "convnett|convnet"),
    (79, "model._target_=nosuch.Net", "model._target_=nosuch.Net|no package"),
    (127, "name=..", "name=..|a folder name"),
    (127, "name=a/b", "name=a/b|a folder name"),
    (127, "name=/etc/x", "name=/etc/x|a folder name"),
    (127, "name=.hidden", "name=.hidden|a folder name"),
    (127, "name=a\x1b[2Jb", r"name=a\x1b[2Jb|a folder name"),
    (127, "output=a\x1b]0;x\x07", r"output=a\x1b]0;x\x07|a folder"),
    (127, "dataset.root=a\x00b", r"dataset.root=a\x00b|a folder"),
    (127, "logger=wandb logger.project=../x", "logger.project=../x|a project"),
    (123, "logger.notes=${oc.env:SOME_API_KEY}", "logger.notes|SOME_API_KEY"),
    (123, "dataset.root=https://me:${oc.env:SOME_API_KEY}@host", "dataset.root|SOME_API_KEY"),
    (123, f"output=runs-{SECRET}", "output|SOME_API_KEY"),
    (123, "output=${oc.env:NOT_SET_AT_ALL}", "output|NOT_SET_AT_ALL"),
    # settings that stand in no fault of the list, but are as easy to get wrong
    (0, "optimizer.momentum=0", "optimizer.momentum=0|optimizer.nesterov=false"),
    (0, "clip=0", "clip=0|> 0"),
    (0, "ema=1", "ema=1|< 1"),
    (0, "freeze=all", "freeze=all|backbone"),
    (0, "early_stopping.patience=0", "early_stopping.patience=0|>= 1"),
    (0, "dataset.num_workers=-1", "dataset.num_workers=-1|>= 0"),
    (0, "dataset.normalize=imagnet", "dataset.normalize=imagnet|imagenet"),
    (0, "schedule=step schedule.at=[1.5]", "schedule.at=[1.5]|< 1"),
    (0, "schedule=cosine schedule.gamma=0.1", "schedule.gamma=0.1|warmup"),
    (0, "optimizer=adamw optimizer.momentum=0.9", "optimizer.momentum=0.9|betas"),
    (0, "augmentation=mixup augmentation.mixup=-1", "augmentation.mixup=-1|>= 0"),
    (0, "augmentation.rotate=360", "augmentation.rotate=360|<= 180"),
    (0, "model.dropout=1", "model.dropout=1|< 1"),
    (0, "init.conv=kaiming", "init.conv=kaiming|he"),
    (0, "features=cached", "features=cached|freeze=backbone"),
    (0, "checkpoint_minutes=0", "checkpoint_minutes=0|> 0"),
    (0, "restart=yes", "restart=yes|true or false"),
    (0, "trust=1", "trust=1|true or false"),
    (0, "trainer.threads=0", "trainer.threads=0|>= 1"),
]

# words, the keys that have no effect, and a word of why
IDLE: list[tuple[str, list[str], str]] = [
    ("early_stopping.monitor=val/acc", ["early_stopping.monitor=val/acc"], "patience"),
    ("early_stopping.min_delta=0.1 early_stopping.patience=2", [], ""),
    ("select=best dataset.val_fraction=0", ["select=best"], "val_fraction"),
    ("select=last dataset.val_fraction=0", [], ""),
    ("fit=pad", ["fit=pad"], "task=predict"),
    ("trust=true", ["trust=true"], "finished run"),
    ("shard_mb=3", ["shard_mb=3"], "task=convert"),
    ("trainer.strategy=fsdp trainer.timeout=9", ["trainer.strategy=fsdp", "trainer.timeout=9"], "one device"),
    ("trainer.sync_batchnorm=false", [], ""),
    ("augmentation.crop_mode=zero", ["augmentation.crop_mode=zero"], "augmentation.crop"),
    ("augmentation.crop_mode=zero augmentation.crop=1", [], ""),
    ("scaling.interpolation=bicubic", ["scaling.interpolation=bicubic"], "scaling.factor"),
    ("scaling.interpolation=bicubic scaling.factor=2", [], ""),
    ("optimizer.decay_all=true optimizer.weight_decay=0", ["optimizer.decay_all=true"], "weight_decay"),
    ("dataset.num_workers=4 dataset.resident=true", ["dataset.num_workers=4"], "dataset.resident"),
    ("dataset.num_workers=4", [], ""),  # it is known later whether images stay in memory
    ("logger.every=5", ["logger.every=5"], "logger=tensorboard"),
    ("logger.every=5 logger=tensorboard", [], ""),
    ("logger.tags=[a,b] logger=tensorboard", ["logger.tags=[a,b]"], "logger=wandb"),
]


def answers(lines: list[list[str]], place: Path) -> list[Answer]:
    """What the program answers to each command, in a fresh process without torch."""
    environment = {**os.environ, "SOME_API_KEY": SECRET}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        cwd=place,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> list[Answer]:
    place = tmp_path_factory.mktemp("bad")
    found = answers([words.split(" ") for _, words, _ in BAD], place)
    assert list(place.iterdir()) == []
    return found


@pytest.mark.parametrize(
    "row",
    range(len(BAD)),
    ids=[f"fault-{fault}: {words!a}" if fault else f"{words!a}" for fault, words, _ in BAD],
)
def test_a_bad_override(row: int, refused: list[Answer]) -> None:
    """In 3 s of computing; composing takes 0.2 s."""
    (code, lines, seconds), named = refused[row], BAD[row][2].split("|")
    assert code == 2 and 1 <= len(lines) <= 2 and seconds < 3
    assert all(line.startswith("imgcls: error: ") and line.isprintable() for line in lines)
    said = " ".join(lines)
    assert [part for part in named if part not in said] == [], said
    assert SECRET not in said or SECRET in BAD[row][1]


def test_every_fault_of_a_configuration_is_tried() -> None:
    assert len(BAD) >= 60 and set(range(61, 80)) <= {fault for fault, *_ in BAD}


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> list[Answer]:
    return answers([words.split(" ") for words, *_ in IDLE], tmp_path_factory.mktemp("idle"))


@pytest.mark.parametrize("row", range(len(IDLE)), ids=[words for words, *_ in IDLE])
def test_what_has_no_effect_is_said(row: int, accepted: list[Answer]) -> None:
    (code, lines, _), (_, keys, why) = accepted[row], IDLE[row]
    begin = [f"imgcls: warning: {key} has no effect: " for key in keys]
    assert code == 0 and len(lines) == len(begin), lines
    assert all(line.startswith(first) and why in line for line, first in zip(lines, begin, strict=True)), (
        lines
    )


@pytest.mark.parametrize(
    "words", ["-m optimizer.decay_all=true optimizer.weight_decay=0,0.1", "epochs=3 epochs=4"]
)
def test_what_has_an_effect_in_some_job_is_not_said(words: str, tmp_path: Path) -> None:
    from imgcls.cli import command
    from imgcls.cli.idle import idle

    done = command.examine([word for word in words.split() if word != "-m"], sweeps=words.startswith("-m"))
    assert (done.problems, idle(done.jobs, done.keys)) == ([], [])
