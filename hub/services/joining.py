"""How machines join: tokens that let them in, requests that people decide about, and what a machine gets.

Who may join and whether it was heard before is decided in the commit that lets it in (``hub/store/join_verbs.py``);
here requests are checked, names are chosen and answers are put together. A machine proves with every request that it
holds its key; nothing that it says of itself is believed further than to be shown. Callers: ``hub/web/joining.py`` and
``hub/app.py``.
"""

import secrets
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from random import Random
from typing import Final
from urllib.parse import urlsplit

import msgspec
import structlog

from hub.core import access as rules
from hub.store import join_changes as c
from hub.store.store import Store
from hub.store.token_changes import TokenRow
from protocol import joining as wire
from protocol.clock import Clock
from protocol.errors import BadInput, NotFound, Problem
from protocol.events import Event, EventKind
from protocol.ids import NAME
from protocol.joining import JoinRefused, MachineFacts, NotYetApproved
from protocol.keys import KEY_BYTES, SIGNATURE_BYTES, decoded, is_signed
from protocol.limits import MAX_TITLE_CHARS
from protocol.model import Role
from protocol.names import pick
from protocol.pinning import ca_hash

log = structlog.get_logger(__name__)
_MOST_ATTEMPTS: Final = 2**53
_FACT_CHARS: Final = 100
_TRIES: Final = 5
"""Names that are tried for a machine that has none."""


