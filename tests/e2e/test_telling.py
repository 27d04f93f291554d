"""Real processes tell what they do: one trace from a submission to the last call of a tool, a log as loud as asked."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.support.collector import Collector, facts
from tests.support.mesh import Mesh, until
from tests.support.serving import served

TRACE, ABOVE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HUB, SIDECAR = "agentcom-hub", "agentcom-sidecar"
CALLS = (
    ("write", {"path": "hello.txt", "content": "hello\n"}),
    ("read", {"path": "not-there.txt"}),
    ("finish", {"summary": "done"}),
)


class OpenServer:
    """A model server that speaks OpenAI's protocol, as llama.cpp and vLLM do; its model calls one tool after the other.

    Attributes:
        told: the ``traceparent`` of each request for an answer.
    """

    def __init__(self) -> None:
        self.told: list[str] = []
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["OpenServer"]:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._answer)
        async with served(app) as url:
            self.url = f"{url}/v1"
            yield self

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "small", "object": "model", "owned_by": "me"}]})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        name, arguments = CALLS[min(len(self.told), len(CALLS) - 1)]
        self.told.append(request.headers.get("traceparent", ""))
        call = {"index": 0, "id": f"call-{len(self.told)}", "type": "function"}
        call["function"] = {"name": name, "arguments": json.dumps(arguments)}
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        for delta, reason, used in (
            ({"role": "assistant", "tool_calls": [call]}, None, None),
            ({}, "tool_calls", {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}),
        ):
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            piece = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "small", "choices": [choice]}
            await answer.write(f"data: {json.dumps(piece | ({'usage': used} if used else {}))}\n\n".encode())
        await answer.write(b"data: [DONE]\n\n")
        return answer


def worked(folder: Path, collector: str, server: str) -> dict[str, Any]:
    """A task that a model does with tools, in a mesh that tells a collector; the task, when all has ended in order."""
    config = folder / "sidecar.toml"
    config.write_text(f'[[endpoints]]\nid = "box"\nkind = "openai"\nurl = "{server}"\ndefault_model = "small"\n')
    running = Mesh(folder, hub_flags=("--traces", collector))
    try:
        running.start_hub()
        running.start_sidecar("One", "--config", str(config), "--traces", collector)
        running.wait_agents("One")
        until(lambda: running.call("GET", "/api/v1/models")["models"], "the model is reported")
        spec = {"prompt": "Say hello.", "executor": "agent", "model": "small", "clean_room": "never"}
        checks = [{"type": "file_exists", "path": "hello.txt"}]
        given = f"00-{TRACE}-{ABOVE}-01"
        made = running.call("POST", "/api/v1/tasks", {**spec, "verification": checks}, traceparent=given)
        (done,) = running.wait(made["id"])
    finally:
        running.stop()
    return done


async def test_calls_of_models_and_tools_lie_in_the_trace_of_whoever_has_submitted_the_task(tmp_path: Path) -> None:
    async with Collector() as collector, OpenServer().running() as server:
        done = await asyncio.to_thread(worked, tmp_path, collector.url, server.url)

    assert (done["state"], done["result"]["verified"]) == ("completed", True), done
    assert collector.problems == []
    everything = [*collector.spans[HUB], *collector.spans[SIDECAR]]
    above = {span.span_id: span for span in everything}
    assert {span.trace_id.hex() for span in everything} == {TRACE}
    assert {span.parent_span_id.hex() for span in everything if span.parent_span_id not in above} == {ABOVE}

    chats = [span for span in collector.spans[SIDECAR] if span.name == "chat small"]
    tools = [span for span in collector.spans[SIDECAR] if span.name.startswith("execute_tool")]
    way = [span.name for span in (tools[0], *_above(tools[0], above))]
    assert way == ["execute_tool write", "execute", "attempt", "task"]
    assert [span.name for span in _above(chats[0], above)] == ["execute", "attempt", "task"]
    assert server.told == [f"00-{TRACE}-{chat.span_id.hex()}-01" for chat in chats]
    assert [span.name.split()[1] for span in tools] == [name for name, _ in CALLS]
    told = [facts(span) for span in tools]
    assert [each["gen_ai.operation.name"] for each in told] == ["execute_tool"] * len(CALLS)
    assert [each["gen_ai.tool.name"] for each in told] == [name for name, _ in CALLS]
    assert [each["gen_ai.tool.call.id"] for each in told] == ["call-1", "call-2", "call-3"]
    assert [each["gen_ai.tool.type"] for each in told] == ["function"] * len(CALLS)
    assert [each.get("error.type") for each in told] == [None, "tool_error", None]
    asked = facts(chats[0])
    assert (asked["gen_ai.operation.name"], asked["gen_ai.provider.name"]) == ("chat", "openai")
    assert (asked["gen_ai.usage.input_tokens"], asked["gen_ai.usage.output_tokens"]) == (12, 3)
    assert asked["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert "hello" not in str(everything), "nothing that was said is told"


def _above(span: Any, spans: dict[bytes, Any]) -> list[Any]:  # noqa: ANN401 - a message of the protocol
    found = []
    while (span := spans.get(span.parent_span_id)) is not None:
        found.append(span)
    return found


def test_the_log_of_a_sidecar_is_as_loud_as_the_hub_was_told_and_so_it_stays_when_it_comes_back(tmp_path: Path) -> None:
    running = Mesh(tmp_path)

    def is_told() -> bool:
        """Whether the sidecar writes down that it has begun with the next task."""
        task = running.submit(command="true")
        running.wait(task)
        lines = [json.loads(line) for line in (tmp_path / "sidecar-One.log").read_text().splitlines()]
        return any(line["event"] == "attempt_accepted" and line["task"] == task for line in lines)

    def set_level(level: str | None) -> None:
        running.call("PATCH", "/api/v1/log-levels", {"levels": {"sidecar.runner": level}})

    try:
        running.start_hub()
        running.start_sidecar("One", "--log", "json")
        running.wait_agents("One")
        until(is_told, "a line for a task, as usual")
        set_level("warning")
        until(lambda: not is_told(), "quiet, while it runs")
        running.kill(running.sidecars["One"])
        running.start_sidecar("One", "--log", "json")
        running.wait_agents("One")
        until(lambda: not is_told(), "quiet after a start")
        set_level(None)
        until(is_told, "as usual again")
    finally:
        running.stop()
