"""The bytes of every message, fixed: a peer of another language or another release reads them as they stand here.

``golden/messages.json`` holds one example of each kind (and some variants): its bytes in hex and the plain value they
mean. A change that breaks this test breaks peers that are already out there; a new kind needs a new entry.
"""

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest

from protocol import codec
from protocol.errors import MalformedFrame
from protocol.messages import KINDS, AnyMessage, Message, Ordered


def _time(entry: dict[str, Any]) -> dict[str, Any] | msgpack.Timestamp:
    """JSON has no times: ``{"$time_s": seconds}`` stands for a MessagePack timestamp."""
    return msgpack.Timestamp(entry["$time_s"]) if "$time_s" in entry else entry


TEXT = (Path(__file__).parent / "golden" / "messages.json").read_text("utf-8")
GOLDEN: dict[str, dict[str, Any]] = json.loads(TEXT, object_hook=_time)


def read(name: str) -> AnyMessage:
    (message,) = codec.decode(bytes.fromhex(GOLDEN[name]["hex"]))
    return message


def test_every_kind_of_message_has_golden_bytes() -> None:
    assert {entry["value"]["t"] for entry in GOLDEN.values()} == set(KINDS)


@pytest.mark.parametrize("name", GOLDEN)
def test_the_bytes_of_a_message_are_stable(name: str) -> None:
    message = read(name)

    assert type(message) is KINDS[GOLDEN[name]["value"]["t"]]
    assert codec.encode(message).hex() == GOLDEN[name]["hex"]


@pytest.mark.parametrize("name", GOLDEN)
def test_any_messagepack_reads_the_same_value(name: str) -> None:
    assert msgpack.unpackb(bytes.fromhex(GOLDEN[name]["hex"])) == GOLDEN[name]["value"]


@pytest.mark.parametrize("name", GOLDEN)
def test_any_messagepack_may_write_the_value(name: str) -> None:
    written: bytes = msgpack.packb(GOLDEN[name]["value"])

    (message,) = codec.decode(written)
    assert msgpack.unpackb(codec.encode(message)) == GOLDEN[name]["value"]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_message_that_lacks_any_one_field_is_read_with_its_default_or_refused(name: str) -> None:
    value = GOLDEN[name]["value"]
    required = {f.encode_name for f in _fields(KINDS[value["t"]]) if f.required}
    for left_out in value:
        poorer = msgpack.packb({key: part for key, part in value.items() if key != left_out})
        if left_out == "t" or left_out in required:
            with pytest.raises(MalformedFrame):
                codec.decode(poorer)
        else:
            assert type(codec.decode(poorer)[0]) is type(read(name))


def _fields(kind: type[Message]) -> tuple[Any, ...]:
    import msgspec

    return msgspec.inspect.type_info(kind).fields  # type: ignore[attr-defined]  # these are all structs


def test_the_messages_that_arrive_exactly_once_are_these() -> None:
    ordered = {name for name, kind in KINDS.items() if issubclass(kind, Ordered)}

    assert ordered == {"assign", "accept", "reject", "progress", "log", "report", "cancel", "drain"}


@pytest.mark.parametrize("name", GOLDEN)
def test_no_golden_field_is_left_at_its_default(name: str) -> None:
    # Otherwise a field could change its name or its type and no byte would tell.
    if name != name.split(maxsplit=1)[0]:
        return
    value = GOLDEN[name]["value"]

    assert set(value) == {"t", *(f.encode_name for f in _fields(KINDS[value["t"]]))}
