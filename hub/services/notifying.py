"""Tell people of alerts: everybody in order, from the store's log of alerts, until it has arrived.

Who cannot be reached is tried again after growing waits, for a day; then that entry is passed over. A browser that has
ended its subscription is told no more. How far each has
been told lies in the store, so a hub that dies tells nobody twice more than once, and forgets nobody. With several hubs
on one database the one that leads tells. Addresses hold secrets, so the store has them sealed, with the secret that
signs.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import structlog
from msgspec.structs import replace

from hub.core.alerts import BY_NAME, Alert
from hub.core.envelope import NOTIFIER, About, Unsealable, as_text, from_text, way_in, way_text
from hub.core.reach import is_forbidden, is_here
from hub.core.webpush import mark, problems_of
from hub.store.alert_changes import NotifierRow, PutNotifier, RemoveNotifier, Told
from hub.store.secret_changes import keys_needed
from hub.store.store import Store
from protocol.alerts import BrowserBody, NotifierBody, NotifierList, NotifierTested, NotifierView, Severity
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
_TOO_MANY: Final = Problem("url", f"{MOST_NOTIFIERS} are told already; remove one first")
BROWSER: Final = "browser"
"""Kind of a browser that is told; its address is the one at its push service, its secret both parts of its key."""
_ORDER: Final = tuple(Severity)


class NotDelivered(Exception):
    """It has not arrived, for this reason.

    Attributes:
        after_s: they want no other try before so many seconds.
        is_gone: there will never be anybody again.
    """

    def __init__(self, why: str, *, after_s: float = 0.0, is_gone: bool = False) -> None:
        self.after_s, self.is_gone = after_s, is_gone
        super().__init__(why)


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
    """The use cases of telling.

    Attributes:
        leads: whether this hub tells.
        on_gone: hears who was taken out because nobody is there any more, and why.
    """

    def __init__(self, store: Store, clock: Clock, ids: IdMaker, sender: Sender, keys: Keys) -> None:
        self._store, self._clock, self._ids, self._sender, self._keys = store, clock, ids, sender, keys
        self.leads: Callable[[], bool] = lambda: True
        self.on_gone: Callable[[NotifierView, str], None] = lambda _who, _why: None
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
                    if exc.is_gone:
                        await self._gone(row, str(exc))
                        return
                    row = self._failed(row, entry, exc)
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

    async def _gone(self, row: NotifierRow, why: str) -> None:
        log.warning("notifier_gone", notifier=row.id, label=row.label, why=why)
        with contextlib.suppress(NotFound):  # somebody has removed it meanwhile
            await self._store.commit(RemoveNotifier(row.id))
            self.on_gone(await self._view(row), why)

    def _failed(self, row: NotifierRow, entry: Told, why: NotDelivered) -> NotifierRow:
        tries, problem = row.tries + 1, str(why)
        log.warning("alert_not_delivered", notifier=row.id, alert=entry.alert.id, tries=tries, why=problem)
        if tries >= MOST_TRIES:
            return replace(row, told=entry.seq, tries=0, next_ms=0, problem=f"given up: {problem}"[:300])
        next_ms = self._clock.now_ms() + int(max(delay_s(tries), why.after_s) * 1000)
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
            problems.append(_TOO_MANY)
        if problems:
            raise BadInput(problems, "notifier")
        return await self._add(body.kind, body.url, body.secret, body.label, body.least)

    async def subscribe(self, body: BrowserBody) -> NotifierView:
        """Tell a browser of what fires or ends from now on; what it had subscribed to before is forgotten.

        Raises:
            BadInput: nobody can be told there.
            Conflict: there is no key to seal the address with.
        """
        problems = [*_problems_of_way(body.endpoint, "endpoint"), *problems_of(body)]
        if not problems and not is_trustworthy(body.endpoint):
            problems.append(Problem("endpoint", "expected an address that begins with https://"))
        rows = await self._store.notifiers()
        views = [await self._view(row) for row in rows if row.kind == BROWSER]
        known = [view.id for view in views if view.browser == mark(body.endpoint)]
        if len(rows) - len(known) >= MOST_NOTIFIERS:
            problems.append(_TOO_MANY)
        if problems:
            raise BadInput(problems, "browser")
        for name in known:
            await self._store.commit(RemoveNotifier(name))
        keys = f"{body.keys.p256dh} {body.keys.auth}"
        return await self._add(BROWSER, body.endpoint, keys, body.label, body.least)

    async def _add(self, kind: str, url: str, secret: str, label: str, least: Severity) -> NotifierView:
        name = self._ids.make(self._clock.now_ms())
        row = NotifierRow(id=name, kind=kind, url=url, secret=secret, label=label, least=least)
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
            if exc.is_gone:
                await self._gone(row, str(exc))
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
    if body.kind == "webhook":
        return _problems_of_way(body.url, "url")
    if "://" not in body.url:
        return [Problem("url", "expected an address of Apprise, like mailtos://...")]
    # Whatever else Apprise reads out of it is looked at when it connects (``hub/apprise_child.py``).
    with contextlib.suppress(ValueError):
        if is_forbidden(host := urlsplit(body.url).hostname or ""):
            return [_forbidden("url", host)]
    return []


def _problems_of_way(url: str, path: str) -> list[Problem]:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as exc:
        return [Problem(path, f"no address: {exc}")]
    if parts.scheme not in {"http", "https"} or not host:
        return [Problem(path, "expected an address that begins with https:// or http://")]
    return [_forbidden(path, host)] if is_forbidden(host) else []


def _forbidden(path: str, host: str) -> Problem:
    return Problem(path, f"{host} is an address of the machine's own network services; nobody is told there")


def is_trustworthy(url: str) -> bool:
    """Whether an address is one that browsers take for a push service: TLS, or this very machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_here(parts.hostname or "")


def _view(row: NotifierRow) -> NotifierView:
    return NotifierView(
        id=row.id,
        kind=row.kind,
        url=shown(row),
        label=row.label,
        least=row.least,
        is_signed=bool(row.secret) and row.kind != BROWSER,
        tries=row.tries,
        problem=row.problem,
        browser=mark(row.url) if row.kind == BROWSER and row.url else "",
    )


def shown(row: NotifierRow) -> str:
    """What may be shown of an address: many hold their secret in the path or before the host."""
    parts = urlsplit(row.url)
    if not parts.scheme:
        return ""  # it does not open here
    if row.kind not in {"webhook", BROWSER}:
        return f"{parts.scheme}://..."
    host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    return urlunsplit((parts.scheme, host, "/..." if parts.path.strip("/") or parts.query else "", "", ""))
