"""Every mistake is answered in one line that names the remedy, with exit code 2, and nothing is written."""

from pathlib import Path
from typing import Any

import pytest

LR = "must be a number > 0."
COUNT = "must be a whole number >= 1."
SEED = "must be a whole number >= 0 and <= 4294967295."
SYNTAX = "Write KEY=VALUE, without spaces around the '='."
NAME = "must be a folder name (letters, digits, '.', '_', '-') or null."
ALL = "--cfg job shows all keys, --help all groups."

# A line that ends in … is the beginning of the answer; lists of options grow.
MISTAKES: list[tuple[str, list[str]]] = [
    # names
    ("model=nosuch", ["model=nosuch is not known. Choose from: …"]),
    ("model=ResNet18", ["model=ResNet18 is not known. Choose from: resnet18."]),
    ("model=resnet19", ["model=resnet19 is not known. Choose from: resnet1…"]),
    ("dataset=cifar", ["dataset=cifar is not known. Choose from: cifar10, cifar100."]),
    ("dataset=CIFAR-10", ["dataset=CIFAR-10 is not known. Choose from: cifar10, cifar100."]),
    ("dataset=_base", ["dataset=_base is not known. Choose from: cifar10, …"]),
    ("dataset=", ["dataset= is not known. Choose from: cifar10, …"]),
    ("scaling=0", ["scaling=0 is not known. Choose from: native, to224, to32, x2, x3, x4, x5."]),
    ("scaling=2", ["scaling=2 is not known. Choose from: x2."]),
    ("trainer=ddp_sim", ["trainer=ddp_sim is not known. Choose from: ddp."]),
    ("experiment=nosuch", ["experiment=nosuch is not known. …"]),
    ("debug=true", ["debug=true is not known. Choose from: fdr, limit, overfit, profiler."]),
    ("optimizer=SGD", ["optimizer=SGD is not known. Choose from: sgd."]),
    ("model=null", ["model=null is not known. Choose from: …"]),
    ("model=[resnet18,resnet20]", ["model=[resnet18,resnet20] is not known. Choose from: …"]),
    ("model={name:x}", ["model={name:x} is not known. Choose from: …"]),
    ("model@net=resnet18", ["model@net=resnet18 puts a group elsewhere. Write model=resnet18."]),
    ("~model", ["~model cannot be left out. Give it another value: model=…"]),
    ("~optimizer.lr", ["~optimizer.lr cannot be left out. Give it another value: optimizer.lr=…"]),
    ("model.name=foo", ["model.name=foo names no option. Write model=OPTION."]),
    ("datset=cifar10", ["unknown key datset=cifar10. Did you mean dataset=cifar10?"]),
    ("optimizer.lrr=1", ["unknown key optimizer.lrr=1. Did you mean optimizer.lr=1?"]),
    ("+optimizer.lrr=1", ["unknown key optimizer.lrr=1. Did you mean optimizer.lr=1?"]),
    ("++optimizer.lrr=1", ["unknown key optimizer.lrr=1. Did you mean optimizer.lr=1?"]),
    ("+foo=1", [f"unknown key foo=1. {ALL}"]),
    ("--nosuch=3", [f"unknown key nosuch=3. {ALL}"]),
    ("optimzer.lr=1", ["unknown key optimzer.lr=1. Did you mean optimizer.lr=1?"]),
    ("Epochs=5", ["unknown key Epochs=5. Did you mean epochs=5?"]),
    ("batch-size=5", ["unknown key batch-size=5. Did you mean batch_size=5?"]),
    ("momentum=0.8", ["unknown key momentum=0.8. Did you mean optimizer.momentum=0.8?"]),
    ("lr={a:1}", ["unknown key optimizer.lr.a=1. Did you mean optimizer.lr=1?"]),
    ("lr={}", [f"optimizer.lr={{}} {LR}"]),
    ("early_stopping=3", ["unknown key early_stopping=3. Did you mean early_stopping.patience=3 or …"]),
    (
        "optimizer=adam optimizer.momentum=0.9",
        ["unknown key optimizer.momentum=0.9. optimizer has lr, betas, weight_decay, decay_all, fused."],
    ),
    ("hydra.ouput_subdir=x", ["unknown key hydra.ouput_subdir=x. Did you mean hydra.output_subdir=x?"]),
    ("+hydra.ouput_subdir=x", ["unknown key hydra.ouput_subdir=x. Did you mean hydra.output_subdir=x?"]),
    ("hydra/luncher=x", ["unknown key hydra/luncher=x. Did you mean hydra/launcher=x?"]),
    ("hydra/launcher=joblib", ["hydra/launcher=joblib is not known. Choose from: basic, pool, serial, …"]),
    ("hydra.mode=foo", ["hydra.mode=foo: Invalid value 'foo', expected one of [RUN, MULTIRUN]."]),
    # names of other programs
    ("data=mnist", ["unknown key data=mnist. Did you mean dataset=mnist?"]),
    ("data.batch_size=8", ["unknown key data.batch_size=8. Did you mean batch_size=8?"]),
    ("data.num_workers=8", ["unknown key data.num_workers=8. Did you mean dataset.num_workers=8?"]),
    ("model.optimizer.lr=1", ["unknown key model.optimizer.lr=1. Did you mean optimizer.lr=1?"]),
    ("optimizer.learning_rate=1", ["unknown key optimizer.learning_rate=1. Did you mean optimizer.lr=1?"]),
    ("trainer.max_epochs=5", ["unknown key trainer.max_epochs=5. Did you mean epochs=5?"]),
    ("+trainer.fast_dev_run=true", ["unknown key trainer.fast_dev_run=true. Did you mean debug=fdr?"]),
    ("scheduler=cosine", ["unknown key scheduler=cosine. Did you mean schedule=cosine?"]),
    ("hparams_search=x", ["unknown key hparams_search=x. Did you mean sweep=search?"]),
    (
        "ckpt_path=a=b.ckpt",
        [
            "unknown key ckpt_path=a=b.ckpt. The same command continues a run by itself; "
            "task=evaluate run=FOLDER tests one."
        ],
    ),
    ("train=false", ["unknown key train=false. Did you mean task=train?"]),
    ("arch=resnet18", ["unknown key arch=resnet18. Did you mean model=resnet18?"]),
    # flags and grammar
    ("train", ["cannot read 'train'. Write task=train."]),
    ("resnet18", ["cannot read 'resnet18'. Write model=resnet18."]),
    ("lr", [f"cannot read 'lr'. {SYNTAX}"]),
    ("=3", [f"cannot read '=3'. {SYNTAX}"]),
    ("--nosuchflag", ["--nosuchflag is not known. Write settings as nosuchflag=VALUE, without dashes."]),
    ("--multi", ["--multi is not known. Did you mean --multirun?"]),
    (
        "--epochs 5",
        [
            "--epochs is not known. Write settings as epochs=VALUE, without dashes.",
            f"cannot read '5'. {SYNTAX}",
        ],
    ),
    ("--config-name", ["--config-name is not known. Did you mean --config-dir?"]),
    ("--config-dir", ["argument --config-dir/-cd: expected one argument. See --help."]),
    ("--config-dir nosuch", ["--config-dir nosuch is not a folder. Check its spelling."]),
    (
        "--cfg jobs",
        ["argument --cfg/-c: invalid choice: 'jobs' (choose from 'job', 'hydra', 'all'). See --help."],
    ),
    ("--cfg job -m", ["argument --multirun/-m: not allowed with argument --cfg/-c. See --help."]),
    ("--cfg job optimizer.lrr=1", ["unknown key optimizer.lrr=1. Did you mean optimizer.lr=1?"]),
    ("--resolve", ["--resolve shows a configuration. Write --cfg job --resolve."]),
    # values
    ("lr=0", [f"optimizer.lr=0 {LR}"]),
    ("lr=-1", [f"optimizer.lr=-1 {LR}"]),
    ("lr=abc", [f"optimizer.lr=abc {LR}"]),
    ("lr='0.1'", ["optimizer.lr='0.1' must be a number > 0, not text."]),
    ("lr=null", [f"optimizer.lr=null {LR}"]),
    ("lr=nan", [f"optimizer.lr=nan {LR}"]),
    ("lr=inf", [f"optimizer.lr=inf {LR}"]),
    ("lr=true", [f"optimizer.lr=true {LR}"]),
    ("lr=[0.1]", [f"optimizer.lr=[0.1] {LR}"]),
    ("lr=0,1", ["optimizer.lr=0,1 is several values. Write 0.1, or add -m for a sweep."]),
    ("lr=0.1,0.2", ["optimizer.lr=0.1,0.2 is several values. Add -m for a sweep."]),
    ("lr=${nosuch}", ["optimizer.lr: Interpolation key 'nosuch' not found."]),
    ("model=resnet18,resnet20", ["model=resnet18,resnet20 is several values. Add -m for a sweep."]),
    ("seed=range(3)", ["seed=range(3) is several values. Add -m for a sweep."]),
    ("batch_size=0", [f"batch_size=0 {COUNT}"]),
    ("batch_size=-4", [f"batch_size=-4 {COUNT}"]),
    ("batch_size=8.5", [f"batch_size=8.5 {COUNT}"]),
    ("batch_size=64.0", [f"batch_size=64.0 {COUNT}"]),
    ("batch_size=abc", [f"batch_size=abc {COUNT}"]),
    (
        "batch_size=5000",
        ["batch_size=5000 is larger than the training set (1294 images). Use at most 1294."],
    ),
    (
        "batch_size=431",
        [
            "batch_size=431 leaves a last batch of one image (1294 images), which batch norm cannot use. "
            "Use batch_size=432 or 430."
        ],
    ),
    ("epochs=0", [f"epochs=0 {COUNT}"]),
    ("epochs=-5", [f"epochs=-5 {COUNT}"]),
    ("epochs=1.5", [f"epochs=1.5 {COUNT}"]),
    ("epochs=abc", [f"epochs=abc {COUNT}"]),
    ("epochs=", [f"epochs= {COUNT}"]),
    ("epochs=5,", [f"epochs=5, {COUNT}"]),
    ("scaling.factor=0", ["scaling.factor=0 must be a whole number >= 1 and <= 64."]),
    ("seed=-1", [f"seed=-1 {SEED}"]),
    ("seed=99999999999", [f"seed=99999999999 {SEED}"]),
    ("seed=abc", [f"seed=abc {SEED}"]),
    ("seed=null", [f"seed=null {SEED}"]),
    ("dataset.val_fraction=1.5", ["dataset.val_fraction=1.5 must be a number >= 0 and <= 0.9."]),
    ("accumulate=3", ["accumulate=3 does not divide batch_size=64. Use accumulate=2."]),
    ("select=foo", ["select=foo must be best or last."]),
    ("task=foo", ["task=foo must be one of train, evaluate, predict…"]),
    ("name=../../x", [f"name=../../x {NAME}"]),
    ("name=ü", [f"name=ü {NAME}"]),
    ("output=", ["output= must be a folder."]),
    ("restart=1", ["restart=1 must be true or false."]),
    ("model.width=0", [f"model.width=0 {COUNT}"]),
    ("model.width=0.5", [f"model.width=0.5 {COUNT}"]),
    ("model.dropout=1.5", ["model.dropout=1.5 must be a number >= 0 and < 1."]),
    ("model.shortcut=foo", ["model.shortcut=foo must be one of identity, projection, bare_projection."]),
    ("augmentation.hflip=2", ["augmentation.hflip=2 must be a number >= 0 and <= 1 or alternating."]),
    ("trainer.devices=0", [f"trainer.devices=0 {COUNT}"]),
    ("trainer.precision=16", ["trainer.precision=16 must be one of auto, 32-true, bf16-mixed, 16-mixed."]),
    ("dataset.channels=true", ["dataset.channels=true must be one of null, 1, 3."]),
    (
        "optimizer=adam optimizer.betas=[0.9,1.5]",
        ["optimizer.betas=[0.9,1.5] must be a list of 2, as [2,3], of numbers >= 0 and < 1."],
    ),
    (
        "early_stopping.monitor=val/loss early_stopping.patience=3 dataset.val_fraction=0",
        [
            "early_stopping.monitor=val/loss needs a hold-out. Use early_stopping.monitor=train/loss, "
            "or dataset.val_fraction=0.1."
        ],
    ),
    ("task=evaluate", ["task=evaluate needs the folder of a run. Add run=outputs/NAME."]),
    (
        "task=predict",
        [
            "task=predict needs the folder of a run. Add run=outputs/NAME.",
            "task=predict needs images. Add source=PATH (an image, a folder or a glob).",
        ],
    ),
    ("run=x", ["run=x is for other tasks. Add task=evaluate or task=predict, or leave it out."]),
    ("epochs=05", ["epochs='05' must be a whole number >= 1, not text."]),
    (
        "schedule=step schedule.at=0.5,0.8",
        ["schedule.at=0.5,0.8 is several values. Write [0.5,0.8], or add …"],
    ),
    ("hydra.run.dir=", ["hydra.run.dir= has no value. Give it one, or leave it out."]),
    # sweeps: every value of every key, before the first job
    ("-m lr=0.1,abc", [f"optimizer.lr=abc {LR}"]),
    ("-m lr=0.1,0.2 batch_size=8,0", [f"batch_size=0 {COUNT}"]),
    ("-m seed=range(-1,3)", [f"seed=-1 {SEED}"]),
    ("-m lr=choice(0.1,0)", [f"optimizer.lr=0 {LR}"]),
    ("-m model=resnet18,resnet19", ["model=resnet19 is not known. Choose from: resnet1…"]),
    (
        "experiment=mnist_997 model=resnet18",
        [
            "experiment=mnist_997: not written for model=resnet18, which has no model.widths. "
            "Change a copy of its file; --config-dir DIR finds DIR/experiment/NAME.yaml."
        ],
    ),
    ("-m model=resnet20,convnet model.width=8", ["unknown key model.width=8. model has dropout, padding."]),
    (
        "-m lr=0.1,0.2 name=x,y",
        [
            "name=x is the folder of 2 different runs of this sweep. Leave name out.",
            "name=y is the folder of 2 different runs of this sweep. Leave name out.",
        ],
    ),
    ("-m batch_size=64,5000", ["batch_size=5000 is larger than the training set (1294 images). …"]),
    ("-m seed=range(3,3)", ["seed=range(3,3) stands for no value. Name some."]),
    ("-m seed=range(0,3,0)", ["seed=range(0,3,0) stands for no value. Name some."]),
    (
        "-m lr=interval(0.1,1)",
        [
            "optimizer.lr=interval(0.1,1) is for a search. "
            "Add hydra/sweeper=optuna, or name the values: optimizer.lr=0.1,1.0."
        ],
    ),
    ("-m hydra.job.chdir=true,false", ["hydra.job.chdir=true,false cannot be swept. Give it one value."]),
    # all at once, in the order in which they stand
    (
        "--foo trainer.max_epochs=5 dataset=cifar lr=abc seed=-1",
        [
            "--foo is not known. …",
            "dataset=cifar is not known. Choose from: cifar10, cifar100.",
            "unknown key trainer.max_epochs=5. Did you mean epochs=5?",
            f"seed=-1 {SEED}",
            f"optimizer.lr=abc {LR}",
        ],
    ),
]


@pytest.mark.parametrize(("words", "expected"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_mistakes(words: str, expected: list[str], answer: Any, here: Path) -> None:
    """One line each, exit code 2, nothing on stdout, nothing written."""
    code, lines, out = answer(*words.split())
    assert (code, out, list(here.iterdir())) == (2, "", [])
    for line, wanted in zip(lines, expected, strict=True):
        wanted = f"imgcls: error: {wanted}"
        assert line == wanted or (wanted.endswith("…") and line.startswith(wanted[:-1]))
