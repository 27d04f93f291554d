"""How fast sidecars may come in: a fleet that comes back at once is spread over some seconds.

Each hello costs a commit and some thought, and a thousand in one second would be felt by everybody else. So many come
in a second; each of the others gets a time of its own to come back at, and they do not meet there again.

Pure: the time is an argument. Its caller is ``socket.py``, before a socket is even opened.
"""

import math
from typing import Final

PER_S: Final = 100.0
SPREAD_S: Final = 15.0
"""A fleet too large for :data:`PER_S` is let in within this time: half a lease."""
AT_ONCE_S: Final = 0.5
"""As many as may come in within this time do so at once, when nobody came before: in no second do twice as many."""
LONGEST_S: Final = 30.0
_RESERVED: Final = 0.8
"""Part of the places that is given away in advance; the rest is for those who come unannounced."""


class Arrivals:
    """A budget of arrivals, and a list of times to come back at."""

    def __init__(self, now: float, *, per_s: float = PER_S) -> None:
        self._per_s, self._places = per_s, per_s * AT_ONCE_S
        self._at = now
        self._next_free = now

    def ask(self, now: float, fleet: int = 0) -> float:
        """0 if one more may come in at ``now``, else after how many whole seconds it may.

        Args:
            now: seconds of any monotonic clock.
            fleet: sidecars that are known: a large fleet may come faster.
        """
        per_s = max(self._per_s, fleet / SPREAD_S)
        self._places = min(per_s * AT_ONCE_S, self._places + (now - self._at) * per_s)
        self._at = now
        if self._places >= 1:
            self._places -= 1
            return 0.0
        self._next_free = max(self._next_free, now + 1) + 1 / (_RESERVED * per_s)
        if self._next_free > now + LONGEST_S:
            self._next_free = now + 1  # more than fit in: they share the places that there are
            return LONGEST_S
        return float(math.ceil(self._next_free - now))
