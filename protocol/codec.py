"""Messages to frames and back.

A frame is one MessagePack message or an array of them, at most :data:`limits.MAX_FRAME_BYTES`. What is not a frame of
this protocol raises one of two errors, never anything else, however it was crafted.
"""

from collections.abc import Iterable
from functools import cache
from typing import Final

import msgspec
import msgspec.inspect

from protocol.errors import FrameTooLarge, MalformedFrame, Problem
from protocol.lean import LeanResult
from protocol.limits import MAX_FRAME_BYTES, MAX_FRAME_MESSAGES
from protocol.messages import AnyMessage, Message
from protocol.model import Budget, TaskResult, TaskSpec, TierDecision
from protocol.walk import first_problems

_encoder: Final = msgspec.msgpack.Encoder()
_one: Final = msgspec.msgpack.Decoder(AnyMessage)
_many: Final = msgspec.msgpack.Decoder(list[AnyMessage])
_spec: Final = msgspec.msgpack.Decoder(TaskSpec)
_result: Final = msgspec.msgpack.Decoder(TaskResult)
_lean_result: Final = msgspec.msgpack.Decoder(LeanResult)
_lean: Final[dict[bytes, bytes]] = {}
"""Short results as they are kept: those of like work are alike to the last byte."""
_ALIKE_BYTES, _MOST_ALIKE = 1_024, 256
_tier: Final = msgspec.msgpack.Decoder(TierDecision)
_WALKED_BYTES, _WALKED_MESSAGES = 64 << 10, 20
_NUMBER_BYTES: Final = 16
"""What the number of an ordered message may add to it."""
_NUMBER: Final = _encoder.encode("n")
_BYTES_OF_NUMBER: Final = {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9}
"""Of a whole number by its first byte, as the MessagePack specification has it; one below 128 is that byte."""
_UNSENDABLE: Final = (msgspec.MsgspecError, RecursionError, TypeError, ValueError, OverflowError)
"""Out of bounds, too deep, of a type that has no form, no text, a number beyond 64 bits."""
_ARRAY_16: Final = 0xDC
_ARRAY_LEAD: Final = frozenset({*range(0x90, 0xA0), _ARRAY_16, 0xDD})


def encode(message: Message) -> bytes:
    """One message as MessagePack."""
    return _encoder.encode(message)


def encode_all(messages: Iterable[Message]) -> list[bytes]:
    """Each of them as :func:`encode` does."""
    return list(map(_encoder.encode, messages))


def frames(encoded: Iterable[bytes]) -> list[bytes]:
    """Pack encoded messages, in order, into as few frames as the limits allow.

    Raises:
        FrameTooLarge: one message alone is over the limit.
    """
    packed: list[bytes] = []
    batch = encoded if isinstance(encoded, list) else list(encoded)
    if len(batch) <= MAX_FRAME_MESSAGES and sum(map(len, batch)) + 5 <= MAX_FRAME_BYTES:
        return [_join(batch)] if batch else []
    waiting, batch, size = batch, [], 0
    for piece in waiting:
        if len(piece) > MAX_FRAME_BYTES:
            raise FrameTooLarge(len(piece), MAX_FRAME_BYTES)
        if batch and (size + len(piece) + 5 > MAX_FRAME_BYTES or len(batch) == MAX_FRAME_MESSAGES):
            packed.append(_join(batch))
            batch, size = [], 0
        batch.append(piece)
        size += len(piece)
    if batch:
        packed.append(_join(batch))
    return packed


def _join(batch: list[bytes]) -> bytes:
    if len(batch) == 1:
        return batch[0]
    if len(batch) < 16:  # noqa: PLR2004 - the MessagePack specification's fixarray bound
        return bytes((0x90 | len(batch),)) + b"".join(batch)
    return b"\xdc" + len(batch).to_bytes(2, "big") + b"".join(batch)


def decode(frame: bytes) -> list[AnyMessage]:
    """The messages of a frame.

    Raises:
        FrameTooLarge: the frame is over the limit.
        MalformedFrame: it is not MessagePack, or not messages of this protocol.
    """
    if len(frame) > MAX_FRAME_BYTES:
        raise FrameTooLarge(len(frame), MAX_FRAME_BYTES)
    try:
        if frame and frame[0] in _ARRAY_LEAD:
            # One byte announces too few to be too many.
            if frame[0] >= _ARRAY_16 and (count := announced(frame)) > MAX_FRAME_MESSAGES:
                raise MalformedFrame(f"{count} messages in a frame, at most {MAX_FRAME_MESSAGES}")
            return _many.decode(frame)
        return [_one.decode(frame)]
    except (msgspec.DecodeError, RecursionError, ValueError) as exc:  # the last: no UTF-8, a time that no calendar has
        raise MalformedFrame(str(exc), frame) from exc


def is_many(frame: bytes) -> bool:
    """Whether a frame says that it is an array of messages."""
    return bool(frame) and frame[0] in _ARRAY_LEAD


