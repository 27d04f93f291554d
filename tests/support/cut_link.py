"""A link to a server that can be cut in the middle of a conversation: where it hurts, not where it is convenient."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

CHUNK: Final = 1 << 16


@dataclass
class CutLink:
    """Passes bytes to and fro; :attr:`cut_before` and :attr:`cut_behind` cut all connections, once.

    Attributes:
        cut_before: cut as soon as the client sends these bytes; the server never gets them.
        cut_behind: pass these bytes on, wait for the server's answer, and cut before the client gets it.
    """

    port: int
    target: int
    cut_before: bytes = b""
    cut_behind: bytes = b""
    cuts: int = 0
    _sockets: set[asyncio.StreamWriter] = field(default_factory=set)

    def url(self, server_url: str) -> str:
        """The server's address, through this link."""
        return server_url.replace(f":{self.target}/", f":{self.port}/")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until one side ends it."""
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self._sockets |= {writer, back}
        swallowed: list[asyncio.Event] = []
        answers = asyncio.create_task(self._answers(there, writer, swallowed))
        try:
            while said := await reader.read(CHUNK):
                if self.cut_before and self.cut_before in said:
                    self.cut_before = b""
                    break
                if self.cut_behind and self.cut_behind in said:
                    self.cut_behind = b""
                    swallowed.append(asyncio.Event())
                    back.write(said)
                    await swallowed[0].wait()
                    break
                back.write(said)
            else:
                return
            self.cuts += 1
            self.cut()
        finally:
            answers.cancel()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await answers
            writer.close()
            back.close()
            self._sockets -= {writer, back}

    async def _answers(
        self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, swallowed: list[asyncio.Event]
    ) -> None:
        while heard := await there.read(CHUNK):
            if swallowed:
                swallowed[0].set()
                return
            writer.write(heard)
        writer.close()

    def cut(self) -> None:
        """Cut everything, without a goodbye."""
        for socket in self._sockets:
            socket.transport.abort()


@contextlib.asynccontextmanager
async def cut_link(target: int) -> AsyncIterator[CutLink]:
    """A link to this port of this machine."""
    link = CutLink(0, target)
    handlers: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a handler runs in a task"
        handlers.add(task)
        with contextlib.suppress(ConnectionError):
            await link.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        link.cut()
        await asyncio.gather(*handlers, return_exceptions=True)
