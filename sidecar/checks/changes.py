"""The checks that judge what was changed: ``no_placeholders``, ``no_secrets``, ``diff_limits`` and ``protected_paths``.

The change is the one that the workspace's owner sees (``Workspaces.patch``), against the commit that the work began
from; without a repository, all that is in the workspace.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from protocol.checks import CheckDiffLimits, CheckNoPlaceholders, CheckNoSecrets, CheckProtectedPaths
from protocol.errors import WorkFailed
from protocol.model import Finding
from protocol.redaction import Redactor
from sidecar.checks.base import Ground, finding
from sidecar.core.diff import Change, matches
from sidecar.core.placeholders import placeholders

_SHOWN: Final = 5
_C = TypeVar("_C", CheckNoPlaceholders, CheckNoSecrets, CheckDiffLimits, CheckProtectedPaths)


def _judging(judge: Callable[[_C, Sequence[Change]], list[str]]) -> Callable[[_C, Ground], Awaitable[Finding]]:
    """A check that asks ``judge`` what is wrong with the change."""

    async def run(check: _C, ground: Ground) -> Finding:
        try:
            wrong = await asyncio.to_thread(judge, check, await ground.changes())
        except WorkFailed as exc:
            return finding(check, passed=False, detail=str(exc))
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        return finding(check, passed=not wrong, detail="; ".join(wrong[:_SHOWN]) + more)

    run.__doc__ = judge.__doc__
    return run


def _put_off(check: CheckNoPlaceholders, changes: Sequence[Change]) -> list[str]:
    """Passes if no added line puts the work off."""
    return [
        f"{change.path}:{number}: {what}"
        for change in changes
        if not matches(change.path, check.ignore)
        for number, what in sorted(placeholders(change))
    ]


def _leaked(check: CheckNoSecrets, changes: Sequence[Change]) -> list[str]:
    """Passes if no added line holds a secret of a known shape; the secret itself is told nobody."""
    redactor = Redactor()
    return [
        f"{change.path}:{number}: a secret, or what looks like one"
        for change in changes
        if not matches(change.path, check.ignore)
        for number, line in change.added
        if redactor.text(line) != line
    ]


def _too_much(check: CheckDiffLimits, changes: Sequence[Change]) -> list[str]:
    """Passes if the change is no larger than allowed; what cannot be counted is no small change."""
    counted = (
        (len(changes), check.max_files, "files changed"),
        (sum(len(change.added) for change in changes), check.max_added, "lines added"),
        (sum(len(change.removed) for change in changes), check.max_removed, "lines removed"),
    )
    wrong = [f"{found} {what}, at most {most}" for found, most, what in counted if most is not None and found > most]
    if check.max_added is not None or check.max_removed is not None:
        wrong += [f"the lines of {change.path} cannot be counted" for change in changes if change.is_opaque]
    return wrong


def _touched(check: CheckProtectedPaths, changes: Sequence[Change]) -> list[str]:
    """Passes if nothing that is protected was changed, added or deleted."""
    found = ((change.path, matches(change.path, check.paths)) for change in changes)
    return [f"{path} is protected by {pattern!r}" for path, pattern in found if pattern]


no_placeholders = _judging(_put_off)
no_secrets = _judging(_leaked)
diff_limits = _judging(_too_much)
protected_paths = _judging(_touched)
