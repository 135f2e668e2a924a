"""What stock Lightning does when an interrupted training goes on: no two of these end as one that never was.

As in test_controls.py, what fails here has been mended there, and our way round it can go.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from stock import BATCH, ROWS, Numbers, Plain, loader, trainer, weights
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

pytestmark = pytest.mark.filterwarnings("ignore")  # the plain libraries say much

STEPS = ROWS // BATCH


def cut_and_gone_on(
    folder: Path,
    step: int,
    make: Callable[[], Plain] = Plain,
    data: Callable[[], Any] = loader,
    more: Callable[[], Plain] | None = None,
    **options: Any,
) -> tuple[Plain, Plain]:
    """(trained in one go, trained from the checkpoint of that step on), two epochs."""
    validation = options.pop("validation", None)
    options = {"max_epochs": 2, **options}
    keeper = ModelCheckpoint(
        folder, "{step}", every_n_train_steps=step, save_top_k=-1, save_on_train_epoch_end=False
    )
    whole, rest = make(), (more or make)()
    torch.manual_seed(1)
    trainer(folder, keeper, **options).fit(whole, data(), validation)
    torch.manual_seed(2)  # of another process
    trainer(folder, **options).fit(rest, data(), validation, ckpt_path=folder / f"step={step}.ckpt")
    return whole, rest


@pytest.mark.parametrize("data", [{"shuffle": True}, {"noise": 0.1}], ids=["order", "augmentation"])
def test_fault_18_an_epochs_end(data: dict[str, Any], tmp_path: Path) -> None:
    """No random state is kept."""
    whole, rest = cut_and_gone_on(tmp_path, STEPS, data=lambda: loader(**data))
    assert len(rest.rows) == STEPS
    assert not torch.equal(weights(rest), weights(whole))


def test_fault_19_inside_an_epoch(tmp_path: Path) -> None:
    """The epoch is read from its beginning again, and its tail never (Lightning 18780, 19815)."""
    whole, rest = cut_and_gone_on(tmp_path, 2, max_epochs=1)
    assert rest.rows == whole.rows[:2]
    assert rest.rows != whole.rows[2:]


class Ordered(RandomSampler):
    """An order that follows from the epoch."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return ROWS

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(ROWS, generator=torch.Generator().manual_seed(self.epoch)).tolist()


def test_fault_20_the_first_epoch_with_workers(tmp_path: Path) -> None:
    """It has the order of epoch 0: the loader begins before it is told the epoch (Lightning 21938)."""
    data = partial(loader, num_workers=1)
    whole, rest = cut_and_gone_on(tmp_path, STEPS, data=lambda: data(sampler=Ordered()))
    assert rest.rows == whole.rows[:STEPS]
    assert rest.rows != whole.rows[STEPS:]


class Batches(BatchSampler):
    """An order of batches that follows from the epoch, if it is ever told."""

    def __init__(self) -> None:
        self.inner = Ordered()

    def set_epoch(self, epoch: int) -> None:
        self.inner.set_epoch(epoch)

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[list[int]]:
        rows = list(self.inner)
        yield from (rows[k : k + BATCH] for k in range(0, ROWS, BATCH))


def test_fault_21_an_order_that_never_changes(tmp_path: Path) -> None:
    """A batch sampler's own set_epoch is never called."""
    module = Plain()
    trainer(tmp_path).fit(module, DataLoader(Numbers(), batch_sampler=Batches()))
    assert module.rows[:STEPS] == module.rows[STEPS:]


class Stateful(DataLoader):  # type: ignore[type-arg]
    """A loader that would go on where it was."""

    loaded = 0

    def state_dict(self) -> dict[str, int]:
        return {"at": 1}

    def load_state_dict(self, state: dict[str, int]) -> None:
        type(self).loaded += 1


class Counts(Plain):
    """Asks how long the training is, as schedules of one cycle do."""

    def configure_optimizers(self) -> Any:
        assert self.trainer.estimated_stepping_batches == 2 * STEPS
        return super().configure_optimizers()


def test_fault_22_the_number_of_steps_costs_the_loaders_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for it loses the place in the epoch (Lightning 20550)."""
    found = []
    for make in (Plain, Counts):
        monkeypatch.setattr(Stateful, "loaded", 0)
        cut_and_gone_on(tmp_path / make.__name__, 2, make, lambda: Stateful(Numbers(), BATCH))
        found.append(Stateful.loaded)
    assert found == [1, 0]


class Plateau(Plain):
    """A rate that is halved after each epoch without improvement."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=0.5, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/acc"}}


