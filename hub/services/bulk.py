"""Do one thing to every task that matches: what people otherwise do with a loop over a list."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from msgspec.structs import replace

from hub.store.store import Store, TaskQuery, TaskRow
from protocol.bulk import BulkBody, BulkDone, BulkRefusal, BulkVerb
from protocol.errors import AgentComError, BadInput, Conflict, Problem, Unavailable
from protocol.model import FINAL_STATES, PRIORITY_ORDER, Priority, TaskState

MOST: Final = 10_000
"""Tasks that one request is about; it takes seconds, and whoever means more asks again."""
_PAGE: Final = 500
_AT_ONCE: Final = 100
_SHOWN: Final = 20
_LIVE: Final = frozenset(TaskState) - FINAL_STATES
_FOR: Final[Mapping[BulkVerb, frozenset[TaskState]]] = {
    BulkVerb.CANCEL: _LIVE,
    BulkVerb.RETRY: frozenset({TaskState.DEAD}),
    BulkVerb.PRIORITISE: _LIVE,
}


class Verbs(Protocol):
    """What can be done to one task: ``hub/services/intake.py``."""

    async def cancel(self, task: str, reason: str, by: str) -> None:
        """End it."""

    async def retry(self, task: str, by: str) -> None:
        """Put it back into the queue."""

    async def prioritise(self, task: str, priority: Priority, by: str) -> None:
        """Let it go earlier, or later."""


class Bulk:
    """The use case of whoever cleans up."""

    def __init__(self, store: Store, verbs: Verbs) -> None:
        self._store, self._verbs = store, verbs

    async def apply(self, body: BulkBody, by: str, only: Callable[[TaskRow], bool] | None = None) -> BulkDone:
        """Do it, or count to whom it would be done; with ``only``, to those for which it is true.

        Raises:
            BadInput: a filter or the priority makes no sense.
            Conflict: more match than were expected; nothing is done.
        """
        tasks, more = await self._matching(_query(body), only)
        if body.preview:
            return BulkDone(matched=len(tasks), done=0, more=more)
        if body.expect is not None and len(tasks) > body.expect:
            raise Conflict(f"{len(tasks)} tasks match by now, not {body.expect}: look again, then ask again")
        verb = self._verb(body, by)
        refused: list[BulkRefusal] = []
        for start in range(0, len(tasks), _AT_ONCE):
            refused += filter(
                None, await asyncio.gather(*(_tried(verb, task) for task in tasks[start : start + _AT_ONCE]))
            )
        return BulkDone(matched=len(tasks), done=len(tasks) - len(refused), refused=tuple(refused[:_SHOWN]), more=more)

    async def _matching(
        self, query: TaskQuery | None, only: Callable[[TaskRow], bool] | None
    ) -> tuple[list[str], bool]:
        tasks: list[str] = []
        while query is not None:
            found = await self._store.tasks(query)
            tasks += [row.id for row in found if only is None or only(row)]
            if len(found) < query.limit or len(tasks) > MOST:
                break
            query = replace(query, before=found[-1].id)
        return tasks[:MOST], len(tasks) > MOST

    def _verb(self, body: BulkBody, by: str) -> Callable[[str], Awaitable[None]]:
        match body.verb:
            case BulkVerb.CANCEL:
                return lambda task: self._verbs.cancel(task, body.reason, by)
            case BulkVerb.RETRY:
                return lambda task: self._verbs.retry(task, by)
            case BulkVerb.PRIORITISE:
                priority = body.priority or Priority.NORMAL
                return lambda task: self._verbs.prioritise(task, priority, by)


def _query(body: BulkBody) -> TaskQuery | None:
    """Which tasks; ``None``: none can match.

    Raises:
        BadInput: see :meth:`Bulk.apply`.
    """
    problems = []
    name, colon, value = body.label.partition(":")
    if body.label and not (name and colon):
        problems.append(Problem("label", f"expected key:value, found {body.label[:60]!r}"))
    if (body.priority is not None) != (body.verb is BulkVerb.PRIORITISE):
        problems.append(Problem("priority", "name one for the verb prioritise, and for no other"))
    filters = (body.state, body.agent, body.label, body.q, body.priorities, body.tier, body.model)
    if not (body.preview or body.expect is not None or any(filters)):
        problems.append(
            Problem("expect", "no filter: every task would match; say how many you expect, or count with preview")
        )
    if problems:
        raise BadInput(problems, "request")
    fits = _FOR[body.verb]
    states = frozenset(body.state) & fits if body.state else fits
    if not states:
        return None
    label = (name, value) if body.label else None
    return TaskQuery(
        states=states,
        agent=body.agent,
        label=label,
        words=body.q,
        priorities=frozenset(PRIORITY_ORDER[priority] for priority in body.priorities),
        tiers=frozenset(tier.value for tier in body.tier),
        model=body.model,
        limit=_PAGE,
    )


async def _tried(verb: Callable[[str], Awaitable[None]], task: str) -> BulkRefusal | None:
    try:
        await verb(task)
    except Unavailable:
        raise  # no word about one task: the rest would fare no better
    except AgentComError as exc:
        return BulkRefusal(task=task, why=str(exc))
    return None
