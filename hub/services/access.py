"""Tokens: who holds which, made, listed, revoked, and found again with every request.

All tokens are few and lie in memory, loaded at start; a request costs one SHA-256 and no query. Changes answer only
after their commit and count from then on, for open streams too (they ask :meth:`Access.principal` again). When a
token was last used is written in batches. Rights and the form of a token are ``hub/core/access.py``; callers are the
two doors, ``hub/web`` and ``hub/gateway``.
"""

import asyncio
import os
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import structlog

from hub.core import access as rules
from hub.core.access import Principal, Scope
from hub.store.store import Store
from hub.store.token_changes import AddToken, RevokeToken, TokenRow, TouchTokens
from protocol.api import TokenBody, TokenCreated, TokenList, TokenView
from protocol.clock import Clock
from protocol.errors import BadInput, Conflict, Forbidden, NotFound, Overloaded, Problem, Unauthenticated
from protocol.events import Event, EventKind
from protocol.limits import MAX_TITLE_CHARS
from protocol.model import Role

log = structlog.get_logger(__name__)
_MAX_TTL_S: Final = 10 * 366 * 86_400.0
_NOBODYS: Final = bytes(32)
FIRST_TOKENS: Final = ((Role.ADMIN, "admin.token"), (Role.AGENT, "agent.token"))


