"""Alerts in a browser: the switch, what it says where it cannot work, and what is shown and opened when one comes.

Whoever subscribes needs the push service of the browser's maker, which is not here: so the browser is handed a message
as its service would hand it, and the switch is followed to the service's refusal.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import HOSTILE, PATIENCE_MS, Site
from tests.support.mesh import until

expect.set_options(timeout=PATIENCE_MS)
ALERT = "01hf7yb3rgczgn8eknasxeq94j"
ASKED_AFTER_MS = 500
REGISTER = """async () => {
    const made = await navigator.serviceWorker.register('dashboard/push.js');
    while (made.active?.state !== 'activated') await new Promise((again) => setTimeout(again, 20));
    return made.scope;
}"""
UNREGISTER = """async () => {
    for (const one of await navigator.serviceWorker.getRegistrations()) {
        for (const shown of await one.getNotifications()) shown.close();  // a registration may come back with them
        await one.unregister();
    }
}"""
SHOWN = """async () => (await (await navigator.serviceWorker.getRegistration('dashboard/')).getNotifications())
    .map(({ title, body, data, tag }) => ({ title, body, data, tag }))"""


class Worker:
    """The service worker of a page, which messages are handed to as its push service does."""

    def __init__(self, page: Page, origin: str) -> None:
        self._page, self._origin = page, origin
        self._tool = page.context.new_cdp_session(page)
        self._tool.on("ServiceWorker.workerRegistrationUpdated", self._updated)
        self._registrations = dict[str, str]()
        self._tool.send("ServiceWorker.enable")
        self.scope = str(page.evaluate(REGISTER))

    def _updated(self, event: dict[str, Any]) -> None:
        self._registrations |= {each["scopeURL"]: each["registrationId"] for each in event["registrations"]}

    def deliver(self, text: str) -> None:
        """Hand it a message."""
        until(lambda: self._page.evaluate("1") and self._registrations.get(self.scope), "the worker to be known")
        name = self._registrations[self.scope]
        told = {"origin": self._origin, "registrationId": name, "data": text}
        self._tool.send("ServiceWorker.deliverPushMessage", told)
        # Of those that were asked for at once some never came: it seems that Chromium forgets one that is noted and not
        # shown yet when somebody asks. Nothing tells that it is shown, so nobody asks for a while.
        self._page.wait_for_timeout(ASKED_AFTER_MS)

    def shown(self, title: str) -> dict[str, Any]:
        """The notification of this title, once it is there."""
        found = list[dict[str, Any]]()

        def look() -> bool:
            found[:] = [one for one in self._page.evaluate(SHOWN) if one["title"] == title]
            return bool(found)

        until(look, f"a notification {title!r}")
        [one] = found
        return one

    def many(self) -> int:
        """Notifications that are shown."""
        return len(self._page.evaluate(SHOWN))


@pytest.fixture
def page(site: Site) -> Iterator[Page]:
    page = site.open("alerts/notifiers")
    page.context.grant_permissions(["notifications"], origin=site.mesh.url)
    yield page
    page.evaluate(UNREGISTER)


def test_an_alert_that_comes_is_shown_and_its_end_takes_its_place(site: Site, page: Page) -> None:
    worker = Worker(page, site.mesh.url)
    fired = {"event": "firing", "alert": ALERT, "title": "critical: hub_disk firing", "body": "9 MiB free"}
    worker.deliver(json.dumps(fired))
    one = worker.shown(fired["title"])
    ended = fired | {"event": "resolved", "title": "critical: hub_disk resolved"}
    worker.deliver(json.dumps(ended))
    worker.shown(ended["title"])

    assert worker.scope == f"{site.mesh.url}/dashboard/"
    assert one == {
        "title": fired["title"], "body": "9 MiB free", "tag": ALERT, "data": f"{site.mesh.url}/#/alerts?alert={ALERT}",
    }  # fmt: skip
    assert worker.many() == 1


@pytest.mark.parametrize(
    "text", ["", "no JSON", "null", "7", json.dumps({"title": HOSTILE[0], "alert": "../../x?y#z"})]
)
def test_whatever_comes_something_is_shown_and_it_leads_nowhere_else(site: Site, page: Page, text: str) -> None:
    worker = Worker(page, site.mesh.url)
    worker.deliver(text)
    one = worker.shown(HOSTILE[0] if "title" in text else "AgentCom")

    assert one["data"] == f"{site.mesh.url}/#/alerts"
    assert page.evaluate("window.ran") is None


def test_whoever_clicks_it_sees_the_alert_also_when_it_has_ended(site: Site, page: Page) -> None:
    call = site.mesh.call
    call("PATCH", "/api/v1/alerts/rules/no_agent_for_tier", {"for_s": 0})
    until(lambda: [one for one in call("GET", "/api/v1/alerts")["alerts"] if one["state"] == "firing"], "an alert")
    [alert, *_] = [one for one in call("GET", "/api/v1/alerts")["alerts"] if one["state"] == "firing"]
    worker = Worker(page, site.mesh.url)
    worker.deliver(json.dumps({"event": "firing", "alert": alert["id"], "title": "t", "body": "b"}))
    address = worker.shown("t")["data"]
    page.goto(address)
    here = page.locator(".alert.here")
    expect(here).to_contain_text(alert["rule"])
    assert page.locator(".alert.here").count() == 1


def test_the_switch_asks_only_when_pressed_and_says_what_the_push_service_says(site: Site, page: Page) -> None:
    switch = page.get_by_role("switch", name="Tell me in this browser")
    expect(switch).not_to_be_checked()
    assert page.evaluate("navigator.serviceWorker.getRegistrations().then((all) => all.length)") == 0
    asked = len([address for address in site.asked if "browsers" in address])

    switch.click()
    expect(page.get_by_role("alert")).to_contain_text(re.compile("Registration failed|push service", re.IGNORECASE))
    expect(switch).not_to_be_checked()
    assert len([address for address in site.asked if "browsers/key" in address]) == asked + 1
    assert site.mesh.call("GET", "/api/v1/notifiers")["notifiers"] == []


def test_a_browser_that_may_not_or_cannot_says_so_and_offers_nothing(site: Site) -> None:
    page = site.open("alerts/notifiers")
    page.context.clear_permissions()
    page.get_by_role("switch").wait_for()
    told = page.evaluate("Notification.permission")
    if told == "denied":
        expect(page.get_by_role("switch")).to_be_disabled()
        expect(page.get_by_role("main")).to_contain_text("settings for this site")
    viewer = site.open("alerts/notifiers", role="viewer")
    viewer.get_by_role("heading", name="Alerts").wait_for()
    assert viewer.get_by_role("switch").count() == 0
    bare = site.blank()
    bare.add_init_script("delete window.PushManager;")
    bare.context.add_cookies(page.context.cookies())
    bare.goto(f"{site.mesh.url}/#/alerts/notifiers")
    expect(bare.get_by_role("main")).to_contain_text("takes no notifications")
    expect(bare.get_by_role("switch")).to_be_disabled()
