"""The first words of a handshake, which are there before anybody is ready to hear them."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import uvloop

from hub.web.doorstep import Doorstep
from tests.support.certificates import self_signed

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
"""The hub runs on uvloop, which reads from a connection before its protocol may say that it should not."""
HELLO = b"GET / HTTP/1.1\r\n\r\n"


class Greeter(asyncio.Protocol):
    """Says what it hears, once."""

    def __init__(self, gone: asyncio.Event) -> None:
        self._gone = gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # those of uvloop are nobody's children

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._gone.set()


async def talk(loop: asyncio.AbstractEventLoop, server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """What comes back to one whose first word has arrived before the hub has seen the connection."""
    gone = asyncio.Event()
    step = Doorstep(lambda: Greeter(gone), server)
    where = await step.open("127.0.0.1", 0)
    heard, says = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client.wrap_bio(heard, says, server_hostname="127.0.0.1")
    with socket.create_connection(where) as line:
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        line.sendall(says.read())
        line.setblocking(False)
        answer = await asyncio.wait_for(_rest(loop, line, tls, heard, says), 60)
    await asyncio.wait_for(gone.wait(), 60)
    step.close()
    return answer


async def _rest(
    loop: asyncio.AbstractEventLoop, line: socket.socket, tls: ssl.SSLObject, heard: ssl.MemoryBIO, says: ssl.MemoryBIO
) -> bytes:
    is_done = False
    while True:
        try:
            if not is_done:
                tls.do_handshake()
                tls.write(HELLO)
                is_done = True
            return tls.read(100)
        except ssl.SSLWantReadError:
            if word := says.read():
                await loop.sock_sendall(line, word)
            heard.write(await loop.sock_recv(line, 65_536) or pytest.fail("cut off"))


@pytest.mark.parametrize("kind", LOOPS)
def test_a_first_word_that_comes_with_the_connection_is_heard(kind: str, tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path, "127.0.0.1")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    client = ssl.create_default_context(cafile=str(cert))
    loop = LOOPS[kind]()
    try:
        assert loop.run_until_complete(talk(loop, server, client)) == HELLO
    finally:
        loop.close()
