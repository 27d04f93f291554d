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
from protocol.machine import MAX_GPU_PROCESSES, MAX_GPUS, SpaceReport
from protocol.messages import KINDS, AnyMessage, Heartbeat, Message, Ordered


def _plain(entry: dict[str, Any]) -> dict[str, Any] | msgpack.Timestamp | bytes:
    """JSON has no times and no bytes: ``{"$time_s": seconds}`` and ``{"$bytes": hex}`` stand for them."""
    if "$bytes" in entry:
        return bytes.fromhex(entry["$bytes"])
    return msgpack.Timestamp(entry["$time_s"]) if "$time_s" in entry else entry


TEXT = (Path(__file__).parent / "golden" / "messages.json").read_text("utf-8")
GOLDEN: dict[str, dict[str, Any]] = json.loads(TEXT, object_hook=_plain)


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

    reports = {"accept", "reject", "progress", "log", "report"}
    assert ordered == reports | {"assign", "cancel", "drain", "pause", "reclaim", "forget", "log_levels", "upgrade"}


@pytest.mark.parametrize("name", GOLDEN)
def test_no_golden_field_is_left_at_its_default(name: str) -> None:
    # Otherwise a field could change its name or its type and no byte would tell.
    if name != name.split(maxsplit=1)[0]:
        return
    value = GOLDEN[name]["value"]

    assert set(value) == {"t", *(f.encode_name for f in _fields(KINDS[value["t"]]))}


def test_what_sidecars_said_of_their_machine_before_there_were_readings_is_still_read() -> None:
    gpu = {"name": "H200", "vram_total_bytes": 9, "vram_used_bytes": 5, "vram_ours_bytes": None, "utilization": 99.0}
    space = {"total_bytes": 4, "used_bytes": 3}
    at = msgpack.Timestamp(1)
    cpu = {"percent": 1.0, "cores": 2}
    host = {"cpu": cpu, "ram": space, "disk": space, "gpus": [gpu], "at": at}
    (beat,) = codec.decode(msgpack.packb({"t": "heartbeat", "sidecar": "a", "boot": 1, "host": host}))

    assert isinstance(beat, Heartbeat)
    assert beat.host is not None
    assert (beat.host.gpus[0].vram_used_bytes, beat.host.disk) == (5, SpaceReport(total_bytes=4, used_bytes=3))
    assert beat.reading is None


@pytest.mark.parametrize(
    "part",
    [
        {"gpus": [[]] * (MAX_GPUS + 1)},
        {"holders": [[0, 1, 2, "other", "x"]] * (MAX_GPU_PROCESSES + 1)},
        {"holders": [[0, 1, 2, "mine", "x"]]},
        {"holders": [[0, 1, 2, "other", "x" * 65]]},
        {"cards": [["nvidia", 0, "u" * 65, "n"]]},
        {"notes": {"a": "x" * 201}},
        {"cores": bytes(1025)},
        {"ram": [1, -1]},
    ],
)
def test_a_reading_beyond_its_bounds_is_refused(part: dict[str, Any]) -> None:
    reading = {"at": msgpack.Timestamp(1), "cpu_percent": 1.0, "cores": b"", "ram": [2, 1]} | part

    with pytest.raises(MalformedFrame):
        codec.decode(msgpack.packb({"t": "heartbeat", "sidecar": "a", "boot": 1, "reading": reading}))
