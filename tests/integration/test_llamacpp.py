"""The provider against a real inference server (llama.cpp), which tells what it is doing at ``/slots``."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from agentcom import local_model
from protocol.errors import PromptTooLong
from protocol.loads import Answering, AnswerPhase
from protocol.model import EndpointKind
from sidecar.llm.base import ChatMessage, ChatRequest
from sidecar.llm.config import EndpointSettings
from sidecar.llm.flow import Traffic
from sidecar.llm.looking import look
from sidecar.llm.openai_compatible import OpenAIProvider

pytestmark = pytest.mark.skipif(not local_model.is_installed(), reason="no local model installed: ./run _local")

TELL = ChatMessage("user", "Count from one to a thousand in words.")
PATIENCE_S = 60


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that is started for these tests."""
    command = [sys.executable, "-m", "agentcom.local_model", "--until-stdin-closes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


@pytest.fixture
async def provider(server: str) -> AsyncIterator[OpenAIProvider]:
    settings = EndpointSettings("cpp", EndpointKind.OPENAI, f"{server}/v1", default_model=local_model.NAME)
    traffic = Traffic("cpp", stall_s=settings.stall_s)
    traffic.listed = await look(settings, {})
    provider = OpenAIProvider(settings, traffic)
    yield provider
    await provider.close()


@pytest.fixture
async def slots(server: str) -> AsyncIterator[Callable[[], Any]]:
    """Ask the server whether it is at work."""
    async with aiohttp.ClientSession() as session:

        async def busy() -> bool:
            async with session.get(f"{server}/slots") as answer:
                return any(slot["is_processing"] for slot in await answer.json())

        yield busy


class Listener:
    """Hears how an answer comes along."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.seen: list[Answering] = []
        self.ask: Callable[[], Answering] | None = None
        self.news = asyncio.Event()

    def on_text(self, text: str) -> None:
        self.text.append(text)
        if self.ask is not None:
            self.seen.append(self.ask())
        self.news.set()

    def on_flow(self, ask: Callable[[], Answering] | None) -> None:
        self.ask = ask

    def request(self, *messages: ChatMessage, most: int = 2_000, timeout_s: float = PATIENCE_S) -> ChatRequest:
        return ChatRequest(
            messages=messages or (TELL,),
            max_output_tokens=most,
            timeout_s=timeout_s,
            on_text=self.on_text,
            on_flow=self.on_flow,
        )

    async def first_word(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.news.wait()


async def until(fact: Callable[[], Any], *, is_so: bool) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await fact() is not is_so:  # noqa: ASYNC110 - a server of its own has no event to wait for
            await asyncio.sleep(0.02)


async def test_an_answer_is_heard_word_by_word_and_its_time_told(provider: OpenAIProvider) -> None:
    listener = Listener()

    reply = await provider.chat(listener.request(most=24))

    timing = reply.usage.timing
    assert reply.usage.model == local_model.NAME
    assert "".join(listener.text) == reply.text
    assert [seen.tokens for seen in listener.seen] == [*range(1, len(listener.seen) + 1)]
    assert listener.seen[-1].phase is AnswerPhase.WRITING
    assert timing is not None
    assert timing.prefill_s > 0
    assert timing.decode_s > 0
    assert timing.prefill_s + timing.decode_s <= timing.model_s


async def test_a_long_prompt_shows_how_much_of_it_is_read(provider: OpenAIProvider) -> None:
    listener, shares = Listener(), set[float | None]()
    words = " ".join(f"word{number}" for number in range(250))

    async def look() -> None:
        while True:
            if listener.ask is not None and listener.ask().phase is AnswerPhase.READING:
                shares.add(listener.ask().read)
            await asyncio.sleep(0.01)

    looking = asyncio.create_task(look())
    await provider.chat(listener.request(ChatMessage("user", words), most=4))
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)

    assert any(share is not None and 0 < share < 1 for share in shares)


async def test_whoever_is_cancelled_leaves_the_server_idle(provider: OpenAIProvider, slots: Callable[[], Any]) -> None:
    listener = Listener()
    asking = asyncio.create_task(provider.chat(listener.request()))
    await listener.first_word()
    was_busy = await slots()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    await until(slots, is_so=False)
    assert was_busy
    assert len(listener.text) < 1_000


async def test_cancelling_while_the_prompt_is_read_leaves_the_server_idle(
    provider: OpenAIProvider, slots: Callable[[], Any]
) -> None:
    words = " ".join(f"other{number}" for number in range(500))
    asking = asyncio.create_task(provider.chat(Listener().request(ChatMessage("user", words))))
    await until(slots, is_so=True)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    await until(slots, is_so=False)


async def test_a_prompt_beyond_the_context_is_refused_as_such(provider: OpenAIProvider) -> None:
    with pytest.raises(PromptTooLong, match="context size"):
        await provider.chat(Listener().request(ChatMessage("user", "word " * 20_000)))
