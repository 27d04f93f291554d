"""The verbs of alerts; the rules of verbs are those of ``verbs.py``."""

from hub.store import alert_changes as a
from hub.store.batches import Statements
from hub.store.key_verbs import KeyVerbs
from protocol.alerts import AlertState
from protocol.errors import NotFound


class AlertVerbs(KeyVerbs):
    """The verbs of alerts, by the changes that ask for them."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs |= {
            a.PutAlert: self._put_alert,
            a.PutRule: self._put_rule,
            a.PutNotifier: self._put_notifier,
            a.RemoveNotifier: self._remove_notifier,
        }

    async def _put_alert(self, change: a.PutAlert) -> None:
        alert = change.alert
        await self._run(
            "put_alert",
            alert.id,
            alert.rule,
            alert.severity,
            alert.subject,
            alert.state,
            alert.summary,
            alert.value,
            alert.threshold,
            alert.since_ms,
            alert.until_ms,
            alert.by,
            alert.silent_ms,
        )
        if change.event is not None:
            what = "resolved" if alert.state is AlertState.RESOLVED else "firing"
            await self._run("add_alert_log", alert.id, what, change.at_ms)
            self._note(change.event)
        await self._run("forget_alert_log", change.before_ms)
        await self._run("forget_alerts", change.before_ms)

    async def _put_rule(self, change: a.PutRule) -> None:
        await self._run("put_rule", change.name, change.body)

    async def _put_notifier(self, change: a.PutNotifier) -> None:
        row, told = change.row, change.row.told
        if change.known is not None:
            await self._check_keys(change.known)
        if change.is_new:
            ((newest,),) = await self._rows("newest_alert_log")
            told = newest or 0
        values = (
            row.id,
            row.kind,
            row.url,
            row.secret,
            row.label,
            row.least,
            told,
            row.tries,
            row.next_ms,
            row.problem,
        )
        if change.is_new:
            await self._run("add_notifier", *values)
        else:
            await self._run("mark_notifier", row.id, told, row.tries, row.next_ms, row.problem)

    async def _remove_notifier(self, change: a.RemoveNotifier) -> None:
        if not await self._changed("remove_notifier", change.id):
            raise NotFound("notifier", change.id)
