"""Numbers that are remembered by name, the newest of them over a restart: what :mod:`hub.core.speeds` is kept in.

Bounded: of each kind only so many, and the one that was changed longest ago goes first. What has changed since it was
last asked for is told once, so that it can be stored; ``hub/services/learning.py`` does that now and then.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

import msgspec
from msgspec import Struct

V = TypeVar("V")
MAX_KEPT: Final = 10_000
"""Values of one kind that are remembered."""
_SPLIT: Final = "\x1f"
"""Between the parts of a name: no host, endpoint or model has it in its name."""


class Measure(Struct, frozen=True):
    """One value as it is stored: what it is about, its name, and MessagePack."""

    about: str
    name: str
    value: bytes


class Kept(Generic[V]):
    """Values of one kind by name.

    Args:
        about: names the kind.
        kind: the type of the values.
        afresh: what is left of a value after a restart.
    """

    def __init__(self, about: str, kind: type[V], afresh: Callable[[V], V] = lambda value: value) -> None:
        self.about, self._afresh = about, afresh
        self._values: OrderedDict[tuple[str, ...], V] = OrderedDict()
        self._changed: set[tuple[str, ...]] = set()
        self._decoder = msgspec.msgpack.Decoder(kind)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def newest(self) -> V | None:
        """The value that was changed last."""
        return next(reversed(self._values.values()), None)

    def get(self, *name: str) -> V | None:
        """The value, or ``None``."""
        return self._values.get(name)

    def put(self, value: V, *name: str) -> None:
        """Remember a value."""
        self._changed.add(name)
        self._put(value, name)

    def _put(self, value: V, name: tuple[str, ...]) -> None:
        self._values[name] = value
        self._values.move_to_end(name)
        if len(self._values) > MAX_KEPT:
            gone, _ = self._values.popitem(last=False)
            self._changed.discard(gone)

    def changes(self) -> Iterator[Measure]:
        """What has changed since this was last asked."""
        changed, self._changed = self._changed, set()
        for name in changed:
            yield Measure(self.about, _SPLIT.join(name), msgspec.msgpack.encode(self._values[name]))

    def recall(self, measure: Measure) -> None:
        """What was stored, oldest first. A value that nobody can read any more is left out: it will be learnt again."""
        try:
            value = self._decoder.decode(measure.value)
        except msgspec.DecodeError:
            return
        self._put(self._afresh(value), tuple(measure.name.split(_SPLIT)))
