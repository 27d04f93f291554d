"""Prove what another machine has done: get what it has pushed, run the checks of the task on it, say what they find.

Nothing of the work's own machine is here: no file that git ignores, no tool that it has installed, no home. A check
that fails because this machine lacks the program says nothing about the work, and that is reported as no proof at all.
The caller is ``sidecar/shop.py``; what follows from the findings decides the hub.
"""

import asyncio
from collections.abc import Callable
from itertools import chain
from typing import Final

import structlog

from protocol.checks import digest_of
from protocol.errors import WorkFailed
from protocol.messages import Carry, Proof
from protocol.model import AttemptId, FailureClass, Finding, Iteration, TaskResult, TaskSpec, Usage
from protocol.removal import remove_tree
from sidecar.checks.base import finding, kind_of
from sidecar.core.outcome import Ending, fit_result, tail
from sidecar.core.proving import Probe, probes
from sidecar.core.verify import GiveUp, Hold, Pass, verdict
from sidecar.errors import CannotStart, CannotTell, LeaseOver, failure_of
from sidecar.executors.base import Pauses
from sidecar.parts import Answers, Parts
from sidecar.rounds import TIDY_S
from sidecar.sandbox.cell import Level
from sidecar.sandbox.policy import Place
from sidecar.verifier import JUDGES
from sidecar.workspace import Workspace

OVERTIME_S: Final = 120.0
"""Seconds to get the work, beside those for its checks."""
PROBE_S: Final = 30.0
CHECKS_FAILED: Final = "checks_failed"

log = structlog.get_logger(__name__)


