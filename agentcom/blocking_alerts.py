"""What the blocking client asks about alerts and who is told; see :class:`agentcom.client.Client`."""

from agentcom.blocking import Blocking
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
)


class BlockingAlerts(Blocking):
    """What is wrong, when it counts as wrong, and who is told."""

    def alerts(self, state: str = "", *, cursor: str = "", limit: int = 100) -> AlertList:
        """What is wrong, and a page of what was; ``state``: only those that stand so."""
        return self._run(self._client.alerts(state, cursor=cursor, limit=limit))

    def acknowledge_alert(self, alert: str) -> AlertView:
        """Say that somebody is at it."""
        return self._run(self._client.acknowledge_alert(alert))

    def silence_alert(self, alert: str, for_s: float) -> AlertView:
        """Hear nothing of it for so many seconds."""
        return self._run(self._client.silence_alert(alert, for_s))

    def alert_rules(self) -> RuleList:
        """All rules, as they are now."""
        return self._run(self._client.alert_rules())

    def change_alert_rule(self, rule: str, patch: RulePatch) -> RuleView:
        """Change a rule; what is ``None`` stays."""
        return self._run(self._client.change_alert_rule(rule, patch))

    def notifiers(self) -> NotifierList:
        """Who is told."""
        return self._run(self._client.notifiers())

    def add_notifier(self, body: NotifierBody) -> NotifierView:
        """Tell somebody, from now on."""
        return self._run(self._client.add_notifier(body))

    def remove_notifier(self, notifier: str) -> None:
        """Tell somebody no more."""
        self._run(self._client.remove_notifier(notifier))

    def test_notifier(self, notifier: str) -> NotifierTested:
        """Send a message that says it is a test, now."""
        return self._run(self._client.test_notifier(notifier))
