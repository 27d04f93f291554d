"""The checks ``test_passes`` and ``command_succeeds``: a command that must exit 0.

Of tests that is not enough. What the command says about them is compared with what it said before the work, tests that
failed are run once more, and tests that the work itself has changed prove nothing (``sidecar/core/judging.py``).
"""

import asyncio
import dataclasses
from typing import Final

from msgspec.structs import replace

from protocol.checks import CheckCommandSucceeds, CheckTestPasses
from protocol.errors import WorkFailed
from protocol.model import Finding
from sidecar.checks.base import Ground, finding, run_command, time_for
from sidecar.core.judging import Judgement, judge, tampering
from sidecar.core.tallies import Tally, tally

_SHOWN: Final = 5


async def command_passes(check: CheckCommandSucceeds, ground: Ground) -> Finding:
    """Passes if the shell command exits 0 in time; its output's end goes into the finding."""
    found, _ = await run_command(check, check.command, ground)
    return found


async def test_passes(check: CheckTestPasses, ground: Ground) -> Finding:
    """Passes if the tests do, no fewer of them than before the work, and the work has not changed what proves it."""
    try:
        early = await _tampering(check, ground)  # before anything of the work runs, and could put it back
    except WorkFailed as exc:
        return finding(check, passed=False, detail=str(exc))
    found, now, judgement = await _run(check, ground)
    left_s = time_for(check, ground) - found.seconds
    if judgement.may_be_flaky and left_s > found.seconds:
        again, _, second = await _run(check, dataclasses.replace(ground, timeout_s=left_s))
        if second.passed:
            failed = ", ".join(sorted(now.failing)[:_SHOWN]) if now else ""
            found = replace(again, detail=f"flaky: {failed} failed once and passed when run again")
    if not found.passed:
        return found
    try:
        reasons = tuple(dict.fromkeys((*early, *await _tampering(check, ground))))
    except WorkFailed as exc:
        return replace(found, passed=False, detail=str(exc))
    if not reasons:
        return found
    more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    said = f"the tests pass, but the work has changed what proves it: {'; '.join(reasons[:_SHOWN])}{more}"
    return replace(found, passed=False, detail=said)


async def _tampering(check: CheckTestPasses, ground: Ground) -> tuple[str, ...]:
    """What the work has changed of its proof; how much there is to read is up to the work."""
    return await asyncio.to_thread(tampering, check, await ground.changes(), has_base=ground.has_base)


async def _run(check: CheckTestPasses, ground: Ground) -> tuple[Finding, Tally | None, Judgement]:
    """One run of the tests, what it said, and what that is worth."""
    found, said = await run_command(check, check.command, ground)
    now = await asyncio.to_thread(tally, said)
    is_over = found.exit_code is not None and found.exit_code >= 0
    if not is_over or (now is None and found.exit_code != 0):
        return found, now, Judgement(found.passed)
    left_s = time_for(check, ground) - found.seconds
    before = await ground.before(check.command, left_s) if left_s > 0 else None
    judgement = await asyncio.to_thread(judge, check, found.exit_code, now, before)
    return replace(found, passed=judgement.passed, detail=judgement.detail or found.detail), now, judgement