class Proving:
    """The proof of one attempt's work; a :class:`sidecar.workshop.Work`.

    Attributes:
        ending: how it ended, as soon as that stands; ``None`` before, and if it was cut off.
        answering: unused: no model is asked.
        noted: unused: a proof leaves nothing, and costs little to do again.
    """

    def __init__(
        self,
        parts: Parts,
        attempt: AttemptId,
        spec: TaskSpec,
        proof: Proof,
        *,
        on_step: Callable[[str], None],
        log: Callable[[str, str], None],
    ) -> None:
        """Prepare it; :meth:`work` does it.

        Args:
            parts: what it is done with.
            attempt, spec: of the proof.
            proof: the work that is to be proven.
            on_step: hears the events ``start`` and ``verify`` of the attempt's table as they happen.
            log: takes live output (stream, text).
        """
        self._parts, self._attempt, self._spec, self._proof = parts, attempt, spec, proof
        self._on_step, self._log = on_step, log
        self.ending: Ending | None = None
        self.answering: Answers = lambda _ask: None
        self.noted: Callable[[Ending], None] = lambda _ending: None
        self._began_at = parts.clock.monotonic()
        self._findings: tuple[Finding, ...] = ()
        self._workspace: Workspace | None = None
        self._scratch = parts.scratch / f"{attempt.task}-e{attempt.epoch}"

    def pause(self, reason: str) -> Pauses:
        """It cannot stop and go on later."""
        del reason
        return "never"

    def go_on(self) -> None:
        """It has not stopped."""

    async def work(self) -> Ending:
        """Do it all; whatever ends it leaves no process and no file behind."""
        try:
            ending = self.ending = await self._in_time()
        finally:
            await self._tidy()
        return ending

    async def _in_time(self) -> Ending:
        limit_s = self._spec.budget.seconds + OVERTIME_S
        try:
            async with asyncio.timeout(limit_s):
                return await self._prove()
        except TimeoutError:
            error = CannotTell(f"it takes longer than {limit_s:g} s to get the work and to check it")
            return Ending("fail", self.result(str(error), error.code), FailureClass.INFRA)
        except WorkFailed as exc:
            return Ending("fail", self.result(str(exc), exc.code), failure_of(exc))
        except LeaseOver as exc:
            return Ending("lose", self.result(str(exc), exc.code), FailureClass.INFRA)

    def result(self, error: str = "", error_code: str = "") -> TaskResult:
        """What was found so far, about the branch and the commit that it was found of."""
        found = self._findings
        passed = all(finding.passed for finding in found) if found and not error_code else None
        if error_code == CHECKS_FAILED:
            passed = False
        usage = Usage(seconds=round(self._parts.clock.monotonic() - self._began_at, 6))
        done = Iteration(number=1, execution_ok=True, passed=passed, findings=found, usage=usage)
        return fit_result(
            TaskResult(
                execution_ok=True,
                verified=passed,
                report=found,
                iterations=(done,) if found else (),
                usage=usage,
                branch=self._proof.branch,
                commit=self._proof.commit,
                pushed=bool(self._proof.commit),
                error_code=error_code,
                error=tail(error, 4_000),
                checks=digest_of(self._spec.verification) if found else "",
            )
        )

    async def _prove(self) -> Ending:
        self._on_step("start")
        workspace = self._workspace = await self._opened()
        self._log("check", f"[proves {self._proof.commit[:12] or workspace.base_commit[:12]} on this machine]\n")
        self._on_step("verify")
        self._findings = await self._checked(workspace)
        match verdict(execution_ok=True, findings=self._findings, iteration=1, fix_attempts=0):
            case Pass():
                return Ending("pass", self.result())
            case Hold() as held:
                return Ending("pass", self.result(held.reason, "doubtful"))
            case GiveUp() as given_up:
                if lacking := await self._lacking(workspace):
                    error = CannotTell(f"this machine lacks {', '.join(lacking)}")
                    return Ending("fail", self.result(str(error), error.code), FailureClass.INFRA)
                return Ending("fail", self.result(given_up.reason, CHECKS_FAILED), FailureClass.VERIFY)
            case _:
                raise AssertionError("nothing is mended in a proof")

    async def _checked(self, workspace: Workspace) -> tuple[Finding, ...]:
        """What the checks find, in their order. Who was asked what he thinks of the change is not asked again."""
        checks, room = self._spec.verification, self._scratch.with_name(f"{self._scratch.name}-checks")
        mechanical = [check for check in checks if kind_of(check) not in JUDGES]
        async with self._parts.quota.watch(self._attempt, workspace.path, workspace.git_dir, self._scratch, room):
            found = await self._parts.proof.findings(
                mechanical, workspace, room, timeout_s=self._spec.budget.seconds, log=self._log
            )
        ours = iter(found)
        judged = "asked where the work was done, and not again"
        return tuple(
            finding(check, passed=True, detail=judged) if kind_of(check) in JUDGES else next(ours) for check in checks
        )

    async def _opened(self) -> Workspace:
        """The work as it was pushed, in a place of its own."""
        proof = self._proof
        left = Carry(
            attempt=proof.attempt, model="", iterations=0, execution_ok=True, branch=proof.branch, commit=proof.commit
        )
        workspaces, attempt = self._parts.workspaces, self._attempt
        workspace = await workspaces.open(attempt, self._spec, attempt.sidecar, left if proof.commit else None)
        self._workspace = workspace
        if proof.commit and not workspace.is_continued:
            raise CannotTell(f"the commit {proof.commit[:12]} is not in the repository any more")
        cell = self._parts.sandbox.cell(attempt, workspace.place(self._scratch))
        if cell.level is not Level.NONE:
            workspace.walls = cell
        return workspace

    async def _lacking(self, workspace: Workspace) -> list[str]:
        """Programs that this machine does not have, if for want of them all checks failed that did: else none.

        They are looked for out of reach of the work.
        """
        judged = zip(self._spec.verification, self._findings, strict=True)
        failed = [check for check, found in judged if not (found.passed or found.doubtful)]
        wanted = [probes(getattr(check, "command", "")) for check in failed]
        gone = {probe: not await self._has(workspace, probe) for probe in dict.fromkeys(chain.from_iterable(wanted))}
        lacking = [[probe.name for probe in each if gone[probe]] for each in wanted]
        return list(dict.fromkeys(chain.from_iterable(lacking))) if all(lacking) else []

    async def _has(self, workspace: Workspace, probe: Probe) -> bool:
        folder = self._scratch.with_name(f"{self._scratch.name}-probe")
        try:
            await asyncio.to_thread((folder / "tree").mkdir, parents=True, exist_ok=True)
            cell = self._parts.sandbox.cell(workspace.attempt, Place(folder / "tree", folder))
            outcome = await cell.run(probe.command, env={"HOME": str(cell.home)}, timeout_s=PROBE_S)
        except (CannotStart, OSError):
            return True  # nothing is known against this machine
        finally:
            await asyncio.to_thread(remove_tree, folder)
        return outcome.exit_code == 0

    async def _tidy(self) -> None:
        """End every process, give the workspace back, remove the scratch files."""
        parts = self._parts
        parts.leases.drop(self._attempt)
        try:
            await parts.processes.end_attempt(self._attempt)
            if self._workspace is not None:
                async with asyncio.timeout(TIDY_S):
                    await parts.workspaces.close(self._workspace, keep=False)
        except (WorkFailed, OSError) as exc:  # TimeoutError is an OSError
            log.warning("workspace_untidy", task=self._attempt.task, epoch=self._attempt.epoch, why=str(exc))
        finally:
            try:
                await parts.processes.end_attempt(self._attempt)
                await parts.sandbox.close(self._attempt)
            finally:
                await asyncio.to_thread(remove_tree, self._scratch)
