"""What was typed: the task's own settings, changes of its runs, and what the outputs say of them."""

import pytest

from imgcls.reproduce import words

TYPED = [
    *("task=reproduce", "paper=ma", "seeds=3", "hydra/launcher=pool", "output='there'", "axes.epochs=1,2"),
    *("epochs=2", "dataset.root='data'", "logger=csv", "model=resnet20"),
]


def test_settings_of_the_task_and_changes_are_told_apart() -> None:
    assert words.own(TYPED) == TYPED[:5]
    assert words.changes(TYPED) == [TYPED[4], *TYPED[6:]]  # runs lie in output, too
    assert words.axes(TYPED) == ["epochs=1,2"]


@pytest.mark.parametrize(("typed", "asked"), [(TYPED, True), (["task=study"], True), (["task=train"], False)])
def test_the_tasks_are_known(typed: list[str], asked: bool) -> None:
    assert words.asked(typed) is asked


def test_only_what_can_change_a_number_is_told() -> None:
    rows = [["model=resnet20", "epochs=20"], ["model=resnet20", "epochs=2"]]
    assert words.telling(words.changes(TYPED), rows) == ["epochs=2"]


def test_stamps() -> None:
    assert words.stamps(None, []) == []
    assert words.stamps(1, []) == []
    assert words.stamps(0.1, ["epochs=2", "clip=1"]) == [
        "fraction 0.1: not a reproduction",
        "changed: epochs=2 clip=1",
    ]


def test_what_is_stamped_lies_beside_the_reproduction() -> None:
    assert words.folder("ma", []) == "ma"
    folders = {words.folder("ma", words.stamps(share, [])) for share in (0.1, 0.2)}
    assert len(folders) == 2
    assert all(name.startswith("ma-fraction-0.") and len(name) < 60 for name in folders)


@pytest.mark.parametrize(("typed", "seconds"), [("90s", 90), ("45m", 2700), ("1.5h", 5400)])
def test_budgets(typed: str, seconds: float) -> None:
    assert words.seconds(typed) == seconds