def announced(frame: bytes) -> int:
    """How many messages a frame of many says that it holds; nothing of it is decoded."""
    if frame[0] < _ARRAY_16:
        return frame[0] & 0x0F
    return int.from_bytes(frame[1:3] if frame[0] == _ARRAY_16 else frame[1:5], "big")


def numbered(encoded: bytes, number: int) -> bytes:
    """An encoded ordered message under this order number, whichever it had: as if it were encoded with it."""
    end = 4 + (encoded[3] & 0x1F)  # of its kind, which stands first: a map's head, "t", and a short word
    if encoded[end : end + 2] == _NUMBER:
        head, rest = encoded[:1], end + 2 + _BYTES_OF_NUMBER.get(encoded[end + 2], 1)
    else:
        head, rest = bytes((encoded[0] + 1,)), end  # a field more; none has as many as another head would need
    return b"".join((head, encoded[1:end], _NUMBER, _encoder.encode(number), encoded[rest:]))


def flaw_of(message: Message) -> str:
    """Why the other end would refuse this message; empty: it would not."""
    try:
        encoded = _encoder.encode(message)
        if len(encoded) > MAX_FRAME_BYTES - _NUMBER_BYTES:
            return f"{len(encoded)} bytes, at most {MAX_FRAME_BYTES} fit a frame"
        _one.decode(encoded)
    except _UNSENDABLE as exc:
        return str(exc) or type(exc).__name__
    return ""


def in_full(error: MalformedFrame) -> MalformedFrame:
    """The error of :func:`decode` with every problem of the frame, not only the one that the reading ended at.

    Slow beside :func:`decode`: for the one word that a refused peer gets. Of large frames that one problem is told.
    """
    if not 0 < len(error.frame) <= _WALKED_BYTES:
        return error
    try:
        plain = msgspec.msgpack.decode(error.frame)
        many = plain if isinstance(plain, list) else [plain]
        found = [
            Problem(f"[{number}]{'.' if each.path else ''}{each.path}" if len(many) > 1 else each.path, each.problem)
            for number, message in enumerate(many[:_WALKED_MESSAGES])
            for each in first_problems(message, _message())[:_WALKED_MESSAGES]
        ]
    except (msgspec.DecodeError, RecursionError, TypeError, ValueError):
        return error
    return MalformedFrame(error.problem, problems=found[:_WALKED_MESSAGES])


@cache
def _message() -> msgspec.inspect.Type:
    return msgspec.inspect.type_info(AnyMessage)


def encode_spec(spec: TaskSpec) -> bytes:
    """A task spec as the store keeps it and an assignment carries it."""
    return _encoder.encode(spec)


def for_sidecar(encoded: bytes) -> tuple[bytes, str]:
    """An encoded spec without what the hub has used and an older sidecar does not know, and its ``traceparent``."""
    # The keys as they are encoded; fields at their default are left out. `in` makes an error first, and drops it.
    if encoded.find(b"\xa7project") < 0 and encoded.find(b"\xabtraceparent") < 0:
        return encoded, ""
    spec = decode_spec(encoded)
    return encode_spec(msgspec.structs.replace(spec, project="", traceparent="")), spec.traceparent


def with_budget(encoded: bytes, budget: Budget) -> bytes:
    """An encoded spec with another budget: what an attempt may still use, instead of what its task may."""
    return encode_spec(msgspec.structs.replace(decode_spec(encoded), budget=budget))


def decode_spec(raw: bytes | msgspec.Raw) -> TaskSpec:
    """The spec of :func:`encode_spec`.

    Raises:
        MalformedFrame: it is no task spec.
    """
    try:
        return _spec.decode(raw)
    except (msgspec.DecodeError, RecursionError, ValueError) as exc:
        raise MalformedFrame(f"task spec: {exc}") from exc


def encode_result(result: TaskResult) -> bytes:
    """A task result as a message carries it."""
    return _encoder.encode(result)


def kept_result(result: TaskResult) -> bytes:
    """A task result as the store keeps it: without most of the fields that hold their usual values."""
    whole = _encoder.encode(result)
    lean = _lean.get(whole)
    if lean is None:
        lean = _encoder.encode(_lean_result.decode(whole))
        if len(whole) <= _ALIKE_BYTES:
            if len(_lean) >= _MOST_ALIKE:
                _lean.clear()
            _lean[whole] = lean
    return lean


def decode_result(raw: bytes) -> TaskResult:
    """The result of :func:`encode_result` and :func:`kept_result`."""
    return _result.decode(raw)


def encode_tier(tier: TierDecision) -> bytes:
    """A tier decision as the store keeps it."""
    return _encoder.encode(tier)


def decode_tier(raw: bytes) -> TierDecision:
    """The tier decision of :func:`encode_tier`."""
    return _tier.decode(raw)


def raw(encoded: bytes) -> msgspec.Raw:
    """Encoded MessagePack, to be put into a message as it is."""
    return msgspec.Raw(encoded)
