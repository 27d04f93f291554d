"""Every view, as people with good and bad eyes see it; screenshots lie in ``.cache/screens`` to be looked at."""

import re
import shlex
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from agentcom.cli import run
from tests.browser.pages import (
    HOSTILE,
    PATIENCE_MS,
    PHONE,
    VIEWS,
    WIDE,
    Site,
    Size,
    ask_to_join,
    shot,
    stranger,
)
from tests.support.mesh import until

expect.set_options(timeout=PATIENCE_MS)
RULES: Final = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]}}
COLOUR_RULES: Final = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
SCHEMES: Final[dict[Literal["light", "dark"], dict[str, Any]]] = {"light": RULES, "dark": COLOUR_RULES}
"""What axe looks at in either: a scheme changes colours alone, so the second one is looked at for those."""


def task_of(site: Site, title: str) -> str:
    tasks = site.mesh.call("GET", "/api/v1/tasks?limit=500")["tasks"]
    return str(next(task["id"] for task in tasks if task["title"] == title))


def violations(page: Page, rules: dict[str, Any]) -> list[tuple[str, str]]:
    found: list[dict[str, Any]] = Axe().run(page, options=rules).response["violations"]
    return [(one["id"], node["html"][:200]) for one in found for node in one["nodes"]]


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_every_view_can_be_read_by_everybody_and_fits_its_screen(site: Site, size: Size) -> None:
    site.mesh.call("PATCH", "/api/v1/alerts/rules/no_agent_for_tier", {"for_s": 0})
    until(lambda: site.mesh.call("GET", "/api/v1/alerts")["alerts"], "an alert to look at")
    page = site.open(size=size)
    host = site.mesh.call("GET", "/api/v1/hosts")["hosts"][0]["name"]
    places = [
        *VIEWS,
        f"tasks/{task_of(site, 'good work')}",
        f"tasks/{task_of(site, 'waits for a GPU')}",
        f"fleet/{host}",
    ]
    wrong = {}
    for place in places:
        site.go(page, place)
        page.wait_for_selector("main :is(section, table, .empty, .cards, .events, p)", state="attached")
        page.wait_for_timeout(300)  # what a view asks the hub for is there; a picture of its loading says nothing
        name = re.sub(r"[^\w.=-]+", "-", place)[:40]
        for scheme, rules in SCHEMES.items():
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(100)  # charts are drawn again
            shot(page, f"{name}-{scheme}-{size[0]}")
            over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if found := [*violations(page, rules), *([("wider than its screen", f"{over} px")] if over > 0 else [])]:
                wrong[f"{place}, {scheme}"] = found

    assert wrong == {}
    assert all(address.startswith(f"{site.mesh.url}/") for address in site.asked)  # nothing from elsewhere
    assert site.troubles == []


def test_what_machines_say_of_themselves_is_shown_and_never_run(site: Site) -> None:
    call, page = site.mesh.call, site.open("alerts")
    call("PATCH", "/api/v1/alerts/rules/endpoint_down", {"threshold": 0.001})
    call("POST", "/api/v1/tokens", {"role": "viewer", "label": HOSTILE[1]})
    ask_to_join(site.mesh, HOSTILE[0])
    models = [{"name": text, "residency": "warm"} for text in HOSTILE[:3]]
    server = {"id": "odd", "kind": "openai", "url": "http://10.0.0.1:9", "local": True, "models": models}
    reading = {
        "cpu": {"percent": 1.0, "cores": 1}, "ram": {"total_bytes": 2, "used_bytes": 1}, "disk": None,
        "at": "2026-01-01T00:00:00Z", "notes": {HOSTILE[1]: HOSTILE[0]}, "gpus": [{"name": HOSTILE[4]}],
    }  # fmt: skip
    with stranger(site.mesh, "Rude", problem=HOSTILE[0], reading=reading, host=HOSTILE[2], endpoints=[server]):
        alert = page.get_by_role("listitem").filter(has_text="endpoint_down").filter(has_text=HOSTILE[2])
        expect(alert).to_contain_text(HOSTILE[0])
        for view, words in (
            ("overview", HOSTILE[0]),
            ("fleet", HOSTILE[2]),
            (f"fleet/{quote(HOSTILE[2], safe='')}", HOSTILE[4]),
            ("fleet", f"{HOSTILE[0]} nowhere at"),
            ("models", HOSTILE[1]),
            ("events", HOSTILE[0]),
            ("events/audit", HOSTILE[1]),
            ("settings", HOSTILE[1]),
        ):
            site.go(page, view)
            expect(page.get_by_role("main")).to_contain_text(words)

    assert page.evaluate("window.ran") is None
    assert site.troubles == []


