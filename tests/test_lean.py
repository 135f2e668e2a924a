"""The short training step and Lightning's own: the same bits, and the same hooks at the same batches."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, LambdaCallback
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from same import differences
from torch.optim.optimizer import register_optimizer_step_post_hook

from imgcls import build
from imgcls.__main__ import register_resolvers
from imgcls.classifier import Classifier
from imgcls.cli import command
from imgcls.lean import LeanEpochLoop, NoProfiler, fits, step, zero_grad
from imgcls.runs import Run

# Dropout, batch norm and augmentation; 168 images, in 6 steps an epoch of which the last is ragged.
BASE = [
    *(
        "model=resnet20",
        "model.width=4",
        "model.dropout=0.2",
        "augmentation=affine",
        "augmentation.mixup=0.2",
    ),
    *("epochs=2", "batch_size=32", "dataset.limit=186", "progress=none"),
    *("trainer=cpu", "trainer.threads=1", "trainer.precision=32-true"),
]
STEPS, EPOCHS = 6, 2
ENDS = "on_train_batch_end"


def config_of(*more: str) -> dict[str, Any]:
    register_resolvers()
    config, problems = command.check([*BASE, *more])
    assert not problems, problems
    return config


def fit(config: dict[str, Any], run: Run | None, *watch: Callback, lean: bool) -> tuple[Trainer, Classifier]:
    """Train the short way or Lightning's."""
    images = build.data(config)
    classifier, trainer = build.classifier(config, images), build.trainer(config, run)
    if not lean:
        trainer.fit_loop.epoch_loop = _TrainingEpochLoop(trainer)
    assert isinstance(trainer.fit_loop.epoch_loop, LeanEpochLoop) == lean
    trainer.callbacks += watch  # type: ignore[attr-defined]
    trainer.fit(classifier, datamodule=images)
    assert classifier.direct == lean
    return trainer, classifier


def state(trainer: Trainer, classifier: Classifier) -> dict[str, Any]:
    """All that training leaves behind."""
    return {
        "weights": classifier.state_dict(),
        "optimizer": trainer.optimizers[0].state_dict(),
        "parameters": sum(1 for _ in classifier.parameters()),
        "step": trainer.global_step,
        "epoch": trainer.current_epoch,
        "scores": classifier.epoch,
    }


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("trainer.precision=bf16-mixed",),
        ("accumulate=4", "clip=0.5"),
        ("optimizer=adamw", "schedule=cosine"),
        ("dataset.resident=false", "dataset.num_workers=0", "dataset.val_fraction=0"),
    ],
    ids=["32-true", "bf16-mixed", "accumulate and clip", "adamw", "no hold-out, not resident"],
)
def test_both_ways_give_the_same_bits(more: tuple[str, ...]) -> None:
    config = config_of(*more)
    short, long = (state(*fit(config, None, lean=lean)) for lean in (True, False))
    assert list(differences(short, long)) == []
    assert short["step"] == STEPS * EPOCHS and short["epoch"] == EPOCHS
    assert len(short["optimizer"]["state"]) == short["parameters"] > 50  # it has moved them all


