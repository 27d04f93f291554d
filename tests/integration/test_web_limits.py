"""The HTTP side under too much: each limit answers with its own status, and the next caller is served."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.core.porch import MAX_AT_ONCE, Porch
from hub.web.doorstep import Doorstep
from tests.support.running_hub import PATIENCE_S, RunningHub, running_hub


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as found:
        yield found


Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def lines_to(address: tuple[str, int], count: int, said: str = "") -> AsyncIterator[list[Line]]:
    """So many connections that have all said the same; closed at the end."""
    lines: list[Line] = []
    try:
        for _ in range(count):
            lines.append(await asyncio.open_connection(*address))
            lines[-1][1].write(said.encode())
        yield lines
    finally:
        for _, writer in lines:
            writer.close()


def address_of(hub: RunningHub) -> tuple[str, int]:
    host, port = hub.url.removeprefix("http://").split(":")
    return host, int(port)


def head(hub: RunningHub, method: str, path: str, *more: str, role: str = "admin") -> str:
    lines = [f"{method} {path} HTTP/1.1", "Host: hub", f"Authorization: Bearer {hub.tokens[role]}", *more]
    return "\r\n".join([*lines, "", ""])


async def first_line(line: Line) -> bytes:
    """What comes first on a connection; empty if it is closed."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            return await line[0].readline()
        except ConnectionError:
            return b""


async def test_one_token_cannot_take_all_streams(hub: RunningHub) -> None:
    async with lines_to(address_of(hub), 128, head(hub, "GET", "/api/v1/events", role="viewer")) as lines:
        assert {await first_line(line) for line in lines} == {b"HTTP/1.1 200 OK\r\n"}
        refused = await hub.ask("GET", "/api/v1/events", role="viewer", headers={"Accept": "text/event-stream"})
        async with hub.stream("/api/v1/events", role="operator") as others:
            assert others.answer.status == 200

    assert (refused.status, (await refused.json())["code"]) == (429, "throttled")
    assert int(refused.headers["Retry-After"]) >= 1


async def test_a_body_that_says_it_is_too_large_is_not_even_read(hub: RunningHub) -> None:
    said = head(hub, "POST", "/api/v1/tasks", "Content-Type: application/json", f"Content-Length: {1 << 40}")
    async with lines_to(address_of(hub), 1, said) as [line]:
        assert b" 413 " in await first_line(line)


async def test_bodies_that_never_come_leave_room_for_others(hub: RunningHub) -> None:
    said = head(hub, "POST", "/api/v1/tasks", "Content-Type: application/json", "Transfer-Encoding: chunked")
    async with lines_to(address_of(hub), 12, said) as lines:
        answers = [asyncio.ensure_future(first_line(line)) for line in lines]
        told: list[bytes] = []
        for answer in asyncio.as_completed(answers):
            told.append(await answer)
            if len(told) == 4:
                break
        assert sum(answer.done() for answer in answers) == 4, "eight of 32 MiB each fill the room"
        for other in answers:
            other.cancel()
        await asyncio.gather(*answers, return_exceptions=True)

    assert all(b" 503 " in line for line in told)
    assert (await hub.ask("GET", "/api/v1/tasks")).status == 200


class Silent(asyncio.Protocol):
    """A server that only notes that it was asked for."""

    asked = 0

    def connection_made(self, _transport: asyncio.BaseTransport) -> None:
        Silent.asked += 1


async def test_the_porch_holds_so_many_of_one_address_and_more_only_for_a_moment() -> None:
    Silent.asked = 0
    step = Doorstep(Silent, porch=Porch(of_address=3))
    async with lines_to(await step.open("127.0.0.1", 0), MAX_AT_ONCE * 3 + 2) as lines:
        lines[0][1].write(b"GET")
        said = [await first_line(line) for line in lines]
        assert step.waiting <= 3
    step.close()

    assert set(said) <= {b"", b"HTTP/1.1 503 Service Unavailable\r\n"}
    assert Silent.asked == 0, "nobody has said anything whole"
