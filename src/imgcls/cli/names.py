"""Did you mean …? Nearest names: of settings, of options, and of Python objects without importing them."""

import difflib
import re
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

# What users of lightning-hydra-template, timm, torchvision and Keras type, and what it is called here: a key,
# the whole of what to write, or a sentence.
ELSEWHERE = {
    "arch": "model",
    "bs": "batch_size",
    "callbacks": "early_stopping.patience=3",
    "ckpt_path": "The same command continues a run by itself; task=evaluate run=FOLDER tests one.",
    "data": "dataset",
    "data.batch_size": "batch_size",
    "data.data_dir": "dataset.root",
    "datamodule": "dataset",
    "device": "trainer",
    "devices": "trainer.devices",
    "gpus": "trainer=gpu",
    "hydra/sweeper/sampler": "hydra.sweeper.sampler",
    "hydra.sweeper.sampler.seed": "hydra.sweeper.seed",
    "hparams_search": "sweep=search",
    "learning_rate": "optimizer.lr",
    "model.compile": "trainer.compile",
    "net": "model",
    "num_epochs": "epochs",
    "optim": "optimizer",
    "paths.data_dir": "dataset.root",
    "paths.output_dir": "output",
    "resume": "The same command continues a run by itself; restart=true trains anew.",
    "scheduler": "schedule",
    "tags": "logger.tags",
    "task_name": "name",
    "test": "task=evaluate",
    "train": "task=train",
    "trainer.accumulate_grad_batches": "accumulate",
    "trainer.fast_dev_run": "debug=fdr",
    "trainer.gradient_clip_val": "clip",
    "trainer.limit_train_batches": "dataset.limit",
    "trainer.max_epochs": "epochs",
    "transforms": "augmentation",
    "wd": "optimizer.weight_decay",
    "workers": "dataset.num_workers",
}
PREFIXES = {
    "callbacks.": "",
    "data.": "dataset.",
    "datamodule.": "dataset.",
    "model.net.": "model.",
    "model.optimizer.": "optimizer.",
    "model.scheduler.": "schedule.",
}


def near(word: str, known: Iterable[str], alike: float = 0.7) -> list[str]:
    """Those of the known words that begin with this one, or else the most similar, if any is similar."""
    known, word = list(known), word.lower()
    begin = [k for k in known if word and k.lower().startswith(word)]
    return begin or difflib.get_close_matches(word, known, 3, alike)


def matches(name: str, pattern: str | None) -> bool:
    """Whether a name contains the pattern or matches it (*); no pattern matches all."""
    return not pattern or pattern in name or fnmatch(name, pattern)


def advice(key: str, value: str, known: Iterable[str]) -> str:
    """A sentence on what to write instead of a wrong key."""
    known = list(known)
    if " " in ELSEWHERE.get(key, ""):
        return ELSEWHERE[key]
    group, beside = _family(key, known)
    if meant := _elsewhere(key, known) or _settings(key, known):
        written = [m if "=" in m else f"{m}={value}" for m in meant[:3]]
        return f"Did you mean {' or '.join(written)}?"
    settings = ", ".join(name for name in beside if name not in ("name", "_target_"))
    if group and settings:
        return f"{group[:-1]} has {settings}."
    return "--cfg job shows all keys, --help all groups."


def _family(key: str, known: list[str]) -> tuple[str, list[str]]:
    """("optimizer.", [lr, momentum, …]) of optimizer.lrr: the group of a key, and what it has."""
    group = re.sub(r"[^./]*$", "", key)
    return group, [k[len(group) :] for k in known if re.fullmatch(re.escape(group) + r"[^./]+", k)]


def _elsewhere(key: str, known: list[str]) -> list[str]:
    """The setting that a key of another program stands for."""
    if key in ELSEWHERE:
        return [ELSEWHERE[key]]
    group, last = key[: key.rfind(".") + 1], key[key.rfind(".") + 1 :]
    moved = [new + key.removeprefix(old) for old, new in PREFIXES.items() if key.startswith(old)]
    within = [ELSEWHERE[last]] if group and ELSEWHERE.get(last, "").startswith(group) else []
    return [k for k in (*moved, *within) if k in known]


def _settings(key: str, known: list[str]) -> list[str]:
    """Settings below the key, or similar ones beside it, of the same last name, or similar anywhere."""
    group, beside = _family(key, known)
    last = key.removeprefix(group)
    if below := [k for k in known if k.startswith(f"{key}.")]:
        return below
    if group[:-1] in known and not beside:
        return [group[:-1]]
    similar = [group + word for word in near(last, beside)]
    namesakes = [k for k in known if k.endswith(f".{last}")]
    return similar or near(key, namesakes) or namesakes or ([] if beside else near(key, known))


def missing_object(path: str) -> str | None:
    """What is wrong with the dotted name of a Python object, as far as files tell without running them."""
    package, *parts = path.split(".")
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None:
        return f"there is no package {package or path!r}. Install it, or run with PYTHONPATH=FOLDER."
    file = Path(spec.origin or "")  # a folder without __init__.py has none, and may have anything
    while parts and file.name == "__init__.py":
        below = (file.parent / parts[0] / "__init__.py", file.parent / f"{parts[0]}.py")
        found = next((b for b in below if b.is_file()), None)
        if found is None:
            break
        file = found
        parts.pop(0)
    return _missing_name(file, parts[0]) if parts and file.suffix == ".py" else None


def _missing_name(file: Path, name: str) -> str | None:
    """The complaint if a file never mentions a name."""
    text = file.read_text(encoding="utf-8", errors="replace")
    words = set(re.findall(r"\w+", text))
    if name in words or "import *" in text or "__getattr__" in words:  # either may bring any name
        return None
    words |= {path.stem for path in file.parent.iterdir()} if file.name == "__init__.py" else set()
    found = difflib.get_close_matches(name, sorted(words), 3, 0.75)
    hint = f"Did you mean {' or '.join(found)}?" if found else "Check its spelling."
    return f"{name} is not in {file}. {hint}"
