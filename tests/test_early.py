"""Parts whose training ends early go through the whole schedule before, and do not move after."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from imgcls import build, runs
from imgcls.errors import ConfigError
from imgcls.optim import early

BASE = [
    *("model=resnet20", "model.width=4", "schedule.warmup=0.5", "batch_size=32", "epochs=4"),
    *("dataset.limit=160", "dataset.val_fraction=0.2"),
    *("progress=none", "trainer.threads=1", "augmentation=none"),
]


class Notes(Callback):
    """Rates of all groups, and what there is of a part, after each step."""

    def __init__(self) -> None:
        self.rates: list[dict[float, float]] = []
        self.weights: list[torch.Tensor] = []
        self.means: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.rates.append({g.get("span", 1.0): g["lr"] for g in trainer.optimizers[0].param_groups})
        part = pl_module.network.layer1
        self.weights.append(torch.cat([p.detach().flatten() for p in part.parameters()]))
        self.means.append(part[0].bn1.running_mean.clone())


def test_a_part_ends_early(compose: Any, tmp_path: Path) -> None:
    """Of 4 epochs of 4 steps it has one: up for two steps, down for two, and then it stands still."""
    config = compose(*BASE, "freeze_after=layer1=1", f"output={tmp_path}")
    run = runs.Run(tmp_path / "run")
    run.claim(config)
    images, trainer, notes = build.data(config), build.trainer(config, run), Notes()
    trainer.callbacks.insert(0, notes)
    trainer.fit(build.classifier(config, images), datamodule=images)
    run.release()
    lr = config["optimizer"]["lr"]
    assert [row[0.25] / lr for row in notes.rates[:4]] == pytest.approx([1 / 3, 2 / 3, 1.0, 0.5])
    assert [row[1.0] / lr for row in notes.rates[:9]] == pytest.approx([*(k / 9 for k in range(1, 9)), 1.0])
    for kept in (notes.weights, notes.means):
        assert not torch.equal(kept[2], kept[3])
        assert all(torch.equal(kept[3], later) for later in kept[4:])


def test_what_trains_is_in_one_group_each(compose: Any) -> None:
    config = compose(*BASE, "freeze_after='layer1=1,layer2.0=2'")
    made = build.classifier(config, build.data(config))
    split = made.configure_optimizers().param_groups
    spans = {g.get("span"): sum(p.numel() for p in g["params"]) for g in split}
    assert sorted(map(str, spans)) == ["0.25", "0.5", "None"]
    ids = [id(p) for g in split for p in g["params"]]
    assert len(ids) == len(set(ids)) == len(list(made.network.parameters()))
    inside = {id(p) for p in made.network.layer2[0].parameters()}
    assert {i for g in split if g.get("span") == 0.5 for i in map(id, g["params"])} == inside


def test_an_unknown_part_names_the_nearest(compose: Any) -> None:
    network = build.classifier(config := compose(*BASE), build.data(config)).network
    with pytest.raises(ConfigError, match=r"freeze_after: the network has no part layr1\. Nearest: layer1"):
        early.parts(network, "layr1=2")
