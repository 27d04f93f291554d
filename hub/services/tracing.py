"""Tell a trace of every task that has ended, from what the store holds of it.

Nothing is done for it while work goes on, and nothing at all unless the settings name where traces go. With several
hubs on one database the one that leads tells them. What ends while no hub runs that leads is told by none: a trace is
no record, the event log is.
"""

from collections.abc import Callable
from typing import Final, Protocol

import structlog

from hub.core.routing import decode_placement
from hub.core.spans import FINAL, NS_PER_MS, Tried, spans_of
from hub.store.store import AttemptRow, Store
from protocol import codec
from protocol.clock import Clock
from protocol.errors import NotFound, StoreFailed, Unavailable
from protocol.events import Event
from protocol.model import Usage
from protocol.traces import Span, of_attempt, of_task, read, span_id

log = structlog.get_logger(__name__)
PAGE: Final = 500
MOST_EVENTS: Final = 5_000
"""Of one task; what has more is told without the rest."""
LOOK_S: Final = 5.0


class Feed(Protocol):
    """Who tells of commits."""

    async def wait(self, after: int, timeout_s: float) -> bool:
        """Wait until there is an event behind ``after``."""
        ...


class Tracing:
    """Tells traces.

    Attributes:
        leads: whether this hub does it.
    """

    def __init__(
        self, store: Store, feed: Feed, clock: Clock, send: Callable[[Span], None], share: float = 1.0
    ) -> None:
        self._store, self._feed, self._clock, self._send, self._share = store, feed, clock, send, share
        self._seen = store.newest_event
        self.leads: Callable[[], bool] = lambda: True

    def of_attempt(self, task: str, epoch: int, given: str) -> str:
        """The ``traceparent`` that the sidecar of an attempt is told.

        Args:
            given: the one with which its task was submitted, if any.
        """
        place, _ = of_task(task, given, self._share)
        return str(of_attempt(place, task, epoch))

    @property
    def now_ms(self) -> int:
        """Unix time, for :meth:`submitted`."""
        return self._clock.now_ms()

    def submitted(self, tasks: list[str], given: str, began_ms: int) -> None:
        """These tasks are stored: one span for each trace that they are in.

        Args:
            given: the ``traceparent`` of the request, if any.
            began_ms: when it came, in Unix milliseconds.
        """
        now_ms = self._clock.now_ms()
        for task in tasks if read(given) is None else tasks[:1]:
            place, parent = of_task(task, given, self._share)
            span = Span(
                place=place.beneath(span_id(task, "submit")),
                name="submit",
                start_ns=began_ms * NS_PER_MS,
                end_ns=now_ms * NS_PER_MS,
                parent=parent or place.span,
                kind="server",
                facts={"agentcom.tasks": len(tasks), "http.request.method": "POST", "http.route": "/api/v1/tasks"},
            )
            self._tell(span)

    async def run(self) -> None:
        """Follow the log until cancelled."""
        while True:
            await self._feed.wait(self._seen, LOOK_S)
            try:
                await self.catch_up()
            except StoreFailed:
                return  # the hub is ending
            except Unavailable as exc:
                log.debug("traces_behind", why=str(exc), next="trying again")

    async def catch_up(self) -> None:
        """Tell of everything that has ended so far."""
        while events := await self._store.events(self._seen, PAGE):
            for event in events:
                if event.kind in FINAL and event.task is not None and self.leads():
                    await self._tell_task(event.task, event.seq)
                self._seen = event.seq

    async def _tell_task(self, task: str, until: int) -> None:
        try:
            stored = await self._store.spec(task)
        except NotFound:
            return  # it was forgotten meanwhile
        if stored is None:
            return
        spec = codec.decode_spec(stored[0])
        place, parent = of_task(task, spec.traceparent, self._share)
        if place.is_sampled:
            attempts = [_tried(row) for row in await self._store.attempts(task)]
            for span in spans_of(task, place, parent, await self._events(task, until), attempts):
                self._tell(span)

    async def _events(self, task: str, until: int) -> list[Event]:
        found: list[Event] = []
        while len(found) < MOST_EVENTS:
            page = await self._store.events(found[-1].seq if found else 0, PAGE, task)
            found += [event for event in page if event.seq <= until]
            if len(page) < PAGE or page[-1].seq >= until:
                break
        return found

    def _tell(self, span: Span) -> None:
        if span.place.is_sampled:
            self._send(span)


def _tried(row: AttemptRow) -> Tried:
    placement = decode_placement(row.placement)
    result = codec.decode_result(row.result) if row.result is not None else None
    return Tried(
        epoch=row.epoch,
        agent=row.agent,
        host=row.host,
        state=row.state,
        decided_ms=min(placement.at_ms, row.assigned_ms),
        assigned_ms=row.assigned_ms,
        started_ms=row.started_ms,
        ended_ms=row.ended_ms,
        strategy=placement.strategy.value,
        model=placement.model,
        endpoint=placement.endpoint,
        verified=None if result is None else result.verified,
        usage=Usage() if result is None else result.usage,
        reason=row.reason,
    )
