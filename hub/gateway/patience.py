"""How long the hub waits for a sidecar: one timer for all sockets, which comes round some times in each heartbeat.

A timer for each frame costs more than reading the frame, and two for each socket that says nothing half a kilobyte. So
only the times are kept, and looked at; what is due is found up to a round later. A sidecar that is alive sends its
heartbeat meanwhile, and is not asked whether it is.
"""

import asyncio
from typing import Final

from hub.gateway.connection import Link
from hub.gateway.line import Line
from protocol.clock import Clock

ROUNDS: Final = 16
"""In each heartbeat."""


class Waited:
    """What is known of the frames of a socket."""

    __slots__ = ("_bytes", "_came_at", "_heard_at", "_limit", "_line", "link")

    def __init__(self, line: Line, link: Link, limit: asyncio.Timeout, now: float) -> None:
        self._line, self.link, self._limit = line, link, limit
        self.heard(now)

    def heard(self, now: float) -> int:
        """A whole frame has come; bytes of the line so far."""
        self._heard_at = self._came_at = now
        self._bytes = self._line.received_bytes
        return self._bytes

    def is_over(self, now: float, seconds: float, longest_s: float) -> bool:
        """Whether no byte has come for so many ``seconds``, or no end of a frame for ``longest_s``."""
        if now - self._heard_at < seconds:
            return False
        if (came := self._line.received_bytes) != self._bytes:
            self._bytes, self._came_at = came, now
        return now - self._came_at >= seconds or now - self._heard_at >= longest_s

    def end(self) -> None:
        """End the wait: its block ends with a TimeoutError. Twice is once: a block takes a turn or two to end."""
        if not self._limit.expired():
            self._limit.reschedule(0.0)


class Patience:
    """That of a hub, with all of its sockets."""

    def __init__(self, clock: Clock, *, seconds: float, longest_s: float, heartbeat_s: float) -> None:
        """Prepare to wait.

        Args:
            clock: the time.
            seconds: how long for a byte.
            longest_s: how long for the end of a frame, if that is more.
            heartbeat_s: how often sidecars are heard of.
        """
        self._clock, self._seconds, self._longest_s = clock, seconds, max(seconds, longest_s)
        self._round_s = heartbeat_s / ROUNDS
        self._waited: set[Waited] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, line: Line, link: Link, limit: asyncio.Timeout) -> Waited:
        """Wait for the frames of a line, and wake its writer when it has to look; ``limit`` is to end the wait."""
        waited = Waited(line, link, limit, self._clock.monotonic())
        self._waited.add(waited)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._round_s, self._look)
        return waited

    def stop(self, waited: Waited) -> None:
        """Wait no more."""
        self._waited.discard(waited)
        if not self._waited and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now, seconds, longest_s = self._clock.monotonic(), self._seconds, self._longest_s
        for waited in self._waited:
            if waited.link.session.next_deadline(now) <= now:
                waited.link.work.set()
            if waited.is_over(now, seconds, longest_s):
                waited.end()
        self._timer = asyncio.get_running_loop().call_later(self._round_s, self._look)
