"""Group commit: everything that waits goes into one transaction, and nothing is answered before it is durable.

There is no timer: a batch is whatever came while the last one was being written, so an idle hub commits at once and a
busy one in large groups. The scheduler gets its say just before a batch is sealed, so a task and its assignment, or a
report and the next assignment, share one commit. Backends apply a batch off the event loop, or on it if that is quick;
replies run on it. Between a change and what writes it lies one turn of the loop, and no task or future.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from functools import partial

import structlog

from hub.store.changes import AnyChange, Outcome
from hub.store.store import Done
from hub.store.waiting import Item, Waiting
from protocol.errors import AgentComError, Overloaded, StoreFailed
from protocol.events import Event

log = structlog.get_logger(__name__)

Written = tuple[list[Outcome], list[Event]]
"""An outcome a change, and the events that were written."""
Landed = Callable[[Written | BaseException], None]
Begin = Callable[[list[AnyChange], Landed], None]
"""Write a batch in one durable transaction, then call the second on the event loop with what came of it: later, or
before this returns."""


def awaited(apply: Callable[[list[AnyChange]], Awaitable[Written]]) -> Begin:
    """What begins a batch that a coroutine writes."""
    tasks: set[asyncio.Task[None]] = set()

    async def write(batch: list[AnyChange], landed: Landed) -> None:
        try:
            written: Written | BaseException = await apply(batch)
        except Exception as exc:  # noqa: BLE001 - the writer fails by it, whatever it is
            written = exc
        landed(written)

    def begin(batch: list[AnyChange], landed: Landed) -> None:
        task = asyncio.create_task(write(batch, landed), name="store-write")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return begin


class Writer:
    """One queue of changes, one batch in flight.

    Args:
        begin: writes batches.
    """

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self.waiting = Waiting()
        self._in_flight: list[Item] = []  # what is not answered of the batch that is being written, last first
        self._is_writing, self._began = False, 0.0
        self._told: list[tuple[asyncio.Future[Outcome], Outcome]] = []  # that have their outcome, and do not know yet
        self._loop: asyncio.AbstractEventLoop | None = None  # once it has started
        self._context: Context | None = None  # its own: what it does is no part of the request that woke it
        self._is_called = self._is_sealing = False
        self._over: asyncio.Event | None = None  # of whoever closes it
        self._refusal: AgentComError | None = None  # what everybody gets who wants something written
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
        self._loop, self._context = asyncio.get_running_loop(), copy_context()
        if self.waiting:
            self._call()

    def post(self, change: AnyChange, done: Done | None = None) -> None:
        """Queue a change for the next batch."""
        if self._refusal is not None:
            if done is not None:
                done(self._refusal)
            return
        self.waiting.put(change, done)
        if not self._is_sealing:  # else it joins the batch
            self._call()

    def wake(self) -> None:
        """Run ``on_seal`` soon, and a batch if that posts anything."""
        self._call()

    def _call(self) -> None:
        """Look soon; a batch that is being written is followed by a look anyway."""
        if not (self._is_called or self._is_writing) and self._loop is not None:
            self._is_called = True
            self._loop.call_soon(self._look, context=self._context)

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
        if self._loop is not None and self._refusal is None:
            self._over = self._over or asyncio.Event()
            self._call()
            await self._over.wait()
        self._refusal = self._refusal or StoreFailed("the store is closed")
        self._answer_all(self.waiting.drop(), self._refusal)  # what came since the last look

    def refuse(self, refusal: AgentComError) -> None:
        """Write nothing from now on."""
        self._refusal = refusal

    def fail(self, failure: StoreFailed) -> None:
        """Answer no more; once is enough."""
        if self._refusal is None:
            self._fail(failure)

    # --- batches ------------------------------------------------------------------------------------------------------

    def _look_next(self) -> None:
        assert self._loop is not None, "it has started"
        self._loop.call_soon(self._look, context=self._context)

    def _look(self) -> None:
        try:
            self._is_called = False
            if not self._is_writing:
                self._seal()
        except Exception as exc:  # noqa: BLE001 - the loop would only log it, and nobody be answered
            self._broke(exc)

    def _seal(self) -> None:
        if self._refusal is None:
            self._is_sealing = True
            self.on_seal()
            self._is_sealing = False
            if batch := self.waiting.batch():
                assert self._loop is not None, "it has started"
                self._in_flight, self._is_writing, self._began = batch[::-1], True, self._loop.time()
                self._begin([item.change for item in batch], self._landed)
                return
        if self._over is not None:
            self._over.set()

    def _landed(self, written: Written | BaseException) -> None:
        """Tell of a batch what came of it.

        First whoever waits for its outcomes: assignments leave. Then whoever hears of events, then the next batch
        begins; what all of these need not wait for comes last.
        """
        if isinstance(written, StoreFailed):
            self.fail(written)
            return
        try:
            if isinstance(written, BaseException):
                raise written
            assert self._loop is not None, "it has started"
            took_s = self._loop.time() - self._began
            changes, rows = self._tell_outcomes(written[0])
            self.on_commit(written[1])
            self._is_writing = False
            self._count(changes, took_s)
            self.waiting.wrote(rows, took_s)
            # Two turns later: whoever waited for this batch is told before the next one, wherever that is written.
            self._is_called = True  # by this: what is posted meanwhile calls no sooner
            self._loop.call_soon(self._look_next, context=self._context)
        except Exception as exc:  # noqa: BLE001 - the loop would only log it, and nobody be answered
            self._broke(exc)

    def _tell_outcomes(self, outcomes: list[Outcome]) -> tuple[int, int]:
        """Tell the batch in flight of its outcomes; how many changes were in it, and how many rows they were."""
        items, answered = self._in_flight, self.waiting.answered
        assert len(outcomes) == len(items), "one outcome a change"
        changes = rows = 0
        for outcome in outcomes:
            item = items.pop()
            changes += item.count
            rows += item.tasks or item.count
            answered(item)
            if item.done is not None:
                item.done(outcome)
        return changes, rows

    def _count(self, changes: int, took_s: float) -> None:
        self.commit_s += took_s
        self.times[int(took_s * 1000).bit_length()] += 1
        self.batches += 1
        self.changes += changes
        self.sizes[changes.bit_length()] += 1

    def _broke(self, exc: Exception) -> None:
        """A bug in a callback: without a writer the hub would accept and never answer. So it ends, in words."""
        self._fail(StoreFailed(f"the writer ended: {exc!r}"))

    def _fail(self, failure: StoreFailed) -> None:
        # An fsync that failed once may have dropped data silently: nothing after it can be trusted, so nothing follows.
        unanswered = [*self._in_flight[::-1], *self.waiting.drop()]
        log.error("store_failed", error=str(failure), changes=len(unanswered))
        self._refusal = failure
        self._in_flight, self._is_writing = [], False
        self._answer_all(unanswered, failure)
        if self._over is not None:
            self._over.set()
        self.on_failure(failure)

    def _answer_all(self, items: Sequence[Item], outcome: AgentComError) -> None:
        for item in items:
            self.waiting.answered(item)
            if item.done is not None:
                item.done(outcome)


def _nothing() -> None:
    pass


def _no_events(_events: Sequence[Event]) -> None:
    pass


def _no_failure(_failure: BaseException) -> None:
    pass
