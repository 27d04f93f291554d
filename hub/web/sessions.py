"""Browser sessions: a cookie that holds a random id, and single-use tickets that open one.

Kept in memory only: a restart logs browsers out, and nothing on disk opens a hub. A session stands for the token it was
opened with and dies with it; ``hub/web/guard.py`` asks for the token's rights anew with every request.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from protocol.clock import Clock

SESSION_S: Final = 12 * 3600.0
TICKET_S: Final = 300.0
MAX_KEPT: Final = 1_000
"""Sessions, and tickets, kept at once; the oldest goes first, so nobody can fill the memory."""


@dataclass(frozen=True, slots=True)
class _Pass:
    token: str
    ends_at: float  # on the monotonic clock


class Sessions:
    """Open sessions and tickets of one hub."""

    def __init__(self, clock: Clock, make_secret: Callable[[], str] = lambda: secrets.token_urlsafe(32)) -> None:
        self._clock, self._make_secret = clock, make_secret
        self._sessions: dict[str, _Pass] = {}
        self._tickets: dict[str, _Pass] = {}

    def open(self, token: str) -> str:
        """A new session for the holder of the token with id ``token``: what goes into the cookie."""
        return self._keep(self._sessions, token, SESSION_S)

    def token(self, session: str) -> str | None:
        """The id of the token that opened ``session``, if it still stands."""
        return self._valid(self._sessions.get(session))

    def close(self, session: str) -> None:
        """End a session; it need not stand."""
        self._sessions.pop(session, None)

    def issue_ticket(self, token: str) -> str:
        """A ticket that opens one session for the holder of the token with id ``token``, once, for 5 minutes."""
        return self._keep(self._tickets, token, TICKET_S)

    def redeem(self, ticket: str) -> str | None:
        """A new session for ``ticket``, which is used up; ``None`` if it does not count (any more)."""
        token = self._valid(self._tickets.pop(ticket, None))
        return None if token is None else self.open(token)

    def _keep(self, shelf: dict[str, _Pass], token: str, valid_s: float) -> str:
        while len(shelf) >= MAX_KEPT:
            del shelf[next(iter(shelf))]
        secret = self._make_secret()
        shelf[secret] = _Pass(token, self._clock.monotonic() + valid_s)
        return secret

    def _valid(self, kept: _Pass | None) -> str | None:
        return kept.token if kept is not None and kept.ends_at > self._clock.monotonic() else None
