"""An endpoint that lies harms nobody but itself: what looks at it, and what works beside it, goes on."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest

from hub.clock import SystemClock
from hub.core.fleet import Fleet
from hub.core.speeds import ServerKey
from hub.probe import probe
from hub.services.health import EndpointHealth
from hub.services.registry import Registry
from hub.store.endpoint_changes import EndpointRow, PutEndpoint
from hub.store.sqlite import SqliteStore
from protocol.endpoints import EndpointKind, EndpointReport
from protocol.events import Event, EventKind
from sidecar.llm.base import ChatMessage, ChatRequest
from sidecar.llm.config import EndpointSettings
from sidecar.llm.endpoints import Endpoints
from tests.support.liar import LIES, lying
from tests.support.ollama_server import OllamaServer, Reply

PATIENCE_S = 60.0
WHY = {
    "wrong_json": "has no list", "no_json": "not JSON", "wrong_type": "not JSON", "closed": "isconnected", "cut": "",
    "huge": "more than 4,194,304 bytes", "endless": "more than 4,194,304 bytes", "endless_head": "", "mud": "within",
    "silent": "within", "redirect": "answers 302",
}  # fmt: skip


@pytest.fixture
async def good() -> AsyncIterator[OllamaServer]:
    server = OllamaServer(script=[Reply("fine", repeat=True)])
    await server.start()
    yield server
    await server.stop()


async def test_a_sidecar_works_on_while_its_endpoints_lie(good: OllamaServer) -> None:
    async with lying() as liars, asyncio.timeout(PATIENCE_S):
        kinds = [EndpointKind.OLLAMA, EndpointKind.OPENAI]
        settings = [EndpointSettings(f"{liar.lie}-{kind}", kind, liar.url) for liar in liars for kind in kinds]
        endpoints = Endpoints([EndpointSettings("good", EndpointKind.OLLAMA, good.url), *settings])
        looking = asyncio.create_task(endpoints.discover())
        for liar in liars:
            await liar.asked.wait()
        reply = await endpoints.provider("good").chat(ChatRequest((ChatMessage("user", "hi"),), model="qwen3:8b"))
        reports = await looking
        await endpoints.close()

    problems = {trouble.endpoint: trouble.problem for trouble in endpoints.troubles}
    assert reply.text == "fine"
    assert [report.id for report in reports] == ["good"]
    assert set(problems) == {f"{lie}-{kind}" for lie in LIES for kind in kinds}
    for lie in LIES:
        assert WHY[lie] in problems[f"{lie}-ollama"], lie
        assert len(problems[f"{lie}-ollama"]) <= 300


class Seen(EndpointHealth):
    """Tells when something is known of so many endpoints."""

    def __init__(self, store: SqliteStore, fleet: Fleet, most: int) -> None:
        super().__init__(store, fleet, SystemClock(), Random(1))
        self._of, self._most, self.all = fleet.health, most, asyncio.Event()

    def answered(self, key: ServerKey, report: EndpointReport) -> None:
        super().answered(key, report)
        self._count()

    def silent(self, key: ServerKey, report: EndpointReport, problem: str) -> None:
        super().silent(key, report, problem)
        self._count()

    def _count(self) -> None:
        if len(self._of) == self._most:
            self.all.set()


async def test_a_hub_sees_the_good_among_the_liars(good: OllamaServer) -> None:
    store, fleet = SqliteStore(":memory:"), Fleet()
    await store.open()
    health = Seen(store, fleet, len(LIES) + 1)
    registry = Registry(store, fleet, SystemClock(), probe, health)
    async with lying() as liars, asyncio.timeout(PATIENCE_S):
        for name, url in [("good", good.url), *((liar.lie, liar.url) for liar in liars)]:
            row = EndpointRow(id=name, kind="ollama", url=url, local=True, default_model="")
            await store.commit(PutEndpoint(row, Event(kind=EventKind.ENDPOINT_ADDED, at_ms=1)))
        await registry.reload()
        running = asyncio.create_task(registry.run())
        for liar in liars:
            await liar.asked.wait()
        await health.all.wait()
        running.cancel()
        await asyncio.wait([running])
    await store.close()

    states = {name: health.state.value for (_, name), health in fleet.health.items()}
    assert states == {"good": "online"} | dict.fromkeys(LIES, "offline")
