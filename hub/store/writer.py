"""Group commit: everything that waits goes into one transaction, and nothing is answered before it is durable.

There is no timer: a batch is whatever came while the last one was being written, so an idle hub commits at once and a
busy one in large groups. The scheduler gets its say just before a batch is sealed, so a task and its assignment, or a
report and the next assignment, share one commit. Backends apply a batch off the event loop; replies run on it.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from hub.store.changes import AnyChange, Outcome
from hub.store.store import Done
from hub.store.waiting import Item, Waiting
from protocol.errors import AgentComError, Overloaded, StoreFailed
from protocol.events import Event

log = structlog.get_logger(__name__)

Apply = Callable[[list[AnyChange]], Awaitable[tuple[list[Outcome], list[Event]]]]


class Writer:
    """One queue of changes, one batch in flight.

    Args:
        apply: writes a batch in one durable transaction; returns an outcome a change, and the events it wrote.
    """

    def __init__(self, apply: Apply) -> None:
        self._apply = apply
        self.waiting = Waiting()
        self._in_flight: list[Item] = []  # what is not answered of the batch that is being written, last first
        self._told: list[tuple[asyncio.Future[Outcome], Outcome]] = []  # that have their outcome, and do not know yet
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._refusal: AgentComError | None = None  # what everybody gets who wants something written
        self._is_closing = False
        self.on_seal: Callable[[], None] = _nothing
        self.on_commit: Callable[[Sequence[Event]], None] = _no_events
        self.on_failure: Callable[[BaseException], None] = _no_failure
        self.batches = 0
        self.changes = 0
        self.commit_s = 0.0
        self.times: Counter[int] = Counter()  # batches by the number of binary digits of their milliseconds
        self.sizes: Counter[int] = Counter()  # batches by the number of binary digits of their changes

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="store-writer")
        self._task.add_done_callback(self._ended)

    def post(self, change: AnyChange, done: Done | None = None) -> None:
        """Queue a change for the next batch."""
        if self._refusal is not None:
            if done is not None:
                done(self._refusal)
            return
        self.waiting.put(change, done)
        self._work.set()

    def wake(self) -> None:
        """Run ``on_seal`` soon, and a batch if that posts anything."""
        self._work.set()

    async def commit(self, change: AnyChange) -> Outcome:
        """Queue a change and wait for its outcome; raises it if it is an error.

        Raises:
            Overloaded: the disk has stood still for so long that not even this may wait.
        """
        if self.waiting.is_full:
            raise Overloaded(f"{self.waiting.unanswered} changes wait for the disk", self.waiting.retry_after_s)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.post(change, partial(self._answer, future))
        outcome = await future
        if isinstance(outcome, AgentComError):
            raise outcome
        return outcome

    def _answer(self, future: "asyncio.Future[Outcome]", outcome: Outcome) -> None:
        """Let whoever waits go on a turn of the loop later: the assignments of the same commit leave before answers."""
        if not self._told:
            asyncio.get_running_loop().call_soon(self._tell)
        self._told.append((future, outcome))

    def _tell(self) -> None:
        told, self._told = self._told, []
        for future, outcome in told:
            if not future.done():
                future.set_result(outcome)

    async def close(self) -> None:
        """Write what waits, then stop. A writer that has failed has said so; closing it is no second failure."""
        self._is_closing = True
        self._work.set()
        if self._task is not None:
            await asyncio.wait({self._task})
        self._refusal = self._refusal or StoreFailed("the store is closed")

    def refuse(self, refusal: AgentComError) -> None:
        """Write nothing from now on."""
        self._refusal = refusal

    async def _run(self) -> None:
        while not (self._is_closing and not self.waiting):
            await self._work.wait()
            self._work.clear()
            self.on_seal()
            while self._refusal is None and (batch := self.waiting.batch()):
                await self._write(batch)
                self.on_seal()
            if self._refusal is not None:
                return

    async def _write(self, batch: list[Item]) -> None:
        self._in_flight = batch[::-1]
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            outcomes, events = await self._apply([item.change for item in batch])
        except StoreFailed as exc:
            self._fail(exc)
            return
        assert len(outcomes) == len(batch), "one outcome a change"
        took_s = clock() - began
        self.waiting.wrote(batch, took_s)
        self.commit_s += took_s
        self.times[int(took_s * 1000).bit_length()] += 1
        self.batches += 1
        self.changes += len(batch)
        self.sizes[len(batch).bit_length()] += 1
        self.on_commit(events)
        next_item, answered = self._in_flight.pop, self.waiting.answered
        for outcome in outcomes:
            item = next_item()
            answered(item)
            if item.done is not None:
                item.done(outcome)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        # A bug in a callback: without a writer the hub would accept and never answer.
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(StoreFailed(f"the writer ended: {error!r}"))

    def _fail(self, failure: StoreFailed) -> None:
        # An fsync that failed once may have dropped data silently: nothing after it can be trusted, so nothing follows.
        unanswered = [*self._in_flight[::-1], *self.waiting.drop()]
        log.error("store_failed", error=str(failure), changes=len(unanswered))
        self._refusal = failure
        self._in_flight.clear()
        for item in unanswered:
            self.waiting.answered(item)
            if item.done is not None:
                item.done(failure)
        self.on_failure(failure)


def _nothing() -> None:
    pass


def _no_events(_events: Sequence[Event]) -> None:
    pass


def _no_failure(_failure: BaseException) -> None:
    pass
