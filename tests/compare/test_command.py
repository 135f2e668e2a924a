"""What the command line says of `task=compare`, before anything is written."""

from pathlib import Path

import pytest

from imgcls import __main__ as entry
from imgcls import naming
from imgcls.cli.kinds import Texts


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("task=compare runs=outputs/cifar10-*", 6, "runs=outputs/cifar10-* is not there. Name run folders"),
        ("task=compare runs=[a,b]", 6, "runs=a is not there."),
        ("task=compare runs=a,b", 2, "runs=a,b is several values. Write [a,b], or add -m for a sweep."),
        ("task=compare runs=[]", 2, "runs=[] must be a folder, a glob or a list of them"),
        ("task=compare to=excel", 2, "to=excel must be one of null, csv, parquet, latex, markdown, "),
        ("runs=outputs", 2, "runs=outputs is for task=compare. Add that, or leave it out."),
        ("to=csv", 2, "to=csv is for task=compare. Add that, or leave it out."),
    ],
)
def test_mistakes_are_answered_in_one_line(
    words: str,
    code: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        entry.main(words.split())
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == code
    assert says in line
    assert list(tmp_path.iterdir()) == []


def test_the_same_runs_have_the_same_folder() -> None:
    asked = {"task": "compare", "output": "out", "name": None, "runs": None}
    assert naming.folder(asked) == Path("out/compare/all")
    first, other = (naming.folder(asked | {"runs": runs}) for runs in (["a", "b"], "a*"))
    assert first.parent == Path("out/compare") and first != other
    assert naming.folder(asked | {"runs": ["a", "b"]}) == first
    assert naming.folder(asked | {"runs": "a*", "name": "mine"}) == Path("out/compare/mine")


@pytest.mark.parametrize(
    ("value", "good"),
    [(None, True), ("a", True), (["a"], True), ("", False), ([], False), ([1], False), (3, False)],
)
def test_one_text_or_several(value: object, good: bool) -> None:
    assert Texts("text").accepts(value) == good
