"""The page in a browser, and the whole task."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fabricate
import pytest
from fabricate import composed

from imgcls import __main__ as entry
from imgcls.compare import collect, page, paper, prepare
from imgcls.tasks import compare, train

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def built(compared: prepare.Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the page about the twelve runs."""
    folder = tmp_path_factory.mktemp("page")
    page.write(folder, compared, ["how it was made"], None)
    return folder


def data_of(folder: Path) -> dict[str, Any]:
    text = (folder / page.INDEX).read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_holds_all_it_needs(built: Path) -> None:
    text = (built / page.INDEX).read_text(encoding="utf-8")
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="http', text)
    data = data_of(built)
    assert len(data["rows"]) == len(data["curves"]) == 12
    (tests,) = data["sets"]
    assert len(tests["top"]) == 8 and len(tests["pairs"]) == 28
    assert tests["about"].startswith(
        "The 8 best by validation accuracy of 12 runs on Digits (360 test images)"
    )
    assert tests["sheet"].startswith("data:image/webp;base64,")
    shots = tests["shots"]["0/7"]
    assert len(shots) == min(12, next(p for p in tests["pairs"] if (p["a"], p["b"]) == (0, 7))["only_a"])


def test_a_page_holds_what_json_and_html_cannot(tmp_path: Path, compose: Any) -> None:
    """A loss that is not finite, and a name that would end the script."""
    run = fabricate.write(tmp_path / "out" / "a", compose(), 0.8)
    result = run.result
    assert result
    result["test"]["loss"] = float("nan")
    result["classes"][0] = "</script><b>"
    (run / "result.json").write_text(json.dumps(result))
    found = prepare.compare(collect.load([run.path]).entries)
    page.write(tmp_path, found, [], None)
    data = data_of(tmp_path)
    assert data["rows"][0]["cells"]["test_loss"] is None
    assert data["sets"][0]["classes"][0] == "</script><b>"
    assert data["rows"][0]["link"] == "out/a/"


def test_missing_images_are_said(compared: prepare.Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the data is not there, or another."""
    (tests,) = compared.sets
    config = compared.entries[tests.top[0]].config
    monkeypatch.setitem(config, "dataset", composed("dataset=mnist")["dataset"])
    found = page._shots(tests, compared.entries, "/nowhere")
    assert found["sheet"] is None and "The test images cannot be shown: " in found["note"]
    monkeypatch.undo()
    monkeypatch.setitem(compared.entries[tests.top[0]].result["data"], "digest", "0" * 64)
    assert "holds other images" in page._shots(tests, compared.entries, None)["note"]


def test_figures_for_a_paper(compared: prepare.Comparison, tmp_path: Path) -> None:
    names = paper.write(tmp_path, compared)
    assert {"curves", "accuracy_parameters", "accuracy_train_acc", "over_lr", "over_lr_model"} <= set(names)
    assert {"per_class", "confusions", "difference", "paired", "overlap", "reliability"} <= set(names)
    for name in names:
        assert (tmp_path / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / "figures" / f"{name}.svg").read_text()[:500]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("no chromium")
    with sync.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def opened(browser: Any, built: Path) -> Iterator[Any]:
    """The page, opened without a network; whatever the console says is an error."""
    context = browser.new_context(offline=True)
    tab, said = context.new_page(), []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto((built / page.INDEX).as_uri())
    yield tab
    context.close()
    assert said == []


def column(tab: Any, key: str) -> list[str]:
    """The shown cells of a column."""
    keys = tab.eval_on_selector_all("#table th", "cells => cells.map(c => c.dataset.key)")
    lines = tab.locator("#table tbody tr:visible")
    return [line.locator("td").nth(keys.index(key)).inner_text().strip() for line in lines.all()]


def test_sorting(opened: Any) -> None:
    assert len(column(opened, "run")) == 12
    opened.click("#table th[data-key='optimizer.lr'] button")
    assert column(opened, "optimizer.lr") == ["0.1"] * 4 + ["0.01"] * 4 + ["0.001"] * 4
    assert opened.get_attribute("#table th[data-key='optimizer.lr']", "aria-sort") == "descending"
    opened.click("#table th[data-key='optimizer.lr'] button")
    assert column(opened, "optimizer.lr")[0] == "0.001"
    opened.click("#table th[data-key='run'] button")
    assert [name.split("-")[0] for name in column(opened, "run")] == ["convnet"] * 6 + ["resnet20"] * 6


@pytest.mark.parametrize(
    ("typed", "count"),
    [("convnet", 6), ("lr<0.05 resnet", 4), ("test_acc>0", 12), ("batch_size=64", 6), ("nothing", 0)],
)
def test_filtering(typed: str, count: int, opened: Any) -> None:
    opened.fill("#filter", typed)
    opened.wait_for_function(f"document.querySelector('#count').textContent === '{count} of 12 runs'")
    assert len(column(opened, "run")) == count


def test_every_plot_is_drawn_and_runs_are_toggled(opened: Any) -> None:
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    plots = opened.locator(".plot").count()
    assert opened.locator(".plot .main-svg").first.is_visible()
    assert opened.locator(".plot.js-plotly-plot").count() == plots == 8 + 2 + 4 + 8 + 1 - 2
    traces = "document.getElementById('plot-loss').data.length"
    assert opened.evaluate(traces) == 16
    opened.locator("#table tbody input").first.uncheck()
    assert opened.evaluate(traces) == 14
    opened.fill("#filter", "convnet")
    opened.wait_for_function("document.querySelector('#count').textContent === '6 of 12 runs'")
    opened.click("#draw-shown")
    assert opened.evaluate(traces) == 12


def test_two_runs_are_chosen(opened: Any) -> None:
    opened.select_option("#b", "7")
    assert "McNemar" in opened.inner_text("#verdict")
    assert opened.locator(".shot").count() > 0
    opened.select_option("#b", "0")
    assert opened.inner_text("#verdict") == "Choose two different runs."


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real runs, as small as can be."""
    entry.register_resolvers()
    output = tmp_path_factory.mktemp("trained") / "outputs"
    quick = [
        "model.width=2",
        "dataset.limit=200",
        "progress=none",
        "trainer.threads=1",
        "trainer.precision=32-true",
    ]
    for lr in (0.1, 0.01):
        config = composed("epochs=2", f"optimizer.lr={lr}", f"output={output}", *quick)
        train.main(config, output / f"lr-{lr}")
    return output


def test_real_runs(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are compared on the 200 images that a limit leaves, which are shown."""
    folder = trained / "compare" / "all"
    best = compare.main(composed("task=compare", f"output={trained}"), folder)
    out = capsys.readouterr().out
    assert "2 runs, best first by validation accuracy" in out
    assert f"{folder}/index.html  {folder}/table.csv" in out
    data = data_of(folder)
    assert data["rows"][0]["cells"]["val_acc"] == pytest.approx(best, abs=1e-5)
    (tests,) = data["sets"]
    assert tests["images"] == sum(map(sum, tests["confusion"][0])) == 200
    assert tests["sheet"] or tests["note"] == "The runs have the same images right."
    assert [name for name, _ in data["rows"][0]["pictures"]] == [
        "curves",
        "confusion",
        "classes",
        "right",
        "wrong",
    ]
    link = (folder / data["rows"][0]["pictures"][0][1]).resolve()
    assert link.is_file()


def test_just_the_table(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare.main(composed("task=compare", f"runs={trained}/lr-*", "to=markdown"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"table.md"}
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path}/table.md"
