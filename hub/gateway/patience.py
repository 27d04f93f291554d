"""How long the hub waits for a sidecar's frames: one timer for all of them, looked at when it runs out.

A timer for each frame costs more than reading the frame. So only the time of each is kept.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hub.gateway.line import Line


class Waited:
    """A wait for the frames of a line; use :func:`patience`."""

    def __init__(self, seconds: float, longest_s: float, line: Line, limit: asyncio.Timeout) -> None:
        self._seconds, self._line, self._limit = seconds, line, limit
        self._most_s = seconds * (1 + int(longest_s / seconds))
        self._loop = asyncio.get_running_loop()
        self.heard()
        self._timer = self._loop.call_later(seconds, self._look)

    def heard(self) -> int:
        """A whole frame has come; bytes of the line so far."""
        self._heard_at = self._loop.time()
        self._bytes = self._line.received_bytes
        return self._bytes

    def stop(self) -> None:
        """Wait no more."""
        self._timer.cancel()

    def _look(self) -> None:
        silent_s = self._loop.time() - self._heard_at
        if silent_s < self._seconds:
            self._timer = self._loop.call_later(self._seconds - silent_s, self._look)
        elif silent_s < self._most_s and (now := self._line.received_bytes) != self._bytes:
            self._bytes = now
            self._timer = self._loop.call_later(self._seconds, self._look)
        else:
            self._limit.reschedule(self._loop.time())


@asynccontextmanager
async def patience(seconds: float, longest_s: float, line: Line) -> AsyncIterator[Waited]:
    """End the block when no byte of a frame has come for so long, or no end of one for ``longest_s``.

    Raises:
        TimeoutError: it was ended.
    """
    async with asyncio.timeout(None) as limit:
        waited = Waited(seconds, longest_s, line, limit)
        try:
            yield waited
        finally:
            waited.stop()
