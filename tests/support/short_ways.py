"""Submissions over a connection of which every byte is known, and which way the hub takes them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import pytest

from hub.services.intake import Outcome
from hub.web.porch import Visitor
from hub.web.short_way import ShortWay
from tests.support.running_hub import RunningHub

TASK: Final = {"title": "one of many", "executor": "noop"}
OWN: Final = frozenset({"date", "x-request-id", "location"})
"""Headers of which every answer has its own."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


class Line:
    """A connection on which heads are written byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self._reader, self._writer, self._head = reader, writer, head

    def say(self, *bodies: object, key: str = "", more: str = "") -> None:
        """Requests in one go."""
        self._writer.write(b"".join(self._request(body, key, more) for body in bodies))

    def _request(self, body: object, key: str, more: str) -> bytes:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        key = f"Idempotency-Key: {key}\r\n" if key else ""
        return (
            f"POST /api/v1/tasks HTTP/1.1\r\n{self._head}{more}{key}Content-Length: {len(raw)}\r\n\r\n".encode() + raw
        )

    async def hear(self) -> Answer:
        """The next answer."""
        async with asyncio.timeout(60):
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
            }
            body = await self._reader.readexactly(int(headers["content-length"]))
        is_json = "json" in headers["content-type"]
        return Answer(int(first.split()[1]), headers, json.loads(body) if is_json else body.decode())

    async def ask(self, body: object, *, key: str = "", more: str = "") -> Answer:
        """One request and its answer."""
        self.say(body, key=key, more=more)
        return await self.hear()


def watch_ways(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the short way was taken, each time that it could have been."""
    seen: list[bool] = []
    done, go_long = ShortWay.done, Visitor._go_long

    def answers(self: ShortWay, outcome: Outcome) -> None:
        seen.append(True)
        done(self, outcome)

    def turns(self: Visitor, data: bytes) -> None:
        if self.short_way is not None:
            seen.append(False)
        go_long(self, data)

    monkeypatch.setattr(ShortWay, "done", answers)  # they do what they do; from outside both ways look the same
    monkeypatch.setattr(Visitor, "_go_long", turns)  # it goes on as it would; only the way is noted
    return seen


@asynccontextmanager
async def line(hub: RunningHub, role: str = "admin") -> AsyncIterator[Line]:
    parts = urlsplit(hub.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    token = hub.bearer(role)["Authorization"]
    head = f"Host: {parts.netloc}\r\nAuthorization: {token}\r\nContent-Type: application/json\r\n"
    try:
        yield Line(reader, writer, head)
    finally:
        writer.close()


def alike(answer: Answer) -> tuple[int, dict[str, str], Any]:
    """What has to be the same of two answers to the same."""
    headers = {name: value for name, value in answer.headers.items() if name not in OWN}
    body = {
        name: value
        for name, value in answer.body.items()
        if name not in {"id", "submitted_at", "queued_at", "request_id"}
    }
    return answer.status, headers, body
