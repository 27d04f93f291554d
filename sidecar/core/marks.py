"""Tell whether files have changed while checks ran on them.

Pure. The files are looked at by ``sidecar/changes.py``; what follows is in ``sidecar/verifier.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sidecar.core.diff import matches

REPORTS: Final = (
    "*junit*.xml", "TEST-*.xml", "*results.xml", "*report.xml", "coverage.xml", "coverage.json", "lcov.info", "*.lcov",
    "cover*.out", "*.coverprofile", "*.trx", "*.tap", "*.log", ".coverage", ".coverage.*", "htmlcov/**",
    "coverage/lcov-report/**", ".pytest_cache/**", "**/__pycache__/**",
)  # fmt: skip
"""What test runners write about a run: another one each time, and nothing that a run depends on."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells two states of a file apart; ``is_new``: the commit that the work began from has no such file."""

    digest: str
    is_new: bool


def differing(before: Mapping[str, Mark], after: Mapping[str, Mark]) -> tuple[str, ...]:
    """Paths of the change at which something else lies now, in order; reports that a run has left do not count.

    A path that is in one of the two alone is as in the base in the other.
    """
    moved = (path for path in {*before, *after} if before.get(path) != after.get(path))
    return tuple(sorted(path for path in moved if not _is_report(path, after.get(path) or before[path])))


def _is_report(path: str, mark: Mark) -> bool:
    return mark.is_new and bool(matches(path, REPORTS))
