"""Batches of changes on one connection: an outcome each, their events numbered, their counts kept.

Runs inside the transaction of the writer's batch, which the store opens and commits. What the verbs themselves do is
``verbs.py``; they are coroutines because some databases let one wait for every statement.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import structlog

from hub.store.changes import AnyChange, Outcome
from hub.store.records import Row
from protocol.errors import AgentComError, Conflict
from protocol.events import Event, EventKind
from protocol.model import TaskState

log = structlog.get_logger(__name__)


class Statements(Protocol):
    """One writing connection, asked by the names of queries."""

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

    async def many(self, name: str, values: Sequence[tuple[Any, ...]]) -> None:
        """The statement once for each of ``values``."""
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


class Batches:
    """Applies batches of changes to one connection; collects their events and counts until they are sealed."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._events: list[Event] = []
        self._counts: Counter[TaskState] = Counter()
        self._verbs: dict[type, Callable[[Any], Awaitable[Outcome]]] = {}

    async def batch(self, changes: Sequence[AnyChange]) -> tuple[list[Outcome], list[Event]]:
        """Apply these changes: an outcome each, and the events of all, numbered without a gap.

        Raises whatever the database refuses; then nothing of the batch may be kept.
        """
        self._events, self._counts = [], Counter()
        outcomes = [await self._apply(change) for change in changes]
        return outcomes, await self._seal()

    async def each(self, changes: Sequence[AnyChange]) -> tuple[list[Outcome], list[Event]]:
        """As :meth:`batch`, but a change that the database refuses is undone alone; its outcome is Unwritable."""
        outcomes: list[Outcome] = []
        events: list[Event] = []
        for change in changes:
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
                done, told = [Unwritable(verb, why)], []
            await self._run("release")
            outcomes += done
            events += told
        return outcomes, events

    async def _apply(self, change: AnyChange) -> Outcome:
        try:
            return await self._verbs[type(change)](change)
        except AgentComError as refusal:
            return refusal

    async def _seal(self) -> list[Event]:
        """Write the events and counts of the changes so far."""
        for state in sorted(self._counts):
            if self._counts[state]:
                await self._run("add_count", state.value, self._counts[state])
        if not self._events:
            return []
        ((last,),) = await self._rows("next_events", len(self._events))
        numbered = [
            Event(kind=e.kind, at_ms=e.at_ms, seq=seq, task=e.task, agent=e.agent, epoch=e.epoch, facts=e.facts)
            for seq, e in enumerate(self._events, last - len(self._events) + 1)
        ]
        await self._statements.many(
            "add_event",
            [
                (e.seq, e.at_ms, e.kind.value, e.task, e.agent, e.epoch, facts_text(e.facts) if e.facts else None)
                for e in numbered
            ],
        )
        return numbered

    # --- small steps --------------------------------------------------------------------------------------------------

    async def _run(self, name: str, *values: Any) -> None:
        await self._statements.changed(name, *values)

    async def _rows(self, name: str, *values: Any) -> Sequence[Row]:
        return await self._statements.rows(name, *values)

    async def _row(self, name: str, *values: Any) -> Row | None:
        rows = await self._rows(name, *values)
        return rows[0] if rows else None

    async def _many(self, name: str, values: Sequence[tuple[Any, ...]]) -> None:
        if values:
            await self._statements.many(name, values)

    async def _changed(self, name: str, *values: Any) -> bool:
        return await self._statements.changed(name, *values) > 0

    def _move(self, was: TaskState | None, now: TaskState) -> None:
        if was is not None:
            self._counts[was] -= 1
        self._counts[now] += 1

    def _tell(
        self,
        kind: EventKind,
        at_ms: int,
        task: str | None = None,
        agent: str | None = None,
        epoch: int | None = None,
        **facts: Any,
    ) -> None:
        kept = {name: value for name, value in facts.items() if value not in (None, "")}
        self._events.append(Event(kind=kind, at_ms=at_ms, task=task, agent=agent, epoch=epoch, facts=kept))
