"""Is this machine fit for a run? Each check says what was looked at, what was found, and what to do."""

from typing import NamedTuple

OK, WARN, BAD = "ok", "warn", "bad"


class Finding(NamedTuple):
    """One line of the doctor's table."""

    mark: str
    check: str
    found: str
    remedy: str = ""
