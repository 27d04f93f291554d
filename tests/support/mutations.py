"""Frames that are almost right: real messages with bytes or values changed by chance, all from one seed."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgpack

KINDS: Final = (
    "hello welcome heartbeat assign accept reject progress log report cancel drain ack ping pong error nonsense"
).split()
EDGES: Final = (0, 1, -1, 127, 128, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**64 - 1, -(2**63))
WORDS: Final = ("", "x", "\x00", "passed", "running", "é\u4e16\U0001f600", "a" * 300, "../../etc", "'; --", "\x1b[31m")
DEEP: Final = 3
HALF: Final = 0.5


def value(chance: random.Random, depth: int = 0) -> Any:  # noqa: ANN401 - any value at all
    """Some value that MessagePack can carry."""
    makers: list[Callable[[], Any]] = [
        lambda: None,
        lambda: chance.random() < HALF,
        lambda: chance.choice(EDGES),
        lambda: chance.choice(WORDS),
        lambda: chance.choice((0.0, -1.5, 1e308, float("inf"), float("nan"))),
        lambda: chance.randbytes(chance.randrange(20)),
        lambda: msgpack.Timestamp(chance.choice((0, 2**33, -(2**40))), 0),
        lambda: [value(chance, depth + 1) for _ in range(chance.randrange(4))],
        lambda: {chance.choice(WORDS): value(chance, depth + 1) for _ in range(chance.randrange(4))},
    ]
    return chance.choice(makers if depth < DEEP else makers[:-2])()


def odd(chance: random.Random, message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with one to three of its fields changed, dropped, added or given another kind."""
    changed = dict(message)
    for _ in range(chance.randint(1, 3)):
        name = chance.choice([*changed, "n", "attempt", "unknown"])
        what = chance.randrange(4)
        if what == 0:
            changed.pop(name, None)
        elif what == 1:
            changed["t"] = chance.choice(KINDS)
        elif what == 2 and isinstance(changed.get(name), dict):
            changed[name] = odd(chance, changed[name])
        else:
            changed[name] = value(chance)
    return changed


def damaged(chance: random.Random, frame: bytes, others: Sequence[bytes]) -> bytes:
    """The frame with bits turned, bytes put in, left out, cut off, repeated, or half of another frame behind it."""
    raw = bytearray(frame)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(raw) + 1)
        match chance.randrange(6):
            case 0 if place < len(raw):
                raw[place] ^= 1 << chance.randrange(8)
            case 1:
                raw[place:place] = chance.randbytes(chance.randint(1, 8))
            case 2:
                del raw[place : place + chance.randint(1, 8)]
            case 3:
                del raw[place:]
            case 4:
                raw[place:place] = raw[:place]
            case _:
                other = chance.choice(others)
                raw[place:] = other[chance.randrange(len(other) + 1) :]
        del raw[1 << 16 :]
    return bytes(raw)


def frames(chance: random.Random, corpus: Sequence[bytes]) -> Iterator[bytes]:
    """Frames for ever: most of them damaged, some odd in their values, some arrays of several."""
    plain = [msgpack.unpackb(frame, strict_map_key=False) for frame in corpus]
    while True:
        kind = chance.randrange(4)
        if kind == 0:
            yield msgpack.packb(odd(chance, chance.choice(plain)))
        elif kind == 1:
            yield msgpack.packb([odd(chance, chance.choice(plain)) for _ in range(chance.randrange(5))])
        else:
            yield damaged(chance, chance.choice(corpus), corpus)
