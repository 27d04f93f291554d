"""What is given away is what the rows say, whatever the hub remembers of a task."""

from collections.abc import AsyncIterator
from typing import Final

import pytest
from msgspec.msgpack import encode
from msgspec.structs import replace

from hub.clock import SystemClock
from hub.core.fleet import Fleet
from hub.core.routing import PROOF, Placement, decode_placement, route, routing_of
from hub.core.window import Window
from hub.gateway.connection import Links
from hub.services.dispatch import Dispatch
from hub.store.changes import Record
from hub.store.sqlite import SqliteStore
from protocol import codec
from protocol.choice import CleanRoom
from protocol.events import Event, EventKind
from protocol.lean import lean_routing
from protocol.model import AgentState, AttemptState, Strategy, Tier
from protocol.prices import Price
from tests.contract.test_store_proofs import COMMAND, done
from tests.support.stores import Rows, task_id

_ABLE: Final = frozenset({"executor:shell", f"executor:{PROOF}", "checks:2", "checks:3"})


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    store = SqliteStore(":memory:")
    await store.open()
    yield store
    await store.close()


async def test_work_that_a_hub_remembers_as_to_be_done_is_proven_when_it_was_done(store: SqliteStore) -> None:
    rows, fleet, window, clock = Rows(store), Fleet(), Window(), SystemClock()
    finished = await done(rows, replace(COMMAND, clean_room=CleanRoom.ALWAYS))
    assert finished.again is not None
    window.add(route(COMMAND)[1].text, finished.again.place)
    agent = fleet.agent("b")
    agent.host, agent.boot, agent.capabilities, agent.state = "other", 1, _ABLE, AgentState.IDLE
    fleet.changed(agent)
    store.on_seal = Dispatch(store, fleet, window, Links(clock), clock, lease_s=30.0).run
    for _ in range(4):
        await store.commit(Record(Event(kind=EventKind.HUB_STARTED, at_ms=1)))

    work, proof = await store.attempts(task_id(1))
    assert (work.state, decode_placement(proof.placement).executor) == (AttemptState.PASSED, PROOF)
    assert fleet.held[task_id(1)].is_proof


async def test_what_an_agent_is_told_of_a_decision_is_that_decision_whatever_is_remembered(store: SqliteStore) -> None:
    dispatch = Dispatch(store, Fleet(), Window(), Links(clock := SystemClock()), clock, lease_s=30.0)
    plain = Placement(strategy=Strategy.TRIVIAL, executor="noop", agent="a", reason="it had room", at_ms=1_000)
    priced = replace(plain, price=Price(model="m"))
    tier = route(COMMAND)[0]
    tiers = [codec.encode_tier(tier), codec.encode_tier(replace(tier, effective=Tier.COMPLEX))]
    for placement in (plain, priced, replace(plain, agent="b"), replace(plain, strategy=Strategy.LOCAL_LLM)):
        for at_ms in (1_000, 1_001, 2_000_000):
            for raw in tiers:
                seen = replace(placement, at_ms=at_ms)
                told = routing_of(codec.decode_tier(raw), seen, is_whole=False)

                assert encode(dispatch._routing(raw, seen)) == encode(lean_routing(told))
