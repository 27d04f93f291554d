"""A small server that speaks Ollama's protocol, for tests that need its exact manners without a model.

It answers what a script says, and behaves like the real one where a client can tell: NDJSON streams, fields left out
when zero, errors as plain strings, `:latest` added to names, loads, evictions and expiry within a memory of given size
(``ollama_memory.py``), 503 when too many wait for a load, a prompt that is cut to the context without a word, failures
in the middle of an answer. ``python -m tests.support.ollama_server --port N [--script file.json]`` runs it as a process
of its own.
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from tests.support.ollama_memory import BUSY, Memory, QueueFull
from tests.support.ollama_shapes import (
    Model,
    Reply,
    Script,
    final,
    keep_alive_s,
    line,
    listed,
    now_text,
    prompt_text,
    prompt_tokens,
    read_script,
    shown,
    whole,
)

__all__ = ["Memory", "Model", "OllamaServer", "Reply", "read_script"]

VERSION: Final = "0.33.2"
DEFAULT_CONTEXT: Final = 4096
_PIECE_CHARS: Final = 12


@dataclass(slots=True)
class OllamaServer:
    """The server.

    Args:
        models: what it has on disk; ``library``: what it can pull.
        script: what it answers; without a script every request fails.
        memory: what it can load; see :class:`Memory`.
        keep_alive_s: OLLAMA_KEEP_ALIVE in seconds.
        piece_s: how long it takes to write twelve characters.
        listing_status: what it answers whoever asks which models it has.
    Attributes:
        requests: the bodies of all requests that were let in; ``pieces``: how many pieces of answers were written;
            ``hung_up``: how many clients left midway, which stops the writing.
    """

    models: Sequence[Model] = (Model("qwen3:8b"),)
    script: list[Reply] | Script = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    library: Sequence[Model] = ()
    keep_alive_s: float = 300.0
    piece_s: float = 0.0
    listing_status: int = 200
    requests: list[dict[str, Any]] = field(default_factory=list)
    hung_up: int = 0
    pieces: int = 0
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
        app.router.add_post("/api/chat", self._answer)
        app.router.add_post("/api/generate", self._answer)
        app.router.add_post("/api/pull", self._pull)
        app.router.add_delete("/api/delete", self._delete)
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

    # --- what it has --------------------------------------------------------------------------------------------------

    def _found(self, name: str, among: Sequence[Model] | None = None) -> Model | None:
        wanted = name if ":" in name else f"{name}:latest"
        return next((model for model in (self.models if among is None else among) if model.name == wanted), None)

    async def _tags(self, _: web.Request) -> web.Response:
        if self.listing_status != 200:
            return _error(self.listing_status, "server busy, please try again")
        return web.json_response({"models": [listed(model) | {"modified_at": now_text()} for model in self.models]})

    async def _ps(self, _: web.Request) -> web.Response:
        return web.json_response({"models": [resident.shown for resident in self.memory.look()]})

    async def _show(self, request: web.Request) -> web.Response:
        name = str((await _body(request)).get("model") or "")
        model = self._found(name)
        return web.json_response(shown(model)) if model else _error(404, f"model '{_tagged(name)}' not found")

    async def _delete(self, request: web.Request) -> web.Response:
        name = str((await _body(request)).get("model") or "")
        model = self._found(name)
        if model is None:
            return _error(404, f"model '{name}' not found")
        self.models = [each for each in self.models if each is not model]
        self.memory.unload(model)
        return web.Response()

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        model = self._found(str(body.get("model") or ""), self.library)
        if model is None:
            states: list[dict[str, Any]] = [
                {"status": "pulling manifest"},
                {"error": "pull model manifest: file does not exist"},
            ]
        else:
            self.models = [*(each for each in self.models if each.name != model.name), model]
            states = list(_pull_states(model))
        if body.get("stream") is False:
            return web.json_response(states[-1], status=500 if model is None else 200)
        async with self._lines(request) as send:
            for state in states:
                await send(state)
        return send.response

    # --- answers ------------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        refused = self._refusal(body)
        if refused is not None:
            return refused
        model = self._found(body["model"])
        assert model is not None, "_refusal has looked"
        stays_s = keep_alive_s(body.get("keep_alive"), self.keep_alive_s)
        context = min(int((body.get("options") or {}).get("num_ctx") or DEFAULT_CONTEXT), model.context_tokens)
        is_load = not (body.get("messages") or body.get("prompt"))
        if is_load and stays_s == 0:
            self.memory.unload(model)
            return web.json_response(line(body, done=True, done_reason="unload"))
        self.requests.append(body)
        self._news.set()
        try:
            async with self.memory.turn(model, context, stays_s) as took_ns:
                if is_load:
                    return web.json_response(line(body, done=True, done_reason="load"))
                return await self._said(request, body, context, took_ns)
        except QueueFull:
            return _error(503, BUSY)
        except (asyncio.CancelledError, ConnectionResetError):
            self.hung_up += 1
            self._news.set()
            raise

    def _refusal(self, body: dict[str, Any]) -> web.Response | None:
        name = str(body.get("model") or "")
        if not body:
            return _error(400, "missing request body")
        if not name:
            return _error(400, "model is required")
        try:
            keep_alive_s(body.get("keep_alive"), 0.0)
        except ValueError as exc:
            return _error(400, str(exc))
        model = self._found(name)
        if model is None:
            return _error(404, f"model '{name}' not found")
        refusals = {
            "tools": f"registry.ollama.ai/library/{model.name} does not support tools",
            "think": f'"{model.name}" does not support thinking',
        }
        can = {"tools": model.tools, "think": model.thinking}
        refused = next((why for name, why in refusals.items() if body.get(name) and not can[name]), "")
        return _error(400, refused) if refused else None

    def _next(self, body: dict[str, Any]) -> Reply:
        if callable(self.script):
            return self.script(body)
        said = prompt_text(body)
        for number, reply in enumerate(self.script):
            if reply.when in said and reply.model in {"", body.get("model")}:
                return reply if reply.repeat else self.script.pop(number)
        return Reply(status=500, error="the script has no reply for this request")

    async def _said(
        self, request: web.Request, body: dict[str, Any], context: int, took_ns: tuple[int, int]
    ) -> web.StreamResponse:
        reply = self._next(body)
        if reply.status != 200:
            return _error(reply.status, reply.error)
        read = prompt_tokens(body, context)
        if body.get("stream") is False:
            await self._write(reply, None, body)
            return web.json_response(whole(body, reply, read, *took_ns))
        async with self._lines(request) as send:
            if await self._write(reply, send, body):
                for number, (name, arguments) in enumerate(reply.tool_calls):
                    call = {"id": f"call_{number}", "function": {"index": number, "name": name, "arguments": arguments}}
                    message = {"role": "assistant", "content": "", "tool_calls": [call]}
                    await send(line(body) | {"message": message})
                await send(final(body, reply, read, *took_ns))
            elif reply.cut_midway and request.transport is not None:
                request.transport.abort()
        return send.response

    async def _write(self, reply: Reply, send: "_Lines | None", body: dict[str, Any]) -> bool:
        """Write the text; whether it came to its end."""
        is_broken = bool(reply.fail_midway or reply.drop_midway or reply.cut_midway)
        pieces = [reply.text[at : at + _PIECE_CHARS] for at in range(0, len(reply.text), _PIECE_CHARS)]
        for number, piece in enumerate(pieces):
            if number == len(pieces) // 2 and is_broken:
                break
            await asyncio.sleep(self.piece_s)
            self.pieces += 1
            if send is not None:
                await send(line(body, text=piece))
        if reply.hold is not None:
            await reply.hold.wait()
        if reply.fail_midway and send is not None:
            await send({"error": reply.fail_midway})
        return not is_broken

    @asynccontextmanager
    async def _lines(self, request: web.Request) -> AsyncIterator["_Lines"]:
        """A stream of lines."""
        lines = _Lines(web.StreamResponse(headers={"Content-Type": "application/x-ndjson"}))
        await lines.response.prepare(request)
        yield lines
        if request.transport is not None and not request.transport.is_closing():
            await lines.response.write_eof()


@dataclass(slots=True)
class _Lines:
    """A stream that takes one JSON object a line."""

    response: web.StreamResponse

    async def __call__(self, value: dict[str, Any]) -> None:
        await self.response.write(json.dumps(value).encode() + b"\n")


async def _body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    try:
        body = json.loads(raw or b"{}")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


async def _root(_: web.Request) -> web.Response:
    return web.Response(text="Ollama is running")


async def _version(_: web.Request) -> web.Response:
    return web.json_response({"version": VERSION})


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


def _tagged(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _pull_states(model: Model) -> Sequence[dict[str, Any]]:
    """What a pull tells of itself, line by line."""
    layer = {"status": f"pulling {model.digest[:12]}", "digest": f"sha256:{model.digest}", "total": model.size_bytes}
    return (
        {"status": "pulling manifest"},
        layer,
        layer | {"completed": model.size_bytes // 2},
        layer | {"completed": model.size_bytes},
        {"status": "verifying sha256 digest"},
        {"status": "writing manifest"},
        {"status": "success"},
    )


async def _serve(server: OllamaServer) -> None:
    await server.start()
    print(server.url, flush=True)
    await asyncio.Event().wait()


def _model(text: str) -> Model:
    """A model from its name, or ``name=gigabytes``."""
    name, _, size_gb = text.partition("=")
    return Model(name, size_bytes=int(float(size_gb) * 1e9)) if size_gb else Model(name)


def main() -> None:
    """Serve until interrupted; prints the URL once it listens."""
    parser = argparse.ArgumentParser(description="a scripted server that speaks Ollama's protocol")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", type=Path)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--vram-gb", type=float, default=24.0)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--load-s", type=float, default=0.0)
    parser.add_argument("--piece-s", type=float, default=0.0)
    options = parser.parse_args()
    script: list[Reply] = read_script(options.script.read_text()) if options.script else []
    models = [_model(text) for text in options.model] or [Model("qwen3:8b")]
    memory = Memory(int(options.vram_gb * 1e9), num_parallel=options.parallel, load_s=options.load_s)
    server = OllamaServer(models=models, script=script, memory=memory, port=options.port, piece_s=options.piece_s)
    try:
        asyncio.run(_serve(server))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
