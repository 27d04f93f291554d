"""One attempt's work: open a workspace, execute and verify until it passes or nothing is left to try, then deliver.

Decides only when to stop: the checks decide what passed (``sidecar/core/verify.py``), the executors do the work. Knows
no hub; the caller, who turns cancellation and lost leases into a report, is ``sidecar/runner.py``.
"""

import asyncio
import dataclasses
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
from msgspec.structs import replace

from protocol.choice import Effort, Escalation
from protocol.clock import Clock
from protocol.errors import BudgetSpent, WorkFailed
from protocol.loads import Answering
from protocol.messages import Carry
from protocol.model import (
    AttemptId,
    Budget,
    EndpointReport,
    FailureClass,
    Finding,
    Iteration,
    Routing,
    Strategy,
    TaskResult,
    TaskSpec,
    Usage,
)
from sidecar.core.outcome import Ending, commit_message, draft_message, fit_result, tail
from sidecar.core.verify import Fix, GiveUp, Pass, Verdict, inherited, lead, verdict
from sidecar.errors import LeaseOver, failure_of
from sidecar.executors.base import Execution, Executor, Work
from sidecar.keep import Depot, keep_files
from sidecar.leases import Leases
from sidecar.llm.endpoints import Endpoints
from sidecar.process import Processes
from sidecar.proof import Proof
from sidecar.sandbox.cell import Cell, Level, Sandbox
from sidecar.workspace import Workspace, Workspaces

OVERTIME_S: Final = 10.0
"""Executors and checks end in time by themselves, with what they have; one that does not is cut off this long after."""

CHECKS_S: Final = 60.0
"""Seconds that the checks get at least, even if the work has used up all of its own: unchecked work is worth little."""

TIDY_S: Final = 60.0
"""How long the report waits for the workspace to be given back; what is left then is removed at a sweep."""

MORE_FIXES: Final = 2
"""Iterations that an attempt with more effort may make beyond those of its budget."""

_MAX_SUMMARY_CHARS: Final = 4_000

log = structlog.get_logger(__name__)

Answers = Callable[[Callable[[], Answering] | None], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """What an attempt is done with; the same for all attempts of a sidecar."""

    processes: Processes
    sandbox: Sandbox
    workspaces: Workspaces
    executors: Mapping[str, Executor]
    scratch: Path
    clock: Clock
    endpoints: Endpoints
    leases: Leases = field(default_factory=lambda: Leases(lambda: 0.0))
    depot: Depot | None = None
    proof: Proof = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "proof", Proof(self.workspaces, self.sandbox))

    def begin(
        self,
        attempt: AttemptId,
        spec: TaskSpec,
        routing: Routing,
        *,
        executor: str,
        on_step: Callable[[str], None],
        log: Callable[[str, str], None],
        answering: Answers = lambda _ask: None,
        carry: Carry | None = None,
    ) -> "Rounds":
        """The work of an attempt, not begun yet; see :class:`sidecar.workshop.Workshop`."""
        chosen = self.executors[executor]
        rounds = Rounds(self, attempt, spec, routing, executor=chosen, on_step=on_step, log=log, carry=carry)
        rounds.answering = answering
        return rounds

    def hurry(self, attempt: AttemptId) -> None:
        """Kill what is left of the attempt's processes without grace."""
        self.processes.hurry(attempt)

    def adopt(self, endpoint: EndpointReport) -> None:
        """Learn of an endpoint that people have added at the hub.

        Raises:
            BadInput: it cannot be used here.
        """
        self.endpoints.adopt(endpoint)


