"""Promises of :mod:`sidecar.llm.porch`: work holds few connections, and none for long without asking. Real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from sidecar.llm.porch import Porch

PATIENCE_S: Final = 60.0
ASK: Final = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class House:
    """Behind the porch: answers once it may."""

    def __init__(self) -> None:
        self.port, self.may_answer = 0, asyncio.Event()

    async def answer(self, _request: web.BaseRequest) -> web.StreamResponse:
        """Answer, in the end."""
        await self.may_answer.wait()
        return web.Response(text="well")

    async def come(self, said: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection over which this was said."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(said)
        return reader, writer


@asynccontextmanager
async def house(*, most: int = 64, silent_s: float = PATIENCE_S) -> AsyncIterator[House]:
    made = House()
    porch = Porch(made.answer, most=most, silent_s=silent_s)
    listening = await asyncio.get_running_loop().create_server(porch, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield made
    finally:
        listening.close()
        await porch.shutdown(0.0)


async def is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


async def test_of_many_connections_only_the_first_stay() -> None:
    async with house(most=2) as made:
        first = [await made.come(ASK) for _ in range(2)]
        late = [await made.come() for _ in range(20)]

        assert all([await is_closed(reader) for reader, _ in late])
        made.may_answer.set()
        assert [await reader.readline() for reader, _ in first] == [b"HTTP/1.1 200 OK\r\n"] * 2
        for _, writer in first + late:
            writer.close()


async def test_who_goes_makes_room_for_the_next() -> None:
    async with house(most=1) as made:
        made.may_answer.set()
        for _ in range(3):
            reader, writer = await made.come(b"GET / HTTP/1.0\r\n\r\n")  # closed behind the answer
            assert (await reader.read()).endswith(b"well")
            writer.close()


async def test_who_says_nothing_or_only_half_of_it_is_hung_up_on_and_who_waits_for_an_answer_is_not() -> None:
    async with house(silent_s=0.2) as made:
        asking, mute, slow = [await made.come(said) for said in (ASK, b"", ASK[:10])]

        assert await is_closed(mute[0])
        assert await is_closed(slow[0])
        made.may_answer.set()
        assert (await asking[0].read()).endswith(b"well")  # and closed after as long a silence
        for _, writer in (asking, mute, slow):
            writer.close()
