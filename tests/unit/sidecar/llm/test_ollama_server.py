"""The stand-in for Ollama keeps to what was seen on the real one; the official client is the judge where it can be."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.ollama_server import Model, OllamaServer, Reply, read_script


@pytest.fixture
async def http(ollama: OllamaServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(ollama.url) as session:
        yield session


async def test_it_says_that_it_runs_and_which_version(http: aiohttp.ClientSession) -> None:
    assert await (await http.get("/")).text() == "Ollama is running"
    assert "version" in await (await http.get("/api/version")).json()


async def test_an_empty_conversation_loads_and_unloads(http: aiohttp.ClientSession, ollama: OllamaServer) -> None:
    load = await (await http.post("/api/chat", json={"model": "qwen3:8b"})).json()
    loaded = await (await http.get("/api/ps")).json()
    unload = await (await http.post("/api/chat", json={"model": "qwen3:8b", "keep_alive": 0})).json()

    assert (load["done"], load["done_reason"]) == (True, "load")
    assert loaded["models"][0]["context_length"] == 4096
    assert unload["done_reason"] == "unload"
    assert await (await http.get("/api/ps")).json() == {"models": []}


async def test_a_stream_is_lines_and_leaves_out_what_is_zero(http: aiohttp.ClientSession, ollama: OllamaServer) -> None:
    ollama.script = [Reply("")]
    answer = await http.post("/api/chat", json={"model": "qwen3:8b", "messages": [{"role": "user", "content": "x"}]})

    (line,) = (await answer.text()).splitlines()
    assert answer.content_type == "application/x-ndjson"
    assert "eval_count" not in json.loads(line)
    assert json.loads(line)["done_reason"] == "stop"


async def test_without_a_stream_the_answer_is_one_object(http: aiohttp.ClientSession, ollama: OllamaServer) -> None:
    ollama.script = [Reply("hi", tool_calls=(("look", {"path": "a"}),))]
    body = {"model": "qwen3:8b", "stream": False, "messages": [{"role": "user", "content": "x"}]}

    answer = await (await http.post("/api/chat", json=body)).json()

    assert answer["message"]["content"] == "hi"
    assert answer["message"]["tool_calls"][0]["function"]["arguments"] == {"path": "a"}


@pytest.mark.parametrize(
    "path, body, status, error",
    [
        ("/api/chat", None, 400, "missing request body"),
        ("/api/chat", {"messages": []}, 400, "model is required"),
        ("/api/chat", {"model": "nope"}, 404, "model 'nope' not found"),
        ("/api/chat", {"model": "qwen3:8b", "keep_alive": "xyz"}, 400, 'time: invalid duration "xyz"'),
        ("/api/show", {"model": "nope"}, 404, "model 'nope:latest' not found"),
    ],
)
async def test_errors_are_plain_strings(
    http: aiohttp.ClientSession, path: str, body: dict[str, Any] | None, status: int, error: str
) -> None:
    answer = await http.post(path, json=body) if body else await http.post(path)

    assert answer.status == status
    assert await answer.json() == {"error": error}


async def test_show_tells_what_a_model_can_do(http: aiohttp.ClientSession, ollama: OllamaServer) -> None:
    ollama.models = [Model("plain:latest", tools=False, context_tokens=2048)]

    shown = await (await http.post("/api/show", json={"model": "plain"})).json()

    assert shown["capabilities"] == ["completion"]
    assert shown["model_info"]["qwen3.context_length"] == 2048


async def test_it_runs_as_a_process_of_its_own_from_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    replies = [{"text": "for the cat", "when": "cat", "repeat": True}, {"tool_calls": [["look", {"path": "a"}]]}]
    script.write_text(json.dumps(replies))
    command = [sys.executable, "-m", "tests.support.ollama_server", "--script", str(script), "--model", "m:1"]
    server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    url = (await asyncio.wait_for(server.stdout.readline(), 20)).decode().strip()
    said = []
    async with aiohttp.ClientSession(url) as session:
        for text in ("a dog", "a cat", "a cat"):
            body = {"model": "m:1", "stream": False, "messages": [{"role": "user", "content": text}]}
            answer = await (await session.post("/api/chat", json=body)).json()
            said.append(answer["message"])
    server.terminate()
    await server.communicate()

    assert said[0]["tool_calls"][0]["function"] == {"name": "look", "arguments": {"path": "a"}}
    assert [message["content"] for message in said[1:]] == ["for the cat", "for the cat"]


def test_a_script_with_unknown_fields_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown fields \['txt'\]"):
        read_script('[{"txt": "x"}]')


async def test_a_full_queue_is_refused_with_the_words_of_the_real_one(
    http: aiohttp.ClientSession, ollama: OllamaServer
) -> None:
    ollama.memory.max_queue = -1

    answer = await http.post("/api/chat", json={"model": "qwen3:8b"})

    assert answer.status == 503
    assert await answer.json() == {"error": "server busy, please try again.  maximum pending requests exceeded"}


async def test_a_pull_tells_its_states_and_then_the_model_is_there(
    http: aiohttp.ClientSession, ollama: OllamaServer
) -> None:
    ollama.library = [Model("gemma:2b", size_bytes=1000)]
    lines = [
        json.loads(line)
        for line in (await (await http.post("/api/pull", json={"model": "gemma:2b"})).text()).split("\n")
        if line
    ]
    failed = await (await http.post("/api/pull", json={"model": "nope"})).text()

    assert [line["status"].split()[0] for line in lines] == [
        "pulling",
        "pulling",
        "pulling",
        "pulling",
        "verifying",
        "writing",
        "success",
    ]
    assert (lines[3]["completed"], lines[3]["total"]) == (1000, 1000)
    assert [entry["name"] for entry in (await (await http.get("/api/tags")).json())["models"]] == [
        "qwen3:8b",
        "gemma:2b",
    ]
    assert json.loads(failed.splitlines()[-1]) == {"error": "pull model manifest: file does not exist"}


async def test_a_client_that_leaves_stops_the_writing(http: aiohttp.ClientSession, ollama: OllamaServer) -> None:
    held = asyncio.Event()
    ollama.script = [Reply("a long story", hold=held)]
    body = {"model": "qwen3:8b", "messages": [{"role": "user", "content": "x"}]}
    answer = await http.post("/api/chat", json=body)
    await answer.content.readline()
    answer.close()
    await ollama.until(lambda: ollama.hung_up == 1)

    assert [resident.users for resident in ollama.memory.look()] == [0]


async def test_a_model_that_is_deleted_is_gone(http: aiohttp.ClientSession, ollama: OllamaServer) -> None:
    assert (await http.delete("/api/delete", json={"model": "qwen3:8b"})).status == 200
    assert (await http.delete("/api/delete", json={"model": "qwen3:8b"})).status == 404
