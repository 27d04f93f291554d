"""Alerts end to end: a hub with scenes that go wrong, judged by its own parts, told over HTTP to a real server."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from hub.core.alerts import Reading
from hub.notices import SIGNATURE, TIME, Notices
from hub.services.alerting import Alerting
from hub.services.notifying import FIRST_S, Notifying
from hub.services.push_key import PushKey
from hub.store.sqlite import SqliteStore
from hub.vault import Vault
from protocol.alerts import NotifierBody, RulePatch, Severity
from protocol.clock import Clock
from protocol.ids import IdMaker
from tests.support.pager import Pager, pager_at_work
from tests.support.running_hub import RunningHub, running_hub


@pytest.fixture
async def pager() -> AsyncIterator[Pager]:
    async with pager_at_work() as made:
        yield made


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


class Hand(Clock):
    ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


class Desk:
    """The parts that judge and tell, on a store of their own, with time by hand."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.clock, self.readings, self.vault = store, Hand(), list[Reading](), Vault()
        self.again()

    def again(self) -> None:
        """The hub dies and starts again."""
        ids = IdMaker(Random(self.clock.ms).getrandbits)
        self.alerting = Alerting(self.store, self.clock, ids, self._take)
        self.key = PushKey(self.store, self.clock, self.vault)
        notices = Notices(self.clock, self.key.key, "https://hub.example.org")
        self.notifying = Notifying(self.store, self.clock, ids, notices, self.vault)

    async def _take(self) -> list[Reading]:
        return self.readings

    async def after(self, seconds: float, *readings: Reading) -> None:
        self.clock.ms += int(seconds * 1000)
        self.readings = list(readings)
        await self.alerting.look()
        await self.alerting.change_rule("host_hot", RulePatch())  # what was posted before it is written by now
        await self.notifying.look()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    yield Desk(store)
    await store.close()


FULL, WELL = Reading("hub_disk", "", 1, "9 MiB free"), Reading("hub_disk", "", 0)


