"""What rows would take, and which of them fit into a budget."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgcls.data.facts import FACTS
from imgcls.errors import ConfigError
from imgcls.reproduce import plan
from imgcls.reproduce.rows import Entry

Entries = Callable[..., list[Entry]]


class Known(plan.Speeds):
    """Speeds that are told, in images/s by the name of the network."""

    def __init__(self, **speeds: float) -> None:
        self.speeds = speeds

    def of(self, job: Any) -> plan.Speed:
        """Of a job's network."""
        speed = self.speeds.get(job.config["model"]["name"])
        return {"images_per_second": speed, "memory_mb": 100, "checkpoint_mb": 3} if speed else None


def test_an_image_that_is_only_classified_takes_a_third(entries: Entries) -> None:
    (entry,) = entries("clark.text.01", "epochs=2")  # holds 9,000 of 60,000 out, and tests 10,000
    job, speeds = entry.jobs[0], Known(convnet=1000)
    expected = (2 * (51_000 + 9_000 / 3) + 10_000 / 3) / 1000
    assert plan.seconds(job, speeds.of(job)) == pytest.approx(expected)
    assert plan.disk(job, speeds.of(job)) == 6  # last and best


def test_epochs_that_are_trained_do_not_count(entries: Entries, finish: Any) -> None:
    (entry,) = entries("ma.table1.01", "epochs=5")
    finish(entry.jobs[0], train=(0.1, 0.2, 0.3))
    (entry.jobs[0].run / "result.json").unlink()
    speed = {"images_per_second": 1000.0}
    assert plan.seconds(entry.jobs[0], speed) == pytest.approx((2 * 50_000 + 10_000 / 3) / 1000)


def test_the_soonest_of_each_table_comes_first(entries: Entries) -> None:
    chosen = entries("ma.table[23].*")
    order = [entry.row.id for entry in plan.in_turn(chosen, Known(resnet18=1000, resnet34=100))]
    assert order[:4] == ["ma.table2.01", "ma.table3.01", "ma.table2.02", "ma.table3.04"]  # MNIST has more
    assert order[-2:] == ["ma.table2.06", "ma.table2.07"]


def test_a_budget_is_filled_and_not_exceeded(entries: Entries, finish: Any) -> None:
    chosen = entries("ma.table2.*")
    speeds = Known(resnet18=1000)  # resnet34 does not fit into memory
    of_20_epochs = (20 * 50_000 + 10_000 / 3) / 1000
    fits = [entry.row.id for entry in plan.fitting(chosen, speeds, 3.5 * of_20_epochs)]
    assert fits == ["ma.table2.01", "ma.table2.02", "ma.table2.03"]
    finish(chosen[0].jobs[0])  # what has finished is free
    fits = [entry.row.id for entry in plan.fitting(chosen, speeds, 3.5 * of_20_epochs)]
    assert fits == [f"ma.table2.0{n}" for n in (1, 2, 3, 8)]
    assert list(plan.fitting(chosen, speeds, 1)) == [chosen[0]]


def test_a_run_of_two_rows_counts_once(entries: Entries, tmp_path: Path) -> None:
    chosen = entries("ma.table1.01") + entries("ma.table2.03")
    chosen[1].jobs = chosen[0].jobs
    first, second = plan.lines(chosen, Known(resnet18=1000))
    assert first[:6] == ["ma.table1.01", "to train", "20", "50.0", "0.28", "100"]
    assert second[:3] == ["ma.table2.03", "as above", ""]
    assert plan.total(chosen, Known(resnet18=1000), tmp_path).startswith("1 runs, about 0.3 hours")


@pytest.mark.slow
def test_timing_takes_noise_of_the_real_size(entries: Entries, tmp_path: Path) -> None:
    """In a process of its own, and only once for what differs in epochs, rate and seed."""
    small = ("dataset=digits", "model=resnet20", "model.width=4", "trainer.threads=1")
    chosen = entries("ma.table3.0[1-3]", *small, seeds=2)
    jobs = [job for entry in chosen for job in entry.jobs]
    speeds = plan.Speeds(tmp_path)
    speeds.time(jobs)
    kept = json.loads((tmp_path / plan.SPEEDS).read_text())
    assert len(kept) == 1
    assert all(plan.Speeds(tmp_path).of(job) == speeds.of(job) for job in jobs)
    (found,) = kept.values()
    assert found["images_per_second"] > 10
    assert found["memory_mb"] > 50
    parameters = 17_394  # of ResNet-20, 4 channels wide, with one input channel; Adam keeps two more of each
    assert found["checkpoint_mb"] == pytest.approx(parameters * 4 * 3 / 1e6, abs=0.06)


def test_noise_is_like_the_dataset() -> None:
    from imgcls.reproduce.timing import synthetic

    source, facts = synthetic("digits"), FACTS["digits"]
    assert tuple(source.train.pixels.shape) == (facts.train, 8, 8, 1)
    assert len(source.test) == facts.test
    assert set(source.test.labels.tolist()) == set(range(10))


def test_what_has_no_known_counts_cannot_be_planned(entries: Entries, tmp_path: Path) -> None:
    (entry,) = entries("ma.table1.01", "dataset=folder")
    with pytest.raises(ConfigError, match="plan knows no counts of dataset=folder"):
        plan.Speeds(tmp_path).time(entry.jobs)
