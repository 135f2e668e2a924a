"""Look over the software, the machine and what a run would need; says what to mend, and changes nothing."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imgcls import table
from imgcls.errors import ResourceError
from imgcls.health import BAD, OK, WARN, Finding, software

STYLES = {OK: "green", WARN: "bold yellow", BAD: "bold red"}


def main(config: Mapping[str, Any], config_dir: str | None = None, typed: Sequence[str] = ()) -> None:
    """Print the findings; exits with ResourceError's code if one is bad.

    Without a dataset in the configuration, because Hydra could not compose one, only software is looked at.
    """
    found: list[Finding] = []

    def rows() -> Iterator[Finding]:
        for finding in examine(config):
            found.append(finding)
            yield finding

    table.show(["mark", "check", "found", "remedy"], rows(), STYLES)
    counts = {mark: sum(finding.mark == mark for finding in found) for mark in STYLES}
    print(", ".join(f"{count} {mark}" for mark, count in counts.items()))
    if counts[BAD]:
        sys.exit(ResourceError.exit_code)


def examine(config: Mapping[str, Any]) -> Iterator[Finding]:
    """All findings; what needs torch, only if it can be imported."""
    sound = True
    for finding in software.check():
        sound &= not (finding.mark == BAD and finding.check.startswith("import "))
        yield finding
    if sound and "dataset" in config:
        from imgcls.health import machine, run

        yield from machine.check(config)
        yield from run.check(config)
