"""The checks ``test_passes`` and ``command_succeeds``: a command that must exit 0.

Of tests that is not enough. What the command says about them is compared with what it said before the work, tests that
failed are run once more, and tests that the work itself has changed prove nothing (``sidecar/core/judging.py``).
"""

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from protocol.checks import CheckCommandSucceeds, CheckTestPasses
from protocol.errors import BadInput, WorkFailed
from protocol.model import Finding
from protocol.tree import Tree
from sidecar.checks.base import MAX_READ_BYTES, Ground, finding, run_command, time_for
from sidecar.core.diff import Change, matches
from sidecar.core.judging import TESTS, Judgement, judge, relied_on, rewritten, tampering, uncompared
from sidecar.core.stubs import constants
from sidecar.core.tallies import Tally, tally

_SHOWN: Final = 5


async def command_passes(check: CheckCommandSucceeds, ground: Ground) -> Finding:
    """Passes if the shell command exits 0 in time, and the work has not rewritten what it checks with."""
    if not relied_on(check.command):
        return (await run_command(check, check.command, ground))[0]
    try:
        changes = await ground.changes()
        found, _ = await run_command(check, check.command, ground)
        if not found.passed:
            return found
        changes = (*changes, *await ground.changes())
    except WorkFailed as exc:
        return finding(check, passed=False, detail=str(exc))
    return _doubted(found, tuple(dict.fromkeys(rewritten(check.command, changes, check.may_edit))))


async def test_passes(check: CheckTestPasses, ground: Ground) -> Finding:
    """Passes if the tests do, no fewer of them than before the work, and the work has not changed what proves it."""
    try:
        early = await _tampering(check, ground)  # before anything of the work runs, and could put it back
        before = await _before(check, ground)
    except WorkFailed as exc:
        return finding(check, passed=False, detail=str(exc))
    found, now, judgement = await _run(check, before.left(ground), before)
    left_s = time_for(check, before.left(ground)) - found.seconds
    if judgement.may_be_flaky and left_s > found.seconds:
        again, _, second = await _run(check, ground.with_time(left_s), before)
        if second.passed:
            failed = ", ".join(sorted(now.failing)[:_SHOWN]) if now else ""
            found = replace(again, detail=f"flaky: {failed} failed once and passed when run again")
    if not (found.passed or found.doubtful):
        return found
    try:
        reasons = tuple(dict.fromkeys((*early, *await _tampering(check, ground))))
    except WorkFailed as exc:
        return replace(found, passed=False, detail=str(exc))
    return _doubted(found, reasons)


@dataclasses.dataclass(frozen=True, slots=True)
class _Before:
    """What a test command said before the work: ``is_cut`` if it had not ended in its time; finding out took time."""

    tally: Tally | None
    is_cut: bool
    seconds: float

    def left(self, ground: Ground) -> Ground:
        """The same with the time that is left."""
        return ground.with_time(ground.timeout_s - self.seconds)


async def _before(check: CheckTestPasses, ground: Ground) -> _Before:
    """First, with half of the time: how much of it is left when the work's own tests have run is up to the work."""
    clock = asyncio.get_running_loop().time
    began, tally_then, is_cut = clock(), None, False
    try:
        tally_then = await ground.before(check.command, min(time_for(check, ground), ground.timeout_s / 2))
    except TimeoutError:
        is_cut = True
    return _Before(tally_then, is_cut, clock() - began)


def _doubted(found: Finding, reasons: Sequence[str]) -> Finding:
    """The finding with what the work has changed of its own proof, if it has changed anything of it."""
    if not reasons:
        return found
    more = f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    what = "the tests pass" if found.type == "test_passes" else "it exits 0"
    said = f"{what}, but the work has changed what proves it: {'; '.join(reasons[:_SHOWN])}{more}"
    if found.doubtful:
        said = f"{found.detail}; {said}"
    return replace(found, passed=False, doubtful=True, detail=said)


async def _tampering(check: CheckTestPasses, ground: Ground) -> tuple[str, ...]:
    """What the work has changed of its proof; how much there is to read is up to the work."""
    changes = await ground.changes()
    reasons = await asyncio.to_thread(tampering, check, changes, has_base=ground.has_base)
    judged = [change for change in changes if not matches(change.path, (*TESTS, *check.may_edit))]
    return (*reasons, *await asyncio.to_thread(_stubs, ground.cell.workspace, judged))


def _stubs(root: Path, changes: Sequence[Change]) -> tuple[str, ...]:
    """Functions that the work has made to give one answer to everything."""
    found = []
    for change in changes:
        if not change.added or change.is_gone:
            continue
        try:
            lines = Tree(root).read_bytes(change.path, MAX_READ_BYTES).decode(errors="replace").splitlines()
        except BadInput:
            continue
        added = {number for number, _ in change.added}
        found += [f"{what} ({change.path}:{number})" for number, what in constants(change.path, lines, added)]
    return tuple(found)


async def _run(check: CheckTestPasses, ground: Ground, before: _Before) -> tuple[Finding, Tally | None, Judgement]:
    """One run of the tests, what it said, and what that is worth."""
    found, said = await run_command(check, check.command, ground)
    now = await asyncio.to_thread(tally, said)
    is_over = found.exit_code is not None and found.exit_code >= 0
    if not is_over or (now is None and found.exit_code != 0):
        return found, now, Judgement(found.passed)
    judgement = await asyncio.to_thread(judge, check, found.exit_code, now, before.tally)
    if before.is_cut and judgement.passed:
        judgement = uncompared(judgement)
    detail = judgement.detail or found.detail
    return replace(found, passed=judgement.passed, doubtful=judgement.doubtful, detail=detail), now, judgement
