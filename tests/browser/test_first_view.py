"""What the page asks the hub for at first; while nothing happens or something is wrong it asks for nothing more."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.pages import PATIENCE_MS, Site
from tests.support.mesh import Mesh
from tests.support.path_proxy import path_proxy

expect.set_options(timeout=PATIENCE_MS)
RULE: Final = "/api/v1/alerts/rules/no_agent_for_tier"
FIRST_VIEW: Final = sorted(
    [
        *("/", "/api/v1/metrics", "/dashboard/live"),
        *(f"/dashboard/{name}" for name in ("app.js", "store.js", "style.css", "ui.js", "views/overview.js")),
        *(f"/dashboard/vendor/{name}.mjs" for name in ("hooks", "htm", "preact", "signals", "signals-core")),
    ]
)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A hub of its own: what other tests have broken would be shown here."""
    mesh = Mesh(tmp_path_factory.mktemp("first"))
    try:
        mesh.start_hub()
        mesh.start_sidecar("One")
        mesh.wait_agents("One")
        mesh.submit(title="nobody can", command="true", needs=["nobody"])
        yield mesh
    finally:
        mesh.stop()


def requests(site: Site) -> list[str]:
    """Everything that was asked for, by name; but the link that logs in."""
    assert all(address.startswith(site.mesh.url) for address in site.asked)
    assert "/?ticket=" in site.asked[0]
    return sorted(urlsplit(address).path for address in site.asked[1:])


def icon_of(page: Page) -> str:
    """The picture of the tab: all of it is in its address."""
    told = str(page.locator("#icon").get_attribute("href"))
    assert told.startswith("data:image/svg+xml,")
    return told


def test_the_first_view_is_few_small_requests_and_then_silence_also_when_an_alert_comes_and_goes(site: Site) -> None:
    early, late = site, site.like()
    page = early.open()
    page.wait_for_selector("main .plot svg, main .plot .none")
    expect(page).to_have_title("Overview · AgentCom")
    calm = icon_of(page)
    site.mesh.call("PATCH", RULE, {"for_s": 0})
    expect(page).to_have_title("! (1) Overview · AgentCom")
    wrong = icon_of(page)
    try:
        other = late.open()
        other.wait_for_selector("main .plot svg, main .plot .none")
        expect(other).to_have_title("! (1) Overview · AgentCom")
        heap = page.evaluate("performance.memory.usedJSHeapSize")
        site.mesh.call("PATCH", RULE, {"enabled": False})
        for each in (page, other):
            expect(each).to_have_title("Overview · AgentCom")
            each.wait_for_timeout(1_500)
        asked = [requests(early), requests(late)]
    finally:
        late.close()

    assert asked == [FIRST_VIEW, FIRST_VIEW]
    assert icon_of(page) == calm != wrong
    assert heap < 10_000_000
    assert early.troubles == late.troubles == []


def test_the_page_of_a_machine_goes_on_by_readings_and_asks_for_nothing(site: Site) -> None:
    host = site.mesh.call("GET", "/api/v1/hosts")["hosts"][0]["name"]
    page = site.open(f"fleet/{host}")
    page.wait_for_selector(".chart canvas")
    page.get_by_role("button", name="as a table").click()
    rows = page.get_by_role("table", name="Readings").locator("tbody tr")
    rows.first.wait_for()
    seen, asked = rows.count(), list(site.asked)
    expect(rows.nth(seen + 6)).to_be_visible()  # a reading a second

    assert site.asked == asked
    newest = rows.last.get_by_role("cell").all_text_contents()
    assert "\u2013" not in newest  # each figure has its value from the reading


def test_the_page_works_below_a_path_of_a_proxy_and_asks_for_nothing_beside_it(site: Site) -> None:
    with path_proxy(site.mesh.url, "/below/agentcom") as address:
        page = site.blank()
        page.goto(f"{address}/")
        page.get_by_label("Token").fill(site.mesh.token())
        page.get_by_role("button", name="Log in").click()
        page.wait_for_selector(".fresh.live")
        for view in ("tasks", "fleet", "models", "alerts/runbooks", "logs", "costs", "settings"):
            site.go(page, view)
        page.get_by_text("Copy as curl").click()
        expect(page.locator(".asapi code").last).to_contain_text(f'"{address}/api/v1/tokens"')
        page.get_by_role("link", name="The API").click()
        page.wait_for_url(f"{address}/docs")

        assert [each for each in site.asked if not each.startswith(f"{address}/")] == []
        assert [each for each in site.troubles if "401" not in each] == []  # who is not logged in is asked to
