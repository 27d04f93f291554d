"""When somebody has to be told: rules as data, and what becomes of an alert while its reading goes up and down.

Pure: readings and a time in, alerts that begin and end out. A reading is over its threshold for ``for_s`` before the
alert fires; it fires once, stays while the reading is above what clears it (``clears`` of the threshold), and ends by
itself. Within ``cooldown_s`` of its end it does not fire again. Callers: ``hub/services/alerting.py``; the readings are
taken by ``hub/readings.py``. What to do about each stands in docs/operate/runbooks.md.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from protocol.alerts import AlertState, RulePatch, Severity

CRITICAL, WARNING, INFO = Severity.CRITICAL, Severity.WARNING, Severity.INFO
FIRING, ACKNOWLEDGED, SILENCED, RESOLVED = (
    AlertState.FIRING,
    AlertState.ACKNOWLEDGED,
    AlertState.SILENCED,
    AlertState.RESOLVED,
)
MOST_OPEN: Final = 500
"""Alerts that are open at once; of more nobody could read the list."""
_DAY_MS: Final = 86_400_000
RUNBOOKS: Final = "docs/operate/runbooks.md"


class Rule(Struct, frozen=True, kw_only=True):
    """One thing to look at.

    Attributes:
        threshold: a reading of so much, or more, is wrong.
        clears: share of the threshold under which it is well again.
        for_s: how long it must be wrong before anybody is told.
        cooldown_s: how long after its end it is not told again.
    """

    name: str
    severity: Severity
    about: str
    unit: str
    threshold: float
    for_s: float = 0.0
    clears: float = 1.0
    cooldown_s: float = 300.0
    enabled: bool = True

    @property
    def runbook(self) -> str:
        """Where it stands what to do."""
        return f"{RUNBOOKS}#{self.name}"


def _rule(name: str, severity: Severity, about: str, unit: str, threshold: float, **more: float) -> Rule:
    return Rule(name=name, severity=severity, about=about, unit=unit, threshold=threshold, **more)  # type: ignore[arg-type]  # the rest are numbers


RULES: Final = (
    _rule("queue_growing", WARNING, "More tasks come than are done", "tasks", 1_000, for_s=1_200, clears=0.8),
    _rule("failure_rate", WARNING, "Many tasks fail", "ratio", 0.5, for_s=60, clears=0.8),
    _rule("task_stuck", WARNING, "Nothing was heard of an attempt for long", "hours", 6),
    _rule("no_agent_for_tier", WARNING, "Tasks wait that no agent online can do", "tasks", 1, for_s=300),
    _rule("tier_fallback", INFO, "Tasks are done by a lower strategy than they want", "tasks", 5, clears=0.5),
    _rule("endpoint_down", WARNING, "An LLM endpoint does not answer", "seconds", 60),
    _rule("agent_lost", WARNING, "A machine is gone without a word", "seconds", 60),
    _rule("agent_cloned", WARNING, "Two sidecars use one name", "agents", 1),
    _rule("hub_lost", WARNING, "A hub has ended without a word", "hubs", 1),
    _rule("host_hot", WARNING, "A GPU is too hot", "celsius", 88, for_s=120, clears=0.95),
    _rule("host_vram", WARNING, "A GPU has no memory left", "ratio", 0.985, for_s=600, clears=0.98),
    _rule("host_ram", WARNING, "A machine has no main memory left", "ratio", 0.95, for_s=300, clears=0.97),
    _rule("host_disk", WARNING, "A machine's disk is nearly full", "ratio", 0.95, for_s=60, clears=0.99),
    _rule("hub_disk", CRITICAL, "The hub's disk has no room for new tasks", "disks", 1),
    _rule("hub_memory", CRITICAL, "The hub has too little memory for new tasks", "hubs", 1, for_s=10),
    _rule("budget_nearly_spent", WARNING, "Most of a budget of today is spent", "ratio", 0.8),
    _rule("backup_overdue", WARNING, "The newest backup is too old", "times", 2),
    _rule("clock_skew", WARNING, "A machine's clock differs from the hub's", "seconds", 30, for_s=120, clears=0.8),
    _rule("loop_lag", WARNING, "The hub stands still again and again", "seconds", 0.5, for_s=30, clears=0.8),
    _rule("store_log", WARNING, "The store's write-ahead log is long", "bytes", 256 << 20, for_s=60, clears=0.8),
)
"""All rules, as they are until somebody changes them."""
BY_NAME: Final[Mapping[str, Rule]] = {rule.name: rule for rule in RULES}


class Reading(Struct, frozen=True):
    """What a rule has to judge: of which thing, how much, and in words what that is.

    ``is_bound``: it may be more, as nobody has looked for longer (the hub has just begun); it ends no alert.
    """

    rule: str
    subject: str
    value: float
    detail: str = ""
    is_bound: bool = False


class Alert(Struct, frozen=True, kw_only=True):
    """Something is wrong, or was. Times are Unix milliseconds."""

    id: str
    rule: str
    severity: Severity
    subject: str
    state: AlertState
    summary: str
    value: float
    threshold: float
    since_ms: int
    until_ms: int | None = None
    by: str = ""
    silent_ms: int | None = None
    """Until when nobody wants to hear of it."""

    @property
    def key(self) -> tuple[str, str]:
        """What it is about: of one thing there is at most one open alert of a rule."""
        return self.rule, self.subject


def patched(rule: Rule, patch: RulePatch) -> Rule:
    """The rule as somebody wants it."""
    given = {name: getattr(patch, name) for name in patch.__struct_fields__ if getattr(patch, name) is not None}
    return replace(rule, **given)


class Alarms:
    """What is open, and what is about to be; :attr:`rules` may be changed at any time.

    Args:
        open_alerts: those that the last hub has left.
    """

    def __init__(self, open_alerts: Iterable[Alert] = (), rules: Iterable[Rule] = RULES) -> None:
        self.rules = {rule.name: rule for rule in rules}
        self.open = {alert.key: alert for alert in open_alerts}
        self._wrong: dict[tuple[str, str], int] = {}  # since when, before it fires
        self._ended: dict[tuple[str, str], int] = {}

    def judge(self, readings: Iterable[Reading], now_ms: int, ids: Iterable[str]) -> list[Alert]:
        """What has changed: alerts that fire, that end, or that are silent no longer.

        Args:
            readings: all of now; what is not among them is well.
            ids: names for new alerts.
        """
        found = {(reading.rule, reading.subject): reading for reading in readings}
        names = iter(ids)
        changed = [
            after for key, alert in list(self.open.items()) if (after := self._later(alert, found.get(key), now_ms))
        ]
        for key, reading, rule in self._judged(found, now_ms):
            since_ms = self._wrong[key]
            cool_ms = self._ended.get(key, -(10**15)) + int(rule.cooldown_s * 1000)
            if now_ms - since_ms >= rule.for_s * 1000 and now_ms >= cool_ms and len(self.open) < MOST_OPEN:
                self._wrong.pop(key)
                changed.append(self._put(_fired(rule, reading, next(names), since_ms)))
        self._ended = {key: at_ms for key, at_ms in self._ended.items() if now_ms - at_ms < _DAY_MS}
        return changed

    def remember(self, readings: Iterable[Reading], at_ms: int) -> None:
        """Note since when what is wrong, one moment after the other, before anybody judges; nothing fires."""
        for _ in self._judged({(reading.rule, reading.subject): reading for reading in readings}, at_ms):
            pass

    def _judged(
        self, found: Mapping[tuple[str, str], Reading], at_ms: int
    ) -> Iterator[tuple[tuple[str, str], Reading, Rule]]:
        """What is wrong and not open, noted since when."""
        self._wrong = {key: since for key, since in self._wrong.items() if key in found}
        for key, reading in found.items():
            rule = self.rules.get(reading.rule)
            if rule is None or key in self.open:
                continue
            if not rule.enabled or reading.value < rule.threshold:
                self._wrong.pop(key, None)
                continue
            self._wrong.setdefault(key, at_ms)
            yield key, reading, rule

    def _put(self, alert: Alert) -> Alert:
        self.open[alert.key] = alert
        return alert

    def _later(self, alert: Alert, reading: Reading | None, now_ms: int) -> Alert | None:
        """The alert if it is another one by now."""
        rule = self.rules.get(alert.rule)
        if rule is None or not rule.enabled or reading is None or _is_well(rule, reading):
            del self.open[alert.key]
            self._ended[alert.key] = now_ms
            return replace(alert, state=RESOLVED, until_ms=now_ms)
        if alert.silent_ms is not None and alert.silent_ms <= now_ms:
            return self._put(replace(alert, state=FIRING, silent_ms=None))
        if not reading.is_bound:
            self.open[alert.key] = replace(alert, value=reading.value, summary=_words(rule, reading))
        return None

    def acknowledge(self, alert: Alert, by: str) -> Alert:
        """Somebody is at it."""
        return self._put(replace(alert, state=ACKNOWLEDGED, by=by, silent_ms=None))

    def silence(self, alert: Alert, until_ms: int, by: str) -> Alert:
        """Nobody wants to hear of it until then."""
        return self._put(replace(alert, state=SILENCED, by=by, silent_ms=until_ms))


def _is_well(rule: Rule, reading: Reading) -> bool:
    return reading.value < rule.threshold * rule.clears and not reading.is_bound


def _fired(rule: Rule, reading: Reading, name: str, since_ms: int) -> Alert:
    return Alert(
        id=name,
        rule=rule.name,
        severity=rule.severity,
        subject=reading.subject,
        state=FIRING,
        summary=_words(rule, reading),
        value=reading.value,
        threshold=rule.threshold,
        since_ms=since_ms,
    )


def _words(rule: Rule, reading: Reading) -> str:
    return f"{rule.about}: {reading.detail}" if reading.detail else rule.about
