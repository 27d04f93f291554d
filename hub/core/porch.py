"""Connections that have not shown who they are: how many there may be, for how long, and whose turn it is.

Until its first request with a token a connection costs the hub something and has earned nothing. Each has
``PATIENCE_S`` to say something whole. There may be ``MAX_OF_ADDRESS`` of one address; of more, the one that has been
silent longest makes room, or (a whole fleet comes back at once) the new one has ``HASTE_S`` only. Of all together
there may be ``MAX_ALTOGETHER``; then the address that has most of them makes room, so that whoever comes from an
address with few is never kept out by crowds from others. Who has said something whole stands in line, and addresses
take turns in it. With a valid token it is a guest, and has no such limits.

Pure: it is told who comes, speaks and leaves, and when; it says who has to go. Sockets are ``hub/web/doorstep.py``.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, Generic, TypeVar

MAX_OF_ADDRESS: Final = 200
MAX_AT_ONCE: Final = 10
"""So many times as many of one address may be here for a moment."""
MAX_ALTOGETHER: Final = 16_384
PATIENCE_S: Final = 5.0
HASTE_S: Final = 1.0
ANSWER_S: Final = 15.0
"""How long a request without a token may be answered (it may wait for a database that is away)."""


class Caller:
    """One who has come and whom nobody knows yet; what the porch remembers of it."""

    __slots__ = ("home", "patience_s", "since", "until")

    def __init__(self) -> None:
        self.home: _Home[Any] | None = None
        self.since = self.until = self.patience_s = 0.0

    @property
    def waits(self) -> bool:
        """Whether it is on the porch."""
        return self.home is not None


C = TypeVar("C", bound=Caller)


class _Home(Generic[C]):
    """All callers of one address, in the order of their coming."""

    __slots__ = ("address", "heard", "ready", "silent")

    def __init__(self, address: str) -> None:
        self.address = address
        self.silent: dict[C, None] = {}
        self.heard: dict[C, None] = {}  # have said something whole; among them those that
        self.ready: dict[C, None] = {}  # stand in line

    @property
    def size(self) -> int:
        return len(self.silent) + len(self.heard)

    @property
    def oldest(self) -> C:
        return next(iter(self.silent or self.heard))


class Porch(Generic[C]):
    """All callers that are not guests yet."""

    def __init__(
        self, *, of_address: int = MAX_OF_ADDRESS, altogether: int = MAX_ALTOGETHER, patience_s: float = PATIENCE_S
    ) -> None:
        self._of_address, self._altogether, self._patience_s = of_address, altogether, patience_s
        self._homes: dict[str, _Home[C]] = {}
        self._crowds: dict[int, dict[_Home[C], None]] = {}  # addresses by how many callers they have
        self._most = 0
        self._line: dict[_Home[C], None] = {}
        self._until: dict[float, dict[C, None]] = {}  # by patience, so each in the order of its end
        self.waiting = 0
        """How many are here."""

    @property
    def callers(self) -> list[C]:
        """Everybody who is here."""
        return [each for home in self._homes.values() for of in (home.silent, home.heard) for each in of]

    # --- coming and going ---------------------------------------------------------------------------------------------

    def come(self, caller: C, address: str, now: float, *, is_proxy: bool = False) -> list[C]:
        """One more has come.

        Args:
            caller, now: who, and when.
            address: where from (:func:`household`).
            is_proxy: many others may come from there; only the limit of all together counts.
        Returns:
            Who has to go; the caller itself is among them if there is no room for it.
        """
        home = self._homes.get(address) or _Home[C](address)
        gone: list[C] = []
        patience_s = self._patience_s
        if not is_proxy and home.size >= self._of_address:
            first = next(iter(home.silent), None)
            if first is not None and now - first.since > HASTE_S:
                gone.append(first)
                self.leave(first)
            else:
                patience_s = min(patience_s, HASTE_S)
            if home.size >= MAX_AT_ONCE * self._of_address:
                return [*gone, caller]
        if self.waiting >= self._altogether:
            other = self._makes_room(home, now)
            if other is None:
                return [*gone, caller]
            gone.append(other)
            self.leave(other)
        caller.home, caller.since = home, now
        home.silent[caller] = None
        self._homes[address] = home
        self._count(home, home.size - 1)
        self._wait(caller, patience_s, now)
        return gone

    def crowded(self) -> C | None:
        """Who goes first where there is no room for anybody; ``None``: nobody is here."""
        return next(iter(self._crowds[self._most])).oldest if self._most else None

    def leave(self, caller: C) -> None:
        """It is a guest now, or gone; twice is once."""
        home = caller.home
        if home is None:
            return
        before = home.size
        for of in (home.silent, home.heard, home.ready, self._until[caller.patience_s]):
            of.pop(caller, None)
        caller.home = None
        if not home.ready:
            self._line.pop(home, None)
        if not home.size:
            del self._homes[home.address]
        self._count(home, before)

    def _makes_room(self, home: _Home[C], now: float) -> C | None:
        """Who goes so that one more of this address can come."""
        oldest = self.crowded()
        is_crowd = self._most > home.size + 1
        return oldest if oldest is not None and (is_crowd or now - oldest.since > HASTE_S) else None

    def _count(self, home: _Home[C], before: int) -> None:
        """The address had so many callers before and has one more or one less now."""
        if before:
            self._crowds[before].pop(home, None)
        if home.size:
            self._crowds.setdefault(home.size, {})[home] = None
        self.waiting += home.size - before
        self._most = max(self._most, home.size)
        while self._most and not self._crowds[self._most]:
            del self._crowds[self._most]
            self._most -= 1

    # --- speaking -----------------------------------------------------------------------------------------------------

    def stand_in_line(self, caller: C, now: float) -> None:
        """It has said something whole, and waits for its turn."""
        if (home := caller.home) is not None:
            self.heard(caller, now)
            home.ready[caller] = self._line[home] = None

    def next(self) -> C | None:
        """Whose turn it is; ``None``: nobody stands in line."""
        home = next(iter(self._line), None)
        if home is None:
            return None
        del self._line[home]
        caller = next(iter(home.ready))
        del home.ready[caller]
        if home.ready:
            self._line[home] = None  # behind all others
        return caller

    def heard(self, caller: C, now: float) -> None:
        """A request of it is whole, and will be answered."""
        if (home := caller.home) is not None:
            home.silent.pop(caller, None)
            home.heard[caller] = None
            self._wait(caller, ANSWER_S, now)

    def expected(self, caller: C, now: float) -> None:
        """It has yet to say something, or to say more."""
        if (home := caller.home) is not None:
            home.heard.pop(caller, None)
            home.silent[caller], caller.since = None, now
            self._wait(caller, self._patience_s, now)

    def late(self, now: float, most: int) -> list[C]:
        """So many, at most, of those whose time is over."""
        found: list[C] = []
        for waiting in self._until.values():
            for caller in waiting:
                if caller.until > now or len(found) == most:
                    break
                found.append(caller)
        return found

    def _wait(self, caller: C, seconds: float, now: float) -> None:
        self._until.get(caller.patience_s, {}).pop(caller, None)
        caller.patience_s, caller.until = seconds, now + seconds
        self._until.setdefault(seconds, {})[caller] = None


def household(host: str) -> str:
    """What counts as one address: an IPv4 address, or the 64 bits of an IPv6 one that a whole household shares."""
    if ":" not in host:
        return host
    try:
        found = plain_address(host)
    except ValueError:
        return host
    return found.exploded[:19] if isinstance(found, IPv6Address) else str(found)


def plain_address(text: str) -> IPv4Address | IPv6Address:
    """An address without its zone; one of IPv4 in the clothes of IPv6 as what it is.

    Raises:
        ValueError: it is none.
    """
    found = ip_address(text.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found
