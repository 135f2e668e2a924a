"""Known vulnerabilities of the installed packages, from the package index (pip-audit's service `pypi`).

Fails only on what can be mended here: a version that mends it satisfies the bounds of all that is installed.
Where the index serves no vulnerability data, or not in time, it says so and does not fail.
"""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.metadata import distributions, version
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from pip_audit._service import PyPIService, ResolvedDependency, ServiceError

SECONDS = 50


def served(package: str = "packaging") -> bool:
    """Whether the index has vulnerability data at all: one look-up instead of one for each package."""
    try:
        asked = ResolvedDependency(package, Version(version(package)))
        return not PyPIService(timeout=10).query(asked)[0].is_skipped()
    except ServiceError:
        return False


def bounds(requirements: Iterable[str]) -> dict[str, SpecifierSet]:
    """What is asked of each package, together."""
    found: dict[str, SpecifierSet] = defaultdict(SpecifierSet)
    for requirement in map(Requirement, requirements):
        # Of extras, only imgcls's own are installed on purpose
        if not requirement.marker or requirement.marker.evaluate({"extra": "dev"}):
            found[canonicalize_name(requirement.name)] &= requirement.specifier
    return found


def findings(report: Mapping[str, Any], bounds: Mapping[str, SpecifierSet]) -> list[tuple[bool, str]]:
    """(can be mended here, one line) of each vulnerability in pip-audit's report."""
    rows = []
    for package in report["dependencies"]:
        allowed = bounds.get(canonicalize_name(package["name"]), SpecifierSet())
        for flaw in package.get("vulns", []):
            fits = [fix for fix in flaw["fix_versions"] if allowed.contains(fix, prereleases=True)]
            remedy = (
                f"Use {' or '.join(fits)}." if fits else f"No version within {allowed or 'any'} mends it."
            )
            rows.append((bool(fits), f"{package['name']} {package['version']}: {flaw['id']}. {remedy}"))
    return rows


def main() -> int:
    """Print what is known; 1 if something can be mended."""
    if not served():
        print("audit: the package index serves no vulnerability data here; nothing was audited")
        return 0
    line = [sys.executable, "-m", "pip_audit", "--vulnerability-service", "pypi", "--skip-editable"]
    line += ["--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=False)
        report = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError) as error:
        print(f"audit: no answer that can be read ({error}); nothing was audited")
        return 0
    rows = findings(report, bounds(need for found in distributions() for need in found.requires or []))
    skipped = [package["name"] for package in report["dependencies"] if "skip_reason" in package]
    print(*(text for _, text in sorted(rows, reverse=True)), sep="\n", end="\n" if rows else "")
    print(f"audit: {len(report['dependencies']) - len(skipped)} packages, {len(rows)} known vulnerabilities")
    if skipped:
        print(f"not on the index: {', '.join(skipped)}")
    return int(any(mendable for mendable, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
