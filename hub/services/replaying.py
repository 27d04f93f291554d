"""Replay a task from its log: what happened step by step, and its routing decided again by the same code.

Only reads. The rules are ``hub/core/replay.py``.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from hub.core import replay as rules
from hub.core.routing import decode_placement
from hub.store.rows import moment
from hub.store.store import AttemptRow, Store, TaskRow
from protocol import codec
from protocol.errors import NotFound
from protocol.events import Event, EventKind
from protocol.ids import TASK_ID
from protocol.model import Strategy, TaskState, Tier
from protocol.replay import Replay, ReplayDecision, ReplayStep, ReplayVerdict

MAX_STEPS: Final = 10_000
"""Events of one task that are told."""
_PAGE: Final = 1_000
_FIRST: Final = frozenset({EventKind.TASK_QUEUED, EventKind.TASK_BLOCKED})


class Replaying:
    """Replays tasks; ``chains`` are those of the hub's settings now."""

    def __init__(self, store: Store, chains: Mapping[Tier, Sequence[Strategy]]) -> None:
        self._store, self._chains = store, chains

    async def replay(self, task: str) -> Replay:
        """A task from its log.

        Raises:
            NotFound: there is no such task.
        """
        row = await self._store.task(task) if TASK_ID.fullmatch(task) else None
        if row is None:
            raise NotFound("task", task)
        events = await self._events(task)
        attempts = [each for each in await self._store.attempts(task) if each.placement]
        decisions = tuple([await self._again(row, attempt) for attempt in attempts])
        steps, state = [], None
        for event in events:
            state = rules.next_state(state, event)
            steps.append(_step(event, state))
        has_begin = bool(events) and events[0].kind in _FIRST and len(events) < MAX_STEPS
        differences = [f"attempt {each.epoch}: {what}" for each in decisions for what in each.differences]
        row = await self._store.task(task) or row
        if has_begin and state is not row.state and len(events) == len(await self._events(task)):
            differences.append(f"state: {state} by its events, {row.state} stored")
        verdict = ReplayVerdict.DIFFERENT if differences else ReplayVerdict.SAME
        return Replay(
            task=task,
            title=row.title,
            state=row.state,
            replayed=state,
            verdict=verdict if has_begin or differences else ReplayVerdict.INCOMPLETE,
            differences=tuple(differences),
            steps=tuple(steps),
            decisions=decisions,
        )

    async def _events(self, task: str) -> list[Event]:
        found: list[Event] = []
        while len(found) < MAX_STEPS:
            page = await self._store.events(found[-1].seq if found else 0, _PAGE, task)
            found += page
            if len(page) < _PAGE:
                break
        return found

    async def _again(self, row: TaskRow, attempt: AttemptRow) -> ReplayDecision:
        stored = await self._store.spec(row.id)
        assert stored is not None, "a task is stored with its spec"
        spec, tier = codec.decode_spec(stored[0]), codec.decode_tier(stored[1])
        placement = decode_placement(attempt.placement)
        found = rules.again(spec, tier, row.class_text, placement, self._chains)
        return ReplayDecision(
            epoch=attempt.epoch,
            at=moment(placement.at_ms),
            same=not found.differences,
            then=found.then,
            now=found.now,
            differences=found.differences,
            ways=found.ways,
        )


def _step(event: Event, state: TaskState | None) -> ReplayStep:
    return ReplayStep(
        seq=event.seq,
        at=moment(event.at_ms),
        kind=event.kind.value,
        state=state,
        epoch=event.epoch,
        agent=event.agent,
        facts=event.facts,
    )
