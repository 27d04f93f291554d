"""Tell people of alerts: everybody in order, from the store's log of alerts, until it has arrived.

Who cannot be reached is tried again after growing waits, for a day; then that entry is passed over. How far each has
been told lies in the store, so a hub that dies tells nobody twice more than once, and forgets nobody. With several hubs
on one database the one that leads tells. Addresses hold secrets, so the store has them sealed, with the secret that
signs.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import ip_address
from typing import Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import structlog
from msgspec.structs import replace

from hub.core.alerts import BY_NAME, Alert
from hub.core.envelope import NOTIFIER, About, Unsealable, as_text, from_text, way_in, way_text
from hub.store.alert_changes import NotifierRow, PutNotifier, RemoveNotifier, Told
from hub.store.secret_changes import keys_needed
from hub.store.store import Store
from protocol.alerts import NotifierBody, NotifierList, NotifierTested, NotifierView, Severity
from protocol.clock import Clock
from protocol.errors import BadInput, NotFound, Problem, Unavailable
from protocol.ids import IdMaker

log = structlog.get_logger(__name__)
LOOK_S: Final = 5.0
KNOWN_S: Final = 60.0
"""How long it is believed that there is nobody to tell; another hub may have been told of somebody."""
PAGE: Final = 50
FIRST_S: Final = 5.0
LONGEST_S: Final = 3_600.0
MOST_TRIES: Final = 30
"""About a day."""
MOST_NOTIFIERS: Final = 50
_ORDER: Final = tuple(Severity)


class NotDelivered(Exception):
    """It has not arrived, for this reason."""


class Sender(Protocol):
    """A way to tell somebody."""

    async def send(self, row: NotifierRow, message: dict[str, Any]) -> None:
        """Tell.

        Raises:
            NotDelivered: it has not arrived.
        """
        ...


class Keys(Protocol):
    """Seals and opens (``hub/vault.py``)."""

    @property
    def shared(self) -> frozenset[str] | None:
        """Ids of the keys, if other hubs of the store may have keys of their own; ``None``: there are none."""
        ...

    @property
    def changing(self) -> asyncio.Lock:
        """Held from sealing to the commit."""
        ...

    async def ready(self, needed: Callable[[], Awaitable[frozenset[str]]]) -> None:
        """Have a key to seal with."""
        ...

    def seal(self, about: About, text: str) -> bytes:
        """Seal a text."""
        ...

    async def unseal(self, about: About, sealed: bytes) -> str:
        """Open it again; raises Unsealable."""
        ...


def delay_s(tries: int) -> float:
    """Seconds to wait after so many tries."""
    return min(LONGEST_S, FIRST_S * 2.0 ** min(tries - 1, 20))


class Notifying:
    """The use cases of telling; ``leads``: whether this hub tells."""

    def __init__(self, store: Store, clock: Clock, ids: IdMaker, sender: Sender, keys: Keys) -> None:
        self._store, self._clock, self._ids, self._sender, self._keys = store, clock, ids, sender, keys
        self.leads: Callable[[], bool] = lambda: True
        self._nobody_until = float("-inf")

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            try:
                if self.leads():
                    await self.look()
            except Unavailable as exc:
                log.warning("alerts_not_told", why=str(exc), next=f"again in {LOOK_S:g} s")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Tell everybody whose turn it is what they have not been told."""
        now_ms, now = self._clock.now_ms(), self._clock.monotonic()
        if now < self._nobody_until:
            return
        rows = await self._store.notifiers()
        if not rows:
            self._nobody_until = now + KNOWN_S
        due = [row for row in rows if row.next_ms <= now_ms]
        # One that hangs must not keep the others waiting.
        await asyncio.gather(*(self._tell(row) for row in due))

    async def _tell(self, row: NotifierRow) -> None:
        for entry in await self._store.alert_log(row.told, PAGE):
            if _ORDER.index(entry.alert.severity) <= _ORDER.index(row.least):
                try:
                    await self._sender.send(await self._opened(row), message_of(entry))
                except NotDelivered as exc:
                    row = self._failed(row, entry, str(exc))
                    await self._store.commit(PutNotifier(row))
                    if row.told < entry.seq:
                        return
                    continue
            row = replace(row, told=entry.seq, tries=0, next_ms=0, problem="")
            await self._store.commit(PutNotifier(row))

    async def _opened(self, row: NotifierRow) -> NotifierRow:
        """With its address as it is.

        Raises:
            NotDelivered: the key is not here that it is sealed with.
        """
        if (sealed := from_text(row.url)) is None:
            return row  # as an older hub has kept it, until the start of this one has sealed it
        try:
            url, secret = way_in(await self._keys.unseal(About(NOTIFIER, row.id), sealed))
        except (Unsealable, BadInput) as exc:
            raise NotDelivered(str(exc)) from exc
        return replace(row, url=url, secret=secret)

    def _failed(self, row: NotifierRow, entry: Told, problem: str) -> NotifierRow:
        tries = row.tries + 1
        log.warning("alert_not_delivered", notifier=row.id, alert=entry.alert.id, tries=tries, why=problem)
        if tries >= MOST_TRIES:
            return replace(row, told=entry.seq, tries=0, next_ms=0, problem=f"given up: {problem}"[:300])
        next_ms = self._clock.now_ms() + int(delay_s(tries) * 1000)
        return replace(row, tries=tries, next_ms=next_ms, problem=problem[:300])

    # --- people -------------------------------------------------------------------------------------------------------

    async def list(self) -> NotifierList:
        """Who is told."""
        return NotifierList(notifiers=tuple([await self._view(row) for row in await self._store.notifiers()]))

    async def _view(self, row: NotifierRow) -> NotifierView:
        try:
            return _view(await self._opened(row))
        except NotDelivered as exc:
            return _view(replace(row, url="", secret="", problem=str(exc)))

    async def add(self, body: NotifierBody) -> NotifierView:
        """Tell somebody of what fires or ends from now on.

        Raises:
            BadInput: nobody can be told there.
            Conflict: there is no key to seal the address with, or another hub has another one.
        """
        problems = _problems(body)
        if len(await self._store.notifiers()) >= MOST_NOTIFIERS:
            problems.append(Problem("url", f"{MOST_NOTIFIERS} are told already; remove one first"))
        if problems:
            raise BadInput(problems, "notifier")
        row = NotifierRow(
            id=self._ids.make(self._clock.now_ms()),
            kind=body.kind,
            url=body.url,
            secret=body.secret,
            label=body.label,
            least=body.least,
        )
        async with self._keys.changing:
            await self._keys.ready(partial(keys_needed, self._store))
            sealed = self._keys.seal(About(NOTIFIER, row.id), way_text(row.url, row.secret))
            kept = replace(row, url=as_text(sealed), secret="")
            await self._store.commit(PutNotifier(kept, is_new=True, known=self._keys.shared))
        self._nobody_until = float("-inf")
        return _view(row)

    async def remove(self, notifier: str) -> None:
        """Tell somebody no more.

        Raises:
            NotFound: there is nobody of this id.
        """
        await self._store.commit(RemoveNotifier(notifier))

    async def test(self, notifier: str) -> NotifierTested:
        """Send a message that says it is a test, once, now.

        Raises:
            NotFound: there is nobody of this id.
        """
        row = next((row for row in await self._store.notifiers() if row.id == notifier), None)
        if row is None:
            raise NotFound("notifier", notifier[:100])
        message = {"event": "test", "summary": "This is a test of AgentCom's alerts", "at_ms": self._clock.now_ms()}
        try:
            await self._sender.send(await self._opened(row), message)
        except NotDelivered as exc:
            return NotifierTested(delivered=False, problem=str(exc))
        return NotifierTested(delivered=True)