class Log(Callback):
    """Notes every hook of training and validation, with what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.progress: list[dict[str, Any]] = []


def _note(name: str) -> Any:
    def hook(self: Log, trainer: Trainer, module: Any, *args: Any) -> None:
        sizes = [len(a[1]) for a in args if isinstance(a, list | tuple)]  # of the batch
        numbers = [a for a in args if isinstance(a, int)]  # its number
        self.calls.append((name, trainer.current_epoch, trainer.global_step, *sizes, *numbers))
        self.progress.append(trainer.fit_loop.epoch_loop.batch_progress.state_dict())

    return hook


HOOKS = [f"on_{what}{end}" for what in ("train", "train_epoch", "train_batch") for end in ("_start", "_end")]
HOOKS += [name.replace("train", "validation") for name in HOOKS]
for _name in HOOKS:
    setattr(Log, _name, _note(_name))


def test_callbacks_hear_the_same() -> None:
    config, logs = config_of(), (Log(), Log())
    for log, lean in zip(logs, (True, False), strict=True):
        fit(config, None, log, lean=lean)
    assert logs[0].calls == logs[1].calls
    assert logs[0].progress == logs[1].progress
    last = [p["is_last_batch"] for p, c in zip(logs[0].progress, logs[0].calls, strict=True) if c[0] == ENDS]
    assert last == [step == STEPS - 1 for _ in range(EPOCHS) for step in range(STEPS)]
    starts = [call[1:] for call in logs[0].calls if call[0] == "on_train_batch_start"]
    expected = [
        (epoch, STEPS * epoch + step, 32 if step < STEPS - 1 else 168 - 5 * 32, step)
        for epoch in range(EPOCHS)
        for step in range(STEPS)
    ]
    assert starts == expected
    assert {call[0] for call in logs[0].calls} == set(HOOKS)


def test_hooks_that_an_object_was_given_are_heard() -> None:
    """LambdaCallback has its hooks on itself, not on its class."""
    found: list[int] = []
    fit(config_of(), None, LambdaCallback(on_train_batch_end=lambda *args: found.append(args[-1])), lean=True)
    assert found == list(range(STEPS)) * EPOCHS


class Average(Callback):
    """The moving average of the weights, taken by hand after each step."""

    def on_train_batch_end(self, trainer: Trainer, module: Any, *args: Any) -> None:
        now = {name: p.detach().double() for name, p in module.network.named_parameters()}
        first = trainer.global_step == 1
        self.now = now
        self.mean = now if first else {k: 0.9 * self.mean[k] + 0.1 * now[k] for k in now}


def test_averaged_weights_are_the_same_and_right(tmp_path: Path) -> None:
    config, states, watch = config_of("ema=0.9", "select=last"), [], Average()
    for lean in (True, False):
        folder = tmp_path / str(lean)
        folder.mkdir()
        trainer, classifier = fit(config, Run(folder), watch, lean=lean)
        saved = torch.load(folder / "last.ckpt", weights_only=True)
        raw = saved["current_model_state"]
        states.append({**state(trainer, classifier), "saved": saved["state_dict"], "raw": raw})
    assert list(differences(*states)) == []
    for name, mean in watch.mean.items():
        averaged = states[0]["weights"][f"network.{name}"]
        assert torch.allclose(averaged.double(), mean, rtol=0, atol=1e-6)
        assert torch.equal(averaged, states[0]["saved"][f"network.{name}"])
        assert torch.equal(watch.now[name].float(), raw[f"network.{name}"])
    assert not torch.equal(raw["network.fc.weight"], states[0]["weights"]["network.fc.weight"])


def test_the_short_way_is_the_default() -> None:
    for precision in ("32-true", "bf16-mixed"):
        trainer = build.trainer(config_of(f"trainer.precision={precision}"))
        assert fits(trainer) and type(trainer.fit_loop.epoch_loop) is LeanEpochLoop


def test_a_profiler_takes_lightnings_way(tmp_path: Path) -> None:
    trainer = build.trainer(config_of("trainer.profiler=simple"), Run(tmp_path))
    assert not fits(trainer) and type(trainer.fit_loop.epoch_loop) is _TrainingEpochLoop


@pytest.mark.parametrize("precision", ["16-mixed", "64-true", "bf16-true"])
def test_scaled_gradients_and_other_precisions_take_lightnings_way(precision: str) -> None:
    trainer = build.trainer(config_of())
    trainer.strategy.precision_plugin.precision = precision  # type: ignore[assignment]
    assert not fits(trainer)


def test_several_processes_take_lightnings_way() -> None:
    def trainer(ranks: int) -> Any:
        return SimpleNamespace(precision="32-true", profiler=NoProfiler(), world_size=ranks)

    assert fits(trainer(1)) and not fits(trainer(2))


def test_an_optimizers_hooks_and_methods_of_its_own_are_called() -> None:
    called: list[str] = []
    weights = torch.nn.Parameter(torch.ones(3))
    weights.grad = torch.ones(3)
    optimizer = torch.optim.SGD([weights], lr=0.25)
    step(optimizer)
    handles = [
        optimizer.register_step_pre_hook(lambda *_: called.append("before")),
        optimizer.register_step_post_hook(lambda *_: called.append("after")),
        register_optimizer_step_post_hook(lambda *_: called.append("all")),
    ]
    step(optimizer)
    for handle in handles:
        handle.remove()
    assert called == ["before", "after", "all"]
    step(optimizer)
    assert weights.tolist() == [0.25] * 3
    assert len(called) == 3
    optimizer.step = lambda: called.append("own")  # type: ignore[method-assign, assignment]
    step(optimizer)
    assert called[3:] == ["own"]


def test_gradients_go_the_optimizers_own_way_if_it_has_one() -> None:
    class Own(torch.optim.SGD):
        def zero_grad(self, set_to_none: bool = True) -> None:
            super().zero_grad(set_to_none=False)

    for kind, left in ((torch.optim.SGD, None), (Own, [0.0, 0.0])):
        weights = torch.nn.Parameter(torch.ones(2))
        weights.grad = torch.ones(2)
        zero_grad(kind([weights], lr=1.0))
        assert (weights.grad if weights.grad is None else weights.grad.tolist()) == left
