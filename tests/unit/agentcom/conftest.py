"""A hub for tests of the client: real HTTP, answers as scripted, and the faults that networks have."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from tests.support.serving import served

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Script:
    """Answers in order, the last one for ever; every request is written down."""

    answers: list[Answer] = field(default_factory=list)
    requests: list[web.Request] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.requests.append(request)
        self.bodies.append(json.loads(raw) if raw else None)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)

    def then(self, *answers: Answer) -> None:
        self.answers.extend(answers)


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    found = Script()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.handle)
    async with served(app, end_s=0.1) as found.url:
        yield found


def replies(value: object, status: int = 200, **headers: str) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.json_response(value, status=status, headers=headers)

    return answer


def refuses(status: int, code: str, detail: str, *, errors: Sequence[object] = (), **headers: str) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        document = {"title": "x", "status": status, "code": code, "detail": detail, "errors": list(errors)}
        body = json.dumps(document).encode()
        return web.Response(body=body, status=status, content_type="application/problem+json", headers=headers)

    return answer


def says(text: str, status: int = 200) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status, content_type="text/html")

    return answer


def streams(*frames: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for frame in frames:
            await response.write(frame.encode())
        return response

    return answer


async def breaks(request: web.Request) -> web.StreamResponse:
    """The connection ends before there is an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def summary(**over: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": "01m7ychhzmsefnyay68aqh999n",
        "title": "t",
        "state": "queued",
        "priority": "normal",
        "agent": None,
        "epoch": 0,
        "execution_ok": None,
        "verified": None,
        "reason": "",
        "labels": {},
        "submitted_at": "2026-01-01T00:00:00Z",
        "queued_at": None,
        "started_at": None,
        "ended_at": None,
    }
    return found | over


def view(**over: Any) -> dict[str, Any]:
    tier: dict[str, Any] = {
        "explicit": None,
        "inferred": "trivial",
        "effective": "trivial",
        "confidence": 1.0,
        "signals": [],
    }
    more = {
        "spec": {"command": "true"},
        "routing": {"tier": tier},
        "attempts": [],
        "iterations": [],
        "result": None,
        "usage": {},
        "retries_left": 3,
        "ready_at": None,
    }
    return summary(**more) | over
