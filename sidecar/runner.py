"""All attempts of this sidecar, each from its assignment to its report.

Decides whether to take an attempt, keeps it idempotent by task and epoch (a second assignment of one that is held
starts nothing), writes it down before it is accepted, stops it when the hub says so or its lease may end, and keeps its
report until the hub has it. The work itself comes from a workshop (``sidecar/workshop.py``); the line to the hub is
``sidecar/link.py``, whose ``Owner`` this is.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from protocol import codec
from protocol.errors import BadInput, MalformedFrame
from protocol.loads import ToolUse
from protocol.log_levels import SIDECAR, known_levels
from protocol.logs import about, set_levels
from protocol.messages import (
    Accept,
    Assign,
    Cancel,
    Forget,
    HeldAttempt,
    LogLevels,
    Pause,
    Prewarm,
    Progress,
    Reclaim,
    Reject,
    Upgrade,
    Wish,
)
from protocol.model import AttemptId, TaskSpec
from protocol.progress import GPU
from protocol.redaction import Redactor
from protocol.reviews import PROOF
from sidecar.core.attempt import Standing, step
from sidecar.core.outcome import Ending
from sidecar.core.telling import Telling
from sidecar.held import Held, Key, decoded, key
from sidecar.journal import Journal
from sidecar.leases import Leases
from sidecar.live_log import LiveLog
from sidecar.outlet import Outlet as Outlet  # noqa: PLC0414 - it was here first, and is passed on
from sidecar.reporting import Reporting, ending_of
from sidecar.spans import Recorder, within
from sidecar.tails import Tail, Tails
from sidecar.workshop import Workshop

log = structlog.get_logger(__name__)

NOOP: Final = "noop"
MAX_REJECTED: Final = 1_000
"""Attempts that are remembered as not taken, the newest of them."""


class Runner:
    """The attempts of one boot of a sidecar."""

    def __init__(
        self,
        name: str,
        slots: int,
        workshop: Workshop,
        journal: Journal,
        outlet: Outlet,
        leases: Leases | None = None,
        tails: Tails | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        """Prepare for work; :meth:`recover` comes first.

        Args:
            name: whose attempts these are.
            slots: how many run at a time.
            workshop: does the work.
            journal, outlet: remember, and tell the hub.
            leases: until when each may be worked at; without them :meth:`fence` stops everything.
            redactor: takes secrets out of all that is told of the work; without it those that are known by their shape.
            tails: keep the last output of what is in work; without them a crash of this sidecar loses it.
        """
        self._name, self._slots, self._workshop = name, slots, workshop
        self._journal, self._outlet, self._leases, self._tails = journal, outlet, leases, tails
        self._redactor = redactor or Redactor()
        self._reporting = Reporting(journal, outlet, self._redactor)
        self._held: dict[Key, Held] = {}
        self._rejected: dict[Key, None] = {}
        self._told: list[tuple[AttemptId, Tail | None]] = []  # ended; what is kept of it goes as its report stands
        self._in_work = 0
        self._drained_by_hub = False
        self._is_leaving = False
        self.on_forget: Callable[[Forget], None] = lambda _wish: None
        self.on_prewarm: Callable[[Prewarm], None] = lambda _wish: None
        self.refuses: Callable[[Assign, TaskSpec], tuple[str, str] | None] = lambda _message, _spec: None
        self.on_reclaim: Callable[[Reclaim], None] = lambda _wish: None
        self.recorder: Recorder | None = None
        self.on_upgrade: Callable[[Upgrade], None] = lambda _wish: None
        self._idle = asyncio.Event()
        self._idle.set()

    # --- what others see --------------------------------------------------------------------------------------------

    @property
    def is_leaving(self) -> bool:
        """It takes no new attempts because this sidecar is about to leave, or its disk is full."""
        return self._is_leaving or not self._journal.has_room

    @property
    def is_draining(self) -> bool:
        """It takes no new attempts, by its own will or the hub's."""
        # Not through `is_leaving`: this is asked for every assignment, and a property in between costs a call.
        return self._is_leaving or self._drained_by_hub or not self._journal.has_room

    @property
    def busy(self) -> int:
        """Slots that are taken."""
        return self._in_work

    def inventory(self) -> tuple[HeldAttempt, ...]:
        """All attempts it holds, in work or with a report that is not acknowledged."""
        return tuple(
            HeldAttempt(
                attempt=held.attempt,
                state=held.standing.state,
                iteration=held.standing.iteration,
                answering=None if held.answering is None else held.answering(),
            )
            for held in self._held.values()
            if not held.is_unwanted
        )

    async def idle(self) -> None:
        """Wait until nothing is in work."""
        await self._idle.wait()

    # --- life -------------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Take up what an earlier boot left: reports are sent again, work that was cut off is reported as lost."""
        for entry in self._journal.reports():
            report = decoded(entry.report or b"")
            if report is None:
                self._held[key(entry.attempt)] = self._reporting.lost_report(entry)
                continue
            standing = Standing(entry.state, entry.iteration)
            self._held[key(entry.attempt)] = Held(entry.attempt, standing, report)
            self._outlet.send(report)
        for entry in self._journal.held():
            held = Held(entry.attempt, Standing(entry.state, entry.iteration))
            self._held[key(entry.attempt)] = held
            output = self._tails.left(entry.attempt) if self._tails is not None else ""
            self._reporting.take_up(held, decoded(entry.noted or b""), output)
        self.commit()
        if self._tails is not None:
            self._tails.clear()

    def leave(self) -> None:
        """Take no new attempts from now on; what is in work goes on."""
        self._is_leaving = True
        self._outlet.beat()

    async def stop(self) -> None:
        """End all work now and report it as lost, so that the hub need not wait for its leases."""
        for held in list(self._held.values()):
            self._stop(held, "lose", "the sidecar is stopping")
        await self.idle()

    def hurry(self) -> None:
        """Nothing that is in work is ours any more: what is stopped from now on is killed without grace."""
        for held in self._held.values():
            if held.work is not None:
                self._workshop.hurry(held.attempt)

    def commit(self, *, tidy: bool = True) -> None:
        """Write down what was promised since the last call; ``tidy``: and what may be forgotten."""
        if self._journal.commit(tidy=tidy):
            for attempt, tail in self._told:
                if tail is not None:
                    tail.close()
                self._redactor.forget(attempt)  # its secrets: what it told stands without them, and nothing follows
            self._told.clear()

    # --- what the hub says ------------------------------------------------------------------------------------------

    def assigned(self, message: Assign) -> None:
        """Take the attempt, or say why not; one that is held already is only confirmed again."""
        attempt, known_as = message.attempt, key(message.attempt)
        held = self._held.get(known_as)
        if held is not None and not held.is_unwanted:
            self._confirm(held)
            return
        if held is not None:
            self._reject(attempt, "stopping", "an earlier assignment of this attempt is still being stopped")
            return
        if known_as in self._rejected:
            # The hub has not heard it yet; when it does it gives the task away, perhaps in the middle of the work.
            self._reject(attempt, "rejected", "an earlier assignment of this attempt was not taken")
            return
        try:
            spec = codec.decode_spec(message.spec)
        except MalformedFrame as exc:
            self._reject(attempt, exc.code, str(exc))
            return
        name = message.routing.executor or spec.executor
        if name == NOOP and not spec.verification and not self.is_draining and attempt.sidecar == self._name:
            self._held[known_as] = self._reporting.pass_noop(attempt)
            return
        refusal = self._refusal(attempt, name) or _nothing_to_prove(message, name) or self._learn_endpoint(message)
        refusal = refusal or self.refuses(message, spec)
        if refusal is not None:
            self._reject(attempt, *refusal)
            return
        self._begin(message, spec, name)

    def cancelled(self, message: Cancel) -> None:
        """Stop the attempt, and report that it stopped."""
        held = self._held.get(key(message.attempt))
        if held is not None:
            self._stop(held, "cancel", message.reason)

    def forget(self, attempt: AttemptId) -> None:
        """The hub has its report, or wants nothing more of it: stop it if it runs, and drop it."""
        known_as = key(attempt)
        held = self._held.get(known_as)
        if held is None:
            return
        self._journal.acknowledged(attempt)
        self._outlet.touch()
        if held.work is None:
            if held.here is not None and held.report is not None:
                held.here.tell("report", held.ended_ns, {"agentcom.attempt.state": held.standing.state.value})
            del self._held[known_as]
        else:
            held.is_unwanted = True
            self._workshop.hurry(attempt)  # somebody else may be at it already
            self._stop(held, "lose", "the hub wants nothing more of it")

    def drain(self, *, on: bool) -> None:
        """Take no new attempts, or take them again."""
        if on is not self._drained_by_hub:
            log.info("drain_changed", on=on, by="hub")
        self._drained_by_hub = on

    def wish(self, message: Wish) -> None:
        """Something that is no matter of an attempt's life or death."""
        match message:
            case Pause():
                self._pause(message)
            case Reclaim():
                self.on_reclaim(message)
            case Upgrade():
                self.on_upgrade(message)
            case Forget():
                self.on_forget(message)
            case LogLevels():
                set_levels(known_levels(message.levels), SIDECAR)
            case Prewarm() if not self.is_draining:
                self.on_prewarm(message)

    def _pause(self, message: Pause) -> None:
        held = self._held.get(key(message.attempt))
        if held is not None and message.on:
            self._halt(held, "hub", message.reason)
        elif held is not None:
            held.let_go("hub")

    def _halt(self, held: Held, who: str, reason: str) -> bool:
        """Stop work of a model: at the end of its turn (true), or at once if it knows no turns."""
        how = held.halt(who, reason)
        if how == "at once":
            self._stop(held, "pause", reason)
        return how == "turn"

    def uses(self, is_local: Callable[[str], bool]) -> bool:
        """Whether there is work of models on this host, or of programs that were placed here for its GPU."""
        return any(held.work is not None and held.takes_gpu(is_local) for held in self._held.values())

    def clear(self, is_local: Callable[[str], bool], reason: str, grace_s: float) -> None:
        """Stop all work of models on this host: at the end of a turn, or ``grace_s`` from now behind the last one.

        So does what was placed here for its GPU; a command knows no turns, so it stops at once.
        """
        for held in list(self._held.values()):
            if not held.takes_gpu(is_local):
                continue
            how = held.halt("owner", reason)
            if how != "turn":
                self._stop(held, "pause", reason)
            else:
                held.grace = asyncio.get_running_loop().call_later(grace_s, self._stop, held, "pause", reason)

    def go_on(self) -> None:
        """What :meth:`clear` has not stopped yet need not stop."""
        for held in self._held.values():
            if held.grace is not None:
                held.grace.cancel()
                held.grace = None
                held.let_go("owner")

    def fence(self) -> None:
        """Leases may be over soon: stop that work, because the hub may be about to give it to somebody else."""
        for held in list(self._held.values()):
            if held.work is None or not (self._leases is None or self._leases.is_over(held.attempt)):
                continue
            self._workshop.hurry(held.attempt)  # also what is being stopped already
            if not held.stop_event:
                log.warning("lease_lost", task=held.attempt.task, epoch=held.attempt.epoch, next="work stopped")
                self._stop(held, "lose", "the hub was silent for so long that the lease was about to end")

    # --- taking an attempt ------------------------------------------------------------------------------------------

    def _refusal(self, attempt: AttemptId, executor: str) -> tuple[str, str] | None:
        """Why the attempt is not taken, as a code and a reason."""
        if attempt.sidecar != self._name:
            return "not_ours", f"this sidecar is {self._name}"
        if self.is_draining:
            full = "" if self._journal.has_room else ": its disk is full"
            return "draining", f"this sidecar takes no new work{full}"
        if self._leases is not None and not self._leases.are_live:
            return "late", "it was so long on its way that it may be another's by now"
        if self._in_work >= self._slots:
            return "no_slot", f"all {self._slots} slots are taken"
        if executor != PROOF and executor not in self._workshop.executors:
            return "unknown_executor", f"no executor {executor!r}; it has {', '.join(sorted(self._workshop.executors))}"
        return None

    def _learn_endpoint(self, message: Assign) -> tuple[str, str] | None:
        """Take note of an endpoint that people have added at the hub; why it cannot be used, if so."""
        if message.endpoint is None:
            return None
        try:
            self._workshop.adopt(message.endpoint)
        except BadInput as exc:
            return "endpoint_unusable", str(exc)
        return None

    def _reject(self, attempt: AttemptId, code: str, reason: str) -> None:
        log.warning("attempt_rejected", task=attempt.task, epoch=attempt.epoch, code=code, why=reason)
        self._rejected[key(attempt)] = None
        while len(self._rejected) > MAX_REJECTED:
            del self._rejected[next(iter(self._rejected))]
        self._outlet.send(Reject(attempt=attempt, code=code, reason=self._redactor.text(reason)))

    def _confirm(self, held: Held) -> None:
        self._outlet.send(Accept(attempt=held.attempt))
        if held.report is not None:
            self._outlet.send(held.report)

    def _begin(self, message: Assign, spec: TaskSpec, executor: str) -> None:
        attempt = message.attempt
        held = Held(attempt, step(Standing(), "accept"), endpoint=message.routing.endpoint)
        held.needs_gpu = GPU in spec.needs
        self._held[key(attempt)] = held
        self._in_work += 1
        self._idle.clear()
        self._journal.accept(attempt, bytes(message.spec))
        self._outlet.send(Accept(attempt=attempt))
        if self._tails is not None:
            held.tail = self._tails.begin(attempt)
        held.live = LiveLog(attempt, self._outlet, held.tail.add if held.tail else lambda _text: None, self._redactor)
        held.rounds = self._workshop.begin(
            attempt,
            spec,
            message.routing,
            executor=executor,
            on_step=lambda event: self._advance(held, event),
            log=held.live.write,
            carry=message.carry,
            proof=message.proof,
            answering=lambda ask: setattr(held, "answering", ask),
            called=lambda turn, calls: self._tell_turn(held, turn, calls),
        )
        held.rounds.noted = lambda ending: self._reporting.note(held, ending)
        if self._leases is not None:
            self._leases.take(attempt)
        # Written down before it begins: if this sidecar dies of it, the next start says so.
        self._journal.commit(tidy=False)
        held.here = self.recorder.begin(message.trace) if self.recorder is not None else None
        with about(task=attempt.task, epoch=attempt.epoch), within(held.here):  # whatever it logs is about it
            log.info("attempt_accepted", executor=executor)
            held.work = asyncio.create_task(held.rounds.work(), name=f"attempt-{attempt.task}-e{attempt.epoch}")
        held.work.add_done_callback(lambda work: self._ended(held, work))

    def _advance(self, held: Held, event: str) -> None:
        held.standing = step(held.standing, event)
        state, iteration = held.standing.state, held.standing.iteration
        self._journal.progress(held.attempt, state, iteration)
        if held.live is not None:
            held.live.flush()  # what was written before stands before it
        self._outlet.send(Progress(attempt=held.attempt, state=state, iteration=iteration))

    def _tell_turn(self, held: Held, number: int, calls: Sequence[ToolUse]) -> None:
        held.telling = held.telling or Telling()
        turn = held.telling.turn(number, calls)
        if turn is not None:
            state, iteration = held.standing.state, held.standing.iteration
            told = self._redactor.value(turn)
            self._outlet.send(Progress(attempt=held.attempt, state=state, iteration=iteration, turn=told))

    # --- ending it --------------------------------------------------------------------------------------------------

    def _stop(self, held: Held, event: str, reason: str) -> None:
        if held.work is None or held.stop_event:
            return
        held.stop_event, held.stop_reason = event, reason
        held.work.cancel()

    def _ended(self, held: Held, work: asyncio.Task[Ending]) -> None:
        """The work is over and none of its processes is left."""
        held.work = None
        self._in_work -= 1
        if self._leases is not None:
            self._leases.drop(held.attempt)
        if held.live is not None:
            held.live.close()
        ending = ending_of(held, work)
        if held.is_unwanted:
            del self._held[key(held.attempt)]
            log.info("attempt_dropped", task=held.attempt.task, epoch=held.attempt.epoch, why=held.stop_reason)
        else:
            held.ended_ns = held.here.now_ns if held.here is not None else 0
            self._reporting.finish(held, ending)
        self._told.append((held.attempt, held.tail))
        held.rounds = held.live = held.tail = None
        if self._in_work == 0:
            self._idle.set()


def _nothing_to_prove(message: Assign, executor: str) -> tuple[str, str] | None:
    if (executor == PROOF) is (message.proof is not None):
        return None
    return "nothing_to_prove", "it is to prove work, and does not say which, or the other way round"
