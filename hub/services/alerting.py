"""Keep up what is wrong: judge the readings, remember every alert, and do what people say of them.

What is open is in memory, and in the store, so that a hub that starts again neither forgets an alert nor tells it
twice. Who is told is ``notifying.py``, which reads the store's log of alerts. With several hubs on one database the
one that leads judges.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from hub.core.alerts import BY_NAME, FIRING, RESOLVED, RULES, Alarms, Alert, Reading, Rule, patched
from hub.store.alert_changes import PutAlert, PutRule
from hub.store.changes import Outcome
from hub.store.store import Store
from protocol.alerts import AlertList, AlertState, AlertView, RuleList, RulePatch, RuleView
from protocol.clock import Clock
from protocol.errors import AgentComError, NotFound, Unavailable
from protocol.events import Event, EventKind
from protocol.ids import IdMaker

log = structlog.get_logger(__name__)
LOOK_S: Final = 10.0
KEPT_MS: Final = 90 * 86_400_000
"""How long alerts that have ended are kept."""
_LAST: Final = "~"
"""Behind every id."""


Past = tuple[int, Sequence[Reading]]


async def _nothing() -> Sequence[Past]:
    return ()


class Alerting:
    """The use cases of alerts.

    Attributes:
        readings: how things stand.
        past: how they stood lately, moment by moment (Unix milliseconds), before this hub judged; ``None``: not yet.
        leads: whether this hub judges.
        is_shared: whether other hubs may change alerts, too.
    """

    def __init__(
        self, store: Store, clock: Clock, ids: IdMaker, readings: Callable[[], Awaitable[list[Reading]]]
    ) -> None:
        self._store, self._clock, self._ids, self.readings = store, clock, ids, readings
        self.leads: Callable[[], bool] = lambda: True
        self.is_shared: Callable[[], bool] = lambda: False
        self._alarms = Alarms()
        self._patches: dict[str, RulePatch] = {}
        self._unkept: dict[str, PutAlert] = {}
        self._is_loaded = self._is_judging = False
        self.past: Callable[[], Awaitable[Sequence[Past] | None]] = _nothing

    async def run(self) -> None:
        """Judge until cancelled."""
        while True:
            try:
                await self.look()
            except Unavailable as exc:
                log.warning("alerts_not_judged", why=str(exc), next=f"again in {LOOK_S:g} s")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """One round."""
        if not self._is_loaded or self.is_shared():
            await self._load()
        if not self.leads():
            self._is_judging = False
            return
        if not self._is_judging:
            if (past := await self.past()) is None:
                return  # in the next round
            for at_ms, readings in past:
                self._alarms.remember(readings, at_ms)
            self._is_judging = True
        for change in list(self._unkept.values()):
            self._post(change)
        now_ms = self._clock.now_ms()
        for alert in self._alarms.judge(await self.readings(), now_ms, self._names(now_ms)):
            self._keep(alert, is_told=True)

    def _names(self, now_ms: int) -> Iterator[str]:
        while True:
            yield self._ids.make(now_ms)

    async def _load(self) -> None:
        """What the store knows."""
        rules, kept = await self._store.alert_rules(), await self._store.open_alerts()
        self._patches = {
            name: msgspec.json.decode(body, type=RulePatch) for name, body in rules.items() if name in BY_NAME
        }
        self._alarms.rules = {rule.name: patched(rule, self._patches.get(rule.name, RulePatch())) for rule in RULES}
        unkept = {change.alert.key for change in self._unkept.values()}
        known = {alert.key: alert for alert in kept if alert.key not in unkept}
        self._alarms.open = {**known, **{key: one for key, one in self._alarms.open.items() if key in unkept}}
        self._is_loaded = True

    def _keep(self, alert: Alert, *, is_told: bool = False) -> None:
        event = None
        now_ms = self._clock.now_ms()
        if is_told and alert.state in {FIRING, RESOLVED}:
            kind = EventKind.ALERT_RESOLVED if alert.state is RESOLVED else EventKind.ALERT_FIRED
            facts = {"alert": alert.id, "rule": alert.rule, "subject": alert.subject, "severity": alert.severity.value}
            event = Event(kind=kind, at_ms=now_ms, facts=facts)
            line = log.info if alert.state is RESOLVED else log.warning
            line(
                kind.value,
                rule=alert.rule,
                subject=alert.subject,
                summary=alert.summary,
                next=BY_NAME[alert.rule].runbook,
            )
        self._post(PutAlert(alert=alert, at_ms=now_ms, before_ms=now_ms - KEPT_MS, event=event))

    def _post(self, change: PutAlert) -> None:
        self._unkept[change.alert.id] = change
        self._store.post(change, partial(self._kept, change))

    def _kept(self, change: PutAlert, outcome: Outcome) -> None:
        """A disk that is full may refuse to keep that it is: it is tried again in the next round."""
        if not isinstance(outcome, AgentComError) and self._unkept.get(change.alert.id) is change:
            del self._unkept[change.alert.id]

    # --- people -------------------------------------------------------------------------------------------------------

    @property
    def open(self) -> list[AlertView]:
        """What is wrong now, the newest first."""
        return [_view(alert) for alert in sorted(self._alarms.open.values(), key=lambda one: one.id, reverse=True)]

    async def list(self, state: AlertState | None = None, cursor: str = "", limit: int = 100) -> AlertList:
        """What is wrong, and what was: a page, the newest first, what is open before what has ended."""
        views: list[AlertView] = []
        if not cursor and state is not RESOLVED:
            views = [view for view in self.open if state in {None, view.state}]
        if state not in {None, RESOLVED}:
            return AlertList(alerts=tuple(views))
        past = await self._store.past_alerts(cursor or _LAST, limit)
        more = past[-1].id if len(past) == limit else None
        return AlertList(alerts=(*views, *map(_view, past)), next_cursor=more)

    def _open(self, alert: str) -> Alert:
        found = next((one for one in self._alarms.open.values() if one.id == alert), None)
        if found is None:
            raise NotFound("open alert", alert[:100])
        return found

    async def acknowledge(self, alert: str, by: str) -> AlertView:
        """Somebody is at it.

        Raises:
            NotFound: no alert of this id is open.
        """
        now = self._alarms.acknowledge(self._open(alert), by)
        self._keep(now)
        return _view(now)

    async def silence(self, alert: str, for_s: float, by: str) -> AlertView:
        """Nobody wants to hear of it for a while.

        Raises:
            NotFound: no alert of this id is open.
        """
        now = self._alarms.silence(self._open(alert), self._clock.now_ms() + int(for_s * 1000), by)
        self._keep(now)
        return _view(now)

    def rules(self) -> RuleList:
        """All rules, as they are now."""
        return RuleList(rules=tuple(self._rule(rule) for rule in self._alarms.rules.values()))

    def _rule(self, rule: Rule) -> RuleView:
        return RuleView(
            name=rule.name,
            about=rule.about,
            unit=rule.unit,
            severity=rule.severity,
            threshold=rule.threshold,
            for_s=rule.for_s,
            cooldown_s=rule.cooldown_s,
            enabled=rule.enabled,
            changed=rule != BY_NAME[rule.name],
            runbook=rule.runbook,
        )

    async def change_rule(self, name: str, patch: RulePatch) -> RuleView:
        """Change a rule, from the next look on and over restarts; what is ``None`` stays.

        Raises:
            NotFound: there is no such rule.
        """
        if name not in BY_NAME:
            raise NotFound("rule", name[:100])
        given = {field: getattr(patch, field) for field in patch.__struct_fields__ if getattr(patch, field) is not None}
        whole = replace(self._patches.get(name, RulePatch()), **given)
        await self._store.commit(PutRule(name, msgspec.json.encode(whole).decode()))
        self._patches[name] = whole
        self._alarms.rules[name] = patched(BY_NAME[name], whole)
        return self._rule(self._alarms.rules[name])


def _view(alert: Alert) -> AlertView:
    rule = BY_NAME.get(alert.rule)
    return AlertView(
        id=alert.id,
        rule=alert.rule,
        severity=alert.severity,
        state=alert.state,
        subject=alert.subject,
        summary=alert.summary,
        value=round(float(alert.value), 3),
        threshold=alert.threshold,
        since=_at(alert.since_ms),
        until=None if alert.until_ms is None else _at(alert.until_ms),
        runbook=rule.runbook if rule else "",
        by=alert.by,
        silent_until=None if alert.silent_ms is None else _at(alert.silent_ms),
    )


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
