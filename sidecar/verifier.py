"""Run the checks of a task, in order and all of them, so that a repair knows what failed and what passed.

Returns findings and decides nothing: what follows from them is ``sidecar/core/verify.py``. Its caller is the runner.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from protocol.checks import Check
from protocol.model import Finding
from sidecar.checks import CHECKS
from sidecar.checks.base import Ground, finding, kind_of
from sidecar.sandbox.cell import Cell


async def verify(
    checks: Sequence[Check], ground: Ground, room: Callable[[], Cell] | None = None
) -> tuple[Finding, ...]:
    """One finding per check, in the order of ``checks``; ``room`` gives each of them a place with a home of its own.

    The time of ``ground`` bounds all of them together; a check that has no time left fails and says so. Its log gets
    the output as it comes, and one line per finding on the stream ``check``. Before each of them whatever runs of the
    attempt is ended, what the work has started and what the check before has: it could change what was just checked.
    """
    clock = asyncio.get_running_loop().time
    ends = clock() + ground.timeout_s
    findings: list[Finding] = []
    for check in checks:
        await ground.cell.clear()
        left_s = ends - clock()
        if left_s > 0:
            cell = ground.cell if room is None else room()
            found = await CHECKS[kind_of(check)](check, replace(ground, cell=cell, timeout_s=left_s))
        else:
            found = finding(
                check, passed=False, detail=f"not run: the {ground.timeout_s:g} s for all checks are used up"
            )
        ground.log("check", _line(found))
        findings.append(found)
    return tuple(findings)


def _line(found: Finding) -> str:
    detail = f" - {found.detail}" if found.detail else ""
    return f"{'PASS' if found.passed else 'FAIL'} {found.name}{detail} ({found.seconds:.2f} s)\n"
