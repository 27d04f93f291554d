"""Batches of changes on one connection: an outcome each, their events numbered, their counts kept.

Runs inside the transaction of the writer's batch, which the store opens and commits. The daily work (new tasks, claims,
what attempts report) is read, decided and written by the batch (``drafts.py``, ``work.py``); every other verb
(``verbs.py``) has its own statements, and finds everything before it written. Verbs are coroutines because some
databases let one wait for every statement.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, Protocol

import msgspec
import structlog

from hub.core.audit import EventRow, Head, Note, notes_of
from hub.store.chaining import Chain
from hub.store.changes import AnyChange, Outcome
from hub.store.many_changes import singly, together
from hub.store.records import Row
from protocol.errors import AgentComError, Conflict
from protocol.events import Event, EventKind
from protocol.model import TaskState

log = structlog.get_logger(__name__)


Write = tuple[str, Sequence[tuple[Any, ...]]]
"""A statement by its name, and the values of each row that it writes."""


class Statements(Protocol):
    """One writing connection, asked by the names of queries."""

    is_alone: bool
    """Nobody else writes to these rows: what was read or written stays true after the commit."""

    @property
    def refusals(self) -> tuple[type[Exception], ...]:
        """What it says of a single change that no row can hold (a broken constraint, a number beyond 64 bits)."""
        ...

    @property
    def fatal(self) -> tuple[type[Exception], ...]:
        """What it says when it cannot go on at all; looked at before ``refusals``."""
        ...

    def why(self, exc: Exception) -> str:
        """One of them in words, without values of the rows."""
        ...

    async def rows(self, name: str, *values: Any) -> Sequence[Row]:
        """What the query finds, all of it."""
        ...

    async def changed(self, name: str, *values: Any) -> int:
        """Rows that the statement has changed."""
        ...

    async def find(self, name: str, values: Sequence[tuple[Any, ...]]) -> Sequence[Row]:
        """What the query finds for each of ``values``, in any order."""
        ...

    async def together(self, writes: Sequence[Write]) -> None:
        """All of these, of which none needs what another one writes."""
        ...

    async def seal(self, writes: Sequence[Write], counts: Sequence[tuple[TaskState, int]], newest: int | None) -> None:
        """As :meth:`together`, at the end of a batch.

        Args:
            counts: by how much there are more tasks of a state, or fewer.
            newest: the number of the last event of the batch, if it has any. Who writes alone leaves it for the next
                start: from one batch to the next it is known.
        """
        ...

    def recount(self) -> None:
        """What it counts in mind was undone, or changed by a statement."""
        ...


class Unwritable(Conflict):
    """The database refuses this one change for good; all others go on."""

    code = "unwritable"

    def __init__(self, verb: str, why: str) -> None:
        self.verb, self.why = verb, why
        super().__init__(verb, why)

    def __str__(self) -> str:
        return f"{self.verb} cannot be stored: {self.why}"


def facts_text(facts: Mapping[str, Any]) -> str:
    """The facts of an event as JSON."""
    try:
        return msgspec.json.encode(facts).decode()
    except (UnicodeEncodeError, OverflowError):  # half a character pair, a huge number: the slower encoder writes them
        return json.dumps(facts)


NOTHING: Final[dict[str, Any]] = {}
"""The facts of an event that has none."""
_NO_COUNTS: Final = dict.fromkeys(TaskState, 0)
"""By how much a batch has changed how many tasks there are of each state."""
_Fact = tuple[EventKind, int, str | None, str | None, int | None, dict[str, Any]]


class Batches:
    """Applies batches of changes to one connection; collects their events and counts until they are sealed."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._facts: list[_Fact] = []
        self._notes: list[Note] = []
        self._chain = Chain()
        self._newest = 0  # event; true while the chain knows where it ends
        self._counts = _NO_COUNTS.copy()
        self._verbs: dict[type, Callable[[Any], Awaitable[Outcome]]] = {}
        self._daily: set[type] = set()

    async def batch(self, changes: Sequence[AnyChange]) -> tuple[list[Outcome], list[Event]]:
        """Apply these changes: an outcome each, and the events of all, numbered without a gap.

        Raises whatever the database refuses; then nothing of the batch may be kept.
        """
        self._facts, self._notes, self._counts = [], [], _NO_COUNTS.copy()
        self._start()
        outcomes: list[Outcome] = []
        at_once = self._at_once
        for is_daily, stretch in self._stretches(singly(changes)):
            if is_daily:
                await self._read_ahead(stretch)
            else:
                await self._write()
                self._forget()
            for change in stretch:
                outcome = at_once(change) or await self._apply(change)
                outcomes.append(outcome)
            if not is_daily:
                await self._write()
                self._forget()
        return together(changes, outcomes), await self._seal()

    async def each(self, changes: Sequence[AnyChange]) -> tuple[list[Outcome], list[Event]]:
        """As :meth:`batch`, but a change that the database refuses is undone alone; its outcome is Unwritable."""
        outcomes: list[Outcome] = []
        events: list[Event] = []
        for change in singly(changes):
            await self._run("guard")
            try:
                done, told = await self.batch([change])
            except self._statements.fatal:
                raise
            except self._statements.refusals as exc:
                verb, why = type(change).__name__.lower(), self._statements.why(exc)
                log.error(  # noqa: TRY400 - a traceback would show the values, which may be somebody's output
                    "change_unwritable", verb=verb, why=why, next="a bug: report it; all others go on"
                )
                await self._run("undo")
                self.lost()
                done, told = [Unwritable(verb, why)], []
            await self._run("release")
            outcomes += done
            events += told
        return together(changes, outcomes), events

    def _stretches(self, changes: Sequence[AnyChange]) -> Iterable[tuple[bool, Sequence[AnyChange]]]:
        """The changes in order, those of the daily work together; most batches have no others."""
        if self._daily.issuperset(map(type, changes)):
            return ((True, changes),)
        found = groupby(changes, lambda change: type(change) in self._daily)
        return [(is_daily, list(group)) for is_daily, group in found]

    def _at_once(self, change: AnyChange) -> Outcome | None:
        """The outcome of a change for which there is a short way; ``None``: its verb decides."""
        del change
        return None

    async def _apply(self, change: AnyChange) -> Outcome:
        try:
            return await self._verbs[type(change)](change)
        except AgentComError as refusal:
            return refusal

    # --- the daily work, which is written by the batch ----------------------------------------------------------------

    async def _read_ahead(self, changes: Sequence[AnyChange]) -> None:
        """Read at once what these changes will ask for."""

    def lost(self) -> None:
        """What was applied last was undone, or may not have been committed: nothing of it may be believed."""
        self._recount()
        self._forget()

    def _recount(self) -> None:
        """The numbers in mind are no longer those of the store."""
        self._chain.head = None
        self._statements.recount()

    def _start(self) -> None:
        """A batch begins."""
        self._forget()

    def _forget(self) -> None:
        """What was read is no longer true, and nothing of it waits to be written."""

    def _taken(self) -> list[Write]:
        """What the changes so far have to write; it counts as written from now on."""
        return []

    async def _write(self) -> None:
        """Write it now, because somebody is going to look."""
        if writes := self._taken():
            await self._statements.together(writes)

    async def _seal(self) -> list[Event]:
        """Write what is left, the events, the entries of the audit log and the counts."""
        writes = self._taken()
        events: list[Event] = []
        if self._facts or self._notes:
            chain, head, newest = self._chain, self._chain.head, self._newest + len(self._facts)
            if head is None:
                newest, head = await self._numbers()
            events, rows = self._told(newest)
            if rows:
                writes.append(("add_event", rows))
            notes = notes_of(events) + self._notes
            if notes and (asked := chain.unknown(notes)):
                chain.learn(await self._rows("audit_roles", json.dumps(sorted(asked))), asked)
            entries = chain.rows(head, notes, rows, newest)
            writes.append(("add_audit", entries))
            if self._statements.is_alone:  # only until the commit fails: see ``lost``
                chain.head, self._newest = Head(entries[-1][0], entries[-1][-1]), newest
        counts = [count for count in self._counts.items() if count[1]]
        await self._statements.seal(writes, counts, events[-1].seq if events else None)
        return events

    async def _numbers(self) -> tuple[int, Head]:
        """The number of the newest event of the batch, and the entry of the audit log that stands before."""
        count = len(self._facts)
        is_counted = count and not self._statements.is_alone
        ((last, seq, hash_),) = await (self._rows("next_events", count) if is_counted else self._rows("audit_head"))
        head = Head(seq, bytes(hash_)) if seq else Head()
        return last if is_counted else last + count, head

    def _told(self, newest: int) -> tuple[list[Event], list[EventRow]]:
        """The events of the batch, of which the last is ``newest``, and their rows."""
        texts: dict[int, str | None] = {id(NOTHING): None}  # many events share their facts: those are encoded once
        events: list[Event] = []
        rows: list[EventRow] = []
        add_event, add_row, known = events.append, rows.append, texts.get
        seq = newest - len(self._facts)
        for kind, at_ms, task, agent, epoch, facts in self._facts:
            seq += 1
            text = known(id(facts), "")
            if text == "":
                text = texts[id(facts)] = facts_text(facts) if facts else None
            add_event(Event(kind=kind, at_ms=at_ms, seq=seq, task=task, agent=agent, epoch=epoch, facts=facts))
            add_row((seq, at_ms, kind, task, agent, epoch, text))
        return events, rows

    # --- small steps --------------------------------------------------------------------------------------------------

    async def _run(self, name: str, *values: Any) -> None:
        await self._statements.changed(name, *values)

    async def _rows(self, name: str, *values: Any) -> Sequence[Row]:
        return await self._statements.rows(name, *values)

    async def _row(self, name: str, *values: Any) -> Row | None:
        rows = await self._rows(name, *values)
        return rows[0] if rows else None

    async def _find(self, name: str, values: Sequence[tuple[Any, ...]]) -> Sequence[Row]:
        return await self._statements.find(name, values)

    async def _many(self, name: str, values: Sequence[tuple[Any, ...]]) -> None:
        await self._statements.together([(name, values)])

    async def _changed(self, name: str, *values: Any) -> bool:
        return await self._statements.changed(name, *values) > 0

    def _move(self, was: TaskState | None, now: TaskState) -> None:
        counts = self._counts
        if was is not None:
            counts[was] -= 1
        counts[now] += 1

    def _tell(
        self,
        kind: EventKind,
        at_ms: int,
        task: str | None = None,
        agent: str | None = None,
        epoch: int | None = None,
        **facts: Any,
    ) -> None:
        self._facts.append((kind, at_ms, task, agent, epoch, told(facts)))

    def _note(self, event: Event) -> None:
        self._facts.append((event.kind, event.at_ms, event.task, event.agent, event.epoch, event.facts))


def told(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that say something."""
    return {name: value for name, value in facts.items() if value is not None and value != ""}
