"""What waits for the hub: messages in order, reports until they are confirmed, live output within its room.

Sends through the session (``protocol/session.py``) and keeps count of what the hub has not acknowledged; decides
nothing and opens no socket. Its caller is ``sidecar/link.py``.
"""

import asyncio
from collections import deque
from typing import Final, TypeVar

import structlog

from protocol.errors import Overloaded
from protocol.limits import MAX_FRAME_BYTES
from protocol.messages import Accept, Log, Message, Ordered, Report
from protocol.model import AttemptId
from protocol.session import Session
from sidecar.core.sendable import sendable

log = structlog.get_logger(__name__)
M = TypeVar("M", bound=Message)

MAX_LOG_WAITING_BYTES: Final = MAX_FRAME_BYTES // 4
"""Live output that may wait for the hub's acknowledgement, on the line or off it.

A heartbeat stands behind it: 2 s on a line of 1 Mbit/s, where a whole frame's worth would make it 8 s late."""


class Outbox:
    """Messages on their way to the hub, over any number of connections."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._delivered = asyncio.Event()  # no report waits for the hub
        self._delivered.set()
        self._reports: deque[tuple[int, AttemptId]] = deque()
        self._logs: deque[tuple[int, int]] = deque()
        self._log_bytes = 0
        self._kept_back: deque[tuple[Message, bytes]] = deque()
        self._told = ""

    def send(self, message: Message, encoded: bytes = b"") -> None:
        """Send a message with the next frame; an ordered one arrives exactly once, now or after a reconnect.

        What the session does not take any more is kept back, in order, until the hub has acknowledged something. What
        the hub would refuse is not sent as it is (``sidecar/core/sendable.py``); one that comes ``encoded`` was looked
        at before, and in an acceptance there is only what the hub itself has said.
        """
        if encoded or type(message) is Accept:
            self._take(message, encoded)
        elif (found := self.looked_at(message)) is not None:
            self._take(found)

    def looked_at(self, message: M) -> M | None:
        """What to send instead of a message: the message itself, unless something is wrong with it, which is told.

        Of what comes again and again (heartbeats) it is told once.
        """
        found, why = sendable(message)
        if why and (isinstance(message, Ordered) or why != self._told):
            self._told = why
            then = "left out" if found is None else "mended"
            log.error("message_unsendable", kind=type(message).__name__.lower(), why=why, next=then)
        return found

    def _take(self, message: Message, encoded: bytes = b"") -> None:
        if type(message) is Report:  # a class of structs answers `isinstance` ten times as slowly
            self._delivered.clear()
        if self._kept_back:
            self._kept_back.append((message, encoded))
            return
        try:
            number = self._session.send(message, encoded)
        except Overloaded:
            self._kept_back.append((message, encoded))
            return
        if type(message) is Report:
            self._reports.append((number, message.attempt))
        elif type(message) is Log:
            size_bytes = len(message.text.encode())
            self._logs.append((number, size_bytes))
            self._log_bytes += size_bytes

    @property
    def log_room(self) -> int:
        """Bytes of live output that may still be sent before the hub has acknowledged some."""
        return 0 if self._kept_back else max(0, MAX_LOG_WAITING_BYTES - self._log_bytes)

    @property
    def unacknowledged_reports(self) -> int:
        """Reports that the hub has not confirmed."""
        return len(self._reports) + sum(isinstance(message, Report) for message, _ in self._kept_back)

    async def delivered(self) -> None:
        """Wait until the hub has confirmed every report."""
        await self._delivered.wait()

    def start_again(self) -> None:
        """The hub is another boot, or has dropped what it knew of us: both count from 1 again."""
        renumbered = self._session.peer_restarted()
        self._reports = deque((renumbered[n], attempt) for n, attempt in self._reports if n in renumbered)
        self._logs = deque((renumbered[n], size_bytes) for n, size_bytes in self._logs if n in renumbered)
        self._log_bytes = sum(size_bytes for _, size_bytes in self._logs)

    def settle(self) -> list[AttemptId]:
        """Take note of what the hub has acknowledged: the attempts whose reports it has."""
        safe = self._session.acknowledged
        confirmed = []
        while self._reports and self._reports[0][0] <= safe:
            confirmed.append(self._reports.popleft()[1])
        while self._logs and self._logs[0][0] <= safe:
            self._log_bytes -= self._logs.popleft()[1]
        if self._kept_back:
            kept, self._kept_back = self._kept_back, deque()
            for message, encoded in kept:
                self._take(message, encoded)
        if not self._reports and not self.unacknowledged_reports:
            self._delivered.set()
        return confirmed
