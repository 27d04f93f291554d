"""What can be made of a frame that holds a message which cannot be read: the good ones, and what that one was.

A peer sends an ordered message again until it is acknowledged, also one that the other end refuses. So of one that
cannot be read at least the order number is looked for: the receiver takes the number, ends what the message was about
with the reason, and what stands behind it gets through. Pure; the caller is ``protocol/session.py``.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from protocol import codec
from protocol.errors import MalformedFrame
from protocol.limits import MAX_FRAME_MESSAGES
from protocol.messages import KINDS, AnyMessage, Ordered
from protocol.model import AttemptId


class Unreadable(msgspec.Struct, frozen=True):
    """A message that came and cannot be read. It is never sent.

    Attributes:
        error: why.
        n: its order number; 0: it is none of the ordered ones, or nobody can tell.
        kind: what it calls itself; empty: nobody can tell.
        attempt: what it is about, as far as can be told.
    """

    error: MalformedFrame
    n: int = 0
    kind: str = ""
    attempt: AttemptId | None = None


class _Head(msgspec.Struct):
    """What is looked for; whatever else there is, is not even decoded, so it may be what it likes."""

    t: str
    n: int = 0
    attempt: msgspec.Raw = msgspec.Raw()


_one: Final = msgspec.msgpack.Decoder(msgspec.Raw)
_many: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_head: Final = msgspec.msgpack.Decoder(_Head)
_attempt: Final = msgspec.msgpack.Decoder(AttemptId)
_BROKEN: Final = (msgspec.DecodeError, RecursionError, ValueError)


def salvage(frame: bytes, error: MalformedFrame) -> list[AnyMessage | Unreadable]:
    """The messages of a frame, those that cannot be read among them.

    Args:
        frame: what :func:`protocol.codec.decode` has refused.
        error: with what.
    Raises:
        MalformedFrame: ``error``; it is not even MessagePack, or holds too many messages.
    """
    is_many = codec.is_many(frame)
    if is_many and codec.announced(frame) > MAX_FRAME_MESSAGES:
        raise error  # before a piece is made of each: a million of them fit a frame
    try:
        pieces = _many.decode(frame) if is_many else [_one.decode(frame)]
    except _BROKEN:
        raise error from None
    return [_read(bytes(piece)) for piece in pieces]


def readable(found: Iterable[AnyMessage | Unreadable]) -> list[AnyMessage]:
    """These messages, for whoever does not look for those that cannot be read.

    Raises:
        MalformedFrame: one cannot.
    """
    messages: list[AnyMessage] = []
    for message in found:
        if isinstance(message, Unreadable):
            raise message.error
        messages.append(message)
    return messages


def _read(raw: bytes) -> AnyMessage | Unreadable:
    try:
        [message] = [] if codec.is_many(raw) else codec.decode(raw)
    except MalformedFrame as exc:
        return _unreadable(raw, exc)
    except ValueError:
        return Unreadable(MalformedFrame("a list where a message should be", raw))
    return message


def _unreadable(raw: bytes, error: MalformedFrame) -> Unreadable:
    try:
        head = _head.decode(raw)
    except _BROKEN:
        return Unreadable(error)
    kind = KINDS.get(head.t)
    # A kind that is not known here may be a newer one: then it is ordered if it has a number.
    is_ordered = head.n > 0 and (kind is None or issubclass(kind, Ordered))
    try:
        attempt = _attempt.decode(head.attempt) if head.attempt else None
    except _BROKEN:
        attempt = None
    return Unreadable(error, head.n if is_ordered else 0, head.t[:40], attempt)
