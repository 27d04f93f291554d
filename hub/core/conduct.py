"""How a sidecar has kept to the protocol, and how long it has to stay away if it has not.

A violation ends its connection. Who comes back and violates again is a program that is broken, or worse: beyond a few
that any program may have after an accident it is shut out, for twice as long each time. What it holds is decided by its
leases, as if its machine had gone.

Pure: the time is an argument. The callers are ``hub/services/conduct.py`` and who shows an agent.
"""

from dataclasses import dataclass
from typing import Final

FREE: Final = 3
"""Violations that cost nothing but the connection: two ends that count differently after a restart heal by them."""
FIRST_WAIT_S: Final = 2.0
LONGEST_WAIT_S: Final = 60.0
"""No longer than a sidecar obeys (``sidecar/dial.py``)."""
CALM_S: Final = 600.0
"""Who has kept to the protocol for so long begins anew."""


@dataclass(slots=True)
class Conduct:
    """Violations of one sidecar.

    Attributes:
        count: how many there were lately.
        last: what the last one was.
        until: monotonic time before which it does not come in; ``until_ms`` the same as a date, for people.
    """

    count: int = 0
    last: str = ""
    until: float = 0.0
    until_ms: int | None = None
    at: float = 0.0

    def violated(self, what: str, now: float) -> float:
        """One more violation; for how many seconds it has to stay away."""
        if self.count and now - self.at > CALM_S:
            self.count = 0
        self.count, self.last, self.at = self.count + 1, what, now
        over = self.count - FREE
        wait_s = min(FIRST_WAIT_S * 2.0 ** min(over - 1, 10), LONGEST_WAIT_S) if over > 0 else 0.0
        self.until = now + wait_s
        return wait_s

    def wait_s(self, now: float) -> float:
        """For how many seconds it still has to stay away; 0: it may come in."""
        return max(0.0, self.until - now)