def test_fault_23_a_plateau(tmp_path: Path) -> None:
    """One of its steps is lost."""
    keeper = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    whole, rest = Plateau(), Plateau()
    trainer(tmp_path, keeper, max_epochs=4).fit(whole, loader(), loader())
    trainer(tmp_path, max_epochs=4).fit(rest, loader(), loader(), ckpt_path=tmp_path / "epoch=1.ckpt")
    rates = [module.optimizers().param_groups[0]["lr"] for module in (whole, rest)]  # type: ignore[union-attr]
    assert rates == [0.1 / 8, 0.1 / 4]


def test_fault_24_a_step_that_ends_an_epoch(tmp_path: Path) -> None:
    """That epoch's validation is left out."""
    whole, rest = cut_and_gone_on(tmp_path, STEPS, validation=loader())
    assert (whole.validated, rest.validated) == (2, 1)


class Fails(Callback):
    """An accident after a step, before Lightning has counted it."""

    def on_train_batch_end(self, made: Any, *args: Any) -> None:
        if made.global_step == 2:
            raise MemoryError


def test_fault_25_saved_in_an_accident(tmp_path: Path) -> None:
    """The checkpoint is of a step that is half counted."""
    keeper = ModelCheckpoint(tmp_path, save_on_exception=True)
    with pytest.raises(MemoryError):
        trainer(tmp_path, Fails(), keeper).fit(Plain(), loader())
    (path,) = tmp_path.glob("*.ckpt")
    counted = torch.load(path)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    assert (counted["ready"], counted["completed"]) == (2, 1)


def test_fault_26_the_mean_of_an_epoch(tmp_path: Path) -> None:
    """It is that of its tail."""
    whole, rest = cut_and_gone_on(tmp_path, 3, max_epochs=1)
    means = [float(module.trainer.callback_metrics["train/row"]) for module in (whole, rest)]
    assert means[0] == (ROWS - 1) / 2
    assert means[1] == (BATCH - 1) / 2  # of one batch, and the wrong one


def with_(optimizer: Any, **settings: Any) -> Callable[[], Plain]:
    return lambda: Plain(optimizer=lambda weights: optimizer(weights, **settings))


def test_fault_27_another_rate(tmp_path: Path) -> None:
    """The checkpoint's wins, without a word."""
    _, rest = cut_and_gone_on(tmp_path, STEPS, more=with_(torch.optim.SGD, lr=0.7, momentum=0.9))
    assert rest.optimizers().param_groups[0]["lr"] == 0.1  # type: ignore[union-attr]


def test_fault_28_another_optimizer(tmp_path: Path) -> None:
    with pytest.raises(KeyError) as caught:
        cut_and_gone_on(tmp_path, STEPS, more=with_(torch.optim.Adam, lr=0.1))
    assert "Adam" not in str(caught.value)


def test_fault_29_another_width(tmp_path: Path) -> None:
    """Lines on every tensor, none on the setting."""
    with pytest.raises(RuntimeError, match="size mismatch") as caught:
        cut_and_gone_on(tmp_path, STEPS, more=lambda: Plain(width=4))
    assert len(str(caught.value).splitlines()) > 2


def test_fault_30_other_data_and_batches(tmp_path: Path) -> None:
    """Nobody notices."""

    class Fewer(Numbers):
        def __len__(self) -> int:
            return ROWS // 2

    cut_and_gone_on(tmp_path, STEPS)
    module = Plain()
    trainer(tmp_path).fit(module, DataLoader(Fewer(), 4), ckpt_path=tmp_path / f"step={STEPS}.ckpt")
    assert len(module.rows) == STEPS


def test_fault_120_a_network_that_was_left_out(tmp_path: Path) -> None:
    """A checkpoint without it cannot be loaded by itself."""

    class Holds(Plain):
        def __init__(self, network: Any) -> None:
            super().__init__()
            self.save_hyperparameters(ignore=["network"])

    keeper = ModelCheckpoint(tmp_path, save_last=True)
    trainer(tmp_path, keeper, max_epochs=1).fit(Holds(torch.nn.Identity()), loader())
    with pytest.raises(TypeError, match="network"):
        Holds.load_from_checkpoint(tmp_path / "last.ckpt")


def test_fault_119_a_configuration_among_the_hyperparameters(tmp_path: Path) -> None:
    """The run's own checkpoint cannot be read (pytorch/torchtune 1142)."""
    from omegaconf import OmegaConf

    class Configured(Plain):
        def __init__(self, config: Any) -> None:
            super().__init__()
            self.save_hyperparameters()

    made: LightningModule = Configured(OmegaConf.create({"a": [1]}))
    trainer(tmp_path, ModelCheckpoint(tmp_path, save_last=True), max_epochs=1).fit(made, loader())
    with pytest.raises(Exception, match="Weights only load failed"):
        trainer(tmp_path).fit(made, loader(), ckpt_path=tmp_path / "last.ckpt")
