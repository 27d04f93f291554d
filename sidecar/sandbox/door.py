"""A way out of a network namespace that is made from inside: a listening socket, handed to us by the launcher.

There is no socket file to find, no helper inside to attack, and it is gone with the namespace. Who
serves it decides what it is for (``sidecar/sandbox/egress.py``, ``sidecar/llm/passage.py``). Caller:
``sidecar/sandbox/cell.py``.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol


class Door(Protocol):
    """What confined programs reach besides their own network."""

    @property
    def port(self) -> int:
        """Where the launcher listens inside, at 127.0.0.1."""
        ...

    @property
    def variables(self) -> Mapping[str, str]:
        """How programs learn of it."""
        ...

    def line(self) -> AbstractAsyncContextManager[int]:
        """Serve one program while this is open; a descriptor on which its launcher hands over the socket."""
        ...


@contextlib.asynccontextmanager
async def served(serve: Callable[[socket.socket], Coroutine[Any, Any, None]]) -> AsyncIterator[int]:
    """As :meth:`Door.line`: ``serve`` gets the listening socket, and is cancelled at the end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)  # noqa: FBT003 - it takes nothing else
        serving = asyncio.create_task(_serve(ours, serve))
        try:
            yield theirs.fileno()
        finally:
            serving.cancel()
            await asyncio.wait({serving})


async def _serve(line: socket.socket, serve: Callable[[socket.socket], Coroutine[Any, Any, None]]) -> None:
    door = await _received(line)
    if door is not None:
        await serve(door)


async def _received(line: socket.socket) -> socket.socket | None:
    """The socket that is handed over; ``None`` if the other side has gone without."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(line, wake)
    try:
        await ready
    finally:
        loop.remove_reader(line)
    _, fds, _, _ = socket.recv_fds(line, 1, 1)
    for fd in fds[1:]:
        os.close(fd)
    return socket.socket(fileno=fds[0]) if fds else None
