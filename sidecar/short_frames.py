"""A WebSocket to the hub on which short frames go a short way.

The library reads and writes frames of every kind, cut in any way, with some thirty calls for each. Nearly all that come
are one whole short frame in one piece, and nearly all that leave are short: those are read and written here (RFC 6455,
section 5.2). Everything else stays with the library: opening, closing, errors, what is cut or fragmented, and what was
read but not yet asked for. Nothing is compressed: ``dial.py``, which opens it, offers no extension.

Whoever listens is called with such a frame as it comes, in the turn of the event loop that read it, instead of being
woken in the next one through the library's queue and four coroutines.
"""

from collections.abc import Callable
from os import urandom
from struct import Struct
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.streams import StreamReader

try:
    from websockets.speedups import apply_mask
except ImportError:  # where nobody has compiled them
    from websockets.utils import apply_mask

_BINARY: Final = 0x80 | Opcode.BINARY
"""First byte of a frame that is a whole message."""
_MASKED: Final = 0x80
_MOST_SHORT, _MIDDLE, _MOST_MIDDLE = 125, 126, 0xFFFF
_SHORT_HEAD, _MIDDLE_HEAD = Struct("!BB").pack, Struct("!BBH").pack
_BETWEEN: Final = StreamReader.at_eof.__code__
"""What the library's reader waits in when it has read a frame to its end and nothing of the next one."""


class ShortFrames(ClientConnection):
    """It also counts what comes, so that a frame on a slow line is a sign of life before it is whole."""

    received_bytes = 0
    _heard: Callable[[bytes], None] | None = None  # whoever listens
    _failure: Exception | None = None
    _rests = False  # the library waits for a first byte, and nothing was given to it since that was seen

    async def listen(self, heard: Callable[[bytes], None]) -> None:
        """Call ``heard`` with every message that comes, in order, until the connection is over.

        Raises:
            ConnectionClosed: it is over.
            Exception: what ``heard`` has raised; it is not called again.
        """
        self._heard, self._failure = heard, None
        try:
            while True:
                # While this waits nothing is queued, so what is heard meanwhile comes in its order.
                message = await self.recv(decode=False)
                if self._failure is not None:
                    raise self._failure
                heard(message)
        finally:
            self._heard = None

    def data_received(self, data: bytes) -> None:
        """Some of it is here."""
        size = len(data)
        self.received_bytes += size
        start = 0
        if size > 4 and data[0] == _BINARY:  # noqa: PLR2004 - a longer head, and something behind it
            if data[1] == size - 2:
                start = 2 if data[1] <= _MOST_SHORT else 0
            elif data[1] == _MIDDLE and data[2] << 8 | data[3] == size - 4:
                start = 4
        if not start or not self._is_between():
            self._rests = False
            super().data_received(data)
        elif self._heard is not None and self._is_awaited():
            self._tell(self._heard, data[start:])
        else:
            self.recv_messages.put(Frame(Opcode.BINARY, data[start:]))

    def _is_awaited(self) -> bool:
        """Whether nothing that came before is still in the library's queue."""
        waiter = self.recv_messages.frames.get_waiter
        return waiter is not None and not waiter.done()

    def _tell(self, heard: Callable[[bytes], None], message: bytes) -> None:
        try:
            heard(message)
        except Exception as exc:  # noqa: BLE001 - raised by `listen`, which is woken by the message
            self._heard, self._failure = None, exc
            self.recv_messages.put(Frame(Opcode.BINARY, message))

    def _is_between(self) -> bool:
        """Whether the library waits for the first byte of a message."""
        protocol = self.protocol
        if protocol.state is not State.OPEN:
            return False
        if not self._rests and protocol.current_size is None:
            waits: Any = protocol.parser  # a generator, as its functions are
            while (inner := waits.gi_yieldfrom) is not None:
                waits = inner
            self._rests = waits.gi_code is _BETWEEN
        return self._rests

    def put(self, frame: bytes) -> None:
        """Write a frame to a line that is open and has taken all that was written before."""
        size = len(frame)
        if size > _MOST_MIDDLE:
            self.protocol.send_binary(frame)
            self.send_data()
            return
        head = (
            _SHORT_HEAD(_BINARY, _MASKED | size)
            if size <= _MOST_SHORT
            else _MIDDLE_HEAD(_BINARY, _MASKED | _MIDDLE, size)
        )
        mask = urandom(4)
        self.transport.write(head + mask + apply_mask(frame, mask))
