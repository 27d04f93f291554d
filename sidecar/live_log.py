"""Send an attempt's output while it runs: in batches, in pieces that fit, and never more than the line takes.

What does not fit is dropped and counted; a marker in the stream says how much is missing. The whole output's tail is in
the result anyway. The caller is ``sidecar/runner.py``, one for each attempt.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from protocol.limits import MAX_LOG_BYTES, MAX_LOG_CHUNK_BYTES
from protocol.messages import Log, Message
from protocol.model import AttemptId
from protocol.redaction import Redactor, Stream

BATCH_S: Final = 0.1
BATCH_BYTES: Final = 8 << 10
_PIECE_CHARS: Final = MAX_LOG_CHUNK_BYTES // 4
"""No character takes more than 4 bytes."""


class Outlet(Protocol):
    """The line to the hub (``sidecar/link.py``)."""

    def send(self, message: Message) -> None:
        """Send a message, sooner or later."""
        ...

    @property
    def log_room(self) -> int:
        """Bytes of output that it takes now."""
        ...


class LiveLog:
    """The output of one attempt on its way to the hub."""

    def __init__(
        self,
        attempt: AttemptId,
        outlet: Outlet,
        keep: Callable[[str], None] = lambda _text: None,
        redactor: Redactor | None = None,
    ) -> None:
        """Prepare; ``keep`` hears all output as it comes, also what the hub is never sent; the hub hears no secret."""
        self._redactor, self._clean = redactor or Redactor(), dict[str, Stream]()
        self._attempt, self._outlet, self._keep = attempt, outlet, keep
        self._waiting: list[tuple[str, str]] = []
        self._waiting_bytes = 0
        self._offset = 0
        self._dropped_bytes = 0
        self._is_full = False
        self._timer: asyncio.TimerHandle | None = None

    def write(self, stream: str, text: str) -> None:
        """Take a piece of output; it leaves within 0.1 s, or with the next 8 KiB."""
        if not text:
            return
        self._keep(text)
        if self._is_full:
            self._dropped_bytes += len(text)  # nothing of it is sent: what it holds need not be looked at
            return
        if stream not in self._clean:
            self._clean[stream] = self._redactor.stream()
        self._take(stream, self._clean[stream].feed(text))

    def _take(self, stream: str, text: str) -> None:
        if not text:
            return
        if self._waiting and self._waiting[-1][0] == stream:
            self._waiting[-1] = (stream, self._waiting[-1][1] + text)
        else:
            self._waiting.append((stream, text))
        self._waiting_bytes += len(text)
        if self._waiting_bytes >= BATCH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_S, self.flush)

    def flush(self) -> None:
        """Send all that waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for stream, text in waiting:
            for start in range(0, len(text), _PIECE_CHARS):
                self._send(stream, text[start : start + _PIECE_CHARS])

    def _send(self, stream: str, text: str) -> None:
        raw = text.encode("utf-8", "replace")  # a lone surrogate fits no message
        size_bytes = len(raw)
        if self._offset + size_bytes > MAX_LOG_BYTES:
            self._drop(size_bytes)
            if not self._is_full:
                self._is_full = True
                self._say(stream, f"\n[... output beyond {MAX_LOG_BYTES} bytes is not shown live ...]\n")
            return
        if size_bytes > self._outlet.log_room:
            self._drop(size_bytes)
            return
        self._confess(stream)
        self._say(stream, raw.decode())
        self._offset += size_bytes

    def close(self) -> None:
        """There will be no more output: send what waits, and say what was left out."""
        for stream, clean in self._clean.items():
            self._take(stream, clean.flush())
        self.flush()
        if not self._is_full:
            self._confess("stderr")

    def _confess(self, stream: str) -> None:
        if self._dropped_bytes:
            self._say(stream, f"\n[... {self._dropped_bytes} bytes of output were not sent, the hub was behind ...]\n")
            self._dropped_bytes = 0

    def _drop(self, size_bytes: int) -> None:
        self._dropped_bytes += size_bytes
        self._offset += size_bytes

    def _say(self, stream: str, text: str) -> None:
        self._outlet.send(
            Log(attempt=self._attempt, offset=min(self._offset, MAX_LOG_BYTES - 1), stream=stream, text=text)
        )
