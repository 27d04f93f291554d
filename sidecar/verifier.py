"""Run the checks of a task, all of them, so that a repair knows what failed and what passed.

What they find stands in their order; they run in another one. Checks that start programs of the work come before those
that only look: such a program may write, and what it has written is delivered, too. So a program counts only for the
files that it has run on. Returns findings and decides nothing: what follows from them is
``sidecar/core/verify.py``. Its caller is ``sidecar/proof.py``.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Final

from msgspec.structs import replace

from protocol.checks import Check
from protocol.errors import WorkFailed
from protocol.model import Finding
from sidecar.checks import CHECKS
from sidecar.checks.base import Ground, finding, kind_of
from sidecar.core.marks import differing
from sidecar.sandbox.cell import Cell

EARLY: Final = frozenset({"git_clean"})
"""What the work has left undone; by what its checks leave lying about it is not judged."""
PROGRAMS: Final = frozenset({"test_passes", "command_succeeds", "http_ok", "coverage_not_lower", "plugin"})
"""Checks that run code of the work, or may."""
JUDGES: Final = frozenset({"judge"})
"""Checks that ask a model, which may only take away from what all others say."""

_NEVER_DONE: Final = "the checks themselves change what they check whenever they run"
_UNTOLD: Final = "the checks have changed files, and no time was left to see whether they pass with these"
_SHOWN: Final = 5


async def verify(
    checks: Sequence[Check], ground: Ground, room: Callable[[], Cell] | None = None
) -> tuple[Finding, ...]:
    """One finding per check, in the order of ``checks``; ``room`` gives each of them a place with a home of its own.

    The time of ``ground`` bounds all of them together; a check that has no time left fails and says so. Its log gets
    the output as it comes, and one line per finding on the stream ``check``. Before each of them whatever runs of the
    attempt is ended, what the work has started and what the check before has: it could change what was just checked.
    """
    run = _Run(checks, ground, room, asyncio.get_running_loop().time() + ground.timeout_s)
    kinds = [kind_of(check) for check in checks]
    early = [at for at, kind in enumerate(kinds) if kind in EARLY]
    programs = [at for at, kind in enumerate(kinds) if kind in PROGRAMS]
    await run.all(early)
    if programs:
        await run.programs(programs)
    judges = [at for at, kind in enumerate(kinds) if kind in JUDGES]
    await run.all(at for at in range(len(checks)) if at not in {*early, *programs, *judges})
    await run.judges(judges)
    return tuple(run.found[at] for at in range(len(checks)))


@dataclass
class _Run:
    """One run of all checks, which are named by where they stand; ``ends`` is a time of the loop."""

    checks: Sequence[Check]
    ground: Ground
    room: Callable[[], Cell] | None
    ends: float
    found: dict[int, Finding] = field(default_factory=dict)

    async def all(self, which: Iterable[int]) -> None:
        """Run these, one after the other."""
        for at in which:
            self.found[at] = await self._one(self.checks[at])
            self.ground.log("check", _line(self.found[at]))

    async def programs(self, which: Sequence[int]) -> None:
        """Run these until what they have run on is what lies there: twice at most.

        A program may bring up to date what belongs to the work, a lock file for example. So when everything went well
        but files have changed meanwhile, all of them have to show once more that it goes well with these files.
        """
        try:
            before = await self.ground.marks()
            await self.all(which)
            if not self._went_well(which):
                return
            after = await self.ground.marks()
            if not (paths := differing(before, after)):
                return
            self.ground.log("check", "the files have changed meanwhile: once more with what is there now\n")
            first = {at: self.found[at] for at in which}
            await self.all(which)
            if self._ran_out(which):
                self.found |= first
                self._doubt(which, paths, _UNTOLD)
            elif self._went_well(which) and (still := differing(after, await self.ground.marks())):
                self._doubt(which, still, _NEVER_DONE)
        except WorkFailed as exc:
            self._fail(which, str(exc))

    async def judges(self, which: Sequence[int]) -> None:
        """Ask models, if all that was found so far has passed."""
        if all(found.passed for found in self.found.values()):
            await self.all(which)
            return
        for at in which:  # in doubt, so that others alone decide
            why = "not asked: other checks have not passed"
            self.found[at] = replace(finding(self.checks[at], passed=False, detail=why), doubtful=True)
            self.ground.log("check", _line(self.found[at]))

    def _went_well(self, which: Sequence[int]) -> bool:
        return all(self.found[at].passed or self.found[at].doubtful for at in which)

    def _ran_out(self, which: Sequence[int]) -> bool:
        """Whether only the end of the time for all checks has kept these from going well."""
        bad = [found for at in which if not ((found := self.found[at]).passed or found.doubtful)]
        is_over = asyncio.get_running_loop().time() >= self.ends
        return bool(bad) and is_over and all(found.exit_code is None for found in bad)

    def _doubt(self, which: Sequence[int], paths: Sequence[str], why: str) -> None:
        more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
        said = f"{why}: {', '.join(paths[:_SHOWN])}{more}"
        for at in which:
            was = self.found[at]
            detail = f"{was.detail}; {said}" if was.detail else said
            self.found[at] = replace(was, passed=False, doubtful=True, detail=detail)
        self.ground.log("check", f"FAIL {said}\n")

    def _fail(self, which: Sequence[int], why: str) -> None:
        """Nobody can tell what these have run on."""
        for at in which:
            was = self.found.get(at) or finding(self.checks[at], passed=False)
            if was.passed or was.doubtful or at not in self.found:
                self.found[at] = replace(was, passed=False, doubtful=False, detail=why)
                self.ground.log("check", _line(self.found[at]))

    async def _one(self, check: Check) -> Finding:
        await self.ground.cell.clear()
        left_s = self.ends - asyncio.get_running_loop().time()
        if left_s <= 0:
            why = f"not run: the {self.ground.timeout_s:g} s for all checks are used up"
            return finding(check, passed=False, detail=why)
        cell = self.ground.cell if self.room is None else self.room()
        return await CHECKS[kind_of(check)](check, changed(self.ground, cell=cell, timeout_s=left_s))


def _line(found: Finding) -> str:
    detail = f" - {found.detail}" if found.detail else ""
    return f"{'PASS' if found.passed else 'FAIL'} {found.name}{detail} ({found.seconds:.2f} s)\n"
