"""What a client of Ollama may count on, held to the stand-in and to another server that speaks the protocol: one that
others have written (:mod:`tests.support.ollama_proxy`), which knows nothing of memory.

``AGENTCOM_TEST_OLLAMA=http://127.0.0.1:11434 AGENTCOM_TEST_OLLAMA_MODEL=name:tag`` runs the same cases against that one
too; add ``-k "not memory"`` for one that knows nothing of memory (a proxy before another kind of server).
"""

import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.support.ollama_proxy import ollama_proxy
from tests.support.ollama_server import OllamaServer, Reply

if TYPE_CHECKING:
    from llmock.testing import LLMockServer

REAL = os.environ.get("AGENTCOM_TEST_OLLAMA", "")
MS = 1_000_000  # durations are in nanoseconds
QUESTION = [{"role": "user", "content": "Count from one to five."}]


@dataclass
class Server:
    """A server under test, and a model that it has."""

    http: aiohttp.ClientSession
    model: str

    async def ask(self, path: str, **body: Any) -> tuple[int, Any]:
        """Status and body of one request without a stream."""
        answer = await self.http.post(path, json={"model": self.model, "stream": False, **body})
        return answer.status, await answer.json()

    async def lines(self, path: str, **body: Any) -> tuple[aiohttp.ClientResponse, list[dict[str, Any]]]:
        """A streamed answer, line by line."""
        answer = await self.http.post(path, json={"model": self.model, **body})
        return answer, [json.loads(line) for line in (await answer.text()).splitlines()]

    async def running(self) -> dict[str, dict[str, Any]]:
        """What is in memory, by name."""
        return {entry["model"]: entry for entry in (await (await self.http.get("/api/ps")).json())["models"]}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, llmock_server: "LLMockServer") -> Iterator[str]:
    with ollama_proxy(tmp_path_factory.mktemp("proxy"), llmock_server.base_url("openai"), "gpt-4o") as url:
        yield url


@pytest.fixture(params=["stand-in", "proxy", *(["real"] if REAL else [])])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    if request.param == "proxy":
        if "_memory_" in request.node.name:
            pytest.skip("it knows nothing of memory")
        request.getfixturevalue("llmock")
        async with aiohttp.ClientSession(request.getfixturevalue("proxy")) as http:
            yield Server(http, "local/gpt-4o")
        return
    if request.param == "real":
        async with aiohttp.ClientSession(REAL) as http:
            yield Server(http, os.environ["AGENTCOM_TEST_OLLAMA_MODEL"])
        return
    fake = OllamaServer(script=[Reply("one, two, three, four, five", repeat=True)])
    await fake.start()
    async with aiohttp.ClientSession(fake.url) as http:
        yield Server(http, "qwen3:8b")
    await fake.stop()


async def test_tags_lists_the_models_on_disk(server: Server) -> None:
    listed = await (await server.http.get("/api/tags")).json()

    [entry] = [each for each in listed["models"] if each["model"] == server.model]
    assert entry["name"] == server.model
    assert isinstance(entry["size"], int)
    assert {"format", "family", "parameter_size", "quantization_level"} <= entry["details"].keys()


async def test_show_tells_of_one_model(server: Server) -> None:
    answer = await server.http.post("/api/show", json={"model": server.model})

    shown = await answer.json()
    assert answer.status == 200
    assert "completion" in shown["capabilities"]
    assert isinstance(shown["model_info"], dict)


async def test_a_chat_streams_lines_and_ends_with_its_counts(server: Server) -> None:
    answer, lines = await server.lines("/api/chat", messages=QUESTION, options={"num_predict": 24})

    *pieces, last = lines
    assert answer.content_type == "application/x-ndjson"
    assert pieces
    assert not any(piece["done"] for piece in pieces)
    assert "".join(piece["message"]["content"] for piece in pieces)
    assert (last["done"], last["done_reason"] in {"stop", "length"}) == (True, True)
    assert last["prompt_eval_count"] > 0
    assert last["eval_count"] > 0
    assert last["total_duration"] >= last["eval_duration"] - MS, "each is read off the clock by itself"


async def test_a_prompt_is_answered_the_same_way(server: Server) -> None:
    _, lines = await server.lines("/api/generate", prompt="Count from one to five.", options={"num_predict": 24})

    assert "".join(line["response"] for line in lines)
    assert lines[-1]["done"] is True
    assert "message" not in lines[-1]


async def test_without_a_stream_an_answer_is_one_object(server: Server) -> None:
    status, answer = await server.ask("/api/chat", messages=QUESTION, options={"num_predict": 24})

    assert (status, answer["done"]) == (200, True)
    assert answer["message"]["role"] == "assistant"
    assert answer["message"]["content"]


async def test_memory_a_model_that_is_used_is_in_memory_until_it_is_sent_away(server: Server) -> None:
    await server.ask("/api/chat", messages=QUESTION, options={"num_predict": 8}, keep_alive="5m")
    entry = (await server.running())[server.model]
    expires_at = datetime.fromisoformat(
        entry["expires_at"][:26] + "+00:00" if "Z" in entry["expires_at"] else entry["expires_at"]
    )
    status, away = await server.ask("/api/chat", keep_alive=0)

    assert entry["size"] >= entry["size_vram"] >= 0
    assert entry["context_length"] > 0
    assert timedelta(minutes=4) < expires_at - datetime.now(UTC) < timedelta(minutes=6)
    assert (status, away["done_reason"]) == (200, "unload")
    assert server.model not in await server.running()


async def test_memory_an_empty_chat_loads_with_the_context_that_is_asked_for(server: Server) -> None:
    status, loaded = await server.ask("/api/chat", options={"num_ctx": 2048})
    first = (await server.running())[server.model]
    await server.ask("/api/chat", options={"num_ctx": 1024})
    second = (await server.running())[server.model]

    assert (status, loaded["done_reason"]) == (200, "load")
    assert (first["context_length"], second["context_length"]) == (2048, 1024)
    assert first["size"] > second["size"]


async def test_memory_a_model_that_is_kept_for_ever_expires_centuries_from_now(server: Server) -> None:
    await server.ask("/api/chat", keep_alive=-1)
    entry = (await server.running())[server.model]
    await server.ask("/api/chat", keep_alive=0)

    assert int(entry["expires_at"][:4]) > 2200


async def test_memory_a_prompt_that_is_too_long_is_cut_without_a_word(server: Server) -> None:
    long = [{"role": "user", "content": "word " * 4000}]
    status, answer = await server.ask("/api/chat", messages=long, options={"num_ctx": 512, "num_predict": 8})

    assert status == 200
    assert 0 < answer["prompt_eval_count"] <= 512


@pytest.mark.parametrize(
    "path, body, status, error",
    [
        ("/api/chat", {"model": "no-such-model"}, 404, "model 'no-such-model' not found"),
        ("/api/show", {"model": "no-such-model"}, 404, "model 'no-such-model:latest' not found"),
        ("/api/chat", {"keep_alive": "xyz"}, 400, 'time: invalid duration "xyz"'),
    ],
)
async def test_memory_errors_are_plain_text(
    server: Server, path: str, body: dict[str, Any], status: int, error: str
) -> None:
    assert await server.ask(path, **body) == (status, {"error": error})
