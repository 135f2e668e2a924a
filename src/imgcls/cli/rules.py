"""What each setting may be, by its key; checked before torch loads."""

from collections.abc import Mapping
from typing import Any

from imgcls.cli.kinds import Choice, Either, Kind, Number, Numbers, Text, Texts, Words, like, spelt
from imgcls.cli.names import missing_object
from imgcls.naming import flat

TASKS = (
    *("train", "evaluate", "predict", "explain", "compare", "find", "list", "doctor", "convert", "verify"),
    *("reproduce", "study", "export"),
)
MONITORS = ("train/loss", "train/acc", "val/loss", "val/acc")
SEVERAL = ("logger",)  # groups whose options add up: logger=[tensorboard,wandb]
COUNT, SHARE = Number(1, whole=True), Number(0, 1, below=True)
NAME = "a folder name (letters, digits, '.', '_', '-')", r"[A-Za-z0-9][A-Za-z0-9._-]*"

RULES: dict[str, Kind] = {
    "task": Choice(TASKS),
    "seed": Number(0, 2**32 - 1, whole=True),
    "epochs": COUNT,
    "batch_size": COUNT,
    "accumulate": COUNT,
    "clip": Number(0, above=True, null=True),
    "ema": Number(0, 1, above=True, below=True, null=True),
    "lookahead": Number(0, 1, above=True, below=True, null=True),
    "hardest": Number(0, 1, above=True, below=True, null=True),
    "select": Choice(("best", "last")),
    "freeze": Text("none, backbone, all_but=NAME,NAME or until=NAME", "none|backbone|(all_but|until)=.+"),
    "freeze_after": Text(
        "NAME=EPOCHS or NAME=EPOCHS,NAME=EPOCHS, such as layer1=3",
        r"[\w.]+=[1-9]\d*(,[\w.]+=[1-9]\d*)*",
        null=True,
    ),
    "features": Choice(("live", "cached")),
    "tta": Choice(("none", "mirror", "shift", "mirror_shift")),
    "early_stopping.patience": Number(1, whole=True, null=True),
    "early_stopping.monitor": Choice(MONITORS),
    "early_stopping.min_delta": Number(0),
    "checkpoint_minutes": Number(0, above=True),
    "on_divergence": Choice(("stop", "record")),
    "output": Text("a folder"),
    "name": Text(*NAME, null=True),
    "run": Text("the folder of a run", null=True),
    "score": Choice((True, False)),
    "source": Text("an image, a folder or a glob", null=True),
    "what": Text("text", null=True),  # which words depends on the task: imgcls.cli.conflicts
    "filter": Text("text", null=True),
    "layer": Text("the name of a part of the network", null=True),
    "runs": Texts("a folder, a glob or a list of them, as [a,b], or null"),
    "to": Choice((None, "csv", "parquet", "latex", "markdown", "safetensors", "pt2")),
    "shards": Text("a folder", null=True),
    "shard_mb": Number(0, above=True),
    "paper": Text("the name of a paper", null=True),
    "rows": Text("rows of a paper, as table2.* or table1.01,table2.05", null=True),
    "seeds": COUNT,
    "plan": Choice((True, False)),
    "budget": Text("a time, as 90s, 45m or 2h", r"\d+(\.\d+)?[smh]", null=True),
    "fraction": Number(0, 1, above=True, null=True),
    "axes": Choice(({},)),  # what is typed are keys in it
    "fit": Choice(("crop", "pad", "stretch")),
    "debug": Text("the name of a debug option", null=True),
    "progress": Choice(("auto", "bar", "lines", "none")),
    "dataset.root": Text("a folder"),
    "dataset.val_fraction": Number(0, 0.9),
    "dataset.normalize": Choice(("zero_one", "mean_std", "imagenet", "mean_pixel")),
    "dataset.channels": Choice((None, 1, 3)),
    "dataset.resident": Choice(("auto", True, False)),
    "dataset.num_workers": Number(0, 256, whole=True),
    "dataset.limit": Number(2, whole=True, null=True),
    "dataset.cache": Choice(("auto", True, False)),
    "dataset.fit": Choice(("crop", "pad", "stretch")),
    "dataset.on_bad_image": Choice(("stop", "skip")),
    "dataset.image_size": Number(1, 4096, whole=True),
    "dataset.window": COUNT,
    "dataset.depot": Text("a folder", null=True),
    "dataset.depot_gb": Number(0, above=True),
    "dataset.test_fraction": Number(0, 0.9),
    "dataset.test_seed": Number(0, 2**32 - 1, whole=True),
    "dataset.split": Choice(("balanced", "byclass", "bymerge", "letters", "digits", "mnist")),
    "scaling.factor": Number(1, 64, whole=True),
    "scaling.size": Number(1, 4096, whole=True, null=True),
    "scaling.interpolation": Choice(("nearest", "bilinear", "bicubic")),
    "optimizer.lr": Number(0, above=True),  # at 0 a whole run would learn nothing, without a word
    "optimizer.momentum": SHARE,
    "optimizer.betas": Numbers(SHARE, 2),
    "optimizer.weight_decay": Number(0),
    "optimizer.bias_lr": Number(0, above=True),
    "optimizer.head_lr": Number(0, above=True),
    "optimizer.sgd_momentum": Number(0, 1, above=True, below=True),  # Nesterov's needs some
    "optimizer.steps": Number(1, 99, whole=True),
    "schedule.name": Choice(("constant", "cosine", "onecycle", "plateau", "step")),
    "schedule.warmup": SHARE,
    "schedule.final": Number(0, 1),
    "schedule.at": Numbers(Number(0, 1, above=True, below=True)),
    "schedule.gamma": Number(0, 1, above=True),
    "schedule.factor": Number(0, 1, above=True, below=True),
    "schedule.patience": Number(0, whole=True),
    "schedule.min_delta": Number(0),
    "schedule.monitor": Choice(("train/loss", "val/loss")),
    "trainer.accelerator": Choice(("auto", "cpu", "gpu", "mps")),
    "trainer.devices": COUNT,
    "trainer.num_nodes": COUNT,
    "trainer.strategy": Choice(("ddp", "fsdp")),
    "trainer.timeout": Number(1, whole=True),
    "trainer.precision": Choice(("auto", "32-true", "bf16-mixed", "16-mixed")),
    "trainer.threads": Number(1, 1024, whole=True, null=True),
    "trainer.profiler": Choice((None, "simple", "advanced")),
    "augmentation.hflip": Either(Number(0, 1), Text("alternating", "alternating")),
    "augmentation.vflip": Number(0, 1),
    "augmentation.crop": Number(0, whole=True),
    "augmentation.crop_mode": Choice(("zero", "reflect")),
    "augmentation.rotate": Number(0, 180),
    # 1 would shift everything out of sight, and smooth away what there is to learn (label_smoothing)
    "augmentation.translate": SHARE,
    "augmentation.scale": Number(0, 0.9),
    "augmentation.brightness": Number(0, 1),
    "augmentation.contrast": Number(0, 1),
    "augmentation.cutout": Number(0, whole=True),
    "augmentation.mixup": Number(0),
    "augmentation.cutmix": Number(0),
    "augmentation.label_smoothing": SHARE,
    "logger.every": COUNT,
    "logger.project": Text("a project of W&B (no / \\ # ? % :)", r"[^/\\#?%:]{1,128}"),
    "logger.entity": Text("a user or team of W&B", null=True),
    "logger.group": Text("text of up to 128 characters", ".{1,128}", null=True),
    "logger.tags": Words(),
    "logger.notes": Text("text", null=True),
    "init.conv": Choice(("default", "xavier", "he")),
    "init.linear": Choice(("default", "xavier", "he")),
    "init.bias": Choice(("default", "zero")),
    "init.first": Choice(("default", "whitened")),
    "init.file": Text("a .safetensors file", r".+\.safetensors", null=True),
    "init.head": Choice(("file", "new")),
    "model.width": COUNT,
    "model.growth_rate": COUNT,
    "model.widths": Numbers(COUNT),
    "model.kernels": Numbers(COUNT),
    "model.kernel": Choice((3, 5)),
    "model.fc": Numbers(COUNT, null=True),
    "model.fc_l2": Number(0),
    "model.head": Choice((None, "flatten", "adaptive", "average")),
    "model.ceil_pools": Choice((None, True, False)),
    "model.batch_norm": Choice((None, True, False)),
    "model.pretrained": Text("true, false or the name of weights", flag=True),
    "model.dropout": SHARE,
    "model.padding": Choice(("valid", "same")),
    "model.shortcut": Choice(("identity", "projection", "bare_projection")),
    "model.stem": Choice(("auto", "imagenet", "cifar")),
    "model.stem_pool": Choice((None, True, False)),
    "model.se_reduction": COUNT,
}
# What the code itself reads of a group, whatever option is chosen; the rest belongs to the option.
NEEDED = {
    "model": "name _target_",
    "dataset": "name _target_ root download val_fraction normalize channels resident num_workers limit"
    " overfit",
    "augmentation": "name",
    "init": "name",
    "scaling": "name factor size interpolation",
    "optimizer": "name _target_ lr weight_decay decay_all",
    "schedule": "name",
    "logger": "tensorboard wandb every project entity group tags notes artifacts",
    "trainer": "name accelerator devices num_nodes strategy sync_batchnorm timeout precision channels_last"
    " compile deterministic threads profiler",
}


