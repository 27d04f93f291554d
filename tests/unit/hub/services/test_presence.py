"""The promises about agents that come twice at once: the newest start counts, and nothing of an older one does."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest

from hub.clock import SystemClock
from hub.core.fleet import Fleet
from hub.core.window import Window
from hub.services.presence import Evicted, Presence
from hub.services.results import Results
from hub.store.sqlite import SqliteStore
from protocol.messages import Heartbeat, Hello
from protocol.model import AgentState


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    made = SqliteStore(":memory:")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def presence(store: SqliteStore, fleet: Fleet) -> Presence:
    results = Results(store, fleet, Window(), SystemClock(), Random(1))
    return Presence(store, fleet, SystemClock(), lease_s=30.0, lose=results.lose, send=lambda *_: None)


def hello(boot: int, *capabilities: str) -> Hello:
    return Hello(
        protocol=(1, 1), sidecar="a", boot=boot, host="h", slots=1, version="1", capabilities=capabilities or ("x",)
    )


async def test_of_two_starts_that_come_at_once_only_the_newer_one_is_let_in(presence: Presence, fleet: Fleet) -> None:
    old, new = await asyncio.gather(presence.hello(hello(1)), presence.hello(hello(2)), return_exceptions=True)

    assert isinstance(old, Evicted)
    assert new == ((), [])
    assert fleet.agents["a"].boot == 2


async def test_an_agent_gets_work_only_when_its_newest_start_was_welcomed(presence: Presence, fleet: Fleet) -> None:
    await presence.hello(hello(1))
    await presence.hello(hello(2))
    states: list[AgentState] = []
    for boot in (1, 2):
        presence.ready("a", boot)
        states.append(fleet.agents["a"].state)

    assert states == [AgentState.OFFLINE, AgentState.IDLE]


async def test_a_heartbeat_of_an_older_start_says_nothing_about_the_newer_one(presence: Presence, fleet: Fleet) -> None:
    await presence.hello(hello(2, "gpu"))
    presence.ready("a", 2)
    presence.heartbeat("a", Heartbeat(sidecar="a", boot=1, capabilities=("old",), draining=True))
    assert fleet.agents["a"].capabilities == frozenset({"gpu"})
    assert fleet.agents["a"].free_slots == 1

    presence.heartbeat("a", Heartbeat(sidecar="a", boot=2, capabilities=("new",)))
    assert fleet.agents["a"].capabilities == frozenset({"new"})