class Joining:
    """The use cases of a machine that joins and of the people who let it in.

    Attributes:
        pin: how a machine knows this hub again: the hash of its authority, ``web`` or ``open``. Asked each time: a
            certificate that was given may be replaced by one of another authority while the hub runs.
        addresses: those of all hubs of this database, if there are several.
        on_change: called when tokens of machines have changed; whoever keeps tokens in memory reads them again.
        install_line: what to run on a machine without AgentCom, given address and token; empty: there is no such way.
    """

    def __init__(
        self, store: Store, clock: Clock, chance: Random, *, version: str, names: Callable[[], Collection[str]]
    ) -> None:
        self._store, self._clock, self._chance, self._version = store, clock, chance, version
        self._names = names
        self.pin: Callable[[], str] = lambda: wire.OPEN
        self.addresses: Callable[[], tuple[str, ...]] = tuple
        self.on_change: Callable[[], Awaitable[None]] = _nothing
        self.install_line: Callable[[str, str], str] = lambda _url, _token: ""

    # --- people -------------------------------------------------------------------------------------------------------

    async def create(self, body: wire.JoinTokenBody, by: str, url: str) -> wire.JoinTokenCreated:
        """A new join token; the answer is the only place where its secret is ever shown.

        Args:
            url: the hub's address, unless the body has another one.
        Raises:
            BadInput: it cannot be.
        """
        url = (body.url or url).rstrip("/")
        if problems := list(_problems(body, url)):
            raise BadInput(problems, "join token")
        token_id, secret = wire.make_secret(secrets.randbits)
        now_ms = self._clock.now_ms()
        row = c.JoinTokenRow(
            id=token_id,
            label=body.label,
            digest=rules.digest(secret),
            uses=body.uses,
            created_ms=now_ms,
            expires_ms=now_ms + int(body.ttl_s * 1000),
            created_by=by,
        )
        facts = {"token": token_id, "label": body.label, "uses": body.uses, "by": by}
        event = Event(kind=EventKind.JOIN_TOKEN_CREATED, at_ms=now_ms, facts=facts)
        await self._store.commit(c.AddJoinToken(row, event))
        log.info("join_token_created", token=token_id, by=by)
        # Who speaks TLS for a hub that does not is known by its public certificate.
        pin = self.pin()
        pin = wire.WEB if pin == wire.OPEN and url.startswith("https://") else pin
        token = wire.join_token(pin, secret)
        return wire.JoinTokenCreated(
            id=token_id,
            token=token,
            url=url,
            command=f"agentcom join {url} --token {token}",
            install=self.install_line(url, token),
            label=body.label,
            uses=body.uses,
            expires_at=_at(row.expires_ms),
            note=_note(url, pin),
        )

    async def tokens(self) -> wire.JoinTokenList:
        """All join tokens, newest first, without their secrets."""
        now_ms = self._clock.now_ms()
        return wire.JoinTokenList(join_tokens=tuple(_view(row, now_ms) for row in await self._store.join_tokens()))

    async def revoke(self, id: str, by: str) -> None:  # noqa: A002 - the name of the field on the wire
        """End a join token; machines that have joined with it stay.

        Raises:
            NotFound: there is no such token.
        """
        now_ms = self._clock.now_ms()
        event = Event(kind=EventKind.JOIN_TOKEN_REVOKED, at_ms=now_ms, facts={"token": id, "by": by})
        await self._store.commit(c.RevokeJoinToken(id, now_ms, event))

    async def requests(self) -> wire.JoinRequestList:
        """Machines that wait for a person, oldest first."""
        now_ms = self._clock.now_ms()
        found = [row for row in await self._store.machines_waiting() if (row.expires_ms or 0) > now_ms]
        return wire.JoinRequestList(join_requests=tuple(_request(row) for row in found))

    async def decide(self, code: str, by: str, *, is_approved: bool) -> None:
        """Let a machine in that waits, or do not.

        Raises:
            NotFound: no machine waits under this code.
            Conflict: that was decided.
        """
        now_ms = self._clock.now_ms()
        kind = EventKind.JOIN_APPROVED if is_approved else EventKind.JOIN_DENIED
        event = Event(kind=kind, at_ms=now_ms, facts={"code": code, "by": by})
        await self._store.commit(c.DecideJoin(code, is_approved, by, now_ms, event))
        log.info("join_decided", code=code, approved=is_approved, by=by)

    # --- machines -----------------------------------------------------------------------------------------------------

    async def ask(self, body: wire.JoinBody, address: str) -> wire.JoinAsked:
        """Remember that a machine without a token asks to join.

        Raises:
            BadInput, JoinRefused: it is not what a machine sends, or was heard before.
            Overloaded: too many wait.
        """
        now_ms, asks = self._clock.now_ms(), self._checked(body, address)
        asks = msgspec.structs.replace(asks, state=c.WAITING, expires_ms=now_ms + int(wire.REQUEST_S * 1000))
        event = Event(kind=EventKind.JOIN_ASKED, at_ms=now_ms, facts={"code": asks.code, "address": address})
        kept: c.MachineRow = await self._store.commit(c.AskToJoin(asks, wire.MOST_WAITING, event))
        log.info("join_asked", code=kept.code, address=address)
        return wire.JoinAsked(code=kept.code, state=kept.state, expires_at=_at(kept.expires_ms or now_ms))

    async def join(self, body: wire.JoinBody, address: str) -> wire.Joined:
        """Let a machine in that shows a join token, or that a person has approved.

        Raises:
            BadInput: it is not what a machine sends.
            JoinRefused, NotYetApproved, MachineNameTaken: it may not, or not under this name.
        """
        asks = self._checked(body, address)
        join_token = wire.secret_id(body.token) if body.token else ""
        last: c.MachineNameTaken | None = None
        for _ in range(1 if body.name else _TRIES):
            name = body.name or pick(self._names(), self._chance)
            try:
                kept, token = await self._let_in(msgspec.structs.replace(asks, name=name), body, join_token)
            except c.MachineNameTaken as taken:
                last = taken
                continue
            await self.on_change()
            if kept.state == c.WAITING:
                raise NotYetApproved(kept.code)
            log.info("machine_joined", machine=kept.name, address=address, by=join_token or "request")
            return wire.Joined(name=kept.name, token=token, version=self._version, hubs=self.addresses())
        assert last is not None, "the loop ends with a machine or with a reason"
        raise last

    async def _let_in(self, asks: c.MachineRow, body: wire.JoinBody, join_token: str) -> tuple[c.MachineRow, str]:
        now_ms = self._clock.now_ms()
        token_id, token = rules.make_token(secrets.randbits)
        row = TokenRow(
            id=token_id,
            role=Role.AGENT.value,
            label="",
            digest=rules.digest(token),
            created_ms=now_ms,
        )
        facts = {"token": token_id, "address": asks.address, "by": join_token or "request"}
        change = c.LetIn(
            machine=asks,
            join_token=join_token,
            digest=rules.digest(body.token),
            names_itself=bool(body.name),
            token=row,
            events=(Event(kind=EventKind.MACHINE_JOINED, at_ms=now_ms, facts=facts),),
            at_ms=now_ms,
            binds=body.signs,
        )
        kept: c.MachineRow = await self._store.commit(change)
        return kept, token

    async def leave(self, token: str) -> None:
        """The machine with this token leaves: the token counts no more.

        Raises:
            NotAMachine: no machine has joined with it.
        """
        await self._let_go(await self.machine(token), token)

    async def remove(self, name: str, by: str) -> None:
        """Throw a machine out: its token counts no more, and what it has opened ends. A person lets it in again.

        Raises:
            NotFound: no machine has joined under this name.
        """
        found = [row for row in await self._store.machines_at_door("", name) if row.token]
        if not found:
            raise NotFound("machine that has joined", name)
        for machine in found:
            await self._let_go(machine, by)

    async def _let_go(self, machine: c.MachineRow, by: str) -> None:
        now_ms = self._clock.now_ms()
        facts = {"machine": machine.name, "token": machine.token, "by": by}
        event = Event(kind=EventKind.MACHINE_LEFT, at_ms=now_ms, facts=facts)
        await self._store.commit(c.LetGo(machine.token, now_ms, event))
        await self.on_change()
        log.info("machine_left", machine=machine.name, by=by)

    async def machine(self, token: str) -> c.MachineRow:
        """The machine that has joined and got this token.

        Raises:
            NotAMachine: there is none.
        """
        found = await self._store.machine_of_token(token)
        if found is None:
            raise c.NotAMachine(token)
        return found

    def _checked(self, body: wire.JoinBody, address: str) -> c.MachineRow:
        """What the machine asks, if its own key has signed it.

        Raises:
            BadInput: a field cannot be.
            JoinRefused: another key has signed it, or nobody.
        """
        problems = list(_body_problems(body))
        key, signature = decoded(body.key, KEY_BYTES), decoded(body.signature, SIGNATURE_BYTES)
        if key is None:
            problems.append(Problem("key", f"not {KEY_BYTES} bytes in base64url without padding"))
        if signature is None:
            problems.append(Problem("signature", f"not {SIGNATURE_BYTES} bytes in base64url without padding"))
        if problems:
            raise BadInput(problems, "machine")
        words = body.key, body.attempt, body.token, body.name
        said = wire.signed(*words, signs=body.signs, replaces=body.replaces)
        if key is None or signature is None or not is_signed(key, said, signature):
            raise JoinRefused("the signature is not by the key of this machine")
        if body.replaces and not _consents(body, said):
            raise JoinRefused("the key that this one is to replace has not signed that")
        return c.MachineRow(
            key=body.key,
            code=wire.code_of(body.key),
            state=c.JOINED,
            name=body.name,
            address=address,
            facts=_tidy(body.facts),
            attempt=body.attempt,
            asked_ms=self._clock.now_ms(),
            replaces=body.replaces,
        )


