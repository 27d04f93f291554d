"""Models that are loaded before their work comes."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from protocol.endpoints import EndpointKind, Residency
from protocol.messages import Prewarm
from sidecar.llm.base import ChatMessage, ChatRequest
from sidecar.llm.config import EndpointSettings
from sidecar.llm.endpoints import Endpoints
from sidecar.llm.warmer import Warmer
from tests.support.ollama_server import Memory, Model, OllamaServer, Reply

WISH = Prewarm(endpoint="box", model="qwen3:8b", context=16_384, keep_alive_s=60.0)
BACK = Prewarm(endpoint="box", model="qwen3:8b", on=False)
ASK = ChatRequest(messages=(ChatMessage("user", "hello"),), model="qwen3:8b", context_tokens=16_384)
PATIENCE_S = 20


@pytest.fixture
async def ollama() -> AsyncIterator[OllamaServer]:
    server = OllamaServer(models=(Model("qwen3:8b"), Model("other:1b")), script=[Reply("hi", repeat=True)])
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def endpoints(ollama: OllamaServer) -> AsyncIterator[Endpoints]:
    endpoints = Endpoints(
        [
            EndpointSettings("box", EndpointKind.OLLAMA, ollama.url),
            EndpointSettings("gpt", EndpointKind.OPENAI, "http://127.0.0.1:9/v1"),
        ]
    )
    yield endpoints
    await endpoints.close()


@pytest.fixture
async def warmer(endpoints: Endpoints) -> AsyncIterator[Warmer]:
    warmer = Warmer(endpoints)
    yield warmer
    await warmer.close()


def residents(ollama: OllamaServer) -> list[str]:
    return [resident.model.name for resident in ollama.memory.look() if not resident.is_loading]


async def until_idle(warmer: Warmer) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await warmer.idle()


async def test_a_model_is_loaded_as_its_work_will_want_it(
    warmer: Warmer, endpoints: Endpoints, ollama: OllamaServer
) -> None:
    warmer.hear(WISH)
    await until_idle(warmer)
    await endpoints.provider("box").chat(ASK)

    load, chat = ollama.requests
    assert load["messages"] == []
    assert (load["options"]["num_ctx"], load["keep_alive"]) == (16_384, 60.0)
    assert chat["options"]["num_ctx"] == 16_384
    assert ollama.memory.loads == ["qwen3:8b"]  # the work found it there


async def test_while_it_is_on_its_way_it_is_reported_as_loading(
    warmer: Warmer, endpoints: Endpoints, ollama: OllamaServer
) -> None:
    ollama.memory.hold_loads = asyncio.Event()
    warmer.hear(WISH)
    warmer.hear(WISH)
    async with asyncio.timeout(PATIENCE_S):
        await ollama.until(lambda: bool(ollama.requests))
    (during, *_), *_ = [report.models for report in await endpoints.discover()]
    ollama.memory.hold_loads.set()
    await until_idle(warmer)
    (after, *_), *_ = [report.models for report in await endpoints.discover()]

    assert (during.residency, after.residency) == (Residency.LOADING, Residency.WARM)
    assert len(ollama.requests) == 1


async def test_a_load_that_is_taken_back_stops(warmer: Warmer, ollama: OllamaServer) -> None:
    ollama.memory.hold_loads = asyncio.Event()
    warmer.hear(WISH)
    async with asyncio.timeout(PATIENCE_S):
        await ollama.until(lambda: bool(ollama.requests))

    warmer.hear(BACK)

    await until_idle(warmer)
    async with asyncio.timeout(PATIENCE_S):
        await ollama.until(lambda: ollama.hung_up > 0)
    assert residents(ollama) == []


async def test_a_model_that_was_loaded_in_vain_leaves(warmer: Warmer, ollama: OllamaServer) -> None:
    warmer.hear(WISH)
    await until_idle(warmer)
    was_there = residents(ollama)

    warmer.hear(BACK)
    await until_idle(warmer)

    assert (was_there, residents(ollama)) == (["qwen3:8b"], [])


async def test_a_model_that_was_used_meanwhile_stays(
    warmer: Warmer, endpoints: Endpoints, ollama: OllamaServer
) -> None:
    warmer.hear(WISH)
    await until_idle(warmer)
    await endpoints.provider("box").chat(ASK)

    warmer.hear(BACK)
    await until_idle(warmer)

    assert residents(ollama) == ["qwen3:8b"]


async def test_a_model_that_was_there_already_stays(warmer: Warmer, endpoints: Endpoints, ollama: OllamaServer) -> None:
    await endpoints.provider("box").chat(ASK)
    warmer.hear(WISH)
    await until_idle(warmer)

    warmer.hear(BACK)
    await until_idle(warmer)

    assert residents(ollama) == ["qwen3:8b"]


async def test_a_busy_model_is_never_pushed_out(endpoints: Endpoints, warmer: Warmer, ollama: OllamaServer) -> None:
    ollama.memory = Memory(vram_bytes=8_000_000_000, max_loaded=1)
    hold = asyncio.Event()
    ollama.script = [Reply("some words, then a long think", hold=hold)]
    begun = asyncio.Event()
    busy = ChatRequest(messages=ASK.messages, model="other:1b", on_text=lambda _text: begun.set())
    asking = asyncio.create_task(endpoints.provider("box").chat(busy))
    async with asyncio.timeout(PATIENCE_S):
        await begun.wait()
        warmer.hear(WISH)
        await ollama.until(lambda: len(ollama.requests) == 2)
    during = residents(ollama)
    hold.set()
    reply = await asking
    await until_idle(warmer)

    assert during == ["other:1b"]
    assert reply.text == "some words, then a long think"
    assert residents(ollama) == ["qwen3:8b"]


@pytest.mark.parametrize(
    "wish",
    [
        Prewarm(endpoint="box", model="nope:1b"),
        Prewarm(endpoint="nowhere", model="m"),
        Prewarm(endpoint="nowhere", model="m", on=False),
        Prewarm(endpoint="gpt", model="m"),
        BACK,
    ],
    ids=["no such model", "no such endpoint", "none to take back from", "nothing to load there", "never asked for"],
)
async def test_a_wish_that_cannot_be_met_harms_nobody(warmer: Warmer, ollama: OllamaServer, wish: Prewarm) -> None:
    with capture_logs() as lines:
        warmer.hear(wish)
        await until_idle(warmer)

    assert residents(ollama) == []
    assert {line["event"] for line in lines} <= {"prewarm_failed"}
