"""The promises about endpoints that people add: bad ones are refused in words, and one that goes harms nobody."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from hub.clock import SystemClock
from hub.core.fleet import Fleet
from hub.core.health import Health
from hub.core.speeds import Speeds
from hub.core.turns import PATIENCE
from hub.services.health import EndpointHealth
from hub.services.registry import EndpointExists, Registry
from hub.store.endpoint_changes import RemoveEndpoint
from hub.store.rows import at
from hub.store.sqlite import SqliteStore
from protocol.endpoint_views import EndpointBody, EndpointPatch
from protocol.endpoints import EndpointReport, EndpointState
from protocol.errors import BadInput, EndpointBusy, EndpointDown, NotFound
from protocol.events import Event, EventKind
from protocol.listing import Listed
from protocol.model import EndpointKind, ModelReport

URL = "http://127.0.0.1:11434"


async def probe(_kind: EndpointKind, _url: str) -> Listed:
    """An endpoint that answers after a while."""
    await asyncio.sleep(0)
    return Listed((ModelReport(name="m"),))


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    store = SqliteStore(":memory:")
    await store.open()
    fleet, clock = Fleet(), SystemClock()
    yield Registry(store, fleet, clock, probe, EndpointHealth(store, fleet, clock, Random(1)))
    await store.close()


BAD = ("http://[", "http://[::1", "http://[x]", "", "ollama", "ftp://x", "http://", "http://u:p@x", "http://x:y")


@pytest.mark.parametrize("url", BAD, ids=range(len(BAD)))
async def test_an_address_that_is_none_is_refused_in_words(registry: Registry, url: str) -> None:
    with pytest.raises(BadInput) as caught:
        await registry.add(EndpointBody(kind=EndpointKind.OLLAMA, url=url), by="x")

    assert [problem.path for problem in caught.value.problems] == ["url"]
    assert registry.endpoints().endpoints == ()


async def test_an_endpoint_without_an_id_gets_one_that_it_can_be_removed_by(registry: Registry) -> None:
    for url in (URL, "http://\u2603/"):
        added = await registry.add(EndpointBody(kind=EndpointKind.OLLAMA, url=url), by="x")
        assert added.id
        await registry.remove(added.id, by="x")

    assert registry.endpoints().endpoints == ()


async def test_of_two_who_add_the_same_endpoint_at_once_one_is_told_that_it_is_there(registry: Registry) -> None:
    body = EndpointBody(kind=EndpointKind.OLLAMA, url=URL)
    made = await asyncio.gather(registry.add(body, by="x"), registry.add(body, by="y"), return_exceptions=True)

    assert sorted(type(each).__name__ for each in made) == [EndpointExists.__name__, "EndpointView"]


async def test_an_endpoint_that_is_removed_while_all_are_looked_at_does_not_end_the_loop(registry: Registry) -> None:
    added = await registry.add(EndpointBody(kind=EndpointKind.OLLAMA, url=URL), by="x")
    removing = asyncio.create_task(registry.remove(added.id, by="x"))
    loops = []
    while not removing.done():
        # Wherever the removal stands, a loop begins to look just now.
        loops.append(asyncio.create_task(registry.run()))
        await asyncio.sleep(0)
    await removing
    for _ in range(5):
        await asyncio.sleep(0)

    assert [loop for loop in loops if loop.done()] == []
    with pytest.raises(NotFound):
        registry.endpoint(added.id)
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)


class Gate:
    """A probe that answers when it is told to."""

    def __init__(self) -> None:
        self.asked, self.open = asyncio.Event(), asyncio.Event()
        self.fault: EndpointDown | None = None

    async def __call__(self, _kind: EndpointKind, _url: str) -> Listed:
        self.asked.set()
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        return Listed((ModelReport(name="m"),))


@dataclass
class Gated:
    """A hub whose endpoints answer when they are told to."""

    store: SqliteStore
    gate: Gate
    registry: Registry
    fleet: Fleet
    speeds: Speeds

    async def changing(self, **change: Any) -> "asyncio.Task[Any]":
        """Somebody changes the endpoint; it is being probed."""
        self.gate.asked.clear()
        self.gate.open.clear()
        task = asyncio.create_task(self.registry.change("big", EndpointPatch(**change), by="x"))
        await self.gate.asked.wait()
        return task

    async def ids(self) -> list[str]:
        return [row.id for row in await self.store.endpoints()]


@pytest.fixture
async def gated() -> AsyncIterator[Gated]:
    store = SqliteStore(":memory:")
    await store.open()
    fleet, clock, gate, speeds = Fleet(), SystemClock(), Gate(), Speeds()
    health = EndpointHealth(store, fleet, clock, Random(1))
    made = Gated(store, gate, Registry(store, fleet, clock, gate, health, speeds=speeds), fleet, speeds)
    gate.open.set()
    await made.registry.add(EndpointBody(kind=EndpointKind.OLLAMA, url=URL, id="big"), by="x")
    yield made
    await store.close()


async def test_an_endpoint_that_is_removed_while_it_is_changed_stays_removed(gated: Gated) -> None:
    changing = await gated.changing(default_model="n")
    await gated.registry.remove("big", by="y")
    gated.gate.open.set()
    with pytest.raises(NotFound):
        await changing

    assert await gated.ids() == []
    assert gated.registry.endpoints().endpoints == ()


async def test_an_endpoint_that_another_hub_has_removed_meanwhile_stays_removed(gated: Gated) -> None:
    changing = await gated.changing(default_model="n")
    await gated.store.commit(RemoveEndpoint("big", Event(kind=EventKind.ENDPOINT_REMOVED, at_ms=1)))
    gated.gate.open.set()
    with pytest.raises(NotFound):
        await changing

    assert await gated.ids() == []


async def test_of_two_changes_at_once_none_undoes_the_other(gated: Gated) -> None:
    first = await gated.changing(default_model="n")
    second = await gated.changing(local=False)
    gated.gate.open.set()
    ends = await asyncio.gather(first, second, return_exceptions=True)

    assert sorted(type(end).__name__ for end in ends) == ["Conflict", "EndpointView"]
    kept = (await gated.store.endpoints())[0]
    assert (kept.default_model, kept.local) in {("n", True), ("", False)}


async def test_an_added_endpoint_that_has_no_time_to_list_its_models_stays_up(gated: Gated) -> None:
    states = []
    for gated.gate.fault in (EndpointBusy("big", "it answers 503"), EndpointDown("big", "it is gone")):
        await gated.registry.look()
        seen = gated.registry.endpoint("big")
        states.append((seen.state, seen.detail, [model.name for model in seen.models]))

    assert states == [("up", "it answers 503", ["m"]), ("down", "it is gone", ["m"])]


async def test_it_is_shown_how_many_requests_at_a_time_an_endpoint_is_given(gated: Gated) -> None:
    shown = []

    def note() -> None:
        seen = gated.registry.endpoint("big")
        shown.append((seen.turns, seen.proved))

    note()
    report = gated.fleet.seen["", "big"]
    for _ in range(PATIENCE):  # all of its turns were taken, and nobody waited
        gated.speeds.answered(("", "big"), report, 1, queue_s=0.0, model_s=1.0)
    gated.speeds.answered(("", "big"), report, 2, queue_s=0.0, model_s=1.0)
    note()
    gated.fleet.health["", "big"] = Health(state=EndpointState.HALF_OPEN)
    note()

    assert shown == [(1, 0), (2, 2), (1, 2)]


async def test_nobody_says_that_an_endpoint_is_online_whose_sidecar_is_away() -> None:
    store = SqliteStore(":memory:")
    await store.open()
    fleet, clock = Fleet(), SystemClock()
    health = EndpointHealth(store, fleet, clock, Random(1))
    distant: set[str] = set()
    registry = Registry(store, fleet, clock, probe, health, is_elsewhere=lambda agent: agent.name in distant)
    report = EndpointReport(id="ollama", kind=EndpointKind.OLLAMA, url=URL, local=True, models=(ModelReport(name="m"),))
    agent = fleet.agent("One")
    agent.host, agent.endpoints, agent.last_seen_ms = "box", (report,), clock.now_ms() + 60_000
    health.answered(("box", "ollama"), report)

    away = registry.endpoint("ollama")
    distant.add("One")
    elsewhere = registry.endpoint("ollama")
    distant.clear()
    agent.fire("join")
    there = registry.endpoint("ollama")
    agent.fire("lose")
    health.silent(("box", "ollama"), report, "connection refused")
    gone = registry.endpoint("ollama")
    await store.close()

    assert (away.state, away.health, away.agents, away.since) == ("down", "unknown", (), at(agent.last_seen_ms))
    assert away.detail == "its sidecar One is offline"
    assert (elsewhere.state, elsewhere.health, elsewhere.agents) == ("up", "unknown", ())
    assert elsewhere.detail == "its sidecar One is at another hub, which knows its state"
    assert (there.state, there.health, there.agents) == ("up", "online", ("One",))
    assert (gone.state, gone.health) == ("down", "offline"), "that was seen"


async def test_a_model_tells_when_it_was_used_and_how_fast_it_was_seen_to_write(gated: Gated) -> None:
    server = ("", "big")
    before = gated.registry.endpoint("big").models[0]
    endpoint = gated.fleet.seen[server]
    gated.speeds.took(server, "m", gated.speeds.of(server, endpoint, endpoint.models[0], None), decode=(50, 2.0))
    gated.speeds.saw_use(server, "m", 1_767_225_600_000)
    (model,), (row,) = gated.registry.endpoint("big").models, gated.registry.models().models

    assert (before.tokens_per_s, before.last_used_at) == (None, None)
    assert model.tokens_per_s == row.tokens_per_s == pytest.approx(25.0)
    assert model.last_used_at == row.last_used_at == gated.registry.endpoint("big").last_used_at
    assert str(row.last_used_at) == "2026-01-01 00:00:00+00:00"
