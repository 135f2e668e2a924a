"""Publish a finished run: its weights as safetensors, a model card and, if asked, a program for torch."""

import io
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgcls import manifest
from imgcls.errors import CheckpointError, ConfigError
from imgcls.runs import RESULT, Run, writable, write_text
from imgcls.tasks.evaluate import settings_of, weights_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from imgcls.classifier import Classifier

ROOM = "export"
IMAGES = 7  # that the files are tried on
TRACED = 2  # images in the batch that a program is traced with: of one, torch.export would fix the number


def main(config: Mapping[str, Any], config_dir: str | None = None, typed: Sequence[str] = ()) -> None:
    """Write what is published of `run` into its folder export/, and say what was checked."""
    run = Run.existing(config["run"], config["output"])
    settings = settings_of(run, config, typed)
    files = export(run, settings, program=config["to"] == "pt2", trust=config["trust"])
    print(f"read back: the logits of {IMAGES} images are the run's, to the bit")
    print(f"in {run / ROOM}/:\n  {'  '.join(files)}")


def export(run: Run, config: Mapping[str, Any], program: bool = False, trust: bool = False) -> list[str]:
    """Write weights, card and perhaps program; returns the names of the files.

    Raises:
        CheckpointError: the run is not finished, its weights are damaged, or the files read back differ.
        ConfigError: torch.export cannot make a program of the network.
    """
    if run.result is None:
        raise CheckpointError(f"{run.path} is not finished. Train it to its end: the same command goes on.")
    from imgcls import card, published

    classifier, source = restored(run, config)
    said = published.describe(classifier, config["model"], config["scaling"]["interpolation"], **source)
    net = published.pixels_to_logits(classifier.network, classifier.prepare)
    images = noise(classifier.domain)
    data = {card.WEIGHTS: published.packed(classifier.network, said)}
    if program:
        data[card.PROGRAM] = traced(net, images[:TRACED])
    digests = {file: manifest.entry_of(content) for file, content in data.items()}
    try:
        page = card.page(config, run.result, said, digests)
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{run / RESULT} has not what the card says ({error}). {manifest.REMEDY}"
        ) from error
    _write(run, data)
    check(run, logits(classifier, images), images, program, trust)
    write_text(run / ROOM / card.CARD, page)
    return [*data, card.CARD]


def restored(run: Run, config: Mapping[str, Any]) -> "tuple[Classifier, dict[str, Any]]":
    """(the run's classifier, which of its weights it has and what was measured of them)."""
    from imgcls import build, checkpoints

    file, result = weights_of(run, config["select"]), run.result or {}
    checkpoint = checkpoints.load(file)
    plain = {**config["trainer"], "compile": False, "channels_last": True}  # as published.network makes it
    source = {
        "weights": file.stem,
        "scores": result.get("test") if file.stem == result.get("weights") else None,
        "checkpoint": {"epoch": checkpoint["epoch"] + 1, "sha256": manifest.entry(file)["sha256"]},
    }
    return build.restored({**config, "trainer": plain}, checkpoint).eval(), source


def noise(domain: Any) -> "torch.Tensor":
    """Images as the run's, uint8 (N, C, H, W), the same every time; the run's own data need not be here."""
    import torch

    shape = (IMAGES, domain.image_channels, domain.image_size, domain.image_size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def logits(network: "nn.Module", images: "torch.Tensor") -> "torch.Tensor":
    """What a network says of the images, in single precision on the CPU."""
    import torch

    with torch.no_grad():
        return network(images)


def traced(network: "nn.Module", images: "torch.Tensor") -> bytes:
    """The network as a program of any batch size."""
    import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own tensors
        try:
            shapes = ({0: torch.export.Dim("batch")},)
            torch.export.save(torch.export.export(network, (images,), dynamic_shapes=shapes), buffer)
        except Exception as error:  # it has dozens of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"to=pt2: torch.export refuses this network ({reason}). Leave to out."
            ) from error
    return buffer.getvalue()


def _write(run: Run, data: Mapping[str, bytes]) -> None:
    """Put the files in their places, each whole or not at all; what was published before is removed first."""
    from imgcls import card
    from imgcls.checkpoints import write_whole

    writable(run / ROOM)
    for file in (card.CARD, card.PROGRAM, card.WEIGHTS):
        (run / ROOM / file).unlink(missing_ok=True)
    for file, content in data.items():
        write_whole(run / ROOM / file, partial(Path.write_bytes, data=content))


def check(run: Run, expected: "torch.Tensor", images: "torch.Tensor", program: bool, trust: bool) -> None:
    """Make networks of the files alone; if they say otherwise, remove them and raise CheckpointError."""
    import torch

    from imgcls import card, published

    room = run / ROOM
    same = {
        card.WEIGHTS: torch.equal(logits(published.network(room / card.WEIGHTS, trust), images), expected)
    }
    if program:
        again = logits(torch.export.load(room / card.PROGRAM).module(), images)
        same[card.PROGRAM] = torch.allclose(again, expected, rtol=1e-5, atol=1e-5)
    if bad := [file for file, good in same.items() if not good]:
        for file in same:
            (room / file).unlink()
        raise CheckpointError(
            f"{room}: {', '.join(bad)} gave other logits than the run. Give the command again."
        )
