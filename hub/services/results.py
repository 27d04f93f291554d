"""What agents say about their attempts: accepted, rejected, moved on, wrote output, ended.

Every message carries the attempt's epoch. One that is not current changes nothing and is answered ``stale``, so a late,
doubled or forged message is harmless. A message is acknowledged after its effect is stored: an acknowledgement followed
by a crash would drop the report, and the sidecar, having it, would never send it again.
"""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any, Final

import structlog

from hub.core.agent import Agent, Held
from hub.core.fleet import Fleet
from hub.core.ladder import Ladder
from hub.core.policy import Next, after_end, avoided, awaits_person, is_plain
from hub.core.proving import DELAY_S, Rooms
from hub.core.tally import told_at_end
from hub.core.task import COMPLETED
from hub.core.telling import REDACTOR, said_of, turn_of
from hub.core.window import Window
from hub.store.budget_changes import Settle
from hub.store.changes import NOTHING_ELSE, Accept, Advance, AppendLog, Exonerate, Finish, Finished, Outcome, Record
from hub.store.many_changes import End, Many
from hub.store.store import Store
from protocol import codec, messages
from protocol.checks import GENERATION_4
from protocol.clock import Clock
from protocol.errors import AgentComError, BadInput, Problem, StaleAttempt, StorageFull, StoreFailed
from protocol.events import EventKind
from protocol.limits import MAX_LOG_BYTES, MAX_LOG_CHUNK_BYTES
from protocol.loads import Turn
from protocol.model import SIDECAR_DIED, AttemptId, AttemptState, FailureClass, TaskResult, TaskState, Usage
from protocol.progress import PAUSED
from protocol.salvage import Unreadable

log = structlog.get_logger(__name__)

# Every report asks for these; the members of an enumeration are slow to find.
_ASSIGNED, _PASSED = AttemptState.ASSIGNED, AttemptState.PASSED
_LOST, _CANCELLED = AttemptState.LOST, AttemptState.CANCELLED
_VERIFY: Final = FailureClass.VERIFY
_AT_WORK: Final = frozenset({AttemptState.RUNNING, AttemptState.VERIFYING})
_ENDED: Final = frozenset({AttemptState.PASSED, AttemptState.FAILED, AttemptState.LOST, AttemptState.CANCELLED})
_ENDS: Final = {"report": AttemptState.FAILED, "reject": AttemptState.LOST}
"""Messages that end an attempt, and how it ended if nobody can read them."""

HEARD_S: Final = 1.0
"""How long a task waits that was refused because a GPU was taken back: so long its sidecar takes at most to say so."""

MAX_TURNS_TOLD: Final = 200
"""Events of one attempt that tell what its model does."""

Answer = Callable[[AgentComError | None], None]
"""Called when the message's effect is stored (``None``), or with why it has none."""
Told = tuple[messages.Report, messages.Accept | None]
"""A report, and the acceptance of its attempt if that came with it."""
Answers = Callable[[Sequence[Told], AgentComError | None], None]
"""As :data:`Answer`, for some of many reports that stand next to one another."""


