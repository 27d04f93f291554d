"""Browser sessions: a cookie that holds a random id, and single-use tickets that open one.

A session stands for the token it was opened with and dies with it; ``hub/web/guard.py`` asks for the token's rights
anew with every request. Sessions outlive the hub: an open page goes on after a restart. What is on disk opens nothing:
it is the SHA-256 of each id, which is random itself. Tickets are kept in memory only.
"""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from protocol.clock import Clock

log = structlog.get_logger(__name__)
SESSION_S: Final = 12 * 3600
TICKET_S: Final = 300
MAX_KEPT: Final = 1_000
"""Sessions, and tickets, kept at once; the oldest goes first, so nobody can fill the memory."""


class _Pass(Struct, frozen=True):
    token: str
    ends_ms: int


class Sessions:
    """Open sessions and tickets of one hub; sessions are kept in the file ``path``, if there is one."""

    def __init__(
        self,
        clock: Clock,
        make_secret: Callable[[], str] = lambda: secrets.token_urlsafe(32),
        *,
        path: Path | None = None,
    ) -> None:
        self._clock, self._make_secret, self._path = clock, make_secret, path
        self._sessions = _read(path)
        self._tickets: dict[str, _Pass] = {}

    def open(self, token: str) -> str:
        """A new session for the holder of the token with id ``token``: what goes into the cookie."""
        session = self._keep(self._sessions, token, SESSION_S)
        self._write()
        return session

    def token(self, session: str) -> str | None:
        """The id of the token that opened ``session``, if it still stands."""
        return self._valid(self._sessions.get(_digest(session)))

    def close(self, session: str) -> None:
        """End a session; it need not stand."""
        if self._sessions.pop(_digest(session), None) is not None:
            self._write()

    def issue_ticket(self, token: str) -> str:
        """A ticket that opens one session for the holder of the token with id ``token``, once, for 5 minutes."""
        return self._keep(self._tickets, token, TICKET_S)

    def redeem(self, ticket: str) -> str | None:
        """A new session for ``ticket``, which is used up; ``None`` if it does not count (any more)."""
        token = self._valid(self._tickets.pop(_digest(ticket), None))
        return None if token is None else self.open(token)

    def _keep(self, shelf: dict[str, _Pass], token: str, valid_s: int) -> str:
        while len(shelf) >= MAX_KEPT:
            del shelf[next(iter(shelf))]
        secret = self._make_secret()
        shelf[_digest(secret)] = _Pass(token, self._clock.now_ms() + valid_s * 1000)
        return secret

    def _valid(self, found: _Pass | None) -> str | None:
        return None if found is None or self._clock.now_ms() >= found.ends_ms else found.token

    def _write(self) -> None:
        if self._path is None:
            return
        now_ms = self._clock.now_ms()
        self._sessions = {digest: kept for digest, kept in self._sessions.items() if kept.ends_ms > now_ms}
        draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(msgspec.json.encode(self._sessions))
            draft.replace(self._path)
        except OSError as exc:
            for useless in (draft, self._path):  # what a session was closed in must not open it again
                with contextlib.suppress(OSError):
                    useless.unlink(missing_ok=True)
            log.warning("sessions_not_kept", path=str(self._path), why=str(exc), next="a restart will log browsers out")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path | None) -> dict[str, _Pass]:
    if path is None:
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _Pass])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as exc:
        log.warning("sessions_useless", path=str(path), why=str(exc), next="browsers have to log in again")
        return {}
