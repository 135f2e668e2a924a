"""Hundreds of runs in one sweep process: it does not grow, and leaves nothing behind."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import psutil
import pytest

RUNS = int(os.environ.get("IMGCLS_SOAK", 500))
SETTLED = 50  # runs after which nothing may grow any more
GROWTH = 1.05
SMALL = [
    *("model=resnet20", "model.width=4", "dataset=digits", "dataset.limit=64", "epochs=1", "batch_size=32"),
    *("augmentation=none", "progress=none", "trainer.threads=1"),
]

Sample = dict[str, float]


def sampled(sweep: "subprocess.Popen[str]", folder: Path) -> Iterator[tuple[int, Sample]]:
    """(runs that have finished, what the sweep and its worker hold) whenever another has."""
    parent, seen = psutil.Process(sweep.pid), 0
    while sweep.poll() is None:
        done = sum(1 for _ in folder.glob("digits-*/result.json"))
        if done > seen:
            seen = done
            family = [parent, *parent.children(recursive=True)]
            holding = [(p.memory_info().rss, p.num_fds(), p.num_threads()) for p in family]
            sizes = sorted((rss for rss, _, _ in holding), reverse=True)
            yield (
                done,
                {
                    "parent": parent.memory_info().rss,
                    "worker": max(size for size in sizes if size),
                    "all": sum(sizes),
                    "files": sum(fds for _, fds, _ in holding),
                    "threads": sum(threads for _, _, threads in holding),
                    "processes": len(family),
                    "temporary": sum(1 for _ in (folder.parent / "tmp").rglob("*")),
                },
            )
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_long_sweep_does_not_grow(tmp_path: Path) -> None:
    """Memory, file handles, threads, processes and temporary files: at the end as after fifty runs."""
    (tmp_path / "tmp").mkdir()
    words = [
        sys.executable,
        "-m",
        "imgcls",
        "-m",
        *SMALL,
        f"seed=range({RUNS})",
        f"output={tmp_path / 'out'}",
    ]
    with (tmp_path / "log").open("w") as log:
        sweep = subprocess.Popen(
            words, stdout=log, stderr=log, text=True, env=os.environ | {"TMPDIR": str(tmp_path / "tmp")}
        )
        samples = list(sampled(sweep, tmp_path / "out"))
    assert sweep.returncode == 0, (tmp_path / "log").read_text()[-2000:]
    assert len(list((tmp_path / "out").glob("digits-*/result.json"))) == RUNS
    early = [sample for done, sample in samples if SETTLED <= done < SETTLED + 20]
    late = [sample for done, sample in samples if RUNS - 20 < done <= RUNS]
    begin, end = ({key: median(s[key] for s in some) for key in some[0]} for some in (early, late))
    print(f"{RUNS} runs, after {SETTLED}: {begin}\nat the end: {end}")
    for key in ("parent", "worker", "all"):
        assert end[key] <= begin[key] * GROWTH, key
    for key in ("files", "threads", "processes", "temporary"):
        assert end[key] <= begin[key], key
    assert [path for path in (tmp_path / "tmp").rglob("*") if not path.is_dir()] == []  # torch makes a folder
    assert list((tmp_path / "out").rglob("*.part")) == []
