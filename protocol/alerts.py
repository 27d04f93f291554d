"""Shapes of ``/api/v1/alerts`` and ``/api/v1/notifiers``: what is wrong, when it counts as wrong, and who is told."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct

MAX_SILENCE_S = 90 * 86_400


class Severity(StrEnum):
    """How bad it is: ``critical``: work stops; ``warning``: somebody should look today; ``info``: good to know."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class AlertState(StrEnum):
    """How an alert stands; it ends by itself, whatever people have said of it."""

    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    SILENCED = "silenced"
    RESOLVED = "resolved"


class AlertView(Struct, kw_only=True):
    """Something is wrong, or was: ``since`` when, ``until`` when; ``runbook`` says what to do about it."""

    id: str
    rule: str
    severity: Severity
    state: AlertState
    subject: str
    summary: str
    value: float
    threshold: float
    since: datetime
    until: datetime | None
    runbook: str
    by: str = ""
    """Who has acknowledged or silenced it (id of a token)."""
    silent_until: datetime | None = None


class AlertList(Struct, kw_only=True):
    """Alerts, the newest first."""

    alerts: tuple[AlertView, ...]
    next_cursor: str | None = None


class SilenceBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /alerts/{id}/silence``: for how many seconds nobody wants to hear of it."""

    for_s: Annotated[float, Meta(gt=0, le=MAX_SILENCE_S)]


class RuleView(Struct, kw_only=True):
    """When something counts as wrong: a reading of ``threshold`` or more, for ``for_s`` seconds."""

    name: str
    about: str
    unit: str
    severity: Severity
    threshold: float
    for_s: float
    cooldown_s: float
    enabled: bool
    changed: bool
    """Somebody has changed it."""
    runbook: str


class RuleList(Struct, kw_only=True):
    """All rules."""

    rules: tuple[RuleView, ...]


class RulePatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``PATCH /alerts/rules/{name}``; what is left out stays."""

    severity: Severity | None = None
    threshold: Annotated[float, Meta(gt=0, le=1e15)] | None = None
    for_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    cooldown_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    enabled: bool | None = None


class NotifierBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /notifiers``: where alerts are told.

    ``webhook``: a POST of JSON to ``url``, signed with ``secret`` if there is one. ``apprise``: an address of Apprise
    (``mailtos://``, ``slack://`` and many others).
    """

    url: Annotated[str, Meta(min_length=1, max_length=2_000)]
    kind: Literal["webhook", "apprise"] = "webhook"
    secret: Annotated[str, Meta(max_length=200)] = ""
    label: Annotated[str, Meta(max_length=80)] = ""
    least: Severity = Severity.WARNING
    """Alerts that are less bad are not told."""


class BrowserKeys(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a browser has made for a subscription: its public key, and a secret; both in base64url."""

    p256dh: Annotated[str, Meta(min_length=1, max_length=100)]
    auth: Annotated[str, Meta(min_length=1, max_length=40)]


class BrowserBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /notifiers/browsers``: a browser wants to be told, at the ``endpoint`` of its push service (RFC 8030)."""

    endpoint: Annotated[str, Meta(min_length=1, max_length=2_000)]
    keys: BrowserKeys
    label: Annotated[str, Meta(max_length=80)] = ""
    least: Severity = Severity.WARNING
    """Alerts that are less bad are not told."""


class BrowserKey(Struct, kw_only=True):
    """The public key of the hub, which browsers subscribe with: nobody else can send to them (RFC 8292)."""

    key: str


class NotifierView(Struct, kw_only=True):
    """Somebody who is told; of the address only what is no secret. ``problem``: why the last try did not arrive.

    ``browser``: by what a browser knows itself, the first 16 digits of the SHA-256 of its ``endpoint``.
    """

    id: str
    kind: str
    url: str
    label: str
    least: Severity
    is_signed: bool
    tries: int
    problem: str
    browser: str = ""


class NotifierList(Struct, kw_only=True):
    """All who are told."""

    notifiers: tuple[NotifierView, ...]


class NotifierTested(Struct, kw_only=True):
    """Whether a test has arrived, and if not, why."""

    delivered: bool
    problem: str = ""