def kind_of(key: str, default: object) -> Kind | None:
    """The rule of a setting; one without a rule keeps the kind of value that stands in its file."""
    rule = RULES.get(key)
    # A network that somebody brings may mean something else by the same word.
    if rule and (rule.accepts(default) or not key.startswith("model.")):
        return rule
    return Text(*NAME) if key.endswith(".name") else like(default)


def problem(key: str, value: object, default: object = None) -> str | None:
    """One line on what is wrong with `key=value`, or None."""
    if key.endswith("._target_"):
        wrong = missing_object(str(value))
        return f"{key}={value}: {wrong}" if wrong else None
    kind = kind_of(key, default)
    if kind is None or kind.accepts(value):
        return None
    quoted = isinstance(value, str) and spelt(value) != value
    return f"{key}={spelt(value)} must be {kind}{', not text' if quoted else ''}."


def problems(config: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> list[str]:
    """One line for each setting that is missing or wrong; `defaults` are what stands in the files, by key."""
    values, defaults = flat(config), defaults or {}
    found = [problem(key, value, defaults.get(key)) for key, value in values.items()]
    for group, needed in NEEDED.items():
        lacks = ", ".join(name for name in needed.split() if name not in config[group])
        if lacks:
            option = config[group].get("name", "…")
            found.append(f"{group}={option} lacks {lacks}. Add to its file what those in conf/{group}/ have.")
    return [line for line in found if line]