def test_what_others_write_is_shown_and_never_run(site: Site) -> None:
    page = site.open("tasks")
    page.get_by_role("link", name=HOSTILE[0], exact=True).click()
    page.wait_for_selector("main .log")
    page.get_by_text(HOSTILE[1], exact=False).first.wait_for()
    for view in ("overview", "events", f"tasks?q={HOSTILE[2]}", "tasks?label=x:<b>", f"tasks/{HOSTILE[0]}", "<script>"):
        page.evaluate("to => { location.hash = to; }", f"/{view}")
        page.wait_for_timeout(150)

    assert page.evaluate("window.ran") is None
    assert page.title()
    assert [each for each in site.troubles if "400" not in each and "404" not in each] == []


def test_whoever_may_only_look_can_press_nothing(site: Site) -> None:
    page = site.open(f"tasks/{task_of(site, 'bad work')}", role="viewer")
    retry = page.get_by_role("button", name="Retry")
    retry.wait_for()
    site_settings = site.open("settings", role="viewer")

    assert retry.is_disabled()
    assert "may not" in str(retry.get_attribute("title"))
    assert site_settings.get_by_text("shown to administrators").is_visible()


def test_every_view_says_how_a_program_asks_the_same(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    page = site.open()
    where = ["--hub", site.mesh.url, "--token-file", str(site.mesh.data_dir / "admin.token"), "--check-config"]
    host = site.mesh.call("GET", "/api/v1/hosts")["hosts"][0]["name"]
    in_path = quote(host, safe="!~*'()")  # as browsers leave them
    task = task_of(site, "good work")
    asked = {
        "overview": "metrics?names=", "tasks": "tasks?", "fleet": "hosts", "models": "models?absent=true",
        "reviews": "tasks?state=waiting", "alerts": "alerts", "alerts/history": "alerts?state=resolved",
        "alerts/rules": "alerts/rules", "alerts/notifiers": "notifiers", "logs": "logs?tail", "events": "events",
        "events/audit": "audit?", "costs": "usage?by=model", "settings": "tokens", f"fleet/{host}": f"hosts/{in_path}",
        f"tasks/{task}": f"tasks/{task}", f"logs?task={task}": f"logs?task={task}",
        "logs?agent=One&q=two words": "agent=One",
        "tasks?state=dead&priority=high,low&tier=complex&label=x:a'b&q=$(touch x)&model=m&agent=One": "touch",
        "events?kind=task_dead": "kind=task_dead", "events/audit?action=token": "action=token",
        "costs?by=label&span=day": "by=label",
    }  # fmt: skip
    for place, path in asked.items():
        site.go(page, place)
        told = page.locator(".asapi code")
        expect(told.last).to_contain_text(f"/api/v1/{path}" if "?" not in place else path)
        command, curl = told.all_text_contents()
        words = shlex.split(command)
        assert words[0] == "agentcom", place
        assert run([*words[1:], *where]) == 0, f"{place}: {command}: {capsys.readouterr().err}"
        url = urlsplit(shlex.split(curl)[-1])
        site.mesh.call("GET", f"{url.path}?{url.query}", Accept="application/json")
