"""What is asked of the store about alerts: keep one, what people want of rules, who is told and how far.

Alerts that fire or end are also put into a log of their own (``alert_log``): who is told reads it in order, so nobody
misses one, whatever was away. What the verbs do is ``alert_verbs.py``.
"""

from typing import Protocol

from msgspec import Struct

from hub.core.alerts import Alert
from protocol.alerts import Severity
from protocol.events import Event


class PutAlert(Struct, frozen=True, kw_only=True):
    """Keep an alert, new or changed. ``event``: it fires or ends, and is to be told. Outcome: ``None``.

    Those that ended before ``before_ms`` are forgotten.
    """

    alert: Alert
    at_ms: int
    before_ms: int
    event: Event | None = None


class PutRule(Struct, frozen=True):
    """Keep what somebody wants of a rule; ``body`` is JSON, all of it. Outcome: ``None``."""

    name: str
    body: str


class NotifierRow(Struct, frozen=True, kw_only=True):
    """Somebody who is told: up to which entry of the log, and how it went. Times are Unix milliseconds."""

    id: str
    kind: str
    url: str
    secret: str
    label: str
    least: Severity
    told: int = 0
    tries: int = 0
    next_ms: int = 0
    problem: str = ""


class PutNotifier(Struct, frozen=True):
    """Keep who is told, new (from the end of the log on) or how it went. Outcome: ``None``, or KeyOfAnother.

    ``known``: of a new one, ids of the keys of a hub that may share its store; ``None``: it does not.
    """

    row: NotifierRow
    is_new: bool = False
    known: frozenset[str] | None = None


class RemoveNotifier(Struct, frozen=True):
    """Tell somebody no more. Outcome: ``None``, or NotFound."""

    id: str


class Told(Struct, frozen=True):
    """An entry of the log: that an alert has fired or ended."""

    seq: int
    what: str
    at_ms: int
    alert: Alert


AlertChange = PutAlert | PutRule | PutNotifier | RemoveNotifier


class AlertStore(Protocol):
    """The part of a :class:`hub.store.store.Store` that is about the hub itself."""

    async def open_alerts(self) -> list[Alert]:
        """What is wrong now."""
        ...

    async def past_alerts(self, before: str, limit: int) -> list[Alert]:
        """What was wrong, the newest first, of those whose id is before this one."""
        ...

    async def alert_log(self, after: int, limit: int) -> list[Told]:
        """Alerts that have fired or ended behind this entry, in order."""
        ...

    async def alert_rules(self) -> dict[str, str]:
        """What people want of rules, JSON by name."""
        ...

    async def notifiers(self) -> list[NotifierRow]:
        """Who is told."""
        ...

    async def samples(self, step_s: int, since_s: int, until_s: int) -> list[tuple[int, bytes]]:
        """The hub's figures by step, oldest first: when each ended (behind ``since_s``, Unix seconds), MessagePack."""
        ...