class Results:
    """The use cases of an agent at work."""

    def __init__(  # noqa: PLR0913 - the parts it is made of
        self,
        store: Store,
        fleet: Fleet,
        window: Window,
        clock: Clock,
        random: Random,
        *,
        hub: int = 0,
        on_delayed: Callable[[int], None] = lambda _ready_ms: None,
        on_log: Callable[[str], None] = lambda _task: None,
        on_ended: Callable[[TaskState, int], None] = lambda _state, _times: None,
        on_used: Callable[[Held, Usage], None] = lambda _held, _usage: None,
        on_checked: Callable[[Held, Finish], None] = lambda _held, _change: None,
        on_offered: Callable[[], None] = lambda: None,
        ladder: Callable[[], Ladder] | None = None,
        rooms: Callable[[], Rooms] | None = None,
    ) -> None:
        self._store, self._fleet, self._window = store, fleet, window
        self._clock, self._random, self._hub = clock, random, hub
        self._on_delayed, self._on_log, self._on_ended, self._on_used = on_delayed, on_log, on_ended, on_used
        self._acts: dict[type[messages.Ordered], Callable[[AttemptId, Any, Answer], None]] = {
            messages.Accept: self._accept,
            messages.Report: self._report,
            messages.Progress: self._progress,
            messages.Log: self._log,
            messages.Reject: self._reject,
        }
        self._on_checked, self._on_offered, self._ladder, self._rooms = on_checked, on_offered, ladder, rooms

    def take(self, agent: str, message: messages.Ordered, answer: Answer, *, accepts: bool = False) -> None:
        """Act on a message of ``agent``; ``answer`` is called exactly once, after the commit.

        ``accepts``: a report of an attempt that its agent has accepted in the same breath: one change for both.
        """
        attempt: AttemptId = message.attempt  # type: ignore[attr-defined]  # all of these have one
        if attempt.sidecar != agent:
            answer(StaleAttempt(attempt.task, attempt.epoch, None, None))
            return
        if accepts and isinstance(message, messages.Report):
            self._report(attempt, message, answer, accepts=True)
        else:
            self._acts[type(message)](attempt, message, answer)

    def reports(self, agent: str, told: Sequence[Told], answer: Answers) -> None:
        """Act on reports of ``agent`` that came in a row; ``answer`` is called once for each, after its commit.

        The plain ones between two others are one change, and answered together.
        """
        plain: list[tuple[Held, End]] = []
        freed: Agent | None = None
        now_ms = self._clock.now_ms()
        for number, (report, accept) in enumerate(told):
            held = self._current(report.attempt)
            if held is not None and held.agent == agent and is_plain(held, report):
                begins = accept is not None
                ended = self._fleet.end(held, begins=begins and held.state is _ASSIGNED)
                if ended is not freed:  # once for all of them: its slots are free for the plan that joins this batch
                    self._fleet.freed(ended)
                    freed = ended
                plain.append((held, self._plain_end(held, report.result, now_ms, accepts=begins)))
                continue
            self._post_plain(plain, told[number - len(plain) : number], answer)
            plain = []
            self.take(agent, report, partial(answer, ((report, accept),)), accepts=accept is not None)
        self._post_plain(plain, told[len(told) - len(plain) :], answer)

    def _plain_end(self, held: Held, result: TaskResult, now_ms: int, *, accepts: bool) -> End:
        self._on_used(held, result.usage)
        offers = result.pushed and bool(result.branch)
        return End(
            now_ms, held.task, held.epoch, self._hub, held.retries, held.infra_failures,
            codec.kept_result(result), told_at_end(result), accepts, offers,
        )  # fmt: skip

    def _post_plain(self, plain: Sequence[tuple[Held, End]], told: Sequence[Told], answer: Answers) -> None:
        if plain:
            self._store.post(Many([end for _, end in plain]), partial(self._ended_plainly, plain, told, answer))

    def _ended_plainly(
        self, plain: Sequence[tuple[Held, End]], told: Sequence[Told], answer: Answers, outcome: Outcome
    ) -> None:
        outcomes = [outcome] * len(plain) if isinstance(outcome, AgentComError) else outcome
        if outcomes.count(NOTHING_ELSE) == len(plain):
            self._on_ended(COMPLETED, len(plain))
            if True in [end.offers for _, end in plain]:
                self._on_offered()
            answer(told, None)
            return
        for (held, end), each, one in zip(plain, told, outcomes, strict=True):
            self._ended(held, end, partial(answer, (each,)), one)

    def unreadable(self, agent: str, message: Unreadable, answer: Answer) -> None:
        """A message of ``agent`` came that cannot be read: an attempt whose end it was ends, for that reason."""
        attempt, state = message.attempt, _ENDS.get(message.kind)
        if attempt is None or state is None or attempt.sidecar != agent:
            answer(None)  # what it would have told is lost; no end of anything depends on it
            return
        reason = f"its {message.kind} cannot be read: {message.error.problem}"
        self._end(attempt, state, FailureClass.INFRA, reason, None, answer)

    def _accept(self, attempt: AttemptId, _message: messages.Accept, answer: Answer) -> None:
        held = self._current(attempt)
        if held is None:
            answer(self._stale(attempt))
            return
        if held.state is _ASSIGNED:
            self._fleet.start(held)
        change = Accept(at_ms=self._clock.now_ms(), task=attempt.task, epoch=attempt.epoch, hub=self._hub)
        self._store.post(change, partial(_tell, answer))

    def _progress(self, attempt: AttemptId, message: messages.Progress, answer: Answer) -> None:
        held = self._current(attempt)
        if held is None:
            answer(self._stale(attempt))
            return
        if message.state not in _AT_WORK:
            answer(_not_a_state(message.state, _AT_WORK))
            return
        if message.turn is not None:
            self._turn(held, message, message.turn, answer)
            return
        held.state = message.state
        change = Advance(
            at_ms=self._clock.now_ms(),
            task=attempt.task,
            epoch=attempt.epoch,
            state=message.state,
            iteration=message.iteration,
            detail=REDACTOR.text(message.detail)[:500] if message.detail else "",
            hub=self._hub,
        )
        self._store.post(change, partial(_tell, answer))

    def _turn(self, held: Held, message: messages.Progress, turn: Turn, answer: Answer) -> None:
        """What a model has done; no more of it than anybody would look at."""
        held.turns_told += 1
        if held.turns_told > MAX_TURNS_TOLD:  # its sidecar should tell fewer
            answer(None)
            return
        event = turn_of(held, message.iteration, turn, self._clock.now_ms())
        self._store.post(Record(event), partial(_tell, answer))

    def _log(self, attempt: AttemptId, message: messages.Log, answer: Answer) -> None:
        held = self._current(attempt)
        if held is None:
            answer(self._stale(attempt))
            return
        size_bytes = len(message.text.encode())
        if held.log_bytes + size_bytes > MAX_LOG_BYTES:  # its sidecar should have stopped sending before
            answer(None)
            return
        if self._store.is_behind:
            held.log_missing_bytes += size_bytes
            answer(None)
            return
        text = REDACTOR.text(message.text[:MAX_LOG_CHUNK_BYTES])
        if held.log_missing_bytes:
            text = f"\n[... {held.log_missing_bytes} bytes of output were not stored, the disk was behind ...]\n{text}"
            held.log_missing_bytes = 0
        held.log_bytes += size_bytes
        change = AppendLog(
            at_ms=self._clock.now_ms(),
            task=attempt.task,
            epoch=attempt.epoch,
            offset=message.offset,
            stream=message.stream[:20],
            text=text,
            hub=self._hub,
        )

        def stored(outcome: Outcome) -> None:
            if isinstance(outcome, StorageFull):
                held.log_missing_bytes += size_bytes
            _tell(answer, outcome)
            self._on_log(attempt.task)

        self._store.post(change, stored)

    def _reject(self, attempt: AttemptId, message: messages.Reject, answer: Answer) -> None:
        if self._current(attempt) is None:
            answer(self._stale(attempt))
            return
        now_ms = self._clock.now_ms()
        reason = REDACTOR.text(f"{message.code}: {message.reason}")[:500]
        log.warning("attempt_rejected", task=attempt.task, epoch=attempt.epoch, agent=attempt.sidecar, why=reason)
        self._store.post(Record(said_of(attempt, EventKind.ATTEMPT_REJECTED, now_ms, reason=reason)))
        is_leaving, is_reclaimed = message.code == "draining", message.code == "reclaimed"
        if is_leaving and (agent := self._fleet.agents.get(attempt.sidecar)) is not None:
            agent.is_leaving = True  # it will say hello again when it is back
            self._fleet.changed(agent)
        self._end(
            attempt,
            _LOST,
            FailureClass.INFRA,
            reason,
            None,
            answer,
            is_counted=not is_leaving and not is_reclaimed,
            least_s=HEARD_S if is_reclaimed else 0.0,
        )

    def _report(self, attempt: AttemptId, message: messages.Report, answer: Answer, *, accepts: bool = False) -> None:
        state, result, failure = message.state, message.result, message.failure
        if state is _PASSED:
            if not result.execution_ok:
                failure = failure or FailureClass.AGENT  # a contradiction counts against the work, never for it
            if result.verified is False:
                failure = None if failure is None and awaits_person(result) else _VERIFY
        elif state is _CANCELLED and attempt.task not in self._fleet.held:
            self._settle(attempt, message)
            answer(None)  # it stopped, as it was told to: the task has ended without it
            return
        elif state not in _ENDED:
            answer(_not_a_state(state, _ENDED))
            return
        elif failure is None:
            failure = FailureClass.INFRA if state is _LOST else FailureClass.AGENT
        is_paused = state is _CANCELLED and result.error_code == PAUSED  # as it was told to
        orderly, is_counted = _has_outlived(message), not is_paused
        self._end(
            attempt, state, failure, result.error, message, answer,
            orderly=orderly, is_counted=is_counted, accepts=accepts,
        )  # fmt: skip

    def lose(self, held: Held, reason: str) -> None:
        """The attempt's agent is gone, or its lease has ended: the task goes back to the queue."""
        attempt = AttemptId(held.agent, held.boot, held.task, held.epoch)
        log.warning("lease_lost", task=held.task, epoch=held.epoch, agent=held.agent, why=reason, next="requeued")
        self._end(attempt, _LOST, FailureClass.INFRA, reason, None, lambda _error: None, orderly=False)

    def _settle(self, attempt: AttemptId, report: messages.Report) -> None:
        """What was presumed of an attempt that ended without a word is known now."""
        self._store.post(Settle(task=attempt.task, epoch=attempt.epoch, usage=report.result.usage))

    def exonerate(self, attempt: AttemptId) -> None:
        """The sidecar has outlived the attempt after all: whatever ended it, it was no killer."""
        change = Exonerate(
            at_ms=self._clock.now_ms(),
            task=attempt.task,
            epoch=attempt.epoch,
            agent=attempt.sidecar,
            boot=attempt.boot,
        )
        self._store.post(change)

    def _end(  # noqa: PLR0913 - all that an end can be
        self,
        attempt: AttemptId,
        state: AttemptState,
        failure: FailureClass | None,
        reason: str,
        report: messages.Report | None,
        answer: Answer,
        *,
        is_counted: bool = True,
        orderly: bool = True,
        accepts: bool = False,
        least_s: float = 0.0,
    ) -> None:
        held = self._current(attempt)
        if held is None:
            self._record_stale(attempt)
            if report is not None and _has_outlived(report):
                self._settle(attempt, report)
                self.exonerate(attempt)
            answer(self._stale(attempt))
            return
        if accepts and held.state is _ASSIGNED:
            self._fleet.start(held)
        now_ms = self._clock.now_ms()
        asks = failure is None and report is not None and report.result.verified is False
        after = after_end(held, failure, is_counted=is_counted, asks=asks)
        if (
            held.is_proof and is_counted and failure not in {None, _VERIFY}
        ):  # what it costs is decided with the rows in view
            after = Next(after.state, after.event, DELAY_S, held.retries, held.infra_failures)
        delay_s = max(least_s, after.delay_s and after.delay_s * (0.5 + self._random.random() / 2))
        ready_ms = now_ms + int(delay_s * 1000) if delay_s else None
        self._fleet.release(attempt.task, attempt.epoch)  # the slot is free for the plan that joins this batch
        result = report.result if report is not None else None
        if result is not None and orderly:  # a sidecar that died does not know what was used
            self._on_used(held, result.usage)
        change = Finish(
            at_ms=now_ms,
            task=attempt.task,
            epoch=attempt.epoch,
            attempt=AttemptState.FAILED if failure and state is _PASSED else state,
            next=after.state,
            retries=after.retries,
            infra_failures=after.infra_failures,
            failure=failure,
            reason=REDACTOR.text(reason)[:2_000] if reason else "",
            result=codec.kept_result(result) if result is not None else None,
            execution_ok=result.execution_ok if result is not None else None,
            verified=result.verified if result is not None else None,
            checks=result.checks if result is not None else "",
            names_checks=self._names_checks(held),
            ready_ms=ready_ms,
            facts=told_at_end(result) if result is not None else {},
            orderly=orderly,
            is_charged=held.is_charged,
            accepts=accepts,
            avoid=avoided(held, failure) if is_counted else "",
            hub=self._hub,
            offers=result is not None and result.pushed and bool(result.branch),
            ladder=self._ladder() if failure is _VERIFY and result is not None and self._ladder else None,
            used=result.usage if result is not None and result.usage.model != "none" else None,
            rooms=self._rooms() if failure is None and result is not None and result.verified and self._rooms else None,
        )
        self._store.post(change, partial(self._ended, held, change, answer))

    def _ended(self, held: Held, change: Finish | End, answer: Answer, outcome: Outcome) -> None:
        if isinstance(outcome, Finished):
            for ready in (outcome.again, *outcome.ready):
                if ready is not None:
                    self._window.add(ready.class_text, ready.place)
                    self._store.wake()
            if change.ready_ms is not None:
                self._on_delayed(change.ready_ms)
            after = outcome.next or change.next
            self._on_ended(after, 1)
            if change.offers:
                self._on_offered()
            if held.model and isinstance(change, Finish) and not outcome.refused:
                self._on_checked(held, change)
            if after is not COMPLETED:  # what goes well stands in the event log, and no line says so
                log.info(
                    "attempt_ended",
                    task=change.task,
                    epoch=change.epoch,
                    attempt=change.attempt.value,
                    next=after.value,
                    failure=change.failure and change.failure.value,
                    verified=change.verified,
                    climbs=outcome.step and outcome.step.why,
                    refused=outcome.refused,
                )
        elif not isinstance(outcome, StaleAttempt | StoreFailed) and held.task not in self._fleet.held:
            # The rows refuse this end and still say that the agent has it: so it has, until the sweeper takes it away.
            log.error("end_not_stored", task=held.task, epoch=held.epoch, why=str(outcome), next="requeued")
            held.lease_until = self._clock.monotonic()
            self._fleet.take(held)
        _tell(answer, outcome)

    def _names_checks(self, held: Held) -> bool:
        agent = self._fleet.agents.get(held.agent)
        return agent is not None and GENERATION_4 in agent.capabilities

    def _current(self, attempt: AttemptId) -> Held | None:
        """What is held under this identity. All four parts count: nobody speaks for another agent's attempt."""
        held = self._fleet.held.get(attempt.task)
        if held is None or not held.is_committed:
            return None
        is_it = held.epoch == attempt.epoch and held.agent == attempt.sidecar and held.boot == attempt.boot
        return held if is_it else None

    def _stale(self, attempt: AttemptId) -> StaleAttempt:
        held = self._fleet.held.get(attempt.task)
        return StaleAttempt(
            attempt.task, attempt.epoch, held.epoch if held else None, held.state.value if held else None
        )

    def _record_stale(self, attempt: AttemptId) -> None:
        log.warning("report_stale", task=attempt.task, epoch=attempt.epoch, agent=attempt.sidecar)
        self._store.post(Record(said_of(attempt, EventKind.REPORT_STALE, self._clock.now_ms())))


def _not_a_state(found: AttemptState, allowed: frozenset[AttemptState]) -> BadInput:
    return BadInput([Problem("state", f"{found.value}; one of {', '.join(sorted(allowed))}")], "message")


def _has_outlived(report: messages.Report) -> bool:
    """Whether the start of the sidecar that did the work is also the one that reports it."""
    return not (report.state is _LOST and report.result.error_code == SIDECAR_DIED)


def _tell(answer: Answer, outcome: Outcome) -> None:
    """Answer with the outcome of the one change that the message has led to."""
    if isinstance(outcome, StoreFailed):
        return  # never acknowledged: the sidecar keeps it and sends it to the hub that comes next
    answer(outcome if isinstance(outcome, AgentComError) else None)
