"""Ollama's API as others have written it: what we find, ask and understand there, and that it is there no more."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from protocol.endpoints import EndpointKind
from protocol.errors import EndpointDown
from sidecar.llm.base import ChatMessage, ChatRequest
from sidecar.llm.config import EndpointSettings
from sidecar.llm.endpoints import Endpoints
from tests.support.mesh import Mesh, until
from tests.support.ollama_proxy import ollama_proxy

if TYPE_CHECKING:
    from llmock.pytest_plugin import LLMock
    from llmock.testing import LLMockServer

MODEL = "gpt-4o"
LISTED = f"local/{MODEL}"
QUESTION = "Say in one sentence what a queue of tasks is good for."


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, llmock_server: "LLMockServer") -> Iterator[str]:
    with ollama_proxy(tmp_path_factory.mktemp("proxy"), llmock_server.base_url("openai"), MODEL) as url:
        yield url


def endpoints(url: str) -> Endpoints:
    return Endpoints([EndpointSettings("box", EndpointKind.OLLAMA, url, default_model=LISTED)])


def asking() -> ChatRequest:
    return ChatRequest(messages=(ChatMessage("user", QUESTION),), model=LISTED)


async def test_it_is_found_asked_and_understood(proxy: str, llmock: "LLMock") -> None:
    llmock.reply("It keeps work until somebody has time for it.", times=None)
    found = endpoints(proxy)
    [report] = await found.discover()
    heard: list[str] = []
    reply = await found.provider("box").chat(ChatRequest(asking().messages, model=LISTED, on_text=heard.append))
    await found.close()

    assert LISTED in [model.name for model in report.models]
    assert report.local
    assert reply.text.strip() == "".join(heard).strip() == "It keeps work until somebody has time for it."
    assert (reply.finish, reply.usage.model) == ("stop", LISTED)
    assert min(reply.usage.input_tokens, reply.usage.output_tokens) > 0


async def test_what_its_own_server_refuses_is_no_answer(proxy: str, llmock: "LLMock") -> None:
    llmock.outage(status=500)
    found = endpoints(proxy)
    with pytest.raises(EndpointDown):
        await found.provider("box").chat(asking())
    await found.close()


async def test_one_that_is_gone_is_reported_no_more(tmp_path: Path) -> None:
    with ollama_proxy(tmp_path, "http://127.0.0.1:9/v1", MODEL) as url:
        found = endpoints(url)
        before = await found.discover()
    after = await found.discover()
    await found.close()

    assert [report.id for report in before] == ["box"]
    assert (after, [trouble.endpoint for trouble in found.troubles]) == ((), ["box"])


def test_a_task_is_done_and_checked_with_it(tmp_path: Path, proxy: str, llmock: "LLMock") -> None:
    llmock.reply("It keeps work until somebody has time for it.", times=None)
    running = Mesh(tmp_path)
    try:
        running.start_hub()
        running.start_sidecar("One", env={"OLLAMA_HOST": proxy})
        running.wait_agents("One")
        until(lambda: running.call("GET", "/api/v1/models")["models"], "its models are reported")
        task = running.submit(
            prompt=QUESTION,
            model=LISTED,
            executor="chat",
            save_as="a.txt",
            verification=[{"type": "command_succeeds", "command": "grep -q somebody a.txt"}],
        )
        [ended] = running.wait(task)
    finally:
        running.stop()

    assert (ended["state"], ended["verified"]) == ("completed", True), ended["result"]
    assert ended["routing"]["strategy"] == "local_llm"
    assert ended["result"]["usage"]["model"] == LISTED
