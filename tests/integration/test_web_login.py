"""Browsers: the login page, the cookie, the link that logs in once, and pages of other people that may do nothing."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.running_hub import RunningHub, running_hub

HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path, origins=("https://mesh.example.org",)) as running:
        yield running


async def log_in(hub: RunningHub, role: str = "admin") -> aiohttp.ClientResponse:
    return await hub.ask("POST", "/session", role=None, data={"token": hub.tokens[role]}, headers={"Origin": hub.url})


async def test_without_a_login_the_page_asks_for_a_token(hub: RunningHub) -> None:
    answer = await hub.ask("GET", "/", role=None, headers=HTML)
    text = await answer.text()

    assert answer.status == 401
    assert 'action="session"' in text
    assert "<script" not in text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def test_a_program_without_a_token_gets_a_problem_document(hub: RunningHub) -> None:
    answer = await hub.ask("GET", "/", role=None, headers={"Accept": "application/json"})

    assert (answer.status, (await answer.json(content_type=None))["code"]) == (401, "unauthenticated")


async def test_a_login_sets_a_cookie_that_opens_the_page_and_the_api(hub: RunningHub) -> None:
    welcome = await log_in(hub)
    cookie = welcome.headers["Set-Cookie"]
    page = await hub.ask("GET", "/", role=None, headers=HTML)
    tasks = await hub.ask("GET", "/api/v1/tasks", role=None)

    assert (welcome.status, welcome.headers["Location"]) == (303, "./")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert hub.tokens["admin"] not in cookie
    assert (page.status, tasks.status) == (200, 200)


async def test_a_json_login_works_too(hub: RunningHub) -> None:
    assert (await hub.ask("POST", "/session", role=None, json={"token": hub.tokens["viewer"]})).status == 303


async def test_a_wrong_token_shows_the_page_again_with_the_reason(hub: RunningHub) -> None:
    answer = await hub.ask(
        "POST", "/session", role=None, data={"token": "<script>alert(1)</script>"}, headers={"Origin": hub.url}
    )
    text = await answer.text()

    assert answer.status == 401
    assert "this token is not good here" in text
    assert "<script" not in text
    assert "Set-Cookie" not in answer.headers


async def test_a_session_has_the_rights_of_its_token_and_ends_with_it(hub: RunningHub) -> None:
    made = await (await hub.ask("POST", "/api/v1/tokens", json={"role": "viewer"})).json()
    hub.tokens["guest"] = made["token"]
    await log_in(hub, "guest")

    refused = await hub.ask("POST", "/api/v1/tasks", role=None, json={"title": "x"}, headers={"Origin": hub.url})
    await hub.ask("DELETE", f"/api/v1/tokens/{made['id']}")
    after = await hub.ask("GET", "/api/v1/tasks", role=None)

    assert (refused.status, after.status) == (403, 401)


async def test_logging_out_ends_the_session(hub: RunningHub) -> None:
    await log_in(hub)
    kept = {cookie.key: cookie.value for cookie in hub.client.cookie_jar}

    out = await hub.ask("DELETE", "/session", role=None, headers={"Origin": hub.url})
    hub.client.cookie_jar.update_cookies(kept)

    assert out.status == 204
    assert (await hub.ask("GET", "/api/v1/tasks", role=None)).status == 401


async def test_a_link_with_a_ticket_logs_in_once(hub: RunningHub) -> None:
    made = await (await hub.ask("POST", "/api/v1/session-tickets")).json()

    first = await hub.ask("GET", made["path"], role=None, headers=HTML)
    page = await hub.ask("GET", "/", role=None, headers=HTML)
    hub.client.cookie_jar.clear()
    again = await hub.ask("GET", made["path"], role=None, headers=HTML)

    assert (first.status, first.headers["Location"], page.status) == (303, "./", 200)
    assert again.status == 401
    assert "used before" in await again.text()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_a_foreign_page_changes_nothing_with_the_cookie(hub: RunningHub, headers: dict[str, str]) -> None:
    await log_in(hub)

    answer = await hub.ask("POST", "/api/v1/tasks", role=None, json={"title": "x"}, headers=headers)

    assert (answer.status, (await answer.json(content_type=None))["code"]) == (403, "foreign_origin")


async def test_the_hubs_own_page_may_change_things(hub: RunningHub) -> None:
    await log_in(hub)

    by_origin = await hub.ask("POST", "/api/v1/tasks", role=None, json={"title": "x"}, headers={"Origin": hub.url})
    by_fetch = await hub.ask(
        "POST", "/api/v1/tasks", role=None, json={"title": "x"}, headers={"Sec-Fetch-Site": "same-origin"}
    )

    assert (by_origin.status, by_fetch.status) == (201, 201)


async def test_a_foreign_page_reads_nothing_with_the_cookie(hub: RunningHub) -> None:
    await log_in(hub)

    answer = await hub.ask(
        "GET", "/api/v1/tasks", role=None, headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    )

    assert answer.status == 403


async def test_a_foreign_page_cannot_log_a_browser_in(hub: RunningHub) -> None:
    answer = await hub.ask(
        "POST", "/session", role=None, data={"token": hub.tokens["viewer"]}, headers={"Origin": "https://evil.example"}
    )

    assert answer.status == 403


async def test_a_socket_cannot_be_opened_by_a_foreign_page(hub: RunningHub) -> None:
    await log_in(hub)

    answer = await hub.ask(
        "GET",
        "/mesh",
        role=None,
        headers={"Origin": "https://evil.example", "Upgrade": "websocket", "Connection": "Upgrade"},
    )

    assert answer.status == 403


@pytest.mark.parametrize(
    "host, answered",
    [("evil.example:7420", 421), ("localhost:9", 200), ("[::1]:9", 200), ("10.0.0.4", 200), ("mesh.example.org", 200)],
)
async def test_a_name_that_is_not_the_hubs_is_refused_to_browsers(hub: RunningHub, host: str, answered: int) -> None:
    await log_in(hub)
    [session] = [cookie.value for cookie in hub.client.cookie_jar]
    port = host.rpartition(":")[2]
    secure = "__Secure-" if host == "mesh.example.org" else ""  # its origin is https
    name = f"{secure}agentcom_session_{port if port.isdecimal() else 'default'}"
    hub.client.cookie_jar.clear()

    answer = await hub.ask("GET", "/api/v1/tasks", role=None, headers={"Host": host, "Cookie": f"{name}={session}"})

    assert answer.status == answered


async def test_a_bearer_token_needs_neither_origin_nor_name(hub: RunningHub) -> None:
    answer = await hub.ask("POST", "/api/v1/tasks", json={"title": "x"}, headers={"Host": "hub.internal:1"})

    assert answer.status == 201


async def test_a_foreign_page_that_has_come_by_a_token_changes_nothing_with_it(hub: RunningHub) -> None:
    foreign = {"Origin": "https://else.example"}
    answer = await hub.ask("POST", "/api/v1/tasks", json={"title": "x"}, headers=foreign)

    assert (answer.status, (await answer.json())["code"]) == (403, "foreign_origin")
    assert (await hub.ask("GET", "/api/v1/tasks", headers=foreign)).status == 200


async def test_the_page_and_its_parts_come_from_here_alone_and_are_not_sent_twice(hub: RunningHub) -> None:
    text = await (await hub.ask("GET", "/")).text()
    script = await hub.ask("GET", "/dashboard/app.js")
    again = await hub.ask("GET", "/dashboard/app.js", headers={"If-None-Match": script.headers["ETag"]})

    assert "http://" not in text
    assert "https://" not in text
    assert "<style" not in text
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert again.status == 304


@pytest.mark.parametrize(
    "name", ["nothing.js", "..%2froutes.py", "%2e%2e%2froutes.py", "..%5croutes.py", ".hidden", "%00", "app.js%00.css"]
)
async def test_no_path_leads_out_of_the_folder_of_the_page(hub: RunningHub, name: str) -> None:
    assert (await hub.ask("GET", f"/dashboard/{name}")).status == 404


async def test_the_docs_page_loads_only_its_own_files(hub: RunningHub) -> None:
    page = await hub.ask("GET", "/docs")
    script, style, other = [await hub.ask("GET", f"/docs/{name}") for name in ("docs.js", "docs.css", "login.html")]

    assert 'src="docs/docs.js"' in await page.text()
    assert (page.status, script.status, style.status, other.status) == (200, 200, 200, 404)
