"""The promises about endpoints that people add: bad ones are refused in words, and one that goes harms nobody."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest

from hub.clock import SystemClock
from hub.core.fleet import Fleet
from hub.services.health import EndpointHealth
from hub.services.registry import EndpointExists, Registry
from hub.store.sqlite import SqliteStore
from protocol.api import EndpointBody
from protocol.errors import BadInput, NotFound
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