def _consents(body: wire.JoinBody, said: bytes) -> bool:
    old, consent = decoded(body.replaces, KEY_BYTES), decoded(body.consent, SIGNATURE_BYTES)
    return old is not None and consent is not None and body.replaces != body.key and is_signed(old, said, consent)


def pin_of(url: str, ca_pem: str | None) -> str:
    """How machines know this hub again.

    Args:
        url: under which others reach it, if that is set: a proxy may speak TLS for it.
        ca_pem: the authority that has signed its certificate, empty: a public one; ``None``: it speaks no TLS.
    """
    if ca_pem:
        return ca_hash(ca_pem)
    return wire.WEB if ca_pem is not None or url.startswith("https://") else wire.OPEN


async def _nothing() -> None:
    pass


def _problems(body: wire.JoinTokenBody, url: str) -> list[Problem]:
    problems = []
    if len(body.label) > MAX_TITLE_CHARS or not body.label.isprintable():
        problems.append(Problem("label", f"at most {MAX_TITLE_CHARS} printable characters"))
    if not 1 <= body.ttl_s <= wire.MOST_TTL_S:
        problems.append(Problem("ttl_s", f"{body.ttl_s:g}; from 1 to {wire.MOST_TTL_S:.0f} seconds"))
    if not 1 <= body.uses <= wire.MOST_USES:
        problems.append(Problem("uses", f"{body.uses}; from 1 to {wire.MOST_USES}"))
    if not is_address(url):
        problems.append(Problem("url", f"not an address like https://hub.example.org:7420: {url[:60]!r}"))
    return problems


