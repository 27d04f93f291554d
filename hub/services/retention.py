"""Forget what is long past, a little at a time: finished tasks, their output, events, idempotency keys, agents.

What is old is looked for beside the writer, page by page in the order of keys, so what has to stay never stands before
what may go; what is found is forgotten by small verbs that look again. So submissions never wait for it, and live
tasks, what they depend on and (unless somebody wants it) dead letters stay. Freed pages are used again; the file does
not shrink. With several hubs on one database the one that leads does it.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog
from msgspec import Struct

from hub.store.changes import Record
from hub.store.keeping_changes import ForgetEvents, ForgetKeys, ForgetLogs, ForgetTasks
from hub.store.store import Store
from protocol.clock import Clock
from protocol.errors import AgentComError, Overloaded, StoreFailed, Unavailable
from protocol.events import Event, EventKind
from protocol.model import FINAL_STATES, TaskState

log = structlog.get_logger(__name__)
DAY_MS: Final = 86_400_000
EVERY_S: Final = 600.0
FIRST_S: Final = 30.0
PAUSE_S: Final = 0.02
"""Between two verbs: whatever waits goes first."""
PAGE: Final = 1_000
TASKS_AT_ONCE: Final = 25
"""Each takes its attempts and output along."""
LONG_LOG_BYTES: Final = 64 << 20
"""From here on the write-ahead log is cut off when nobody reads."""


class Terms(Struct, frozen=True, kw_only=True):
    """How long things are kept, in days; 0: for ever. ``events_most``: no more events than that; 0: any number."""

    tasks_days: float = 0.0
    dead_days: float = 0.0
    logs_days: float = 0.0
    events_days: float = 0.0
    events_most: int = 0
    keys_days: float = 0.0
    agents_days: float = 0.0
    audit_days: float = 0.0


class LogPort(Protocol):
    """The write-ahead log of an embedded store."""

    @property
    def wal_bytes(self) -> int:
        """Its size."""
        ...

    async def shorten_log(self) -> bool:
        """Cut it off; ``False`` if somebody reads (try again)."""
        ...


class Retention:
    """The loop that forgets.

    Args:
        terms: how long things are kept.
        log_port: the write-ahead log of an embedded store; ``None`` for one on a server.
        forget_agent: forgets an agent that has not been seen for long.
        leads: whether this hub is the one to do it.
        page: rows that are looked at in one go.
        pause_s: between two verbs.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        terms: Terms,
        *,
        forget_agent: Callable[[str], Awaitable[None]],
        log_port: LogPort | None = None,
        leads: Callable[[], bool] = lambda: True,
        page: int = PAGE,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._store, self._clock, self._terms = store, clock, terms
        self._forget_agent, self._log_port, self._leads = forget_agent, log_port, leads
        self._page, self._pause_s = page, pause_s
        self.forget_audit: Callable[[int], Awaitable[int]] | None = None
        """Forgets entries of the audit log that are older than this (Unix ms)."""
        self._forgotten: Counter[str] = Counter()

    async def run(self) -> None:
        """Forget what is old, again and again, until cancelled."""
        await asyncio.sleep(FIRST_S)
        while True:
            try:
                if self._log_port is not None and self._log_port.wal_bytes >= LONG_LOG_BYTES:
                    await self._log_port.shorten_log()
                if self._leads():
                    await self.sweep()
            except StoreFailed:
                return  # the hub is ending
            except (Overloaded, Unavailable) as exc:
                log.info("retention_postponed", why=str(exc))
            await asyncio.sleep(EVERY_S)

    async def sweep(self) -> dict[str, int]:
        """Forget all that is old now; how many of each kind."""
        self._forgotten = Counter()
        for part in (self._tasks, self._logs, self._keys, self._events, self._agents, self._audit):
            await part()
        found = {kind: count for kind, count in self._forgotten.items() if count}
        if found:
            log.info("store_cleaned", **found)
            now_ms = self._clock.now_ms()
            await self._store.commit(Record(Event(kind=EventKind.STORE_CLEANED, at_ms=now_ms, facts=dict(found))))
        return found

    def _before(self, days: float) -> int | None:
        """The moment before which things are old (Unix ms); ``None``: never."""
        return self._clock.now_ms() - int(days * DAY_MS) if days else None

    async def _rest(self) -> None:
        await asyncio.sleep(self._pause_s)

    async def _tasks(self) -> None:
        terms = {
            TaskState.DEAD: self._before(self._terms.dead_days),
            **dict.fromkeys(FINAL_STATES - {TaskState.DEAD}, self._before(self._terms.tasks_days)),
        }
        if not any(terms.values()):
            return
        after = ""
        while page := await self._store.walk_tasks(after, self._page):
            after = page[-1][0]
            for states in (frozenset({TaskState.DEAD}), FINAL_STATES - {TaskState.DEAD}):
                before = terms[next(iter(states))]
                old = [
                    task
                    for task, state, ended_ms in page
                    if state in states and before is not None and ended_ms is not None and ended_ms < before
                ]
                for first in range(0, len(old), TASKS_AT_ONCE):
                    assert before is not None, "nothing is old without a term"
                    await self._forget_tasks(tuple(old[first : first + TASKS_AT_ONCE]), states, before)
            await self._rest()

    async def _forget_tasks(self, tasks: tuple[str, ...], states: frozenset[TaskState], before: int) -> None:
        change = ForgetTasks(at_ms=self._clock.now_ms(), tasks=tasks, states=states, ended_before_ms=before)
        self._forgotten["tasks"] += await self._store.commit(change)
        await self._rest()

    async def _logs(self) -> None:
        before = self._before(self._terms.logs_days)
        after = 0
        while before is not None and (page := await self._store.walk_logs(after, self._page)):
            if page[0][1] >= before:
                return
            through = page[-1][0]
            change = ForgetLogs(at_ms=self._clock.now_ms(), after=after, through=through, written_before_ms=before)
            self._forgotten["logs"] += await self._store.commit(change)
            after = through
            await self._rest()

    async def _keys(self) -> None:
        before = self._before(self._terms.keys_days)
        after = ""
        while before is not None and (page := await self._store.walk_keys(after, self._page)):
            after = page[-1][0]
            if old := tuple(key for key, at_ms in page if at_ms < before):
                change = ForgetKeys(at_ms=self._clock.now_ms(), keys=old, used_before_ms=before)
                self._forgotten["keys"] += await self._store.commit(change)
            await self._rest()

    async def _events(self) -> None:
        before = self._before(self._terms.events_days)
        most = self._terms.events_most
        while before is not None or most:
            last = self._store.newest_event - most if most else 0
            page = await self._store.oldest_events(0, self._page)
            old = [seq for seq, at_ms in page if seq <= last or (before is not None and at_ms < before)]
            if not old:
                return
            # Up to the first that has to stay: a clock that was set back may have made a later one look older.
            through = next((seq - 1 for seq, _ in page if seq not in set(old)), page[-1][0])
            change = ForgetEvents(at_ms=self._clock.now_ms(), through=through)
            self._forgotten["events"] += await self._store.commit(change)
            if through < page[-1][0] or len(page) < self._page:
                return  # what has come meanwhile is for the next time
            await self._rest()

    async def _agents(self) -> None:
        before = self._before(self._terms.agents_days)
        if before is None:
            return
        for agent in await self._store.agents():
            if agent.last_seen_ms < before:
                try:
                    await self._forget_agent(agent.name)
                except (StoreFailed, Unavailable):
                    raise
                except AgentComError as exc:  # it is back, or holds work
                    log.debug("agent_kept", agent=agent.name, why=str(exc))
                else:
                    self._forgotten["agents"] += 1
                await self._rest()

    async def _audit(self) -> None:
        before = self._before(self._terms.audit_days)
        if before is not None and self.forget_audit is not None:
            self._forgotten["audit"] += await self.forget_audit(before)
