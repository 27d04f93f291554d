"""What the client asks about alerts and who is told: a part of :class:`agentcom.aio.AsyncClient`."""

from urllib.parse import quote

from agentcom.asking import Asking
from agentcom.calls import given
from protocol.alerts import (
    AlertList,
    AlertView,
    NotifierBody,
    NotifierList,
    NotifierTested,
    NotifierView,
    RuleList,
    RulePatch,
    RuleView,
    SilenceBody,
)
from protocol.api import PREFIX


class AlertCalls(Asking):
    """What is wrong, when it counts as wrong, and who is told."""

    async def alerts(self, state: str = "", *, cursor: str = "", limit: int = 100) -> AlertList:
        """What is wrong, and a page of what was; ``state``: only those that stand so."""
        return await self._get("/alerts", AlertList, {"state": state, "cursor": cursor, "limit": limit})

    async def acknowledge_alert(self, alert: str) -> AlertView:
        """Say that somebody is at it."""
        return await self._post(f"/alerts/{quote(alert, safe='')}/acknowledge", AlertView, is_repeatable=True)

    async def silence_alert(self, alert: str, for_s: float) -> AlertView:
        """Hear nothing of it for so many seconds."""
        path = f"/alerts/{quote(alert, safe='')}/silence"
        return await self._post(path, AlertView, SilenceBody(for_s=for_s), is_repeatable=True)

    async def alert_rules(self) -> RuleList:
        """All rules, as they are now."""
        return await self._get("/alerts/rules", RuleList)

    async def change_alert_rule(self, rule: str, patch: RulePatch) -> RuleView:
        """Change a rule; what is ``None`` stays."""
        path = f"{PREFIX}/alerts/rules/{quote(rule, safe='')}"
        return await self._transport.call("PATCH", path, RuleView, body=given(patch), is_repeatable=True)

    async def notifiers(self) -> NotifierList:
        """Who is told."""
        return await self._get("/notifiers", NotifierList)

    async def add_notifier(self, body: NotifierBody) -> NotifierView:
        """Tell somebody, from now on."""
        return await self._post("/notifiers", NotifierView, body)

    async def remove_notifier(self, notifier: str) -> None:
        """Tell somebody no more."""
        await self._transport.call("DELETE", f"{PREFIX}/notifiers/{quote(notifier, safe='')}", type(None))

    async def test_notifier(self, notifier: str) -> NotifierTested:
        """Send a message that says it is a test, now."""
        return await self._post(f"/notifiers/{quote(notifier, safe='')}/test", NotifierTested)
