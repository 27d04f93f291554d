"""One attempt's work: open a workspace, execute and verify until it passes or nothing is left to try, then deliver.

Decides only when to stop: the checks decide what passed (``sidecar/core/verify.py``), the executors do the work. Knows
no hub; the caller, who turns cancellation and lost leases into a report, is ``sidecar/runner.py``.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
from msgspec.structs import replace

from protocol.checks import digest_of
from protocol.choice import Effort, Escalation
from protocol.errors import BudgetSpent, WorkFailed
from protocol.messages import Carry
from protocol.model import (
    AttemptId,
    FailureClass,
    Finding,
    Iteration,
    Routing,
    Strategy,
    TaskResult,
    TaskSpec,
    Usage,
)
from protocol.progress import PAUSED
from protocol.removal import remove_tree
from sidecar.checks.base import Ask
from sidecar.core.outcome import Ending, fit_result, tail
from sidecar.core.programs import EXECUTORS
from sidecar.core.purse import Purse
from sidecar.core.verify import Fix, GiveUp, Hold, Pass, Verdict, inherited, lead, verdict
from sidecar.delivery import Delivery
from sidecar.errors import LeaseOver, Paused, ProgressUnheard, SecretsUnheard, failure_of
from sidecar.executors.base import Called, Execution, Executor, Pauses, Work, failed
from sidecar.executors.transcript import Transcript
from sidecar.llm.account import Account
from sidecar.llm.passage import NEED
from sidecar.parts import Answers, Parts
from sidecar.progress import LOST, Before, Progress, saved
from sidecar.repository import PUSH, Repository
from sidecar.sandbox.cell import Cell, Level
from sidecar.spans import span
from sidecar.workspace import Workspace

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


class Rounds:
    """The work of one attempt.

    Attributes:
        ending: how it ended, as soon as that stands; ``None`` before, and if it was cut off.
        answering: is given a way to ask how a model's answer comes along, and ``None`` when none is on its way.
        called: hears which tools a model has called in a turn.
        noted: hears how it will be ended if this sidecar dies from now on: before a push, and when the ending stands.
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
        self.called: Called = lambda _turn, _calls: None
        self.noted: Callable[[Ending], None] = lambda _ending: None
        self._last: Execution | None = None
        self._judging = Usage()
        carried_usd = None if carry is None else carry.usage.cost_usd or 0.0  # the whole ladder costs no more
        self._purse = Purse(spec.budget, parts.clock.monotonic(), carried_usd)
        self._before, self._lost, self._doubt = Before(), "", ""
        self._workspace: Workspace | None = None
        self._scratch = parts.scratch / f"{attempt.task}-e{attempt.epoch}"
        self._room = self._scratch.with_name(f"{self._scratch.name}-checks")
        documents = self._scratch.with_name(f"{self._scratch.name}.wip")
        self._progress = Progress(parts.shelf, parts.workspaces, attempt, spec, documents)
        self._progress.say = self._remark
        self._is_kept = False
        self._account, self._own = Account(), Usage()
        self._delivery = Delivery(parts.workspaces, parts.depot, attempt, spec)
        self._delivery.on_push = lambda: self.noted(Ending("lose", self.result(), FailureClass.INFRA))
        self._limit = asyncio.timeout(None)

    async def work(self) -> Ending:
        """Do it all; whatever ends it (also cancellation) leaves no process and no scratch files behind.

        What comes out stands in ``ending`` before the place is tidied: neither a failure there nor a cancellation then
        takes back what was checked and delivered.
        """
        try:
            ending = self.ending = await self._in_time()
            if self._is_kept and self._workspace is not None:
                self._parts.workspaces.keep(self._workspace)
            self.noted(ending)
        finally:
            await self._tidy()
        return ending

    async def _in_time(self) -> Ending:
        try:
            async with self._limit:
                return await self._in_workspace()
        except TimeoutError:
            if not self._limit.expired():
                raise
            elapsed_s = round(self._purse.elapsed_s(self._now()), 1)
            return self._failed(BudgetSpent("seconds", self._spec.budget.seconds, elapsed_s))
        except Paused as exc:
            return Ending("cancel", self.result(str(exc), PAUSED), FailureClass.CANCELLED)
        except WorkFailed as exc:
            return self._failed(exc)
        except (LeaseOver, ProgressUnheard, SecretsUnheard) as exc:
            return Ending("lose", self.result(str(exc), exc.code), FailureClass.INFRA)

    def result(self, error: str = "", error_code: str = "") -> TaskResult:
        """What there is so far, as a result that fits the line."""
        last, done = self._last, self._purse.iterations
        report = done[-1].findings if done else ()
        verified = all(finding.passed for finding in report) if report else None
        if verified and self._purse.underway is not None:
            verified = None  # more has been done since, and nobody has looked at that
        result = TaskResult(
            execution_ok=last is not None and last.ok,
            verified=verified,
            output=last.output if last else "",
            report=report,
            iterations=tuple(done),
            usage=self._purse.to_report(self._now()),
            exit_code=last.exit_code if last else None,
            error_code=error_code or ("doubtful" if self._doubt and not error else ""),
            error=tail(error or self._doubt, 4_000),
            checks=digest_of(self._spec.verification) if report else "",
        )
        return fit_result(replace(result, **self._delivery.done))

    # --- rounds -----------------------------------------------------------------------------------------------------

    async def _in_workspace(self) -> Ending:
        parts, attempt = self._parts, self._attempt
        before = await self._progress.before(is_wanted=self._routing.executor != "noop")
        carried_usd = None if self._carry is None else self._purse.carried_usd
        self._purse = Purse(self._spec.budget, self._now(), carried_usd)  # waiting for the hub is no work
        self._allow(self._spec.budget.seconds + CHECKS_S + OVERTIME_S)
        carry = before.carry or self._carry
        self._workspace = workspace = await parts.workspaces.open(attempt, self._spec, attempt.sidecar, carry)
        self._take_up(before, workspace)
        is_asking = self._executor.name in EXECUTORS
        needs = (*self._spec.needs, *((NEED,) if is_asking else ()))
        doors = parts.passages.open(attempt, needs, self._account)
        cell = parts.sandbox.cell(attempt, workspace.place(self._scratch), *doors)
        cell.secrets = await parts.vault.variables(attempt, self._spec.secrets)
        if cell.level is not Level.NONE:  # there no program runs that could leave anything for git to obey
            workspace.walls = cell
        async with parts.quota.watch(attempt, workspace.path, workspace.git_dir, self._scratch, self._room):
            ending = await self._iterate(workspace, cell)
            await cell.clear()  # nothing in the background changes what is delivered
        # Without a repository the files lie nowhere else.
        self._is_kept = not workspace.has_repo and bool(await parts.workspaces.changes(workspace))
        ending = await self._keep_files(workspace, ending)
        if ending.event == "pass":
            return await self._deliver(workspace)
        if ending.failure in {FailureClass.VERIFY, FailureClass.BUDGET} and self._may_climb:
            await self._delivery.draft(workspace, self._routing.model)
            return self._with_delivered(ending)
        return ending

    async def _keep_files(self, workspace: Workspace, ending: Ending) -> Ending:
        """Bring the files that the task wants kept; of work that did not pass only what can be brought."""
        is_passed = ending.event == "pass"
        await self._delivery.files(workspace, say=self._remark, allow_s=self._allow, must=is_passed)
        return self._with_delivered(ending)

    def _with_delivered(self, ending: Ending) -> Ending:
        return dataclasses.replace(ending, result=fit_result(replace(ending.result, **self._delivery.done)))

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

    async def _tidy(self) -> None:
        """End every process, give the workspace back, remove the scratch files."""
        parts = self._parts
        parts.leases.drop(self._attempt)  # what is still started only tidies up, under names of this attempt's own
        try:
            await parts.passages.close(self._attempt)
            await parts.processes.end_attempt(self._attempt)
            if self.ending is not None and self.ending.event in {"pass", "fail"}:
                await self._progress.forget(self._workspace)
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
                await asyncio.to_thread(remove_tree, self._scratch)
                await self._progress.close()

    async def _iterate(self, workspace: Workspace, cell: Cell) -> Ending:
        event = "start"
        while True:
            self._on_step(event)
            event = "fix"
            with span("execute", {"agentcom.executor": self._executor.name}) as facts:
                execution = await self._execute(workspace, cell)
                facts["problem"] = execution.error_code
            if execution.failure not in {None, FailureClass.AGENT}:
                self._record(execution, ())
                return Ending("fail", self.result(execution.error, execution.error_code), execution.failure)
            self._on_step("verify")
            match self._judge(execution, await self._verify(workspace)):
                case Pass() | Hold() as passed:
                    self._doubt = passed.reason if isinstance(passed, Hold) else ""
                    return Ending("pass", self.result())
                case GiveUp() as given_up:
                    return self._given_up(given_up, execution)
                case Fix():
                    if (spent := self._purse.spent(self._now())) is not None:
                        return self._failed(spent)
                    await self._reached(workspace)
                    if (stuck := self._progress.stuck(self._purse.iterations)) is not None:
                        return self._given_up(stuck, execution)

    async def _execute(self, workspace: Workspace, cell: Cell) -> Execution:
        began_at, done = self._now(), self._purse.iterations
        before, self._before = self._before, Before()
        self._purse.underway = None
        remaining, self._purse.underway = self._purse.remaining(began_at), before.underway
        self._own = before.underway or Usage()
        self._account.begin(remaining, lambda: self._spend(self._own))
        execution = await self._executor.execute(
            Work(
                attempt=self._attempt,
                spec=self._spec,
                routing=self._routing,
                workspace=workspace.path,
                scratch=self._scratch,
                iteration=len(done) + 1,
                previous=done[-1] if done else inherited(self._carry),
                lead=lead(self._carry, has_files=workspace.is_continued) if not done else self._lost,
                remaining=remaining,
                deadline_s=remaining.seconds,
                cell=cell,
                log=self._log,
                spent=self._spend,
                check=lambda: self._parts.leases.check(self._attempt),
                answering=self.answering,
                resume=before.transcript,
                prior=before.underway,
                note=before.note,
                turned=partial(self._reached, workspace),
                repository=self._repository(workspace),
                account=self._account,
                changes=partial(
                    self._parts.proof.changes, workspace, self._scratch.with_name(f"{self._scratch.name}-look")
                ),
                called=self.called,
            )
        )
        await self._account.settled()
        execution = dataclasses.replace(execution, usage=execution.usage.plus(self._account.usage))
        if not execution.ok and self._account.spent is not None:
            execution = failed(self._account.spent, execution.usage, execution.output)
        took_s = round(self._now() - began_at, 6)
        if not execution.usage.seconds:  # an executor that does not say how long it took is told by our clock
            execution = dataclasses.replace(execution, usage=replace(execution.usage, seconds=took_s))
        self._last = execution
        self._purse.underway = self._last.usage
        return self._last

    def _repository(self, workspace: Workspace) -> Repository | None:
        if not workspace.has_repo:
            return None
        return Repository(self._parts.workspaces, workspace, may_push=PUSH in self._spec.needs)

    def _spend(self, usage: Usage) -> None:
        self._own = usage
        self._purse.underway = usage.plus(self._account.usage)

    def _now(self) -> float:
        return self._parts.clock.monotonic()

    async def _verify(self, workspace: Workspace) -> tuple[Finding, ...]:
        if not self._spec.verification:
            return ()
        return await self._parts.proof.findings(
            self._spec.verification,
            workspace,
            self._room,
            timeout_s=max(self._purse.remaining(self._now()).seconds, CHECKS_S),
            log=self._log,
            task="\n\n".join(filter(None, (self._spec.title, self._spec.prompt or self._spec.command))),
            ask=self._ask(),
        )

    def _ask(self) -> Ask | None:
        """How to ask a model that is no author; ``None``: there is none, or nobody knows who the authors are."""
        if self._executor.name in EXECUTORS and not self._account.models:
            return None
        return self._parts.judges.ask(
            self._authors(),
            remaining=lambda: self._purse.remaining(self._now()),
            spent=self._judged_for,
            check=lambda: self._parts.leases.check(self._attempt),
        )

    def _authors(self) -> set[str]:
        """The models that have done the work, earlier attempts among them."""
        used = [iteration.usage for iteration in self._purse.iterations]
        used += [self._last.usage] if self._last else []
        carried = {self._carry.model} if self._carry else set()
        return {self._routing.model, *carried, *self._account.models, *(usage.model for usage in used)}

    def _judged_for(self, usage: Usage) -> None:
        """Somebody was asked what he thinks of the work: that is part of what it costs."""
        self._judging = self._judging.plus(usage)
        self._purse.underway = usage.plus(self._purse.underway or Usage())

    def _judge(self, execution: Execution, findings: tuple[Finding, ...]) -> Verdict:
        self._record(execution, findings)
        return verdict(
            execution_ok=execution.ok,
            findings=findings,
            iteration=len(self._purse.iterations),
            fix_attempts=self._spec.budget.fix_attempts + (MORE_FIXES if self._is_hard else 0),
        )

    @property
    def _is_hard(self) -> bool:
        rung = self._routing.rung
        return rung is not None and rung.effort is Effort.HIGH

    def _record(self, execution: Execution, findings: tuple[Finding, ...]) -> None:
        usage, self._judging = self._judging.plus(execution.usage), Usage()  # the model that did the work stands
        self._purse.iterations.append(
            Iteration(
                number=len(self._purse.iterations) + 1,
                execution_ok=execution.ok,
                passed=all(finding.passed for finding in findings) if findings else None,
                summary=(execution.summary or execution.error)[:_MAX_SUMMARY_CHARS],
                findings=findings,
                usage=usage,
            )
        )
        self._purse.underway = None

    # --- work in progress -------------------------------------------------------------------------------------------

    def pause(self, reason: str) -> Pauses:
        """Stop at the end of the turn; when this work can stop at all."""
        if self._executor.pauses == "turn":
            self._progress.asked = reason
        return self._executor.pauses

    def go_on(self) -> None:
        """Do not stop after all."""
        self._progress.asked = ""

    def _take_up(self, before: Before, workspace: Workspace) -> None:
        """Go on where an earlier attempt was, if its files are here; what it has used counts in any case."""
        self._before = before
        if (was := before.saved) is None:
            return
        self._purse.inherit(before.iterations, seconds=was.seconds, carried_usd=was.carried_usd, told=before.told)
        if workspace.is_continued:
            self._remark(f"[goes on behind turn {was.turn} of iteration {was.iteration}]")
        else:
            self._before = dataclasses.replace(before, transcript=None)
            self._lost = LOST
            self._remark("[the work so far cannot be had here: it begins anew, with what is left of the budget]")

    async def _reached(self, workspace: Workspace, transcript: Transcript | None = None) -> None:
        """The end of a turn, or of an iteration: keep the work as it stands, and stop if somebody wants that."""
        await self._progress.keep(workspace, saved(self._purse, self._now(), self._routing.model, transcript))

    # --- ends -------------------------------------------------------------------------------------------------------

    async def _deliver(self, workspace: Workspace) -> Ending:
        if workspace.has_repo or self._is_kept:
            await self._delivery.work(workspace, self._last.usage.model if self._last else "none")
        return Ending("pass", self.result())

    def _given_up(self, given_up: GiveUp, execution: Execution) -> Ending:
        error = given_up.reason
        if given_up.failure is FailureClass.AGENT:
            error = execution.error or (f"exit code {execution.exit_code}" if execution.exit_code else error)
        code = execution.error_code or ("checks_failed" if given_up.failure is FailureClass.VERIFY else "work_failed")
        return Ending("fail", self.result(error, code), given_up.failure)

    def _failed(self, error: WorkFailed) -> Ending:
        return Ending("fail", self.result(str(error), error.code), failure_of(error))
