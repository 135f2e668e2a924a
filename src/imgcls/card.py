"""The model card of a published network: Markdown, from its run's scores and settings."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgcls import naming, summary
from imgcls.cli.kinds import spelt
from imgcls.errors import printable

WEIGHTS, PROGRAM, CARD = "model.safetensors", "model.pt2", "README.md"
DATA = ("val_fraction", "normalize", "limit")  # what matters of a dataset; where it lies does not
GROUPS = ("model", "optimizer", "schedule", "augmentation", "scaling", "init")
SINGLE = (
    *("epochs", "batch_size", "clip", "ema", "lookahead", "hardest", "freeze", "freeze_after"),
    *("seed", "tta"),
)
MANY = 20  # classes on the card; the file has all

PAGE = """\
# {title}

An image classifier of {count:,} classes: {parameters:,} parameters, {multiply_adds:,} multiply-adds an image.
Trained by imgcls {imgcls} with torch {torch} on {train:,} images; {val:,} more were held out to choose by.

## Scores

{scores}

## Trained with

| setting | value |
|---|---|
{settings}

Data: digest `{digest}`. {device_name}, {precision}, {seconds:,.0f} s.

## Images and classes

It takes uint8 images of {image_channels} x {image_size} x {image_size} (channels x height x width).
Classes, in the order of the logits:

```
{classes}
```

## Use

With imgcls, in Python:

```python
import torch
from imgcls.published import network

images = torch.zeros(2, {image_channels}, {image_size}, {image_size}, dtype=torch.uint8)
logits = network("model.safetensors")(images)  # 2 x {count}
```

or to train on from these weights, with `init.head=new` for other classes:

```bash
python -m imgcls init.file=model.safetensors {words}
```

With torch and safetensors, in any network whose tensors have these names; the import gives the one that was
trained:

```python
import json

import torch
from safetensors import safe_open
from {module} import {function}

with safe_open("model.safetensors", "pt") as file:
    facts = file.metadata()
    weights = {{name: file.get_tensor(name) for name in file.keys()}}

net = {function}({arguments})
net.load_state_dict(weights)
net.eval()
mean, std = (torch.tensor(json.loads(facts[key])) for key in ("mean", "std"))

images = torch.zeros(2, {image_channels}, {image_size}, {image_size}, dtype=torch.uint8)
x = (images.float() - mean) / std
{steps}logits = net(x)
```
{program}
## Files

{files}
"""
RUN_PROGRAM = """
With torch alone. This file is a program: load it only if you trust who made it.

```python
import torch

images = torch.zeros(2, {image_channels}, {image_size}, {image_size}, dtype=torch.uint8)
logits = torch.export.load("model.pt2").module()(images)
```
"""


def page(
    config: Mapping[str, Any],
    result: Mapping[str, Any],
    said: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Any]],
) -> str:
    """The card.

    Args:
        config: the run's.
        result: what its result.json has.
        said: what the published file says of itself.
        files: bytes and SHA-256 of what is published, by name.
    """
    module, _, function = str(config["model"]["_target_"]).rpartition(".")
    listed = (f"- `{name}`: {f['bytes']:,} bytes, SHA-256 `{f['sha256']}`" for name, f in files.items())
    own = {
        "title": _text(result["title"]),
        "words": _words(config["model"]),
        "count": len(said["classes"]),
        "scores": scores(result, said["weights"]),
        "settings": "\n".join(f"| {key} | {_text(value)} |" for key, value in settings(config)),
        "classes": _listed(said["classes"]),
        "module": module,
        "function": function,
        "arguments": _arguments(config["model"], said),
        "steps": "".join(f"{step}\n" for step in _steps(said)),
        "program": RUN_PROGRAM.format(**said) if PROGRAM in files else "",
        "files": "\n".join(listed),
    }
    return PAGE.format(**{**result, **result["data"], **said, **own})


def scores(result: Mapping[str, Any], weights: str) -> str:
    """What the run measured of these weights; nothing if it has tested others."""
    notes = [f"\nNote: {_text(note)}" for note in result["warnings"]]
    if weights != result["weights"]:
        tested = f"The run tested its {result['weights']} weights"
        return "\n".join([f"None: these are its {weights} weights. {tested}.", *notes])
    measured = {"test": result["test"], "best": result["best"]}
    rows = [f"| {name} | {value} |" for name, value in summary.rows(measured)]
    return "\n".join(["| score | value |", "|---|---|", *rows, *notes])


def settings(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, value) of the settings that were on and can change the scores; without paths."""
    data = {key: value for key, value in config["dataset"].items() if key in ("name", *DATA)}
    for group, options in {"dataset": data, **{group: config[group] for group in GROUPS}}.items():
        shown = {
            key: value for key, value in _own(options).items() if value and not _off(f"{group}.{key}", value)
        }
        more = [f"{key} {_spelt(value)}" for key, value in shown.items()]
        yield group, options["name"] + (f" ({', '.join(more)})" if more else "")
    for key in SINGLE:
        if not _off(key, config[key]):
            yield key, _spelt(config[key])


def _own(options: Mapping[str, Any]) -> dict[str, Any]:
    """A group's settings without what it is called and made of."""
    return {key: value for key, value in options.items() if key not in ("name", "_target_")}


def _off(key: str, value: object) -> bool:
    return value in (None, "none", "default") or (key in naming.OFF and naming.OFF[key] == value)


def _words(model: Mapping[str, Any]) -> str:
    """The network as it is typed."""
    words = [f"model.{key}={spelt(value)}" for key, value in _own(model).items() if value not in (None, {})]
    return shlex.join([f"model={model['name']}", *words])


def _spelt(value: object) -> str:
    """A value; of a file of weights its name."""
    text = str(value)
    return Path(text).name if text.endswith(".safetensors") else spelt(value)


def _listed(classes: Sequence[str]) -> str:
    more = [f"… and {len(classes) - MANY:,} more"] if len(classes) > MANY else []
    return ", ".join([*map(json.dumps, classes[:MANY]), *more])


def _arguments(model: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    """What the network was made with, as Python."""
    given = {"num_classes": len(said["classes"]), "in_channels": said["channels"], "image_size": said["size"]}
    given |= _own(model)
    return ", ".join(f"{key}={value!r}" for key, value in given.items())


def _steps(said: Mapping[str, Any]) -> Iterator[str]:
    """What imgcls.data.prepare does after normalising, as Python."""
    if said["size"] != said["image_size"]:
        kind = said["interpolation"]
        how = '"nearest-exact"' if kind == "nearest" else f'"{kind}", align_corners=False, antialias=True'
        yield f"x = torch.nn.functional.interpolate(x, ({said['size']}, {said['size']}), mode={how})"
    if said["channels"] != said["image_channels"]:
        grey = said["image_channels"] == 1
        yield f"x = x.expand(-1, {said['channels']}, -1, -1)" if grey else "x = x.mean(1, keepdim=True)"


def _text(value: object) -> str:
    """Text that means nothing to Markdown."""
    return printable(str(value)).replace("|", "\\|").replace("<", "&lt;")
