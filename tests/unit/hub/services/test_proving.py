"""The promises of the loop that looks for machines: work waits for one as long as one is there, and then no longer."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

import pytest
from msgspec.structs import replace

from hub.core.fleet import Fleet
from hub.core.proving import PATIENCE_S, proof_class
from hub.core.routing import route
from hub.core.window import Window
from hub.services.proving import Proofs
from hub.store.changes import Record
from hub.store.sqlite import SqliteStore
from protocol.choice import CleanRoom
from protocol.events import Event, EventKind
from protocol.model import AgentState, TaskState
from tests.contract.test_store_proofs import SPEC, done
from tests.support.stores import Rows, task_id

_PROVES: Final = frozenset({"executor:proof", "checks:2", "checks:3"})


@dataclass
class Clock:
    """A clock that is moved by hand."""

    now: float = 1_000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def now_ms(self) -> int:
        """Milliseconds."""
        return int(self.now * 1000)


@dataclass
class Hub:
    """A loop over a store with one task that waits for its proof."""

    rows: Rows
    fleet: Fleet
    window: Window
    clock: Clock
    proofs: Proofs
    ended: list[TaskState] = field(default_factory=list)

    async def look(self, after_s: float) -> TaskState:
        """One round, so much later; where the task stands then."""
        self.clock.now += after_s
        self.proofs.look()
        await self.rows.store.commit(Record(Event(kind=EventKind.HUB_STARTED, at_ms=1)))
        return await self.rows.state(1)

    def other(self, state: AgentState) -> None:
        """Another machine comes, or goes."""
        agent = self.fleet.agent("b")
        agent.host, agent.capabilities, agent.state = "other", _PROVES, state


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    store, fleet, window, clock = SqliteStore(":memory:"), Fleet(), Window(), Clock()
    await store.open()
    proofs = Proofs(store, fleet, window, clock)
    made = Hub(Rows(store), fleet, window, clock, proofs)
    proofs.on_ended = made.ended.append
    yield made
    await store.close()


async def waits(hub: Hub, mode: CleanRoom | None = None) -> None:
    finished = await done(hub.rows, replace(SPEC, clean_room=mode))
    assert finished.again is not None
    hub.window.add(finished.again.class_text, finished.again.place)


async def test_work_waits_while_another_machine_is_there_and_for_a_while_when_it_has_gone(hub: Hub) -> None:
    await waits(hub)
    hub.other(AgentState.IDLE)
    assert await hub.look(10 * PATIENCE_S) is TaskState.QUEUED
    hub.other(AgentState.OFFLINE)
    assert await hub.look(1) is TaskState.QUEUED
    hub.other(AgentState.IDLE)
    assert await hub.look(2 * PATIENCE_S) is TaskState.QUEUED
    hub.other(AgentState.OFFLINE)
    assert await hub.look(1) is TaskState.QUEUED

    assert await hub.look(PATIENCE_S) is TaskState.COMPLETED
    row = await hub.rows.store.task(task_id(1))
    assert row is not None
    assert (row.verified, row.reason, hub.ended) == (
        True,
        "no machine but h was there to prove it",
        [TaskState.COMPLETED],
    )
    assert not any(len(queue) for queue in hub.window.classes.values())


async def test_who_insists_waits_for_ever(hub: Hub) -> None:
    await waits(hub, CleanRoom.ALWAYS)
    assert await hub.look(0) is TaskState.QUEUED

    assert await hub.look(100 * PATIENCE_S) is TaskState.QUEUED


async def test_work_that_is_in_hand_by_now_is_left_alone(hub: Hub) -> None:
    await waits(hub)
    await hub.look(0)
    await hub.rows.claim(1, "b")

    assert await hub.look(2 * PATIENCE_S) is TaskState.ASSIGNED
    assert hub.ended == []


async def test_a_machine_that_nobody_can_give_work_to_is_not_waited_for(hub: Hub) -> None:
    await waits(hub)
    hub.other(AgentState.BLOCKED)
    assert await hub.look(0) is TaskState.QUEUED

    assert await hub.look(PATIENCE_S) is TaskState.COMPLETED


async def test_who_waits_later_waits_as_long(hub: Hub) -> None:
    await waits(hub)
    (queue,) = hub.window.classes.values()
    hub.window.add(proof_class(route(SPEC)[1].text, "c", "h", is_must=False), (0, task_id(2)))
    assert await hub.look(0) is TaskState.QUEUED
    place = queue.take()
    assert await hub.look(2 * PATIENCE_S) is TaskState.QUEUED
    queue.add(place)
    assert await hub.look(0) is TaskState.QUEUED

    assert await hub.look(PATIENCE_S) is TaskState.COMPLETED


def test_a_machine_whose_link_has_just_broken_counts_for_a_minute(hub: Hub) -> None:
    hub.other(AgentState.OFFLINE)
    assert not hub.proofs.rooms().beside("h", ())
    hub.fleet.agents["b"].last_seen_ms = hub.clock.now_ms()
    assert hub.proofs.rooms().beside("h", ())
    hub.clock.now += PATIENCE_S

    assert not hub.proofs.rooms().beside("h", ())


def test_a_machine_that_was_at_the_hub_before_counts_for_a_minute(hub: Hub) -> None:
    hub.other(AgentState.OFFLINE)
    hub.fleet.agents["b"].hub = 1
    assert hub.proofs.rooms().beside("h", ())
    hub.clock.now += PATIENCE_S

    assert not hub.proofs.rooms().beside("h", ())