class Rounds:
    """The work of one attempt.

    Attributes:
        ending: how it ended, as soon as that stands; ``None`` before, and if it was cut off.
        answering: is given a way to ask how a model's answer comes along, and ``None`` when none is on its way.
    """

    def __init__(
        self,
        parts: Parts,
        attempt: AttemptId,
        spec: TaskSpec,
        routing: Routing,
        *,
        executor: Executor,
        on_step: Callable[[str], None],
        log: Callable[[str, str], None],
        carry: Carry | None = None,
    ) -> None:
        """Prepare the work; :meth:`work` does it.

        Args:
            parts: what it is done with.
            attempt, spec, routing: what to do.
            executor: who does it.
            on_step: hears the events ``start``, ``verify`` and ``fix`` of the attempt's table as they happen.
            log: takes live output (stream, text).
            carry: what an earlier attempt has left.
        """
        self._carry = carry
        self._parts, self._attempt, self._spec, self._routing = parts, attempt, spec, routing
        self._executor, self._on_step, self._log = executor, on_step, log
        self.ending: Ending | None = None
        self.answering: Answers = lambda _ask: None
        self._iterations: list[Iteration] = []
        self._last: Execution | None = None
        self._underway: Usage | None = None  # of the iteration that is not among the others yet
        self._began_at = parts.clock.monotonic()
        self._workspace: Workspace | None = None
        self._scratch = parts.scratch / f"{attempt.task}-e{attempt.epoch}"
        self._is_kept = False
        self._delivered: dict[str, Any] = {}
        self._limit = asyncio.timeout(None)

    async def work(self) -> Ending:
        """Do it all; whatever ends it (also cancellation) leaves no process and no scratch files behind.

        What comes out stands in ``ending`` before the place is tidied: neither a failure there nor a cancellation then
        takes back what was checked and delivered.
        """
        try:
            ending = self.ending = await self._in_time()
        finally:
            await self._tidy()
        return ending

    async def _in_time(self) -> Ending:
        budget_s = self._spec.budget.seconds
        limit = self._limit = asyncio.timeout(budget_s + CHECKS_S + OVERTIME_S)
        try:
            async with limit:
                return await self._in_workspace()
        except TimeoutError:
            if not limit.expired():
                raise
            return self._failed(BudgetSpent("seconds", budget_s, round(self._elapsed_s(), 1)))
        except WorkFailed as exc:
            return self._failed(exc)
        except LeaseOver as exc:
            return Ending("lose", self.result(str(exc), exc.code), FailureClass.INFRA)

    def result(self, error: str = "", error_code: str = "") -> TaskResult:
        """What there is so far, as a result that fits the line."""
        last, done = self._last, self._iterations
        report = done[-1].findings if done else ()
        usage = self._used()
        verified = all(finding.passed for finding in report) if report else None
        if verified and self._underway is not None:
            verified = None  # more has been done since, and nobody has looked at that
        result = TaskResult(
            execution_ok=last is not None and last.ok,
            verified=verified,
            output=last.output if last else "",
            report=report,
            iterations=tuple(done),
            usage=replace(usage, seconds=round(self._elapsed_s(), 6)),
            exit_code=last.exit_code if last else None,
            error_code=error_code,
            error=tail(error, 4_000),
        )
        return fit_result(replace(result, **self._delivered))

    # --- rounds -----------------------------------------------------------------------------------------------------

    async def _in_workspace(self) -> Ending:
        parts, attempt = self._parts, self._attempt
        self._workspace = workspace = await parts.workspaces.open(attempt, self._spec, attempt.sidecar, self._carry)
        cell = parts.sandbox.cell(attempt, workspace.place(self._scratch))
        if cell.level is not Level.NONE:  # there no program runs that could leave anything for git to obey
            workspace.walls = cell
        ending = await self._iterate(workspace, cell)
        await cell.clear()  # nothing in the background changes what is delivered
        # Without a repository the files lie nowhere else.
        self._is_kept = not workspace.has_repo and bool(await parts.workspaces.changes(workspace))
        ending = await self._keep_files(workspace, ending)
        if ending.event == "pass":
            return await self._deliver(workspace)
        if ending.failure is FailureClass.VERIFY and self._may_climb:
            return Ending(ending.event, await self._with_draft(workspace, ending.result), ending.failure)
        return ending

    async def _keep_files(self, workspace: Workspace, ending: Ending) -> Ending:
        """Bring the files that the task wants kept; of work that did not pass only what can be brought."""
        if (depot := self._parts.depot) is None:
            return ending
        is_passed = ending.event == "pass"
        self._delivered["artifacts"] = await keep_files(
            depot, self._attempt, self._spec, workspace, say=self._remark, allow_s=self._allow, must=is_passed
        )
        return Ending(ending.event, fit_result(replace(ending.result, **self._delivered)), ending.failure)

    def _remark(self, line: str) -> None:
        self._log("stderr", f"{line}\n")

    def _allow(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        self._limit.reschedule(max(self._limit.when() or now, now + seconds))

    @property
    def _may_climb(self) -> bool:
        """Whether a stronger model may go on from what is here."""
        needs_model = self._routing.strategy in {Strategy.LOCAL_LLM, Strategy.CLOUD_LLM}
        return needs_model and self._spec.escalation is not Escalation.OFF

    async def _with_draft(self, workspace: Workspace, result: TaskResult) -> TaskResult:
        """Put the work so far on the attempt's branch. What cannot be kept is only missing: the report stands."""
        workspaces = self._parts.workspaces
        try:
            message = draft_message(self._spec, self._attempt, self._routing.model)
            commit = await workspaces.commit(workspace, message, self._attempt.sidecar)
            if not commit:
                return result
            self._delivered |= {"branch": workspace.branch, "commit": commit}
            if self._spec.context.repo:
                self._delivered["pushed"] = await workspaces.push(workspace)
        except WorkFailed as exc:
            log.warning("draft_not_kept", task=self._attempt.task, epoch=self._attempt.epoch, why=str(exc))
        return fit_result(replace(result, **self._delivered))

    async def _tidy(self) -> None:
        """End every process, give the workspace back, remove the scratch files."""
        parts = self._parts
        parts.leases.drop(self._attempt)  # what is still started only tidies up, under names of this attempt's own
        try:
            await parts.processes.end_attempt(self._attempt)
            if self._workspace is not None:
                async with asyncio.timeout(TIDY_S):
                    await parts.workspaces.close(self._workspace, keep=self._is_kept)
        except (WorkFailed, OSError) as exc:  # TimeoutError is an OSError
            why = str(exc) or f"it takes longer than {TIDY_S:g} s"
            log.warning("workspace_untidy", task=self._attempt.task, epoch=self._attempt.epoch, why=why)
        finally:
            try:
                await parts.processes.end_attempt(self._attempt)  # git's
                await parts.sandbox.close(self._attempt)
            finally:
                await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    async def _iterate(self, workspace: Workspace, cell: Cell) -> Ending:
        event = "start"
        while True:
            self._on_step(event)
            event = "fix"
            execution = await self._execute(workspace, cell)
            if execution.failure not in {None, FailureClass.AGENT}:
                self._record(execution, ())
                return Ending("fail", self.result(execution.error, execution.error_code), execution.failure)
            self._on_step("verify")
            match self._judge(execution, await self._verify(workspace)):
                case Pass():
                    return Ending("pass", self.result())
                case GiveUp() as given_up:
                    return self._given_up(given_up, execution)
                case Fix():
                    if (spent := self._spent()) is not None:
                        return self._failed(spent)

    async def _execute(self, workspace: Workspace, cell: Cell) -> Execution:
        began_at = self._parts.clock.monotonic()
        remaining, self._underway = self._remaining(), Usage()
        execution = await self._executor.execute(
            Work(
                attempt=self._attempt,
                spec=self._spec,
                routing=self._routing,
                workspace=workspace.path,
                scratch=self._scratch,
                iteration=len(self._iterations) + 1,
                previous=self._iterations[-1] if self._iterations else inherited(self._carry),
                lead=lead(self._carry, has_files=self._has_files) if not self._iterations else "",
                remaining=remaining,
                deadline_s=remaining.seconds,
                cell=cell,
                log=self._log,
                spent=self._spend,
                check=lambda: self._parts.leases.check(self._attempt),
                answering=self.answering,
            )
        )
        took_s = round(self._parts.clock.monotonic() - began_at, 6)
        if not execution.usage.seconds:  # an executor that does not say how long it took is told by our clock
            execution = dataclasses.replace(execution, usage=replace(execution.usage, seconds=took_s))
        self._last = execution
        self._underway = self._last.usage
        return self._last

    def _spend(self, usage: Usage) -> None:
        self._underway = usage

    async def _verify(self, workspace: Workspace) -> tuple[Finding, ...]:
        if not self._spec.verification:
            return ()
        return await self._parts.proof.findings(
            self._spec.verification,
            workspace,
            self._scratch.with_name(f"{self._scratch.name}-checks"),
            timeout_s=max(self._remaining().seconds, CHECKS_S),
            log=self._log,
        )

    def _judge(self, execution: Execution, findings: tuple[Finding, ...]) -> Verdict:
        self._record(execution, findings)
        return verdict(
            execution_ok=execution.ok,
            findings=findings,
            iteration=len(self._iterations),
            fix_attempts=self._spec.budget.fix_attempts + (MORE_FIXES if self._is_hard else 0),
        )

    @property
    def _is_hard(self) -> bool:
        rung = self._routing.rung
        return rung is not None and rung.effort is Effort.HIGH

    @property
    def _has_files(self) -> bool:
        return self._workspace is not None and self._workspace.is_continued

    def _record(self, execution: Execution, findings: tuple[Finding, ...]) -> None:
        self._iterations.append(
            Iteration(
                number=len(self._iterations) + 1,
                execution_ok=execution.ok,
                passed=all(finding.passed for finding in findings) if findings else None,
                summary=(execution.summary or execution.error)[:_MAX_SUMMARY_CHARS],
                findings=findings,
                usage=execution.usage,
            )
        )
        self._underway = None

    # --- ends -------------------------------------------------------------------------------------------------------

    async def _deliver(self, workspace: Workspace) -> Ending:
        """Commit the work, and push it where it came from. Work that changed nothing has no branch to show."""
        workspaces = self._parts.workspaces
        commit = ""
        if workspace.has_repo or self._is_kept:
            model = self._last.usage.model if self._last else "none"
            message = commit_message(self._spec, self._attempt, model)
            commit = await workspaces.commit(workspace, message, self._attempt.sidecar)
        if commit:
            self._delivered |= {"branch": workspace.branch, "commit": commit}
            if self._spec.context.repo:
                self._delivered["pushed"] = await workspaces.push(workspace)
        return Ending("pass", self.result())

    def _given_up(self, given_up: GiveUp, execution: Execution) -> Ending:
        error = given_up.reason
        if given_up.failure is FailureClass.AGENT:
            error = execution.error or (f"exit code {execution.exit_code}" if execution.exit_code else error)
        code = execution.error_code or ("checks_failed" if given_up.failure is FailureClass.VERIFY else "work_failed")
        return Ending("fail", self.result(error, code), given_up.failure)

    def _failed(self, error: WorkFailed) -> Ending:
        return Ending("fail", self.result(str(error), error.code), failure_of(error))

    # --- budget -----------------------------------------------------------------------------------------------------

    def _elapsed_s(self) -> float:
        return self._parts.clock.monotonic() - self._began_at

    def _used(self) -> Usage:
        used = Usage()
        for usage in (*(iteration.usage for iteration in self._iterations), self._underway or Usage()):
            used = used.plus(usage)
        return used

    def _remaining(self) -> Budget:
        budget, used = self._spec.budget, self._used()
        tokens = None if budget.tokens is None else max(0, budget.tokens - used.input_tokens - used.output_tokens)
        usd = None if budget.usd is None else max(0.0, budget.usd - self._spent_usd(used))
        return Budget(
            tokens=tokens,
            usd=usd,
            seconds=max(0.0, budget.seconds - self._elapsed_s()),
            fix_attempts=max(0, budget.fix_attempts - max(0, len(self._iterations) - 1)),
        )

    def _spent_usd(self, used: Usage) -> float:
        """Money of this attempt and of those that it goes on from: the whole ladder costs no more than the budget."""
        before = self._carry.usage.cost_usd if self._carry is not None else 0.0
        return (used.cost_usd or 0.0) + (before or 0.0)

    def _spent(self) -> BudgetSpent | None:
        """Which budget leaves no room for another iteration."""
        budget, used = self._spec.budget, self._used()
        tokens, usd = used.input_tokens + used.output_tokens, self._spent_usd(used)
        if budget.tokens is not None and tokens >= budget.tokens:
            return BudgetSpent("tokens", budget.tokens, tokens)
        if budget.usd is not None and usd > 0 and usd >= budget.usd:  # no money at all is enough for work that is free
            return BudgetSpent("USD", budget.usd, usd)
        if self._remaining().seconds == 0:
            return BudgetSpent("seconds", budget.seconds, round(self._elapsed_s(), 1))
        return None
