"""Every route against every role, over real HTTP; the tests are made from the route table, so a new route is in
them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.core.access import PERMISSIONS, may
from hub.web.routes import ROUTES, WITHOUT_TOKEN
from hub.web.routing import SSE, Route
from protocol.model import Role
from tests.support.running_hub import RunningHub, running_hub

TASK = "01hzzzzzzzzzzzzzzzzzzzzzzz"
SCHEME_ERRORS = [
    "",
    "Basic YWRtaW46YWRtaW4=",
    "Bearer",
    "Bearer ",
    "Bearer acm_",
    "Bearer x y",
    "bearer null",
    "Token abc",
    "Bearer \x80",
]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


def place(route: Route) -> str:
    return (
        route.path.replace("{id}", TASK)
        .replace("{name}", "nobody")
        .replace("{path}", "a.txt")
        .replace("{folder}", "views")
    )


async def status(hub: RunningHub, route: Route, role: str | None) -> int:
    accept = "application/json" if SSE not in route.produces or len(route.produces) > 1 else SSE
    headers = {**(hub.bearer(role) if role else {}), "Accept": accept}
    # Only the head is read: some answers never end.
    async with hub.client.request(
        route.method, hub.url + place(route), headers=headers, allow_redirects=False
    ) as answer:
        return answer.status


@pytest.mark.parametrize("role", [role.value for role in Role])
async def test_every_route_asks_for_its_permission(hub: RunningHub, role: str) -> None:
    wrong = []
    for route in ROUTES:
        if route.permission is None:
            continue
        found = await status(hub, route, role)
        is_missing = found in {404, 405} and "{" not in route.path
        if (found == 403) == may(Role(role), route.permission) or found in {401, 500} or is_missing:
            wrong.append((route.method, route.path, found))

    assert wrong == []


async def test_nothing_but_health_and_login_answers_without_a_token(hub: RunningHub) -> None:
    found = {(route.method, route.path): await status(hub, route, None) for route in ROUTES}

    assert {place for place, answered in found.items() if answered != 401} == WITHOUT_TOKEN
    assert frozenset({("GET", "/healthz"), ("GET", "/readyz"), ("POST", "/session")}) == WITHOUT_TOKEN


def test_every_permission_of_a_route_is_in_the_table_and_every_one_in_the_table_is_used() -> None:
    used = {route.permission for route in ROUTES if route.permission} | {"mesh:join"}

    assert used == set(PERMISSIONS)


@pytest.mark.parametrize("role, answered", [("viewer", 403), ("submitter", 403), ("operator", 403), (None, 401)])
async def test_only_agents_and_admins_join_the_mesh(hub: RunningHub, role: str | None, answered: int) -> None:
    assert (await hub.ask("GET", "/mesh", role=role)).status == answered


@pytest.mark.parametrize(
    "path",
    ["/x/health", "/healthz/", "/api/v1", "/static/app.js", "/dashboard/../hub.sqlite", "/readyz/x", "//healthz"],
)
async def test_what_is_not_there_is_401_without_a_token(hub: RunningHub, path: str) -> None:
    assert (await hub.ask("GET", path, role=None)).status == 401


@pytest.mark.parametrize("header", SCHEME_ERRORS)
async def test_a_header_that_is_no_token_is_401(hub: RunningHub, header: str) -> None:
    answer = await hub.ask("GET", "/api/v1/tasks", role=None, headers={"Authorization": header})

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await answer.json())["code"] == "unauthenticated"


async def test_a_mistyped_token_is_told_from_an_unknown_one(hub: RunningHub) -> None:
    token = hub.tokens["viewer"]
    typo = token[:-1] + ("a" if token[-1] != "a" else "b")

    answer = await (
        await hub.ask("GET", "/api/v1/tasks", role=None, headers={"Authorization": f"Bearer {typo}"})
    ).json()

    assert "mistyped" in answer["detail"]


async def test_a_revoked_token_counts_no_more_at_once(hub: RunningHub) -> None:
    made = await (await hub.ask("POST", "/api/v1/tokens", json={"role": "viewer", "label": "ci"})).json()
    hub.tokens["ci"] = made["token"]
    before = await hub.ask("GET", "/api/v1/tasks", role="ci")

    revoked = await hub.ask("DELETE", f"/api/v1/tokens/{made['id']}")
    after = await hub.ask("GET", "/api/v1/tasks", role="ci")

    assert (before.status, revoked.status, after.status) == (200, 204, 401)
    assert "was revoked at" in (await after.json())["detail"]


async def test_a_secret_is_shown_once_and_never_again(hub: RunningHub) -> None:
    listed = await (await hub.ask("GET", "/api/v1/tokens")).text()
    events = await (await hub.ask("GET", "/api/v1/events", headers={"Accept": "application/json"})).text()

    assert not [token for token in hub.tokens.values() if token in listed + events]
    assert all(token.split("_")[1] in listed for token in hub.tokens.values())


async def test_the_last_admin_token_cannot_be_revoked(hub: RunningHub) -> None:
    admin = hub.tokens["admin"].split("_")[1]

    answer = await hub.ask("DELETE", f"/api/v1/tokens/{admin}")

    assert answer.status == 409
    assert "last valid one of role 'admin'" in (await answer.json())["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"role": "god"},
        {},
        {"role": "viewer", "ttl_s": -1},
        {"role": "viewer", "ttl_s": 1e12},
        {"role": "viewer", "x": 1},
    ],
)
async def test_a_bad_wish_for_a_token_is_422(hub: RunningHub, body: dict[str, object]) -> None:
    assert (await hub.ask("POST", "/api/v1/tokens", json=body)).status == 422


async def test_the_api_document_tells_of_exactly_the_routes_that_are_tested_here(hub: RunningHub) -> None:
    document = await (await hub.ask("GET", "/openapi.json")).json()
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}

    assert told - {("GET", "/mesh")} == {(route.method, route.path) for route in ROUTES if route.is_listed}