def is_address(url: str) -> bool:
    """Whether a machine can be told to join there: it goes into a command line as it is."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_whole and not parts.username and all(ch.isalnum() or ch in "-._~:/[]%" for ch in url)


def _body_problems(body: wire.JoinBody) -> list[Problem]:
    problems: list[Problem] = []
    if not 1 <= body.attempt <= _MOST_ATTEMPTS:
        problems.append(Problem("attempt", f"{body.attempt}; from 1 to {_MOST_ATTEMPTS}"))
    if body.token:
        try:
            wire.secret_id(body.token)
        except BadInput as exc:
            problems += exc.problems
    if body.name and not NAME.fullmatch(body.name):
        problems.append(Problem("name", "letters, digits and '._- ', at most 64, no sign first"))
    return problems


def _tidy(facts: MachineFacts) -> MachineFacts:
    """What a machine says of itself, cut to what a page can show."""
    texts = {name: getattr(facts, name) for name in ("host", "system", "python", "version")}
    short = {name: "".join(ch for ch in text if ch.isprintable())[:_FACT_CHARS] for name, text in texts.items()}
    cores, ram = max(0, min(facts.cores, 1 << 20)), max(0, min(facts.ram_bytes, 1 << 60))
    return MachineFacts(**short, cores=cores, ram_bytes=ram)


def _note(url: str, pin: str) -> str:
    host = urlsplit(url).hostname or ""
    if host in {"localhost", "127.0.0.1", "::1"}:
        way = "name another one with --url, here or where the hub starts, which has to --listen there (0.0.0.0:7420)"
        return f"this address leads nowhere from another machine; {way}"
    if pin == wire.OPEN and url.startswith("http:"):
        return "without TLS everybody on the way can read the token; the machine has to agree with --plaintext"
    return ""


def _view(row: c.JoinTokenRow, now_ms: int) -> wire.JoinTokenView:
    state = (
        "revoked"
        if row.revoked_ms is not None
        else "used"
        if row.used >= row.uses
        else "expired"
        if row.expires_ms <= now_ms
        else "good"
    )
    return wire.JoinTokenView(
        id=row.id,
        label=row.label,
        state=state,
        uses=row.uses,
        used=row.used,
        created_at=_at(row.created_ms),
        expires_at=_at(row.expires_ms),
        created_by=row.created_by,
    )


def _request(row: c.MachineRow) -> wire.JoinRequestView:
    return wire.JoinRequestView(
        code=row.code,
        state=row.state,
        name=row.name,
        address=row.address,
        facts=row.facts,
        asked_at=_at(row.asked_ms),
        expires_at=_at(row.expires_ms or row.asked_ms),
    )


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
