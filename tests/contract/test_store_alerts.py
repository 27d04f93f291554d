"""The promises of alerts that are kept, by every store."""

import pytest
from msgspec.structs import replace

from hub.core.alerts import RESOLVED, Alert
from hub.store.alert_changes import NotifierRow, PutAlert, PutNotifier, PutRule, RemoveNotifier
from protocol.alerts import AlertState, Severity
from protocol.errors import NotFound
from protocol.events import Event, EventKind
from tests.support.stores import Rows

FIRED = Event(kind=EventKind.ALERT_FIRED, at_ms=1)


def alert(number: int) -> Alert:
    return Alert(
        id=f"{number:03}",
        rule="hub_disk",
        severity=Severity.CRITICAL,
        subject="",
        state=AlertState.FIRING,
        summary="full",
        value=1.0,
        threshold=1.0,
        since_ms=number,
    )


async def put(rows: Rows, one: Alert, at_ms: int = 1, before_ms: int = 0, event: Event | None = FIRED) -> None:
    await rows.store.commit(PutAlert(alert=one, at_ms=at_ms, before_ms=before_ms, event=event))


async def test_what_is_open_and_what_was_is_told_and_old_ones_are_forgotten(rows: Rows) -> None:
    ended = [replace(alert(number), state=RESOLVED, until_ms=number * 10) for number in range(1, 4)]
    for one in (*(alert(number) for number in range(1, 5)), *ended):
        await put(rows, one)

    assert await rows.store.open_alerts() == [alert(4)]
    assert await rows.store.past_alerts("~", 2) == [ended[2], ended[1]]
    assert await rows.store.past_alerts("002", 2) == [ended[0]]
    log = await rows.store.alert_log(0, 5)
    told = [(entry.what, entry.alert.id) for entry in log]
    assert told == [*(("firing", f"{number:03}") for number in range(1, 5)), ("resolved", "001")]

    await put(rows, alert(5), before_ms=25)
    assert [one.id for one in await rows.store.past_alerts("~", 9)] == ["003"]


async def test_who_is_told_begins_at_the_end_of_the_log_and_is_remembered(rows: Rows) -> None:
    await put(rows, alert(1))
    row = NotifierRow(id="n", kind="webhook", url="http://x", secret="s", label="", least=Severity.INFO)
    await rows.store.commit(PutNotifier(row, is_new=True))
    [kept] = await rows.store.notifiers()
    assert await rows.store.alert_log(kept.told, 9) == []

    await put(rows, alert(2))
    [entry] = await rows.store.alert_log(kept.told, 9)
    assert (entry.what, entry.alert) == ("firing", alert(2))
    await rows.store.commit(PutNotifier(replace(kept, told=entry.seq, tries=3, problem="away")))
    assert (await rows.store.notifiers())[0].tries == 3
    await rows.store.commit(RemoveNotifier("n"))
    with pytest.raises(NotFound):
        await rows.store.commit(RemoveNotifier("n"))


async def test_what_people_want_of_rules_is_kept(rows: Rows) -> None:
    await rows.store.commit(PutRule("a", "{}"))
    await rows.store.commit(PutRule("a", '{"threshold":2.0}'))

    assert await rows.store.alert_rules() == {"a": '{"threshold":2.0}'}
