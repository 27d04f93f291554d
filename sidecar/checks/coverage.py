"""The check ``coverage_not_lower``: tests run no smaller part of the code than they did before the work.

What the command measures now is compared with what the same command measures at the commit that the work began from
(``sidecar/core/coverage.py`` understands both).
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from protocol.checks import CheckCoverageNotLower
from protocol.errors import BadInput, WorkFailed
from protocol.model import Finding
from protocol.tree import Tree
from sidecar.checks.base import Ground, finding, run_command
from sidecar.core.coverage import Coverage, is_lower, left_out, reported, said

_SHOWN: Final = 5
MAX_REPORT_BYTES: Final = 32 << 20


async def coverage_not_lower(check: CheckCoverageNotLower, ground: Ground) -> Finding:
    """Passes if the command exits 0 and measures no less than before the work, by the same rules."""
    clock = asyncio.get_running_loop().time
    began, before, is_cut = clock(), None, False
    early: tuple[str, ...] = ()
    try:
        early = left_out(await ground.changes(), check.may_edit)
        before = await ground.covered_before(check.command, check.report, ground.timeout_s / 2)
    except TimeoutError:
        is_cut = True
    except WorkFailed as exc:
        return finding(check, passed=False, detail=str(exc))
    left = ground.with_time(ground.timeout_s - (clock() - began))
    was = _stamp(ground.cell.workspace, check.report)
    found, output = await run_command(check, check.command, left)
    if not found.passed:
        return found
    try:
        if check.report and _stamp(ground.cell.workspace, check.report) == was:
            return replace(found, passed=False, detail=f"the command has not written {check.report!r}")
        now = await asyncio.to_thread(coverage_of, ground.cell.workspace, check.report, output)
        reasons = tuple(dict.fromkeys((*early, *left_out(await ground.changes(), check.may_edit))))
    except WorkFailed as exc:
        return replace(found, passed=False, detail=str(exc))
    if now is None:
        return replace(found, passed=False, detail="it does not say how much of the code was run")
    if is_cut:
        reasons = (
            "what it measured before the work is not known: it had not ended there when its time was up",
            *reasons,
        )
    return _compared(check, found, now, before, reasons)


def coverage_of(root: Path, report: str, output: str) -> Coverage | None:
    """What a command has measured in ``root``: what its report says or, without one, its output."""
    if not report:
        return said(output)
    try:
        return reported(Tree(root).read_whole(report, MAX_REPORT_BYTES).decode(errors="replace"))
    except BadInput:
        return None


def _compared(
    check: CheckCoverageNotLower, found: Finding, now: Coverage, before: Coverage | None, reasons: Sequence[str]
) -> Finding:
    was = "" if before is None else f", {before} before the work"
    detail = f"{now}{was}"
    if before is not None and is_lower(now, before, check.may_drop):
        return replace(found, passed=False, detail=f"lower: {detail}")
    if not reasons:
        return replace(found, detail=detail)
    more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    return replace(found, passed=False, doubtful=True, detail=f"{detail}; but {'; '.join(reasons[:_SHOWN])}{more}")


def _stamp(root: Path, report: str) -> tuple[int, int] | None:
    """What tells whether a file was written since; nobody but the kernel sets this time."""
    try:
        found = (root / report).lstat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns
