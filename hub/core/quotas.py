"""What an LLM endpoint may be asked a minute, and when there is room for one attempt more.

A *window* holds what was used of an endpoint in the last minute: attempts in hand with what such attempts usually use
in a minute, those that have ended with what they have said. An attempt that would go beyond the endpoint's requests or
tokens a minute waits for so much to leave the window; the board (``hub/core/board.py``) counts that like any other
wait, so the work goes elsewhere where that is sooner. In memory only: a hub that starts again begins with empty
windows, and an endpoint that refuses work is left alone all the same (``hub/core/health.py``). Pure: times are
arguments, seconds of one clock.
"""

from collections import deque
from typing import Final

from msgspec import Struct

WINDOW_S: Final = 60.0
NEW_WEIGHT: Final = 0.2
"""Weight of a new measurement: about the last ten count."""
LEAST_WAIT_S: Final = 1.0
"""What is full now and nobody knows for how long is looked at again after this."""

Key = tuple[str, str]
"""An LLM server: host and endpoint."""


class Use(Struct, frozen=True):
    """Requests and tokens of one attempt, in a minute; ``at`` is when it ended."""

    requests: float
    tokens: float
    at: float = 0.0


class Quota(Struct, frozen=True):
    """What an endpoint may be asked a minute; 0: as much as one likes."""

    rpm: int = 0
    tpm: int = 0

    def __bool__(self) -> bool:
        return bool(self.rpm or self.tpm)

    def exceeded(self, requests: float, tokens: float) -> str:
        """Which of both is too little for so much in a minute; empty: neither."""
        if self.rpm and requests > self.rpm:
            return f"its quota of {self.rpm:,} requests a minute is used"
        return f"its quota of {self.tpm:,} tokens a minute is used" if self.tpm and tokens > self.tpm else ""


class Quotas:
    """The windows of all endpoints that have a quota.

    Attributes:
        was_short: somebody was told to wait since this was last looked at.
    """

    def __init__(self) -> None:
        self._held: dict[Key, dict[str, Use]] = {}
        self._past: dict[Key, deque[Use]] = {}
        self._usual: dict[Key, float] = {}
        self.was_short = False

    def take(self, server: Key, task: str, tokens: float) -> None:
        """An attempt begins there that is expected to read and write so many tokens."""
        self._held.setdefault(server, {})[task] = Use(self._usual.get(server, 1.0), tokens)

    def drop(self, server: Key, task: str) -> None:
        """It is over."""
        if (held := self._held.get(server)) is not None and held.pop(task, None) is not None and not held:
            del self._held[server]

    def used(self, server: Key, requests: int, tokens: int, seconds: float, now: float) -> None:
        """It says what it has used in so many seconds; what lies further back than a minute counts no more."""
        share = min(1.0, WINDOW_S / seconds) if seconds > 0 else 1.0
        use = Use(max(1, requests) * share, tokens * share, now)
        self._past.setdefault(server, deque()).append(use)
        usual = self._usual.get(server, use.requests)
        self._usual[server] = max(1.0, usual + NEW_WEIGHT * (use.requests - usual))

    def wait(self, server: Key, quota: Quota, tokens: float, now: float) -> tuple[float, str]:
        """How long an attempt of so many tokens has to wait, in seconds, and for what; 0 and nothing: it need not.

        An attempt that alone is too large for the quota waits until nothing else is in the window.
        """
        if not quota:
            return 0.0, ""
        past = self._past.get(server, deque())
        while past and past[0].at + WINDOW_S <= now:
            past.popleft()
        held = self._held.get(server, {}).values()
        if not past and not held:
            return 0.0, ""
        requests = self._usual.get(server, 1.0) + sum(use.requests for use in (*held, *past))
        whole = tokens + sum(use.tokens for use in (*held, *past))
        why = quota.exceeded(requests, whole)
        if not why:
            return 0.0, ""
        self.was_short = True
        wait_s = LEAST_WAIT_S
        for use in past:
            requests, whole = requests - use.requests, whole - use.tokens
            wait_s = max(LEAST_WAIT_S, use.at + WINDOW_S - now)
            if not quota.exceeded(requests, whole):
                break
        return wait_s, why
