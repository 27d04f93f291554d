"""How often one caller may ask: a bucket of tokens, and a wait that doubles for whoever does not wait.

A bucket holds ``burst`` requests and fills by ``per_s`` of them a second. Who finds it empty is shut out until there is
room again, for a second at least, and is told for how long. Who asks again although the time is not over is shut out
for twice as long each time; requests that were on their way when it was told do not count as that.

Pure: the time is an argument. Kept as the moment at which the bucket will be full again (the generic cell rate
algorithm, ITU-T I.371), so a bucket is two numbers and nothing has to fill it. The caller is
``hub/services/rate_limits.py``.
"""

from typing import Final

from msgspec import Struct

LEAST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 300.0
ON_THE_WAY_S: Final = 1.0
"""What comes so soon after a refusal was sent before it was read."""
CALM_S: Final = 60.0
"""Who was not refused for so long begins anew."""
ROUNDING_S: Final = 1e-6
_MOST_STRIKES: Final = 20


class Limit(Struct, frozen=True):
    """So many requests a second on the long run, and so many at once."""

    per_s: float
    burst: int


class Bucket:
    """The requests of one caller.

    Attributes:
        refused: how many were, in all.
        strikes: how often it did not wait.
    """

    __slots__ = ("_full_at", "_shut_at", "_shut_until", "refused", "strikes")

    def __init__(self) -> None:
        self._full_at = self._shut_at = self._shut_until = float("-inf")
        self.refused = self.strikes = 0

    def ask(self, limit: Limit, now: float) -> float:
        """0 if one more request is within the limit at ``now``, else after how many seconds to ask again.

        Args:
            limit: its limit; another one than before counts at once.
            now: seconds of any monotonic clock.
        """
        if now < self._shut_until:
            return self._again(now)
        interval_s = 1.0 / limit.per_s
        longest_s = limit.burst * interval_s
        # Not emptier than empty: the limit may have been lowered since.
        full_at = min(max(self._full_at, now), now + longest_s)
        over_s = full_at + interval_s - now - longest_s
        if over_s <= ROUNDING_S:
            self._full_at = full_at + interval_s
            return 0.0
        self._full_at = full_at
        self.refused += 1
        if self.strikes and now - self._shut_at > CALM_S:
            self.strikes = 0
        return self._shut(now, max(over_s, LEAST_WAIT_S))

    def ask_all(self, limit: Limit, now: float, count: int) -> bool:
        """Whether ``count`` requests that came together are all within the limit; else none of them is counted."""
        interval_s = 1.0 / limit.per_s
        full_at = max(self._full_at, now)
        if now < self._shut_until or full_at + count * interval_s - now - limit.burst * interval_s > ROUNDING_S:
            return False
        self._full_at = full_at + count * interval_s
        return True

    def give_back(self, limit: Limit) -> None:
        """One request that was within the limit does not count."""
        self._full_at -= 1.0 / limit.per_s

    def wait_s(self, now: float) -> float:
        """For how long it is shut out; 0: it is not."""
        return max(0.0, self._shut_until - now)

    def forgive(self) -> None:
        """Begin anew: its owner has another limit."""
        self._full_at = self._shut_at = self._shut_until = float("-inf")
        self.strikes = 0

    def _again(self, now: float) -> float:
        self.refused += 1
        if now - self._shut_at < ON_THE_WAY_S:
            return self._shut_until - now
        self.strikes = min(self.strikes + 1, _MOST_STRIKES)
        return self._shut(now, LEAST_WAIT_S)

    def _shut(self, now: float, least_s: float) -> float:
        wait_s = min(max(least_s, LEAST_WAIT_S * 2.0**self.strikes), LONGEST_WAIT_S)
        self._shut_at, self._shut_until = now, max(self._shut_until, now + wait_s)
        return self._shut_until - now