async def test_an_alert_is_told_once_signed_and_so_is_its_end(desk: Desk, pager: Pager) -> None:
    await desk.notifying.add(NotifierBody(url=f"{pager.url}/hook", secret="s3cret"))
    for readings in ([FULL], [FULL], [WELL], [WELL]):
        await desk.after(10, *readings)

    assert [event["event"] for event in pager.events] == ["firing", "resolved"]
    assert pager.events[0]["runbook"].endswith("#hub_disk")
    assert "9 MiB free" in pager.events[0]["summary"]
    headers, body = pager.got[0]
    signed = hmac.new(b"s3cret", headers[TIME].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers[SIGNATURE] == f"sha256={signed}"


async def test_what_did_not_arrive_is_told_in_order_by_a_hub_that_was_restarted(desk: Desk, pager: Pager) -> None:
    await desk.notifying.add(NotifierBody(url=pager.url))
    pager.status = 503
    await desk.after(10, FULL)
    await desk.after(FIRST_S / 2, WELL)
    [row] = (await desk.notifying.list()).notifiers
    assert (row.tries, row.problem, pager.got) == (1, "it answered 503", [])

    desk.again()
    pager.status = 200
    await desk.after(FIRST_S)
    assert [event["event"] for event in pager.events] == ["firing", "resolved"]
    [row] = (await desk.notifying.list()).notifiers
    assert (row.tries, row.problem) == (0, "")


async def test_a_redirect_is_not_followed_and_what_is_less_bad_is_not_told(desk: Desk, pager: Pager) -> None:
    await desk.notifying.add(NotifierBody(url=pager.url, least=Severity.CRITICAL))
    pager.status = 302
    await desk.after(10, FULL, Reading("hub_lost", "7", 1))
    [row] = (await desk.notifying.list()).notifiers
    assert row.problem == "it answered 302"

    pager.status = 200
    await desk.after(FIRST_S, FULL)
    assert [event["rule"] for event in pager.events] == ["hub_disk"]


async def test_a_hub_that_was_restarted_tells_no_open_alert_again_and_keeps_rules_and_silence(
    desk: Desk, pager: Pager
) -> None:
    await desk.notifying.add(NotifierBody(url=pager.url))
    await desk.after(10, FULL)
    [alert] = desk.alerting.open
    await desk.alerting.silence(alert.id, 3_600, "me")
    await desk.alerting.change_rule("agent_lost", RulePatch(threshold=5))
    desk.again()
    await desk.after(10, FULL)

    [again] = desk.alerting.open
    assert (again.id, again.state, again.by) == (alert.id, "silenced", "me")
    assert [rule.threshold for rule in desk.alerting.rules().rules if rule.changed and rule.name == "agent_lost"] == [5]
    assert len(pager.got) == 1
    await desk.after(10)
    listed = await desk.alerting.list()
    assert [(one.id, one.state) for one in listed.alerts] == [(alert.id, "resolved")]


# --- over HTTP --------------------------------------------------------------------------------------------------------


async def test_rules_are_changed_over_http_and_bad_ones_refused_by_name(hub: RunningHub) -> None:
    changed = await hub.ask("PATCH", "/api/v1/alerts/rules/host_hot", json={"threshold": 75.5})
    assert (await changed.json())["changed"] is True
    told = {rule["name"]: rule for rule in (await (await hub.ask("GET", "/api/v1/alerts/rules")).json())["rules"]}
    assert (told["host_hot"]["threshold"], told["host_ram"]["changed"]) == (75.5, False)

    for name, body, status in (
        ("host_hot", {"threshold": -1}, 422),
        ("host_hot", {"treshold": 1}, 422),
        ("no_rule", {"threshold": 1}, 404),
    ):
        assert (await hub.ask("PATCH", f"/api/v1/alerts/rules/{name}", json=body)).status == status
    assert (await hub.ask("PATCH", "/api/v1/alerts/rules/host_hot", role="viewer", json={"threshold": 1})).status == 403


async def test_an_alert_is_listed_acknowledged_and_silenced_over_http(hub: RunningHub) -> None:
    assert await (await hub.ask("GET", "/api/v1/alerts", role="viewer")).json() == {"alerts": [], "next_cursor": None}
    assert (await hub.ask("GET", "/api/v1/alerts?state=broken")).status == 422
    assert (await hub.ask("POST", "/api/v1/alerts/none/acknowledge")).status == 404
    assert (await hub.ask("POST", "/api/v1/alerts/none/silence", json={"for_s": -1})).status == 422


async def test_who_is_told_is_added_tested_and_removed_and_no_secret_is_shown(hub: RunningHub, pager: Pager) -> None:
    body = {"url": f"{pager.url}/hook/t0ken", "secret": "s3cret", "label": "pager"}
    made = await (await hub.ask("POST", "/api/v1/notifiers", json=body)).json()
    assert (made["url"], made["is_signed"]) == (f"{pager.url}/...", True)
    assert "s3cret" not in json.dumps(made)

    tested = await hub.ask("POST", f"/api/v1/notifiers/{made['id']}/test")
    assert await tested.json() == {"delivered": True, "problem": ""}
    assert pager.events[0]["event"] == "test"
    pager.status = 500
    tested = await hub.ask("POST", f"/api/v1/notifiers/{made['id']}/test")
    assert await tested.json() == {"delivered": False, "problem": "it answered 500"}

    assert (await hub.ask("DELETE", f"/api/v1/notifiers/{made['id']}")).status == 204
    assert (await hub.ask("DELETE", f"/api/v1/notifiers/{made['id']}")).status == 404


async def test_an_answer_that_is_no_http_gives_away_neither_the_address_nor_what_was_said(desk: Desk) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"-ERR inner words\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        made = await desk.notifying.add(NotifierBody(url=f"http://127.0.0.1:{port}/services/t0ken"))
        tested = await desk.notifying.test(made.id)
    assert not tested.delivered
    assert "no HTTP" in tested.problem
    assert "t0ken" not in tested.problem
    assert "inner" not in tested.problem


@pytest.mark.parametrize("host", ["a..b", ".example.org", "a" * 64])
async def test_a_host_that_is_no_name_ends_no_more_than_its_own_notices(desk: Desk, pager: Pager, host: str) -> None:
    await desk.notifying.add(NotifierBody(url=f"https://{host}/t0ken", label="nobody"))
    await desk.notifying.add(NotifierBody(url=pager.url))
    await desk.after(10, FULL)

    assert [event["event"] for event in pager.events] == ["firing"]
    [nobody] = [one for one in (await desk.notifying.list()).notifiers if one.label == "nobody"]
    assert (nobody.tries, nobody.problem) == (1, "its host is no name that could be looked up")


async def test_who_changes_rules_and_who_is_told_stands_in_the_audit_log(hub: RunningHub) -> None:
    await hub.ask("PATCH", "/api/v1/alerts/rules/agent_lost", role="operator", json={"enabled": False})
    body = {"url": "http://127.0.0.1:9/t0ken", "secret": "s3cret"}
    made = await (await hub.ask("POST", "/api/v1/notifiers", role="operator", json=body)).json()
    await hub.ask("DELETE", f"/api/v1/notifiers/{made['id']}", role="operator")
    assert (await hub.ask("POST", "/api/v1/tasks", json={"title": "shares the next commit"})).status == 201
    found = (await (await hub.ask("GET", "/api/v1/audit")).json())["entries"]
    told = {(e["action"], e["subject"], e["role"]): e["detail"] for e in found}
    assert told["alert_rule.change", "agent_lost", "operator"] == {"enabled": False}
    assert {("notifier.add", made["id"], "operator"), ("notifier.remove", made["id"], "operator")} <= set(told)
    assert "t0ken" not in json.dumps(found)
    assert "s3cret" not in json.dumps(found)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://[::ffff:169.254.169.254]/",
        "ftp://example.org",
        "file:///etc/passwd",
        "pager",
    ],
)
async def test_nobody_is_told_at_an_address_that_is_none(hub: RunningHub, url: str) -> None:
    assert (await hub.ask("POST", "/api/v1/notifiers", json={"url": url})).status == 422
