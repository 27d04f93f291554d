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


class NotifierView(Struct, kw_only=True):
    """Somebody who is told; of the address only what is no secret. ``problem``: why the last try did not arrive."""

    id: str
    kind: str
    url: str
    label: str
    least: Severity
    is_signed: bool
    tries: int
    problem: str


class NotifierList(Struct, kw_only=True):
    """All who are told."""

    notifiers: tuple[NotifierView, ...]


class NotifierTested(Struct, kw_only=True):
    """Whether a test has arrived, and if not, why."""

    delivered: bool
    problem: str = ""
