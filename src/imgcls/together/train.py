"""Train the runs of a team up to their last epoch; each is tested and reported by a job of its own."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import FrameType
from typing import Any

from imgcls import build, naming, stops
from imgcls.checkpoints import Keeper, newest
from imgcls.errors import ImgclsError
from imgcls.runs import Run
from imgcls.together import team

Config = Mapping[str, Any]


def main(configs: Sequence[Config]) -> None:
    """Train what is left of these runs; raises SystemExit once all are saved, if a signal came.

    What stops one member (its folder in use, a loss that diverges) is said in its own job, which goes on
    where this ends. What stops all (a network that cannot be stacked, memory) is raised.
    """
    # Of a view that adaptive pooling makes; the pooling itself is done in one
    warnings.filterwarnings("ignore", "There is a performance drop .* aten::as_strided_")
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    with ExitStack() as claimed:
        mine = [config for config in configs if _claim(config, claimed)]
        members, keepers = _members(mine)
        heard: list[int] = []

        def note(number: int, frame: FrameType | None) -> None:
            heard.append(number)
            for keeper in keepers:
                keeper.signal = number

        before = stops.listen(note)
        try:
            team.train(members)
        finally:
            stops.restore(before)
    if heard:
        raise SystemExit(128 + heard[0])
    errors = [member.error for member in members if member.error]
    for error in errors:
        print(f"{type(error).__name__}: {error}")
    if errors and len(errors) == len(members):  # nobody has come to its end
        raise errors[0]


def _claim(config: Config, claimed: ExitStack) -> bool:
    run = Run(naming.folder(config))
    try:
        run.claim(config)
    except ImgclsError as error:
        print(error)
        return False
    claimed.callback(run.release)
    return True


def _members(configs: Sequence[Config]) -> tuple[list[team.Member], list[Keeper]]:
    """A member for each run, all from one copy of the images."""
    members, keepers, source = [], [], None
    for config in configs:
        run = Run(naming.folder(config))
        images = build.data(config, source=source)
        source = images.source
        classifier = build.classifier(config, images)
        trainer = build.trainer({**config, "progress": "none"}, run)
        fit = partial(trainer.fit, classifier, datamodule=images, ckpt_path=newest(run), weights_only=True)
        member = team.Member(classifier.network, fit, trainer.precision_plugin.train_step_context)
        classifier._backward = member.backward  # type: ignore[method-assign]
        members.append(member)
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        keepers += [callback for callback in callbacks if isinstance(callback, Keeper)]
    return members, keepers
