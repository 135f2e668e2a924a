"""Tables and pictures of what has been run, from run folders alone."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgcls import figures, papers
from imgcls.reproduce import page, pictures, texts
from imgcls.reproduce.outcome import BEST, Outcome, summary, titled
from imgcls.reproduce.rows import Entry
from imgcls.reproduce.table import line_of

Entries = Callable[..., list[Entry]]
STAMP = "fraction 0.1: not a reproduction"


@pytest.fixture
def outcome(entries: Entries, finish: Any) -> Outcome:
    """Of five rows one is better, one worse, one diverged, and two wait."""
    found = entries("hisariya.table1.*")
    finish(found[0].jobs[0], acc=0.2)
    finish(found[1].jobs[0], acc=0.9)
    finish(found[2].jobs[0], diverged={"why": "the loss is not finite in epoch 2, at <step> 9."})
    return Outcome(papers.paper("hisariya"), found, left_out=["hisariya.table1.05"])


def test_a_row_in_one_line(outcome: Outcome) -> None:
    first, second, third, *_ = outcome.entries
    assert line_of(first) == (
        "hisariya.table1.01: test acc 11.35 → 20.00 ± 0.40 (+8.65) better; 90 s  [Original VGG-19]"
    )
    assert "time 14 min → 90 s; 90 s" in line_of(second)
    assert line_of(third) == (
        "hisariya.table1.03: diverged (the loss is not finite in epoch 2, at <step> 9.)"
    )


def test_a_grid_leaves_out_what_is_empty(outcome: Outcome) -> None:
    columns, rows = texts.grid(outcome, outcome.entries)
    shares = ["test acc, %: paper", "ours", "difference", "verdict"]
    assert columns == ["row", "what", *shares, "time: paper", "ours", "training, s", "state", "run"]
    assert rows[0][2:6] == ["11.35", "20.00 ± 0.40", "+8.65", "better"]
    assert rows[2][9] == "diverged: the loss is not finite in epoch 2, at <step> 9."
    assert rows[4][9] == "not run"
    assert texts.grid(outcome, outcome.entries[3:])[0] == [
        *("row", "what", "test acc, %: paper", "time: paper", "state", "run")
    ]


def test_the_summary_counts_rows_and_verdicts(outcome: Outcome) -> None:
    assert summary(outcome) == (
        "hisariya: rows 2 finished, 1 diverged, 2 not run; test accuracy 1 better, 1 worse"
    )


def test_facts_are_those_of_the_runs(outcome: Outcome) -> None:
    assert outcome.facts == {
        "machine": "a machine",
        "precision": "32-true",
        "versions": "torch 2 lightning 2",
        "commit": "abc",
        "seeds": "0",
        "dates": "2030-01-02",
    }


def test_notes_say_what_must_be_known(outcome: Outcome, entries: Entries) -> None:
    assert outcome.notes[0].startswith("± and within: one standard error of the test set (binomial)")
    assert outcome.notes[-1] == "Not run, for the budget: hisariya.table1.05."
    best = Outcome(papers.paper("ma"), entries("ma.table1.01"), seeds=3)
    assert best.notes[0] == "± and within: one standard deviation of 3 seeds."
    assert best.notes[-1] == BEST


def test_every_file_is_stamped_and_the_page_stands_alone(outcome: Outcome, tmp_path: Path) -> None:
    outcome.stamps = [STAMP]
    written = page.write(outcome, tmp_path / "page")
    assert [path.name for path in written] == [
        *("table.md", "table.csv", "table.html", "table1-test.png", "table1-curves.png")
    ]
    made = (tmp_path / "page" / "table.html").read_text()
    assert f"<p class=stamp>{STAMP}</p>" in made
    assert "at &lt;step&gt; 9." in made
    assert made.count("data:image/png;base64,") == 2
    assert "better" not in made.split("</style>")[1]  # no verdicts
    assert f"**{STAMP}**" in (tmp_path / "page" / "table.md").read_text()
    lines = list(csv.DictReader(io.StringIO((tmp_path / "page" / "table.csv").read_text())))
    assert {line["stamps"] for line in lines} == {STAMP}
    assert len(lines) == sum(len(entry.row.reported) for entry in outcome.entries)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("gilbert.table2.*", "epochs"),
        ("gilbert.table3.*", "optimizer.lr"),
        ("gilbert.figure6.*", "batch_size"),
        ("gilbert.table1.*", None),
        ("ma.table2.*", None),
    ],
)
def test_what_a_table_varies(table: str, key: str | None) -> None:
    paper = papers.paper(table.split(".")[0])
    assert pictures.swept([Entry(paper, row, True, []) for row in papers.rows(table)]) == key


def test_scores_over_a_setting_are_beside_the_papers(entries: Entries, finish: Any, tmp_path: Path) -> None:
    found = entries("gilbert.table2.0[1-3]", "model.pretrained=false", "freeze=none")
    for entry, acc in zip(found, (0.6, 0.7, 0.8), strict=True):
        finish(entry.jobs[0], acc=acc)
    outcome = Outcome(papers.paper("gilbert"), found)
    drawn = [path.name for path in pictures.draw(outcome, "table2", tmp_path)]
    assert drawn == ["table2-epochs.png", "table2-curves.png"]
    figure = figures.against(
        [(1, {"acc": 0.5}, {"acc": 0.6}), (3, {"acc": None}, {"acc": 0.7})], "epochs", "t"
    )
    ours, paper, *_ = figure.axes[0].lines
    assert (list(ours.get_xdata()), list(ours.get_ydata())) == ([1, 3], [0.6, 0.7])
    assert (list(paper.get_xdata()), list(paper.get_ydata())) == ([1], [0.5])


@pytest.mark.parametrize(
    ("name", "title"), [("table2", "Table 2"), ("vgg_mnist", "Vgg mnist"), ("text", "Text")]
)
def test_titles(name: str, title: str) -> None:
    assert titled(name) == title


def test_what_the_paper_does_not_report_keeps_its_title(outcome: Outcome) -> None:
    silent = [
        replace(entry, row=replace(entry.row, reported=dict.fromkeys(entry.row.reported)))
        for entry in outcome.entries[:2]
    ]
    columns, rows = texts.grid(outcome, silent)
    assert [name for name in columns if "ours" in name] == [name for name in columns if ": ours" in name]
    assert "test acc, %: ours" in columns
    assert rows[0][columns.index("test acc, %: ours")] == "20.00 ± 0.40"
