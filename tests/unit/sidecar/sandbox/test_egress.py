"""Promises of :mod:`sidecar.sandbox.egress` that need no namespace; the others are among the integration tests."""

import asyncio
import socket

import pytest

from sidecar.sandbox.egress import relay

IDLE_S = 300.0
Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class AheadLoop(asyncio.SelectorEventLoop):
    """Its clock can be put forward, so nobody has to wait for minutes."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


async def joined() -> tuple[Line, Line]:
    one, other = socket.socketpair()
    return await asyncio.open_connection(sock=one), await asyncio.open_connection(sock=other)


async def one_way(loop: AheadLoop) -> None:
    (program, program_writer), (inside, inside_writer) = await joined()
    (outside, outside_writer), (_server, server_writer) = await joined()
    relaying = asyncio.create_task(relay((inside, outside_writer), (outside, inside_writer), idle_s=IDLE_S))
    for _ in range(4):
        server_writer.write(b"piece")
        assert await asyncio.wait_for(program.readexactly(5), 2 * IDLE_S) == b"piece"
        loop.ahead_s += IDLE_S * 2 / 3
    assert not relaying.done()

    loop.ahead_s += IDLE_S
    with pytest.raises(TimeoutError):
        await relaying
    for writer in (program_writer, inside_writer, outside_writer, server_writer):
        writer.close()
        await writer.wait_closed()


def test_a_connection_is_idle_only_if_nothing_comes_in_either_direction() -> None:
    """Who downloads for long says nothing meanwhile, and is cut off only when nothing comes any more."""
    with asyncio.Runner(loop_factory=AheadLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, AheadLoop)
        runner.run(one_way(loop))
