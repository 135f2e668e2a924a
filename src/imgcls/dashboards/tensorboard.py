"""TensorBoard: `tensorboard --logdir outputs` shows all runs together.

All points stand at the optimizer step, as in Lightning's own logger; `epoch` is a curve of its own.
"""

import copy
import io
import logging
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch
from torch import nn

from imgcls.dashboards import TENSORBOARD
from imgcls.dashboards.board import Row
from imgcls.dashboards.facts import public
from imgcls.data.sources import Images
from imgcls.naming import numbers
from imgcls.report import PICTURES
from imgcls.runs import Run

log = logging.getLogger(__name__)
SAMPLES = 64  # training images to look at
MOST = 65_536  # values of a tensor that its histogram is taken from, evenly spaced
BINS = 64
SCORES = ("acc", "top5", "loss", "precision", "recall", "f1")


class TensorBoard:
    """Writes event files into the run folder; a run that goes on takes back what will come again."""

    def __init__(self, run: Run, config: Mapping[str, Any]) -> None:
        self.run, self.config = run, config
        self.last = 0
        self.writer: Any = None

    def start(self, step: int, module: Any, images: Any) -> None:
        """Open; first of all show the training images and the network's graph."""
        from torch.utils.tensorboard import SummaryWriter

        self.network, self.last = module.network, step
        # Readers drop what earlier files say of this step and later ones
        self.writer = SummaryWriter(str(self.run / TENSORBOARD), purge_step=step + 1 if step else 0)
        if not step:
            self._show_samples(images)
            self._show_graph(module.domain)

    def _show_samples(self, images: Any) -> None:
        """Training images as they are stored, before augmentation."""
        from torchvision.utils import make_grid

        pixels = images.source.train.pixels[images.train_rows[:SAMPLES]]
        self.writer.add_image("samples", make_grid(pixels.permute(0, 3, 1, 2), nrow=8), 0)

    def _show_graph(self, domain: Any) -> None:
        """What a copy of the network does with an empty image."""
        network = copy.deepcopy(self.network).cpu().eval()
        image = torch.zeros(1, domain.channels, domain.size, domain.size)
        try:
            with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # it prints its errors, too
                warnings.simplefilter("ignore")
                self.writer.add_graph(network, image)
        except Exception as error:  # not every network can be traced, and all else can still be shown
            log.info("tensorboard shows no graph: %s cannot be traced.", type(error).__name__)

    def step(self, values: Row, step: int) -> None:
        """One point of each curve."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def epoch(self, row: Row) -> None:
        """The scores, and how the weights are spread."""
        self.last = int(row["step"])
        self.step({name: value for name, value in row.items() if name != "step"}, self.last)
        for name, weights in _trained(self.network):
            self.writer.add_histogram(name, weights, self.last, bins=BINS)
        self.writer.flush()

    def saved(self) -> None:
        """Put everything on the disk."""
        self.writer.flush()

    def finish(self, result: Mapping[str, Any], kept: Mapping[str, np.ndarray], images: Images) -> None:
        """The test's scores, the pictures of the run folder, and a line in the table of runs."""
        from PIL import Image

        scores = {f"test/{name}": float(result["test"][name]) for name in SCORES}
        self.step(scores, self.last)
        for picture in PICTURES:
            if (self.run / picture).exists():
                pixels = np.asarray(Image.open(self.run / picture).convert("RGB"))
                name = picture.removesuffix(".png")
                self.writer.add_image(name, pixels, self.last, dataformats="HWC")
        self._add_settings(scores)

    def _add_settings(self, scores: dict[str, float]) -> None:
        """What `add_hparams` writes, but into this run's own file instead of a folder of its own."""
        from torch.utils.tensorboard.summary import hparams

        plain = (bool, int, float, str)
        settings = numbers(public(self.config))
        shown = {key: value if isinstance(value, plain) else str(value) for key, value in settings.items()}
        for summary in hparams(shown, scores):
            self.writer.file_writer.add_summary(summary)

    def close(self) -> None:
        """Write what is left."""
        if self.writer:
            self.writer.close()


def _trained(network: nn.Module) -> list[tuple[str, np.ndarray]]:
    """The trained weights by name, of large tensors a part."""
    flat = {name: p.detach().reshape(-1) for name, p in network.named_parameters() if p.requires_grad}
    return [(name, p[:: -(-p.numel() // MOST)].float().cpu().numpy()) for name, p in flat.items()]
