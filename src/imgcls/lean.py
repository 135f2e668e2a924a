"""Lightning's training step without what nothing here uses: 0.4 ms a step, a tenth of a small network's.

Lightning enters forty profiler contexts, asks every callback for hooks it does not have, and inspects the
signature of training_step at each step. One process in a precision without gradient scaling needs none of
that; everything else takes Lightning's own way. Both ways give the same bits (tests/test_lean.py).
"""

from contextlib import nullcontext
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.profilers import Profiler
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks


class NoProfiler(Profiler):
    """Measures nothing, in one shared context."""

    _nothing = nullcontext()

    def start(self, action_name: str) -> None:
        """Nothing."""

    def stop(self, action_name: str) -> None:
        """Nothing."""

    def profile(self, action_name: str) -> Any:
        """The same empty context every time."""
        return self._nothing


def _with(callbacks: list[Callback], hook: str) -> list[Any]:
    """The hooks of the callbacks that have this one, of their class or (LambdaCallback) their own."""
    hooks = [getattr(callback, hook) for callback in callbacks]
    return [h for h in hooks if getattr(h, "__func__", h) is not getattr(Callback, hook)]


class LeanEpochLoop(_TrainingEpochLoop):
    """Trains a batch with the hooks that are there; validation and progress are Lightning's."""

    def on_run_start(self, data_fetcher: Any) -> None:
        """Look once an epoch for who listens."""
        super().on_run_start(data_fetcher)
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        self._follows = False  # whether this epoch has another batch
        self._starts = _with(callbacks, "on_train_batch_start")
        self._ends = _with(callbacks, "on_train_batch_end")

    def advance(self, data_fetcher: Any) -> None:
        """Train one batch."""
        if self.restarting:
            return super().advance(data_fetcher)  # Lightning's rules for a restart after a last batch
        trainer, module, progress = self.trainer, self.trainer.lightning_module, self.batch_progress
        batch, _, _ = next(data_fetcher)
        index = self.batch_idx + 1
        progress.is_last_batch = data_fetcher.done
        if batch[0].device != module.device:
            batch = trainer.strategy.batch_to_device(batch)
        progress.increment_ready()
        for start in self._starts:
            start(trainer, module, batch, index)
        module.on_train_batch_start(batch, index)
        progress.increment_started()
        with trainer.precision_plugin.train_step_context():
            module.training_step(batch, index)
        progress.increment_processed()
        for end in self._ends:
            end(trainer, module, None, batch, index)
        progress.increment_completed()
        self._follows = not progress.is_last_batch
        return None

    # Between two batches Lightning asks in dozens of calls whether to validate, to step a scheduler and to
    # end, which here depends on two things.

    @property
    def _goes_on(self) -> bool:
        return self._follows and not self.trainer.should_stop

    @property
    def done(self) -> bool:
        """Whether the epoch is over."""
        return not self._goes_on and super().done

    def on_advance_end(self, data_fetcher: Any) -> None:
        """Validate after the last batch; after others, count the step for loggers."""
        if self._goes_on:
            self._batches_that_stepped += 1
        else:
            super().on_advance_end(data_fetcher)


def step(optimizer: Optimizer) -> None:
    """`optimizer.step()`, past torch's wrapper for its profiler and for hooks that there are none of."""
    wrapped = type(optimizer).step
    plain = getattr(wrapped, "__wrapped__", None) if getattr(wrapped, "hooked", False) else None
    hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    hooks = hooks or _global_optimizer_pre_hooks or _global_optimizer_post_hooks
    if plain is None or hooks or "step" in vars(optimizer):  # or it was put in place of its class's
        optimizer.step()
    else:
        plain(optimizer)


def zero_grad(optimizer: Optimizer) -> None:
    """`optimizer.zero_grad()`, past torch's wrappers for its compiler and its profiler."""
    if type(optimizer).zero_grad is not Optimizer.zero_grad:
        return optimizer.zero_grad()
    for group in optimizer.param_groups:
        for weights in group["params"]:
            weights.grad = None
    return None


def fits(trainer: Trainer) -> bool:
    """Whether the short way does all that this trainer needs."""
    plain = trainer.precision in ("32-true", "bf16-mixed") and isinstance(trainer.profiler, NoProfiler)  # type: ignore[attr-defined]
    return plain and trainer.world_size == 1


def slim(trainer: Trainer) -> Trainer:
    """The same trainer, taking the short way where it can."""
    if fits(trainer):
        trainer.fit_loop.epoch_loop = LeanEpochLoop(trainer)
    return trainer
