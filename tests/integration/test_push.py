"""Alerts for browsers: a real hub tells a real push service, and a browser reads what comes."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.core.alerts import Reading
from hub.pushes import LONGEST_S, wait_s
from hub.services.notifying import FIRST_S, MOST_NOTIFIERS
from hub.services.push_key import NAME, PushKey
from hub.store.sqlite import SqliteStore
from protocol.alerts import BrowserBody, BrowserKeys
from tests.integration.test_web_alerts import FULL, WELL, Desk
from tests.support.push_service import Browser, PushService, push_service
from tests.support.running_hub import RunningHub, running_hub

BROWSERS = "/api/v1/notifiers/browsers"


@pytest.fixture
async def service() -> AsyncIterator[PushService]:
    async with push_service() as made:
        yield made


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    yield Desk(store)
    await store.close()


async def subscribe(desk: Desk, service: PushService, label: str = "mine") -> Browser:
    browser = Browser(service.url)
    service.key = (await desk.key.told()).key
    told = browser.body()
    await desk.notifying.subscribe(
        BrowserBody(endpoint=told["endpoint"], keys=BrowserKeys(**told["keys"]), label=label)
    )
    return browser


def read(service: PushService, browser: Browser) -> list[dict[str, Any]]:
    return [browser.read(body) for path, _, body in service.taken if path == browser.path]


async def listed(hub: RunningHub) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await (await hub.ask("GET", "/api/v1/notifiers")).json())["notifiers"]
    return found


async def test_a_browser_reads_that_an_alert_fires_and_that_it_ends(desk: Desk, service: PushService) -> None:
    browser = await subscribe(desk, service)
    await desk.after(10, FULL)
    [alert] = desk.alerting.open
    await desk.after(10, WELL)

    fired, ended = read(service, browser)
    assert (fired["title"], fired["event"], fired["alert"]) == ("critical: hub_disk firing", "firing", alert.id)
    assert "9 MiB free" in fired["body"]
    assert (ended["event"], ended["alert"]) == ("resolved", alert.id)
    [(_, first, _), (_, second, _)] = service.taken
    assert (first["Urgency"], first["TTL"]) == ("high", "86400")
    assert first["Topic"] == second["Topic"], "a browser that was off hears the newest alone"
    assert service.refused == []


async def test_words_of_others_are_shortened_and_arrive_as_they_are(desk: Desk, service: PushService) -> None:
    browser = await subscribe(desk, service)
    words = "<img src=x onerror=alert(1)>\u202e\0" + "\1" * 4_000
    await desk.after(10, Reading("hub_disk", words, 1, words))

    [told] = read(service, browser)
    assert told["title"].startswith("critical: hub_disk")
    assert len(told["body"]) == 400
    assert "<img src=x onerror=alert(1)>\u202e\0" in told["body"]


@pytest.mark.parametrize("status", [404, 410])
async def test_a_browser_that_has_ended_its_subscription_is_taken_out_and_that_is_told(
    desk: Desk, service: PushService, status: int
) -> None:
    gone, told = await subscribe(desk, service, "gone"), []
    desk.notifying.on_gone = lambda who, why: told.append((who.label, who.browser, why))
    service.status = status
    await desk.after(10, FULL)

    assert (await desk.notifying.list()).notifiers == ()
    [(label, mark, why)] = told
    assert (label, len(mark), str(status) in why) == ("gone", 16, True)
    assert gone.path not in why


async def test_a_service_that_wants_time_gets_it(desk: Desk, service: PushService) -> None:
    browser = await subscribe(desk, service)
    service.status, service.retry_after = 429, "120"
    await desk.after(10, FULL)
    [row] = (await desk.notifying.list()).notifiers
    assert (row.tries, row.problem) == (1, "its push service answered 429")

    service.status = 201
    await desk.after(FIRST_S * 4, FULL)
    assert read(service, browser) == []
    await desk.after(120 - FIRST_S * 4, FULL)
    assert [one["event"] for one in read(service, browser)] == ["firing"]


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("7", 7),
        ("999999999999999999999", LONGEST_S),
        ("Thu, 01 Jan 1970 00:20:00 GMT", 200),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        ("\u0663", 0),
        ("Thu, 99 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 01 Jan 99999999999999999999 00:00:00 GMT", 0),
    ],
)
def test_a_retry_after_is_seconds_or_a_date_and_bounded(text: str, seconds: float) -> None:
    assert wait_s(text, 1_000) == seconds


async def test_what_the_service_does_not_take_is_said_in_words(desk: Desk, service: PushService) -> None:
    await subscribe(desk, service)
    service.key = "another"
    [row] = (await desk.notifying.list()).notifiers
    tested = await desk.notifying.test(row.id)

    assert not tested.delivered
    assert tested.problem == "its push service takes nothing from this hub (403): turn it off and on there again"


async def test_hubs_of_one_store_have_one_key_and_whoever_removes_it_gets_another(desk: Desk) -> None:
    other = PushKey(desk.store, desk.clock, desk.vault)
    first, second = await asyncio.gather(desk.key.told(), other.told())
    assert first.key == second.key
    desk.again()
    assert (await desk.key.told()).key == first.key
    row = await desk.store.secret(NAME)
    assert row is not None
    assert b"-" not in row.sealed[:9]
    assert row.key == desk.vault.current


# --- over HTTP --------------------------------------------------------------------------------------------------------


async def test_a_browser_is_told_tested_known_again_and_removed_over_http(
    hub: RunningHub, service: PushService, tmp_path: Path
) -> None:
    service.key = (await (await hub.ask("GET", f"{BROWSERS}/key", role="operator")).json())["key"]
    browser = Browser(service.url)
    made = await hub.ask("POST", BROWSERS, role="operator", json=browser.body(label="the desk"))
    view = await made.json()
    assert (made.status, view["kind"], view["url"]) == (201, "browser", f"{service.url}/...")
    again = await (await hub.ask("POST", BROWSERS, json=browser.body(label="the desk"))).json()
    assert again["browser"] == view["browser"]
    assert [row["id"] for row in await listed(hub)] == [again["id"]]

    tested = await hub.ask("POST", f"/api/v1/notifiers/{again['id']}/test")
    assert await tested.json() == {"delivered": True, "problem": ""}
    assert read(service, browser)[0]["title"] == "AgentCom: a test"
    secrets = (await (await hub.ask("GET", "/api/v1/secrets")).json())["secrets"]
    assert [row["name"] for row in secrets] == [NAME]
    spoils = [file for file in tmp_path.rglob("*") if file.is_file() and browser.path.encode() in file.read_bytes()]
    assert spoils == []

    service.status = 410
    tested = await hub.ask("POST", f"/api/v1/notifiers/{again['id']}/test")
    assert not (await tested.json())["delivered"]
    assert await listed(hub) == []
    await hub.ask("POST", "/api/v1/tasks", json={"title": "shares the next commit"})
    entries = (await (await hub.ask("GET", "/api/v1/audit")).json())["entries"]
    assert [one["subject"] for one in entries if one["action"] == "notifier.gone"] == [again["id"]]
    assert browser.path not in str(entries)


async def test_an_exchange_of_keys_leaves_browsers_and_the_key_that_they_know(
    hub: RunningHub, service: PushService
) -> None:
    service.key = (await (await hub.ask("GET", f"{BROWSERS}/key")).json())["key"]
    browser = Browser(service.url)
    made = await (await hub.ask("POST", BROWSERS, json=browser.body())).json()
    rotated = await (await hub.ask("POST", "/api/v1/keystore/rotate")).json()
    assert rotated["sealed"] == 2

    tested = await hub.ask("POST", f"/api/v1/notifiers/{made['id']}/test")
    assert (await tested.json())["delivered"]
    assert (await hub.ask("DELETE", f"/api/v1/secrets/{NAME}")).status == 204
    assert (await (await hub.ask("GET", f"{BROWSERS}/key")).json())["key"] != service.key
    task = {"title": "x", "secrets": [{"name": NAME}]}
    assert (await hub.ask("POST", "/api/v1/tasks", json=task)).status == 422


async def test_nobody_subscribes_a_browser_that_is_none_or_may_not(hub: RunningHub, service: PushService) -> None:
    body = Browser(service.url).body()
    for role in ("viewer", "submitter", "agent"):
        assert (await hub.ask("GET", f"{BROWSERS}/key", role=role)).status == 403
        assert (await hub.ask("POST", BROWSERS, role=role, json=body)).status == 403
    for endpoint in (
        "http://push.example.net/x",
        "https://169.254.169.254/x",
        "https://[::ffff:169.254.169.254]/x",
        "ftp://push.example.net/x",
        "https://push.example.net:99999/x",
        "x",
    ):
        answer = await hub.ask("POST", BROWSERS, json=body | {"endpoint": endpoint})
        assert answer.status == 422, endpoint
        assert [each["path"] for each in (await answer.json())["errors"]] == ["endpoint"]
    answer = await hub.ask("POST", BROWSERS, json=body | {"endpoint": "x", "keys": {"p256dh": "x", "auth": "x"}})
    assert [each["path"] for each in (await answer.json())["errors"]] == ["endpoint", "keys.p256dh", "keys.auth"]
    assert (await hub.ask("POST", BROWSERS, json={"endpoint": "https://push.example.net/x"})).status == 422


async def test_so_many_browsers_are_told_and_no_more(hub: RunningHub, service: PushService) -> None:
    first = Browser(service.url).body()
    await hub.ask("POST", BROWSERS, json=first)
    for _ in range(MOST_NOTIFIERS - 1):
        assert (await hub.ask("POST", BROWSERS, json=Browser(service.url).body())).status == 201
    assert (await hub.ask("POST", BROWSERS, json=Browser(service.url).body())).status == 422
    assert (await hub.ask("POST", BROWSERS, json=first)).status == 201, "it is there already"
    assert len(await listed(hub)) == MOST_NOTIFIERS
