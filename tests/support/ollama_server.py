"""A small server that speaks Ollama's protocol, for tests that need its exact manners without a model.

It answers what a script says, and behaves like the real one where a client can tell: NDJSON streams, fields left out
when zero, errors as plain strings, `:latest` added to names, load and unload, 503 when busy, a prompt that is cut to
the context without a word, failures in the middle of an answer. ``python -m tests.support.ollama_server --port N
[--script file.json]`` runs it as a process of its own.
"""

import argparse
import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from aiohttp import web

VERSION: Final = "0.33.2"
_DURATION: Final = re.compile(r"-?(\d+(\.\d+)?(ns|us|ms|s|m|h))+|0")
_BYTES_PER_TOKEN: Final = 4
_PIECE_CHARS: Final = 12


@dataclass(frozen=True, slots=True)
class Model:
    """A model on the server's disk; ``context_tokens`` is the most that it can be loaded with."""

    name: str
    context_tokens: int = 32_768
    tools: bool = True
    size_bytes: int = 5_200_000_000


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server does with one chat request.

    ``when``: only for requests whose messages contain this text. ``repeat``: stays in the script after use. ``status``
    with ``error``: an HTTP error instead of an answer. ``fail_midway``: the answer breaks off with an error line;
    ``drop_midway``: it just ends. ``hold``: the rest of the answer waits until this is set.
    """

    text: str = ""
    tool_calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    done_reason: str = "stop"
    when: str = ""
    repeat: bool = False
    status: int = 200
    error: str = ""
    fail_midway: str = ""
    drop_midway: bool = False
    hold: asyncio.Event | None = None


Script = Callable[[dict[str, Any]], Reply]


@dataclass(slots=True)
class OllamaServer:
    """The server. ``requests`` are the bodies of all chat requests; ``hung_up`` counts clients that left midway."""

    models: Sequence[Model] = (Model("qwen3:8b"),)
    script: list[Reply] | Script = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    hung_up: int = 0
    loaded: dict[str, dict[str, Any]] = field(default_factory=dict)
    port: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen on ``port``, or on a free one if that is 0."""
        app = web.Application()
        app.router.add_get("/", _root)
        app.router.add_get("/api/version", _version)
        app.router.add_get("/api/tags", self._tags)
        app.router.add_get("/api/ps", self._ps)
        app.router.add_post("/api/show", self._show)
        app.router.add_post("/api/chat", self._chat)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def until(self, fact: Callable[[], bool]) -> None:
        """Wait until ``fact`` about the requests that came and the clients that left is true."""
        while not fact():
            self._news.clear()
            await self._news.wait()

    def _found(self, name: str) -> Model | None:
        wanted = name if ":" in name else f"{name}:latest"
        return next((model for model in self.models if model.name == wanted), None)

    async def _tags(self, _: web.Request) -> web.Response:
        return await _json({"models": [_listed(model) | {"modified_at": _now()} for model in self.models]})

    async def _ps(self, _: web.Request) -> web.Response:
        return await _json({"models": list(self.loaded.values())})

    async def _show(self, request: web.Request) -> web.Response:
        body = await _body(request)
        name = str(body.get("model") or "")
        model = self._found(name)
        if model is None:
            return _error(404, f"model '{name if ':' in name else name + ':latest'}' not found")
        capabilities = ["completion", "tools"] if model.tools else ["completion"]
        info = {"general.architecture": "qwen3", "qwen3.context_length": model.context_tokens}
        return await _json(
            {"details": _details(), "model_info": info, "capabilities": capabilities, "modified_at": _now()}
        )

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        refused = self._refusal(body)
        if refused is not None:
            return refused
        self.requests.append(body)
        self._news.set()
        model = self._found(body["model"])
        assert model is not None, "_refusal has looked"
        context = min(int((body.get("options") or {}).get("num_ctx") or 4096), model.context_tokens)
        unload = body.get("keep_alive") in {0, "0", "0s"}
        if unload:
            self.loaded.pop(model.name, None)
        else:
            self.loaded[model.name] = _listed(model) | _residence(model, context)
        if not body.get("messages"):
            return await _json(_line(body, done=True, done_reason="unload" if unload else "load"))
        reply = self._next(body)
        if reply.status != 200:
            return _error(reply.status, reply.error)
        prompt_tokens = min(len(json.dumps([body["messages"], body.get("tools")])) // _BYTES_PER_TOKEN, context)
        if body.get("stream") is False:
            return await _json(_whole(body, reply, prompt_tokens))
        return await self._stream(request, body, reply, prompt_tokens)

    def _refusal(self, body: dict[str, Any]) -> web.Response | None:
        name = str(body.get("model") or "")
        keep_alive = body.get("keep_alive")
        if not body:
            return _error(400, "missing request body")
        if not name:
            return _error(400, "model is required")
        if isinstance(keep_alive, str) and not _DURATION.fullmatch(keep_alive):
            return _error(400, f'time: invalid duration "{keep_alive}"')
        model = self._found(name)
        if model is None:
            return _error(404, f"model '{name}' not found")
        if body.get("tools") and not model.tools:
            return _error(400, f"registry.ollama.ai/library/{model.name} does not support tools")
        return None

    def _next(self, body: dict[str, Any]) -> Reply:
        if callable(self.script):
            return self.script(body)
        said = "\n".join(str(message.get("content") or "") for message in body["messages"])
        for number, reply in enumerate(self.script):
            if reply.when in said:
                return reply if reply.repeat else self.script.pop(number)
        return Reply(status=500, error="the script has no reply for this request")

    async def _stream(
        self, request: web.Request, body: dict[str, Any], reply: Reply, prompt_tokens: int
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        pieces = [reply.text[at : at + _PIECE_CHARS] for at in range(0, len(reply.text), _PIECE_CHARS)]
        try:
            for number, piece in enumerate(pieces):
                if number == len(pieces) // 2 and (reply.fail_midway or reply.drop_midway):
                    break
                await _send(response, _line(body, message={"role": "assistant", "content": piece}))
            if reply.hold is not None:
                await reply.hold.wait()
            if reply.fail_midway:
                await _send(response, {"error": reply.fail_midway})
            elif not reply.drop_midway:
                await self._end(response, body, reply, prompt_tokens)
        except (asyncio.CancelledError, ConnectionResetError):
            self.hung_up += 1
            self._news.set()
            raise
        await response.write_eof()
        return response

    async def _end(self, response: web.StreamResponse, body: dict[str, Any], reply: Reply, prompt_tokens: int) -> None:
        for number, (name, arguments) in enumerate(reply.tool_calls):
            call = {"id": f"call_{number}", "function": {"index": number, "name": name, "arguments": arguments}}
            message = {"role": "assistant", "content": "", "tool_calls": [call]}
            await _send(response, _line(body, message=message))
        await _send(response, _final(body, reply, prompt_tokens))


async def _body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    try:
        body = json.loads(raw or b"{}")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


async def _json(value: object) -> web.Response:
    return web.json_response(value)


async def _root(_: web.Request) -> web.Response:
    return web.Response(text="Ollama is running")


async def _version(_: web.Request) -> web.Response:
    return await _json({"version": VERSION})


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


async def _send(response: web.StreamResponse, line: dict[str, Any]) -> None:
    await response.write(json.dumps(line).encode() + b"\n")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"  # Go writes nanoseconds


def _line(body: dict[str, Any], *, done: bool = False, **more: object) -> dict[str, Any]:
    message = {"role": "assistant", "content": ""}
    return {"model": body["model"], "created_at": _now(), "message": message, "done": done} | more


def _final(body: dict[str, Any], reply: Reply, prompt_tokens: int) -> dict[str, Any]:
    answer_tokens = (
        (len(reply.text) + len(json.dumps(reply.tool_calls))) // _BYTES_PER_TOKEN
        if reply.text or reply.tool_calls
        else 0
    )
    counts = {
        "total_duration": 812_000_000,
        "load_duration": 1_200_000,
        "prompt_eval_count": prompt_tokens,
        "prompt_eval_duration": 120_000_000,
        "eval_count": answer_tokens,
        "eval_duration": answer_tokens * 20_000_000,
    }
    return _line(body, done=True, done_reason=reply.done_reason) | {name: n for name, n in counts.items() if n}


def _whole(body: dict[str, Any], reply: Reply, prompt_tokens: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message["tool_calls"] = [{"function": {"name": n, "arguments": a}} for n, a in reply.tool_calls]
    return _final(body, reply, prompt_tokens) | {"message": message}


def _details() -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "qwen3",
        "families": ["qwen3"],
        "parameter_size": "8.2B",
        "quantization_level": "Q4_K_M",
    }


def _listed(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "model": model.name,
        "size": model.size_bytes,
        "digest": model.name.encode().hex().ljust(64, "0")[:64],
        "details": _details(),
    }


def _residence(model: Model, context: int) -> dict[str, Any]:
    expires = datetime.now(UTC) + timedelta(minutes=5)
    return {"expires_at": expires.isoformat(), "size_vram": model.size_bytes, "context_length": context}


def read_script(text: str) -> list[Reply]:
    """Replies from JSON: a list of objects with the fields of :class:`Reply` (``tool_calls``: ``[[name, arguments]]``).

    Raises:
        ValueError: it is no such list.
    """
    known = {entry.name for entry in fields(Reply)} - {"hold"}
    replies = []
    for entry in json.loads(text):
        unknown = set(entry) - known
        if unknown:
            message = f"unknown fields {sorted(unknown)}; known: {sorted(known)}"
            raise ValueError(message)
        calls = tuple((name, arguments) for name, arguments in entry.get("tool_calls", ()))
        replies.append(Reply(**(entry | {"tool_calls": calls})))
    return replies


async def _serve(server: OllamaServer) -> None:
    await server.start()
    print(server.url, flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted; prints the URL once it listens."""
    parser = argparse.ArgumentParser(description="a scripted server that speaks Ollama's protocol")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", type=Path)
    parser.add_argument("--model", action="append", default=[])
    options = parser.parse_args()
    script: list[Reply] = read_script(options.script.read_text()) if options.script else []
    models = [Model(name) for name in options.model] or [Model("qwen3:8b")]
    try:
        asyncio.run(_serve(OllamaServer(models=models, script=script, port=options.port)))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
