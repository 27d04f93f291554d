"""Bugs that are put in on purpose, to see that they are found. They live here, never in production code.

Each is one that some queue has had: see ``PLANTS`` for their names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from hub.assembly import Parts
from hub.store import changes as c
from hub.store.changes import AnyChange, Outcome
from hub.store.store import Done
from protocol import codec
from protocol.events import Event
from protocol.messages import Hello
from protocol.model import AttemptId, TaskState
from sidecar.leases import Leases
from tests.simulation.history import History
from tests.simulation.hub import Hub, RecordedStore
from tests.simulation.network import End
from tests.simulation.world import Process


def _untouched(_hub: Hub, _parts: Parts) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Plant:
    """Where a bug may sit: in the store, on a sidecar's line to the hub, in the hub's parts, in a sidecar's leases."""

    name: str
    make_store: Callable[[Path, History, Process], RecordedStore] = RecordedStore
    wrap_line: Callable[[Hub, End], Any] = lambda _hub, end: end
    tamper: Callable[[Hub, Parts], None] = _untouched
    make_leases: Callable[[Callable[[], float]], Leases] = Leases


class Unfenced:
    """Takes what is said of any attempt as said of the one that counts."""

    def __init__(self, hub: Hub, parts: Parts) -> None:
        self._fleet, self._results, self._hub = parts.fleet, parts.gateway._results, hub

    def take(self, agent: str, message: Any, answer: Any, *, accepts: bool = False) -> None:  # noqa: ANN401 - as the real one takes it
        held = self._fleet.held.get(message.attempt.task)
        if held is not None and held.is_committed:
            agent = held.agent
            attempt = AttemptId(held.agent, held.boot, held.task, held.epoch)
            message = msgspec.structs.replace(message, attempt=attempt)
        self._results.take(agent, message, answer, accepts=accepts)

    def reports(self, agent: str, told: Any, answer: Any) -> None:  # noqa: ANN401 - as above
        for report, accept in told:
            self.take(agent, report, partial(answer, ((report, accept),)), accepts=accept is not None)


def _drop_the_fence(hub: Hub, parts: Parts) -> None:
    parts.gateway._results = Unfenced(hub, parts)


class EarlyStore(RecordedStore):
    """Answers when a batch is applied, and commits it a little later."""

    def _apply_now(self, batch: list[AnyChange], *, may_be_noted: bool = False) -> tuple[list[Outcome], list[Event]]:
        del may_be_noted  # it is as early for all
        assert self._writing is not None
        assert self._transactions is not None
        self._commit()
        self._writing.execute("BEGIN IMMEDIATE")
        work = self._transactions.verbs.batch(batch)
        try:
            work.send(None)
        except StopIteration as done:
            outcomes, events = done.value
        self.history.applied(self.process.world.now, batch, outcomes, events)
        self.process.world.later(3.0, self._commit)
        return outcomes, events

    def _commit(self) -> None:
        if self._writing is not None and not self.process.is_dead and self._writing.in_transaction:
            self._writing.execute("COMMIT")

    def die(self) -> None:
        if self._writing is not None and self._writing.in_transaction:
            self._writing.execute("ROLLBACK")
        super().die()


class KeylessStore(RecordedStore):
    """Forgets under which key tasks were submitted."""

    def post(self, change: AnyChange, done: Done | None = None) -> None:
        super().post(_keyless(change), done)

    async def commit(self, change: AnyChange) -> Any:  # noqa: ANN401 - as the real one
        return await super().commit(_keyless(change))


def _keyless(change: AnyChange) -> AnyChange:
    return msgspec.structs.replace(change, key=None) if isinstance(change, c.AddTasks) else change


class ForgivingStore(RecordedStore):
    """Puts a task that was cancelled at work back into the queue, as a late failure once did elsewhere."""

    def _apply_now(self, batch: list[AnyChange], *, may_be_noted: bool = False) -> tuple[list[Outcome], list[Event]]:
        outcomes, events = super()._apply_now(batch, may_be_noted=may_be_noted)
        assert self._writing is not None
        for change, outcome in zip(batch, outcomes, strict=True):
            if isinstance(change, c.Cancel) and isinstance(outcome, c.Ended) and outcome.was is TaskState.RUNNING:
                again = "UPDATE tasks SET state = 'queued', agent = NULL, ended_ms = NULL WHERE id = ?"
                self._writing.execute(again, (change.task,))
                place = (0, change.task)
                self.process.call_soon(lambda place=place, text=outcome.class_text: self.again(text, place))
        return outcomes, events

    again: Callable[[str, tuple[int, str]], None] = staticmethod(lambda _text, _place: None)


def _requeue(_hub: Hub, parts: Parts) -> None:
    def again(text: str, place: tuple[int, str]) -> None:
        parts.window.add(text, place)
        parts.store.wake()

    parts.store.again = again  # type: ignore[attr-defined]  # it is a ForgivingStore


class ForgetfulLine:
    """Loses the inventory that a sidecar brings when it comes back."""

    is_welcome = True
    token = ""
    channels: frozenset[str] = frozenset()

    def is_for(self, _sidecar: str) -> bool:
        """Every name may come in."""
        return True

    def __init__(self, end: End) -> None:
        self._end = end
        self.send, self.close, self.listen = end.send, end.close, end.listen

    @property
    def received_bytes(self) -> int:
        """What has come so far."""
        return self._end.received_bytes

    async def receive(self) -> bytes | None:
        frame = await self._end.receive()
        if frame is not None and b"hello" in frame:
            found = codec.decode(frame)
            if isinstance(found[0], Hello):
                return codec.encode(msgspec.structs.replace(found[0], inventory=()))
        return frame  # type: ignore[no-any-return]  # bytes or None


class EndlessLeases(Leases):
    """Leases that never end: neither the sidecar nor the switch beside it stops anything."""

    @property
    def are_live(self) -> bool:
        return True

    @property
    def left_s(self) -> float:
        return 3600.0

    def is_over(self, attempt: AttemptId) -> bool:
        del attempt
        return False

    def _tell(self) -> None:
        pass


NONE: Final = Plant("none")
PLANTS: Final = {
    plant.name: plant
    for plant in (
        NONE,
        Plant("no-fence", tamper=_drop_the_fence),
        Plant("early-ack", make_store=EarlyStore),
        Plant("no-inventory", wrap_line=lambda _hub, end: ForgetfulLine(end)),
        Plant("no-lease-stop", make_leases=EndlessLeases),
        Plant("no-key", make_store=KeylessStore),
        Plant("requeue-after-cancel", make_store=ForgivingStore, tamper=_requeue),
    )
}
