"""How attempts end: what is reported of them, written down until the hub has it.

Decides what an attempt has come to once its work is over, whether by itself, stopped, or broken. The caller, who knows
when it is over, is ``sidecar/runner.py``.
"""

import asyncio
from functools import reduce
from typing import Final

import structlog

from protocol import codec
from protocol.lean import lean
from protocol.messages import Accept, Report
from protocol.model import SIDECAR_DIED, AttemptId, AttemptState, FailureClass, Iteration, TaskResult
from protocol.progress import PAUSED
from protocol.redaction import Redactor
from sidecar.core.attempt import Standing, after, step
from sidecar.core.outcome import Ending, fit_result
from sidecar.core.sendable import sendable
from sidecar.held import Held
from sidecar.journal import Entry, Journal
from sidecar.outlet import Outlet

log = structlog.get_logger(__name__)

UNREADABLE: Final = "report_unreadable"
"""``error_code`` of an attempt whose report in the journal cannot be read."""
_NOOP_EVENTS: Final = ("accept", "start", "verify", "pass")
_NOOP_ENDED: Final = Standing(reduce(after, _NOOP_EVENTS, AttemptState.ASSIGNED), 1)
_NOOP_RESULT: Final = lean(
    TaskResult(execution_ok=True, verified=None, iterations=(Iteration(number=1, execution_ok=True, passed=None),))
)


class Reporting:
    """Tells the hub how attempts end, and keeps what it tells in the journal."""

    def __init__(self, journal: Journal, outlet: Outlet, redactor: Redactor) -> None:
        self._journal, self._outlet, self._redactor = journal, outlet, redactor

    def pass_noop(self, attempt: AttemptId) -> Held:
        """Accept and report in one go: no workspace, no child, no task; one row in the journal."""
        report = Report(attempt=attempt, state=_NOOP_ENDED.state, result=_NOOP_RESULT)
        encoded = codec.encode(report)
        self._journal.finished(attempt, _NOOP_ENDED.state, 1, encoded, must_last=False)
        self._outlet.send(Accept(attempt=attempt))
        self._outlet.send(report, encoded)
        return Held(attempt, _NOOP_ENDED, report)

    def note(self, held: Held, ending: Ending) -> None:
        """Write down how an attempt ends whose place has yet to be given back, should this sidecar die meanwhile."""
        if held.is_unwanted:
            return
        report = self._report(held, ending)
        self._journal.note(held.attempt, codec.encode(report))
        self._journal.commit(tidy=False)

    def take_up(self, held: Held, noted: Report | None, output: str) -> None:
        """Report on work that an earlier boot has left: how it ended if that stood, else that it was cut off.

        Args:
            held: the attempt, as it stood.
            noted: what was written down by :meth:`note`.
            output: what is known of its output.
        """
        if noted is None or noted.state is AttemptState.LOST:
            self.finish(held, died(output, None if noted is None else noted.result))
            return
        held.standing = Standing(noted.state, held.standing.iteration)
        held.report = noted
        self._tell(held, noted)
        log.info("attempt_taken_up", task=held.attempt.task, epoch=held.attempt.epoch, state=noted.state.value)

    def finish(self, held: Held, ending: Ending) -> None:
        """Write the attempt's report down, and send it."""
        held.report = self._report(held, ending)
        state, result, failure = held.report.state, held.report.result, held.report.failure
        held.standing = Standing(state, held.standing.iteration)
        self._tell(held, held.report)
        log.info(
            "attempt_ended",
            task=held.attempt.task,
            epoch=held.attempt.epoch,
            state=state.value,
            failure=failure and failure.value,
            code=result.error_code,
            verified=result.verified,
            iterations=len(result.iterations),
            model=result.usage.model,
            input_tokens=result.usage.input_tokens,
            output_tokens=result.usage.output_tokens,
            seconds=result.usage.seconds,
        )

    def _tell(self, held: Held, report: Report) -> None:
        """Write a report down that was looked at, and send it as it stands there."""
        encoded = codec.encode(report)
        self._journal.finished(held.attempt, report.state, held.standing.iteration, encoded)
        self._outlet.send(report, encoded)

    def _report(self, held: Held, ending: Ending) -> Report:
        """What the hub is told of an ending: what it would not take is looked for before anything is written down."""
        state = step(held.standing, ending.event).state
        result = lean(self._redactor.value(ending.result))
        report = Report(attempt=held.attempt, state=state, result=result, failure=ending.failure)
        told, why = sendable(report)
        if why:
            log.error("report_unsendable", task=held.attempt.task, epoch=held.attempt.epoch, why=why, next="failed")
        assert isinstance(told, Report), "of a report there is always something to tell"
        return told

    def lost_report(self, entry: Entry) -> Held:
        """Of an attempt that has ended, and whose report in the journal cannot be read (any more): that it failed."""
        result = TaskResult(
            execution_ok=False,
            verified=None,
            error_code=UNREADABLE,
            error="the sidecar cannot read the report that it had written down",
        )
        report = Report(attempt=entry.attempt, state=AttemptState.FAILED, result=result, failure=FailureClass.INFRA)
        self._journal.finished(entry.attempt, report.state, entry.iteration, codec.encode(report))
        self._outlet.send(report)
        log.error("report_unreadable", task=entry.attempt.task, epoch=entry.attempt.epoch, next="failed")
        return Held(entry.attempt, Standing(report.state, entry.iteration), report)


def died(output: str, known: TaskResult | None = None) -> Ending:
    """How an attempt ended that an earlier boot of this sidecar has left.

    Args:
        output: what is known of its output.
        known: names the branch that it was about to push, or has pushed: nobody knows.
    """
    result = TaskResult(
        execution_ok=False,
        verified=None,
        error_code=SIDECAR_DIED,
        error="the sidecar ended during the work",
        output=output,
        branch="" if known is None else known.branch,
        commit="" if known is None else known.commit,
    )
    return Ending("lose", fit_result(result), FailureClass.INFRA)


def ending_of(held: Held, work: asyncio.Task[Ending]) -> Ending:
    """How work ended that is over."""
    bug = None if work.cancelled() else work.exception()
    if bug is not None:
        log.error("attempt_broke", task=held.attempt.task, epoch=held.attempt.epoch, exc_info=bug)
    known = None if held.rounds is None else held.rounds.ending
    if known is not None:
        return known  # what ended the tidying does not take back what was done
    if bug is not None:
        error = f"the sidecar itself failed: {type(bug).__name__}; its log has the details"
        return Ending("fail", _so_far(held, error, "sidecar_failed"), FailureClass.INFRA)
    return _stopped(held)


def _stopped(held: Held) -> Ending:
    event = held.stop_event or "lose"
    reason = held.stop_reason or "it was stopped"
    if event == "cancel":
        return Ending("cancel", _so_far(held, f"cancelled: {reason}", "cancelled"), FailureClass.CANCELLED)
    if event == "pause":
        return Ending("cancel", _so_far(held, reason, PAUSED), FailureClass.CANCELLED)
    return Ending("lose", _so_far(held, reason, "lost"), FailureClass.INFRA)


def _so_far(held: Held, error: str, code: str) -> TaskResult:
    if held.rounds is None:
        return TaskResult(execution_ok=False, verified=None, error_code=code, error=error)
    return held.rounds.result(error, code)
