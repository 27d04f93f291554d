"""Group commit: everything that waits goes into one transaction, and nothing is answered before it is durable.

There is no timer: a batch is whatever came while the last one was being written, so an idle hub commits at once and a
busy one in large groups. The scheduler gets its say just before a batch is sealed, so a task and its assignment, or a
report and the next assignment, share one commit. Backends apply a batch off the event loop; replies run on it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from hub.store.changes import AnyChange, Outcome
from hub.store.store import Done
from protocol.errors import AgentComError, Overloaded, StoreFailed
from protocol.events import Event

log = structlog.get_logger(__name__)

MAX_BATCH: Final = 500
"""Changes in one transaction: beyond this the time per commit grows faster than the throughput."""

MAX_WAITING: Final = 20_000
"""Changes that may wait for a commit before new submissions are turned away."""

Apply = Callable[[list[AnyChange]], Awaitable[tuple[list[Outcome], list[Event]]]]


class Writer:
    """One queue of changes, one batch in flight.

    Args:
        apply: writes a batch in one durable transaction; returns an outcome a change, and the events it wrote.
    """

    def __init__(self, apply: Apply) -> None:
        self._apply = apply
        self._waiting: list[tuple[AnyChange, Done | None]] = []
        self._unanswered: deque[Done | None] = deque()  # of the batch in flight
        self._is_woken = False
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failed: StoreFailed | None = None
        self._is_closing = False
        self.on_seal: Callable[[], None] = _nothing
        self.on_commit: Callable[[Sequence[Event]], None] = _no_events
        self.on_failure: Callable[[BaseException], None] = _no_failure
        self.batches = 0
        self.changes = 0

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="store-writer")
        self._task.add_done_callback(self._ended)

    @property
    def is_full(self) -> bool:
        """So much waits that new work should be turned away."""
        return len(self._waiting) >= MAX_WAITING

    def post(self, change: AnyChange, done: Done | None = None) -> None:
        """Queue a change for the next batch."""
        if self._failed is not None:
            if done is not None:
                done(self._failed)
            return
        self._waiting.append((change, done))
        self._work.set()

    def wake(self) -> None:
        """Run ``on_seal`` soon, and a batch if that posts anything."""
        self._work.set()

    async def commit(self, change: AnyChange) -> Outcome:
        """Queue a change and wait for its outcome; raises it if it is an error."""
        if self.is_full:
            raise Overloaded("too many changes wait for the disk", 1.0)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            if not future.done():
                future.set_result(outcome)

        self.post(change, done)
        outcome = await future
        if isinstance(outcome, AgentComError):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Write what waits, then stop. A writer that has failed has said so; closing it is no second failure."""
        self._is_closing = True
        self._work.set()
        if self._task is not None:
            await asyncio.wait({self._task})
        self._failed = self._failed or StoreFailed("the store is closed")

    async def _run(self) -> None:
        while not (self._is_closing and not self._waiting):
            await self._work.wait()
            self._work.clear()
            self.on_seal()
            while self._waiting and self._failed is None:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                await self._write(batch)
                self.on_seal()
            if self._failed is not None:
                return

    async def _write(self, batch: list[tuple[AnyChange, Done | None]]) -> None:
        self._unanswered.extend(done for _, done in batch)
        try:
            outcomes, events = await self._apply([change for change, _ in batch])
        except StoreFailed as exc:
            self._fail(exc)
            return
        assert len(outcomes) == len(batch), "one outcome a change"
        self.batches += 1
        self.changes += len(batch)
        self.on_commit(events)
        for outcome in outcomes:
            if (done := self._unanswered.popleft()) is not None:
                done(outcome)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        # A bug in a callback: without a writer the hub would accept and never answer.
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(StoreFailed(f"the writer ended: {error!r}"))

    def _fail(self, failure: StoreFailed) -> None:
        # An fsync that failed once may have dropped data silently: nothing after it can be trusted, so nothing follows.
        unanswered = [*self._unanswered, *(done for _, done in self._waiting)]
        log.error("store_failed", error=str(failure), changes=len(unanswered))
        self._failed = failure
        self._unanswered.clear()
        self._waiting = []
        for done in unanswered:
            if done is not None:
                done(failure)
        self.on_failure(failure)


def _nothing() -> None:
    pass


def _no_events(_events: Sequence[Event]) -> None:
    pass


def _no_failure(_failure: BaseException) -> None:
    pass