def message_of(entry: Told) -> dict[str, Any]:
    """What is sent; ``delivery`` names it, so that whoever gets it twice can tell."""
    alert: Alert = entry.alert
    rule = BY_NAME.get(alert.rule)
    return {
        "delivery": entry.seq,
        "event": entry.what,
        "at_ms": entry.at_ms,
        "id": alert.id,
        "rule": alert.rule,
        "severity": alert.severity.value,
        "subject": alert.subject,
        "summary": alert.summary,
        "value": alert.value,
        "threshold": alert.threshold,
        "since_ms": alert.since_ms,
        "runbook": rule.runbook if rule else "",
    }


def _problems(body: NotifierBody) -> list[Problem]:
    if body.kind != "webhook":
        return [] if "://" in body.url else [Problem("url", "expected an address of Apprise, like mailtos://...")]
    try:
        parts = urlsplit(body.url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as exc:
        return [Problem("url", f"no address: {exc}")]
    if parts.scheme not in {"http", "https"} or not host:
        return [Problem("url", "expected an address that begins with https:// or http://")]
    if is_forbidden(host):
        return [Problem("url", f"{host} is an address of the machine's own network services; nobody is told there")]
    return []


def is_forbidden(host: str) -> bool:
    """Whether requests must not go there: link-local addresses, where clouds keep the keys of machines."""
    try:
        found = ip_address(host)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found  # an IPv4 address may be written as one of IPv6
    return found.is_link_local or found.is_multicast or found.is_unspecified


def _view(row: NotifierRow) -> NotifierView:
    return NotifierView(
        id=row.id,
        kind=row.kind,
        url=shown(row),
        label=row.label,
        least=row.least,
        is_signed=bool(row.secret),
        tries=row.tries,
        problem=row.problem,
    )


def shown(row: NotifierRow) -> str:
    """What may be shown of an address: many hold their secret in the path or before the host."""
    parts = urlsplit(row.url)
    if not parts.scheme:
        return ""  # it does not open here
    if row.kind != "webhook":
        return f"{parts.scheme}://..."
    host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    return urlunsplit((parts.scheme, host, "/..." if parts.path.strip("/") or parts.query else "", "", ""))
