"""The stream of events that a measurement hears, as a hub sends it and in whatever pieces it comes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import pytest

from agentcom.bench.ear import Ear, listen
from protocol.errors import HubUnreachable

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(*texts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(text), text) for text in texts)


@asynccontextmanager
async def server(answer: bytes, size: int) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers in pieces of ``size`` bytes, then hangs up; and what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        for start in range(0, len(answer), size):
            writer.write(answer[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", asked
    finally:
        listening.close()
        await listening.wait_closed()


async def heard(url: str, found: list[bytes]) -> Ear:
    ear = await listen(url, "secret", "/events?kind=x", 7, found.append)
    async with asyncio.timeout(30):
        await ear.over
    return ear


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_events_are_heard_in_whatever_pieces_they_come(size: int) -> None:
    texts = (b"retry: 1000\nid: 7\n\n", b": still here\n\n", b'id: 8\ndata: {"a":1}\n\nid: 9\nda', b'ta: {"b":2}\n\n')
    found: list[bytes] = []
    async with server(HEAD + chunked(*texts), size) as (url, asked):
        ear = await heard(url, found)

    assert found == [b'{"a":1}', b'{"b":2}']
    assert ear.newest == 9
    assert b"Last-Event-ID: 7\r\n" in asked[0]
    assert b"Authorization: Bearer secret\r\n" in asked[0]


async def test_an_answer_that_is_no_stream_is_no_stream() -> None:
    async with server(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 10_000) as (url, _):
        with pytest.raises(HubUnreachable, match="401"):
            await heard(url, [])


async def test_a_connection_that_ends_before_an_answer_broke() -> None:
    async with server(HEAD[:20], 10_000) as (url, _):
        with pytest.raises(HubUnreachable, match="broke"):
            await heard(url, [])


async def test_what_is_not_understood_ends_the_stream_with_its_reason() -> None:
    def cannot(_data: bytes) -> None:
        raise ValueError("not an event")

    async with server(HEAD + chunked(b"data: x\n\n"), 10_000) as (url, _):
        ear = await listen(url, "secret", "/events", 0, cannot)
        with pytest.raises(ValueError, match="not an event"):
            await ear.over


async def test_what_is_no_chunk_ends_the_stream_with_its_reason() -> None:
    async with server(HEAD + b"many\r\ndata: x\n\n\r\n", 10_000) as (url, _):
        with pytest.raises(ValueError, match="many"):
            await heard(url, [])


async def test_nobody_there_is_said_so() -> None:
    with pytest.raises(HubUnreachable):
        await listen("http://127.0.0.1:1", "secret", "/events", 0, lambda _data: None)