class Access:
    """Knows every token. Make one with :meth:`load`."""

    def __init__(self, store: Store, clock: Clock, rows: Sequence[TokenRow]) -> None:
        self._store, self._clock = store, clock
        self._rows = {row.id: row for row in rows}
        self._used: dict[str, int] = {}  # token id -> when it was last used, not yet stored
        self._changes = 0  # tokens made and revoked here
        self._seen: dict[bytes, str] = {}  # digests of tokens that were shown and are right, and their ids
        self._principals: dict[str, tuple[TokenRow, Principal]] = {}
        self.on_revoked: Callable[[str], None] = lambda _token: None
        """Hears the id of a token that has just been revoked, here or at another hub: what it opened ends now."""

    @classmethod
    async def load(cls, store: Store, clock: Clock) -> "Access":
        """The service, with all tokens of the store."""
        return cls(store, clock, await store.tokens())

    def knows(self, token_id: str) -> bool:
        """Whether there is such a token, valid or not."""
        return token_id in self._rows

    def label(self, token_id: str) -> str:
        """What a person has called a token; empty if nobody has, or there is none."""
        row = self._rows.get(token_id)
        return row.label if row else ""

    async def reload(self) -> None:
        """Read all tokens again: another hub, or another service, has made or revoked some."""
        known, changes, rows = self._rows, self._changes, await self._store.tokens()
        while changes != self._changes:  # what was changed here meanwhile may not be in what was read
            known, changes, rows = self._rows, self._changes, await self._store.tokens()
        self._rows = {row.id: row for row in rows}
        self._seen.clear()
        self._principals.clear()
        for row in self._rows.values():
            if row.revoked_ms is not None and row.id in known and known[row.id].revoked_ms is None:
                self.on_revoked(row.id)

    # --- asking -------------------------------------------------------------------------------------------------------

    def authenticate(self, token: str | None) -> Principal:
        """Whose token this is.

        Raises:
            Unauthenticated: there is none, it is mistyped, unknown, revoked or expired.
        """
        if not token:
            raise Unauthenticated("this needs a token")
        digest = rules.digest(token)
        token_id = self._seen.get(digest)  # only one that was right is in there, and stays it until it is revoked
        if token_id is None:
            token_id = rules.token_id(token)
            row = self._rows.get(token_id)
            # An unknown id takes the same way as a wrong secret, so the time of the answer does not tell which ids
            # exist.
            if not rules.matches(token, row.digest if row else _NOBODYS) or row is None:
                raise Unauthenticated("this hub does not know the token")
            self._seen[digest] = token_id
        return self.principal(token_id)

    def principal(self, token_id: str) -> Principal:
        """The holder of the token ``token_id``, if it is still valid: for browser sessions and streams that stay open.

        Raises:
            Unauthenticated: it is unknown, revoked or expired.
        """
        row = self._rows.get(token_id)
        now_ms = self._clock.now_ms()
        if row is None:
            raise Unauthenticated("this hub does not know the token")
        if row.revoked_ms is not None:
            raise Unauthenticated(f"token {row.id} was revoked at {_at(row.revoked_ms):%Y-%m-%dT%H:%M:%SZ}")
        if row.expires_ms is not None and row.expires_ms <= now_ms:
            raise Unauthenticated(f"token {row.id} expired at {_at(row.expires_ms):%Y-%m-%dT%H:%M:%SZ}")
        self._used[token_id] = now_ms
        known = self._principals.get(token_id)
        if known is None or known[0] is not row:
            known = self._principals[token_id] = row, Principal(row.id, Role(row.role), row.label, row.scope)
        return known[1]

    def counts(self, who: Principal) -> bool:
        """Whether a token still counts as it did when :meth:`principal` told of ``who``."""
        row, known = self._rows.get(who.token), self._principals.get(who.token)
        if row is None or known is None or known[1] is not who or known[0] is not row or row.revoked_ms is not None:
            return False
        now_ms = self._clock.now_ms()
        if row.expires_ms is not None and row.expires_ms <= now_ms:
            return False
        self._used[who.token] = now_ms
        return True

    def require(self, who: Principal, permission: str) -> None:
        """Pass if ``who`` holds ``permission``.

        Raises:
            Forbidden: it does not; the error names the roles that do.
        """
        if not rules.may(who.role, permission):
            raise Forbidden(who.role.value, permission, rules.roles_with(permission))

    def tokens(self) -> TokenList:
        """All tokens, newest first, without their secrets."""
        rows = sorted(self._rows.values(), key=lambda row: (row.created_ms, row.id), reverse=True)
        return TokenList(tokens=tuple(self._view(row) for row in rows))

    # --- changing -----------------------------------------------------------------------------------------------------

    async def create(self, body: TokenBody, by: str) -> TokenCreated:
        """A new token; the answer is the only place where its secret is ever shown.

        Raises:
            BadInput: the label or the time to live cannot be.
        """
        problems = []
        if len(body.label) > MAX_TITLE_CHARS or not body.label.isprintable():
            problems.append(Problem("label", f"at most {MAX_TITLE_CHARS} printable characters"))
        if body.ttl_s is not None and not 1 <= body.ttl_s <= _MAX_TTL_S:
            problems.append(
                Problem("ttl_s", f"{body.ttl_s:g}; from 1 to {_MAX_TTL_S:.0f} seconds, or left out for no end")
            )
        scope = Scope(projects=tuple(sorted({*body.projects})), agents=tuple(sorted({*body.agents})))
        problems += rules.scope_problems(body.role, scope)
        if problems:
            raise BadInput(problems, "token")
        token_id, token = rules.make_token(secrets.randbits)
        now_ms = self._clock.now_ms()
        row = TokenRow(
            id=token_id,
            role=body.role.value,
            label=body.label,
            digest=rules.digest(token),
            created_ms=now_ms,
            expires_ms=None if body.ttl_s is None else now_ms + int(body.ttl_s * 1000),
            scope=scope,
        )
        facts = {"token": token_id, "role": row.role, "label": row.label, "by": by, **msgspec.structs.asdict(scope)}
        await self._store.commit(AddToken(row, Event(kind=EventKind.TOKEN_CREATED, at_ms=now_ms, facts=facts)))
        self._rows[token_id] = row
        self._changes += 1
        log.info("token_created", token=token_id, role=row.role, by=by)
        return TokenCreated(
            id=token_id,
            token=token,
            role=body.role,
            label=body.label,
            expires_at=_maybe(row.expires_ms),
            projects=scope.projects,
            agents=scope.agents,
        )

    async def revoke(self, id: str, by: str) -> None:  # noqa: A002 - the name of the field on the wire
        """End a token, for good and at once. Revoking it again changes nothing.

        Raises:
            NotFound: there is no such token.
            Conflict: nobody could manage this hub any more.
        """
        row = self._rows.get(id)
        if row is None:
            raise NotFound("token", id)
        if row.revoked_ms is not None:
            return
        if row.role == Role.ADMIN and not self._other_admin(id):
            raise Conflict(f"token {id} is the last valid one of role 'admin'; create another before you revoke it")
        now_ms = self._clock.now_ms()
        event = Event(kind=EventKind.TOKEN_REVOKED, at_ms=now_ms, facts={"token": id, "role": row.role, "by": by})
        await self._store.commit(RevokeToken(id, now_ms, event))
        self._rows[id] = msgspec.structs.replace(row, revoked_ms=now_ms)
        self._changes += 1
        log.info("token_revoked", token=id, role=row.role, by=by)
        self.on_revoked(id)

    async def flush(self) -> None:
        """Store when tokens were last used, if any were."""
        if not self._used:
            return
        used, self._used = self._used, {}
        try:
            await self._store.commit(TouchTokens(used))
        except Overloaded:
            self._used = used | self._used  # there is more urgent work for the disk
            return
        for token_id, at_ms in used.items():
            was = self._rows[token_id]
            row = self._rows[token_id] = msgspec.structs.replace(was, last_used_ms=at_ms)
            if (known := self._principals.get(token_id)) is not None and known[0] is was:
                self._principals[token_id] = row, known[1]  # its holder is who it was

    async def keep_last_used(self, every_s: float = 60.0) -> None:
        """Call :meth:`flush` again and again, until cancelled."""
        while True:
            await asyncio.sleep(every_s)
            await self.flush()

    async def ensure_first_tokens(self, folder: Path) -> tuple[Path, ...]:
        """Write ``admin.token`` and ``agent.token`` (mode 0600) into ``folder``; returns those that were written.

        A file that is there is never touched, so a removed one comes back with a new token at the next start: who can
        write here owns the hub anyway. A file whose token no longer counts is named in the log, with the way out.
        """
        written = []
        for role, name in FIRST_TOKENS:
            path = folder / name
            if path.exists():
                self._look_at(path)
                continue
            # The token is stored before the file appears: whoever finds the file may use it at once. A crash between
            # the two leaves a token that nobody knows.
            created = await self.create(TokenBody(role=role, label=f"first {role.value}"), by="hub")
            if _write_new(path, created.token + "\n"):
                written.append(path)
        return tuple(written)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _other_admin(self, but: str) -> bool:
        now_ms = self._clock.now_ms()
        return any(
            row.role == Role.ADMIN
            and row.id != but
            and row.revoked_ms is None
            and (row.expires_ms is None or row.expires_ms > now_ms)
            for row in self._rows.values()
        )

    def _look_at(self, path: Path) -> None:
        try:
            self.authenticate(path.read_text("utf-8").strip())
        except (OSError, UnicodeDecodeError, Unauthenticated) as exc:
            log.warning(
                "token_file_useless",
                path=str(path),
                why=str(exc),
                next="remove the file and start again for a new token",
            )

    def _view(self, row: TokenRow) -> TokenView:
        return TokenView(
            id=row.id,
            role=Role(row.role),
            label=row.label,
            created_at=_at(row.created_ms),
            expires_at=_maybe(row.expires_ms),
            last_used_at=_maybe(self._used.get(row.id, row.last_used_ms)),
            revoked_at=_maybe(row.revoked_ms),
            projects=row.scope.projects,
            agents=row.scope.agents,
        )


def _write_new(path: Path, text: str) -> bool:
    """Write a private file in one step; ``False`` if it has come into being meanwhile (then it stays as it is)."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, this refuses to overwrite
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _maybe(ms: int | None) -> datetime | None:
    return None if ms is None else _at(ms)
