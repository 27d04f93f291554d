"""The sans-I/O half of the link: ordering, acknowledgement, resending and deadlines of one pair of peers.

Feed it messages to send, bytes that came and the time; take bytes to send and messages to act on. It opens no socket
and reads no clock. One session lives as long as both boots do: a broken socket is ``disconnected()``, a new one
``connected()``, and what the peer has not acknowledged goes out again. Hello and welcome are the owner's business (they
carry identity and inventory); the session only takes the peer's count of what it has received.

What has no number (heartbeats, pings, acknowledgements) goes before what has one, and bulk leaves in frames of 256 KiB:
at most one of them stands before a heartbeat, however much waits and however slow the line.

Callers: ``hub/gateway/connection.py`` and ``sidecar/link.py``.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, get_args

from msgspec.structs import replace

from protocol import codec
from protocol.errors import FrameTooLarge, MalformedFrame, Overloaded, ProtocolViolation
from protocol.limits import (
    BULK_FRAME_BYTES,
    DEAD_AFTER_S,
    HEARTBEAT_S,
    LONGEST_FRAME_S,
    MAX_FRAME_BYTES,
    MAX_FRAME_MESSAGES,
    MAX_UNACKED,
    MAX_UNACKED_BYTES,
)
from protocol.messages import Ack, AnyMessage, Message, Ordered, Ping, Pong
from protocol.salvage import Unreadable, salvage

MAX_PINGS: Final = 64
"""Pings that may wait for their answers; older ones prove less and are forgotten."""
SMALL_BYTES: Final = 4 << 10
"""So much bulk delays nobody: it shares a frame with what is urgent."""
ORDERED: Final = frozenset(kind for kind in get_args(AnyMessage) if issubclass(kind, Ordered))
"""Asked about with every message: to ask a class of structs for its instances costs ten times as much."""


class Session:
    """Ordered, exactly-once delivery between two boots over any number of sockets.

    Attributes:
        received: order number of the last ordered message taken from the peer.
        count: how often the numbers have begun anew; a number means something only together with it.
        is_connected: whether a socket stands.
        proven_at: the latest moment up to which every heartbeat that was sent is known to have reached the peer,
            because it has answered a ping of that moment.
        unacked_bytes: size of the ordered messages that the peer has not acknowledged.
        read_bytes: what had come over the socket when its last whole frame was taken from it; the owner sets it.
    """

    __slots__ = (
        "_ack_told",
        "_bulk",
        "_frame_at",
        "_heard_at",
        "_next",
        "_pinged_at",
        "_pings",
        "_safe",
        "_safe_later",
        "_unacked",
        "_unanswered",
        "_urgent",
        "count",
        "dead_after_s",
        "heartbeat_s",
        "is_connected",
        "proven_at",
        "read_bytes",
        "received",
        "unacked_bytes",
    )

    def __init__(self, *, heartbeat_s: float = HEARTBEAT_S, dead_after_s: float = DEAD_AFTER_S) -> None:
        self.heartbeat_s, self.dead_after_s = heartbeat_s, dead_after_s
        self.received = 0
        self.count = 0
        self.is_connected = False
        self._next = 1  # order number of the next ordered message
        # Lists, though they are taken from the front: they are short, and an empty deque takes 0.7 kB, three of them of
        # each of thousands of peers that say nothing.
        self._unacked: list[bytes] = []  # sent or waiting, not acknowledged; the last has the number before the next
        self.unacked_bytes = 0
        self._urgent: list[bytes] = []  # encoded, for the next frame
        self._bulk: list[bytes] = []  # encoded and numbered, for the frames after it
        self._safe = 0  # every ordered message up to here is safe on our side
        self._safe_later: set[int] | None = None  # safe, but with a gap before them; made when there are some
        self._ack_told = 0  # the last Ack that went out
        self._heard_at = self._frame_at = 0.0
        self.read_bytes = 0
        self._pinged_at = 0.0
        self._pings = 0
        self._unanswered: list[tuple[int, float]] = []  # token and time of each
        self.proven_at = float("-inf")

    # --- the socket ---------------------------------------------------------------------------------------------------

    def connected(self, peer_received: int, now: float) -> None:
        """A socket stands and the peer has said how far it has received: resend what lies after that.

        Raises:
            ProtocolViolation: the peer has received what was never sent, so it means another session.
        """
        if peer_received >= self._next:
            raise ProtocolViolation(f"a count below {self._next}", f"{peer_received}")
        self._forget(peer_received)
        self._urgent = []
        self._bulk = self._unacked[:]
        self._heard_at = self._frame_at = self._pinged_at = now
        self._ack_told = 0
        self.is_connected = True

    def disconnected(self) -> None:
        """The socket is gone; ordered messages stay for the next one, the others are dropped."""
        self.is_connected = False
        self._urgent = []
        self._bulk.clear()
        self._unanswered.clear()

    def peer_restarted(self) -> dict[int, int]:
        """Start both counts again, because the peer is a new boot that knows nothing of this session.

        What the peer had not acknowledged is kept under new numbers. Call it before :meth:`connected`.

        Returns:
            The new number of each kept message by its old one.
        """
        kept, first = self._unacked, self.acknowledged + 1
        self._unacked, self.unacked_bytes = [], 0
        self._next, self.received, self._safe, self._ack_told = 1, 0, 0, 0
        self._safe_later = None
        self.count += 1
        for number, encoded in enumerate(kept, 1):
            self._keep([_fitting(codec.numbered(encoded, number))])
        return {first + place: 1 + place for place in range(len(kept))}

    # --- sending ------------------------------------------------------------------------------------------------------

    def send(self, message: Message, encoded: bytes = b"") -> int:
        """Queue a message; returns its order number, 0 if it has none.

        An ordered message is kept until the peer acknowledges it; any other is dropped when no socket stands.

        Args:
            message: what is sent.
            encoded: the same as MessagePack, from whoever has it already.

        Raises:
            Overloaded: the peer has not acknowledged for so long that nothing more is kept.
            FrameTooLarge: the message fits no frame; nothing was queued.
        """
        if type(message) not in ORDERED:
            encoded = _fitting(encoded or codec.encode(message))
            if self.is_connected:
                self._urgent.append(encoded)
            return 0
        if len(self._unacked) >= MAX_UNACKED or self.unacked_bytes >= MAX_UNACKED_BYTES:
            self._check_room()  # which says so
        number = self._next
        encoded = codec.numbered(encoded, number) if encoded else codec.encode(replace(message, n=number))
        if len(encoded) > MAX_FRAME_BYTES:
            raise FrameTooLarge(len(encoded), MAX_FRAME_BYTES)
        self._next += 1
        self._unacked.append(encoded)
        self.unacked_bytes += len(encoded)
        if self.is_connected:
            self._bulk.append(encoded)
        return number

    def send_all(self, messages: Sequence[Ordered]) -> None:
        """As :meth:`send`, ordered messages that belong together: all of them, or none.

        Raises:
            Overloaded, FrameTooLarge: as :meth:`send`, of any of them.
        """
        if len(messages) == 1:
            self.send(messages[0])
            return
        encoded = codec.encode_all([replace(each, n=n) for n, each in enumerate(messages, self._next)])
        sizes = list(map(len, encoded))
        if (longest := max(sizes, default=0)) > MAX_FRAME_BYTES:
            raise FrameTooLarge(longest, MAX_FRAME_BYTES)
        self._check_room(len(encoded) - 1, sum(sizes[:-1]))
        self._keep(encoded)

    def _check_room(self, more: int = 0, more_bytes: int = 0) -> None:
        """Pass if one message may be kept behind so many others."""
        if len(self._unacked) + more >= MAX_UNACKED or self.unacked_bytes + more_bytes >= MAX_UNACKED_BYTES:
            raise Overloaded(
                f"the peer has left {len(self._unacked)} messages ({self.unacked_bytes} bytes) unacknowledged"
            )

    def _keep(self, encoded: list[bytes]) -> None:
        """Queue messages that have the next numbers, and keep them until the peer has them."""
        self._next += len(encoded)
        self._unacked += encoded
        self.unacked_bytes += sum(map(len, encoded))
        if self.is_connected:
            self._bulk += encoded

    def data_to_send(self) -> list[bytes]:
        """Frames to write now: all that is urgent, then one of bulk. Ask again when they are written, until empty."""
        if not self.is_connected:
            return []
        if self._safe > self._ack_told:
            self._ack_told = self._safe
            self._urgent.append(codec.encode(Ack(n=self._safe)))
        urgent = self._urgent
        if not self._bulk:
            if not urgent:
                return []
            self._urgent = []
            return codec.frames(urgent)
        self._urgent = []
        bulk, size_bytes = self._next_bulk()
        if size_bytes <= SMALL_BYTES:
            return codec.frames(urgent + bulk)
        return [*codec.frames(urgent), *codec.frames(bulk)]

    def _next_bulk(self) -> tuple[list[bytes], int]:
        """As many ordered messages as one frame of bulk holds, and their size; one that is larger goes alone."""
        found = self._bulk[:MAX_FRAME_MESSAGES]
        size_bytes = sum(map(len, found))
        if size_bytes > BULK_FRAME_BYTES:
            size_bytes = count = 0
            for encoded in found:
                if count and size_bytes + len(encoded) > BULK_FRAME_BYTES:
                    break
                size_bytes += len(encoded)
                count += 1
            del found[count:]
        del self._bulk[: len(found)]
        return found, size_bytes

    def revise(self, change: Callable[[Ordered], Ordered]) -> None:
        """Put other messages in the place of some that the peer has not acknowledged, under their numbers.

        For what has become wrong while no socket stood; call it before :meth:`connected`. A peer that has the message
        in its first form takes the number for known and never sees the second. What the peer will refuse to read stays
        as it is: it says so, and takes the number for known.

        Args:
            change: the message to send instead, or the same one.
        """
        for place, encoded in enumerate(self._unacked):
            try:
                (message,) = codec.decode(encoded)
            except MalformedFrame:
                continue
            assert isinstance(message, Ordered), "no other is kept"
            instead = change(message)
            if instead is not message:
                self._unacked[place] = _fitting(codec.encode(replace(instead, n=message.n)))

    # --- receiving ----------------------------------------------------------------------------------------------------

    def receive(self, frame: bytes, now: float) -> list[AnyMessage | Unreadable]:
        """Messages of a frame that the owner has to act on, each ordered one exactly once.

        The owner calls :meth:`acknowledge` for every ordered one when its effect is safe. If one cannot be read, it is
        the last of them; one with an order number counts as received, and is acknowledged like any other.

        Raises:
            FrameTooLarge, MalformedFrame: the frame cannot be read.
            ProtocolViolation: an order number is missing or jumps; none of the frame's messages counts as received.
        """
        self._heard_at = self._frame_at = now
        before = self.received
        try:
            found: Sequence[Any] = codec.decode(frame)
        except MalformedFrame as exc:
            found = salvage(frame, exc)
        try:
            return self._take(found)
        except ProtocolViolation:
            # The owner never sees the good messages before the bad one, so the peer has to send them again.
            self.received = before
            raise

    def _take(self, messages: Sequence[Any]) -> list[AnyMessage | Unreadable]:
        found: list[AnyMessage | Unreadable] = []
        for message in messages:
            kind = type(message)
            if kind in ORDERED or (kind is Unreadable and message.n):
                if message.n == self.received + 1:
                    self.received = message.n
                    found.append(message)
                elif not 0 < message.n <= self.received:  # else it was sent again and is here already
                    raise ProtocolViolation(f"message {self.received + 1}", f"message {message.n}")
                else:
                    continue
            elif kind is Ack:
                if message.n >= self._next:
                    raise ProtocolViolation(f"an acknowledgement below {self._next}", f"{message.n}")
                self._forget(message.n)
            elif kind is Ping:
                self.send(Pong(token=message.token))
            elif kind is Pong:
                self._answered(message.token)
            else:
                found.append(message)
            if kind is Unreadable:
                break  # the owner ends the line: what stands behind it comes again
        return found

    def acknowledge_all(self, number: int) -> None:
        """The effect of every ordered message up to ``number`` is safe."""
        self._safe = max(self._safe, number)
        if self._safe_later:
            self._safe_later = {later for later in self._safe_later if later > self._safe} or None

    def acknowledge(self, number: int, last: int = 0) -> None:
        """The effect of ordered message ``number`` is safe; the peer learns of the longest run without a gap.

        With ``last``: that of all from ``number`` to ``last``.
        """
        safe, later = self._safe, self._safe_later
        last = last or number
        if number <= safe + 1:
            safe = max(safe, last)
            if later and last > number:
                later.difference_update(range(number, last + 1))
            while later and safe + 1 in later:
                safe += 1
                later.discard(safe)
            self._safe = safe
        else:
            if later is None:
                later = self._safe_later = set()
            later.update(range(number, last + 1))

    def _answered(self, token: int) -> None:
        self.proven_at = next((asked_at for asked, asked_at in self._unanswered if asked == token), self.proven_at)
        self._unanswered = [ping for ping in self._unanswered if ping[0] > token]

    def _forget(self, number: int) -> None:
        unacked = self._unacked
        count = number - (self._next - 1 - len(unacked))
        if count > 0:
            if count >= len(unacked):
                self.unacked_bytes = 0
                unacked.clear()
            else:
                self.unacked_bytes -= sum(map(len, unacked[:count]))
                del unacked[:count]

    # --- time ---------------------------------------------------------------------------------------------------------

    def heard(self, read_bytes: int, now: float) -> None:
        """So much has come over the socket by now; more than before is a part of a frame.

        A peer on a slow line lives, for as long as one frame may take. What came with the last frame was heard then,
        not now: whoever looks late must not take the peer for younger than it is, and ask half as often.
        """
        if read_bytes != self.read_bytes and now - self._frame_at <= LONGEST_FRAME_S:
            self._heard_at = now
        self.read_bytes = read_bytes

    def is_dead(self, now: float) -> bool:
        """The peer has been silent for longer than a living one would be."""
        return self.is_connected and now - self._heard_at >= self.dead_after_s

    def tick(self, now: float) -> None:
        """Ask a silent peer whether it is there."""
        quiet_since = max(self._heard_at, self._pinged_at)
        if self.is_connected and now - quiet_since >= self.heartbeat_s:
            self.ping(now)

    def ping(self, now: float) -> None:
        """Ask the peer for an answer, which will prove that it has received everything up to ``now``."""
        if self.is_connected:
            self._pinged_at = now
            self._pings += 1
            self._unanswered = [*self._unanswered[1 - MAX_PINGS :], (self._pings, now)]
            self.send(Ping(token=self._pings))

    def next_deadline(self, now: float) -> float:
        """When to call :meth:`tick` and look at :meth:`is_dead` again."""
        return (
            min(max(self._heard_at, self._pinged_at) + self.heartbeat_s, self._heard_at + self.dead_after_s)
            if (self.is_connected)
            else now + self.heartbeat_s
        )

    @property
    def has_words(self) -> bool:
        """Something waits to be written: an answer to a ping, say, that :meth:`receive` has queued."""
        return self.is_connected and bool(self._urgent or self._bulk)

    @property
    def waiting_bytes(self) -> int:
        """Size of what waits to be written, acknowledgements aside."""
        return sum(map(len, self._urgent)) + sum(map(len, self._bulk))

    @property
    def safe(self) -> int:
        """Order number up to which the effect of everything that the peer has sent is safe on our side."""
        return self._safe

    @property
    def unacked(self) -> int:
        """Ordered messages that the peer has not acknowledged."""
        return len(self._unacked)

    @property
    def acknowledged(self) -> int:
        """Order number up to which the peer has acknowledged everything."""
        return self._next - 1 - len(self._unacked)


def _fitting(encoded: bytes) -> bytes:
    if len(encoded) > MAX_FRAME_BYTES:
        raise FrameTooLarge(len(encoded), MAX_FRAME_BYTES)
    return encoded
