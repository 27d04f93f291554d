import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from agentcom.bench.wire import wire
from protocol.errors import HubUnreachable

Answers = Callable[[asyncio.StreamWriter, bytes], None]


@asynccontextmanager
async def server(answer: Answers) -> AsyncIterator[str]:
    """A server that answers every request it reads with what ``answer`` writes."""

    served: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                answer(writer, head + await reader.readexactly(size))
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        await asyncio.gather(*(task for task in served if task))


async def test_requests_follow_one_another_on_one_connection() -> None:
    seen: list[bytes] = []

    def answer(writer: asyncio.StreamWriter, request: bytes) -> None:
        seen.append(request)
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")

    async with server(answer) as url:
        line = await wire(url, "secret")
        assert await line.post("/tasks", b"[1]", "a") == (201, b"{}")
        assert await line.post("/tasks", b"[2]", "b") == (201, b"{}")
        line.close()

    assert [request.split(b"\r\n\r\n")[1] for request in seen] == [b"[1]", b"[2]"]
    assert b"Authorization: Bearer secret\r\n" in seen[0]
    assert b"Idempotency-Key: b\r\n" in seen[1]


async def test_an_answer_in_pieces_is_put_together() -> None:
    def answer(writer: asyncio.StreamWriter, _request: bytes) -> None:
        loop = asyncio.get_running_loop()
        for turn, piece in enumerate((b"HTTP/1.1 503 Bus", b"y\r\ncontent-length: 4\r\n\r\nno", b"pe")):
            loop.call_later(0.005 * turn, writer.write, piece)

    async with server(answer) as url:
        line = await wire(url, "secret")
        assert await line.post("/tasks", b"", "a") == (503, b"nope")
        line.close()


async def test_a_connection_that_ends_is_an_error_of_the_request_and_of_those_after_it() -> None:
    async with server(lambda writer, _request: writer.close()) as url:
        line = await wire(url, "secret")
        with pytest.raises(HubUnreachable):
            await line.post("/tasks", b"", "a")
        with pytest.raises(HubUnreachable):
            await line.post("/tasks", b"", "b")


async def test_nobody_there_is_said_so() -> None:
    async with server(lambda _writer, _request: None) as url:
        pass
    with pytest.raises(HubUnreachable):
        await wire(url, "secret")
