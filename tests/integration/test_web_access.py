"""Every route, the WebSocket too, against every credential, over real HTTP; the cases are made from the route table, so
a new route is in them."""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlencode

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from hub.core.access import OWN_ONLY, WITHOUT_PROJECT, make_token, may
from hub.web import scopes
from hub.web.routes import ROUTES, WITHOUT_TOKEN, mesh
from hub.web.routing import SSE, Route
from protocol.model import Role
from tests.support.foreign_agent import ForeignAgent, hello
from tests.support.running_hub import FastClock, RunningHub, running_hub

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one hub for all
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
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def accept(_request: web.Request) -> web.StreamResponse:
    raise AssertionError("only the table is read here")


ALL = (*ROUTES, mesh(accept))


@dataclass
class Place:
    """A hub with two projects, a task in each, and credentials of every kind: headers by name."""

    hub: RunningHub
    tasks: dict[str, str] = field(default_factory=dict)
    shown: dict[str, dict[str, str]] = field(default_factory=dict)

    async def make(self, role: str, **more: object) -> dict[str, str]:
        """Headers with a new token."""
        made = await self.hub.ask("POST", "/api/v1/tokens", json={"role": role, **more})
        assert made.status == 201, await made.text()
        found = await made.json()
        return {"Authorization": f"Bearer {found['token']}", "X-Id": found["id"]}

    async def status(self, route: Route, headers: dict[str, str], *, task: str = TASK, project: str = "nobody") -> int:
        accept = "application/json" if SSE not in route.produces or len(route.produces) > 1 else SSE
        more = UPGRADE if route.path == "/mesh" else {}
        path = route.path.replace("{id}", task).replace("{name}", project)
        path = path.replace("{path}", "a.txt").replace("{folder}", "views").replace("{code}", "abcde-fghij")
        # Only the head is read: some answers never end.
        async with self.hub.client.request(
            route.method,
            self.hub.url + path,
            headers={**headers, "Accept": accept, **more},
            allow_redirects=False,
            cookies={},
        ) as answer:
            answer.close()
            return answer.status


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    clock = FastClock()
    async with running_hub(tmp_path_factory.mktemp("hub"), clock) as hub:
        place = Place(hub)
        for name in ("web", "api"):
            body = {"name": name, "repository": f"https://git.example/{name}.git"}
            assert (await hub.ask("POST", "/api/v1/projects", json=body)).status == 201
            made = await hub.ask("POST", "/api/v1/tasks", json={"title": name, "command": "true", "project": name})
            place.tasks[name] = (await made.json())["id"]
        gone, revoked = await place.make("admin", ttl_s=60), await place.make("admin")
        await hub.ask("DELETE", f"/api/v1/tokens/{revoked['X-Id']}")
        clock.more_ms = 61_000
        token = hub.tokens["admin"]
        place.shown = {
            "none": {},
            "expired": gone,
            "revoked": revoked,
            "unknown": {"Authorization": f"Bearer {make_token(secrets.randbits)[1]}"},
            "mistyped": {"Authorization": f"Bearer {token[:-1]}{'a' if token[-1] != 'a' else 'b'}"},
            "cut off": {"Authorization": f"Bearer {token[:-5]}"},
            "of another scheme": {"Authorization": f"Basic {token}"},
            "a cookie of nobody": {
                "Cookie": f"agentcom_session_{hub.url.rpartition(':')[2]}=nobody",
                "Origin": hub.url,
                "Sec-Fetch-Site": "same-origin",
            },
        }
        # A few hundred credentials that do not count are shown here; at 1,000 of an address the hub would say so.
        many = {"per_s": 1_000.0, "burst": 100_000}
        assert (await hub.ask("PATCH", "/api/v1/rate-limits/stranger", json=many)).status == 200
        yield place


async def test_every_route_asks_every_role_for_its_permission(place: Place) -> None:
    wrong = []
    for role in Role:
        for route in ALL:
            if route.permission is None:
                continue
            found = await place.status(route, place.hub.bearer(role.value))
            is_missing = found in {404, 405} and "{" not in route.path
            if (found == 403) == may(role, route.permission) or found in {401, 500} or is_missing:
                wrong.append((role.value, route.method, route.path, found))

    assert wrong == []


async def test_no_route_but_those_without_a_token_answers_to_a_credential_that_does_not_count(
    place: Place,
) -> None:
    wrong = []
    for name, headers in place.shown.items():
        for route in ALL:
            found = await place.status(route, headers)
            if (route.method, route.path) in WITHOUT_TOKEN:
                is_right = found == 200 or route.method == "POST" or route.path in {"/ca.pem", "/install/{name}"}
            elif route.by_attempt:
                is_right = found in {401, 403}  # it wants the credential of an attempt
            else:
                is_right = found == 401
            wrong += [] if is_right else [(name, route.method, route.path, found)]

    assert wrong == []
    assert {
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/ca.pem"),
        ("POST", "/session"),
        ("GET", "/install.sh"),
        ("GET", "/install/manifest.json"),
        ("GET", "/install/{name}"),
        ("POST", "/api/v1/join"),
        ("POST", "/api/v1/join-requests"),
    } == WITHOUT_TOKEN


async def test_a_browser_session_may_what_its_token_may(place: Place) -> None:
    hub, wrong = place.hub, []
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as browser:
        for route in ALL:
            if route.permission is None or route.by_attempt:
                continue
            body = {"token": hub.tokens["viewer"]}
            async with browser.post(f"{hub.url}/session", json=body, allow_redirects=False) as answer:
                cookie = answer.headers["Set-Cookie"].partition(";")[0]
            found = await place.status(route, {"Cookie": cookie, "Origin": hub.url, "Sec-Fetch-Site": "same-origin"})
            if (found == 403) == may(Role.VIEWER, route.permission) or found in {401, 500}:
                wrong.append((route.method, route.path, found))

    assert wrong == []


# --- scopes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.VIEWER, Role.SUBMITTER, Role.OPERATOR])
async def test_a_token_of_one_project_finds_nothing_of_another_and_nothing_of_the_whole_hub(
    place: Place, role: Role
) -> None:
    bound = await place.make(role.value, projects=["web"])
    wrong = []
    for route in ALL:
        if route.permission is None or not may(role, route.permission):
            continue
        found = await place.status(route, bound, task=place.tasks["api"], project="api")
        if scopes.is_of_task(route) or scopes.is_of_project(route):
            is_right = found == 404
        elif (route.method, route.path) in scopes.NARROWED or route.permission in WITHOUT_PROJECT:
            is_right = found not in {401, 403, 500} and (found != 404 or "{" in route.path)
        else:
            is_right = found == 403
        wrong += [] if is_right else [(route.method, route.path, found)]

    assert wrong == []


async def test_a_token_of_one_project_works_within_it(place: Place) -> None:
    hub = place.hub
    bound = await place.make("submitter", projects=["web"])

    async def told(path: str, key: str) -> list[str]:
        found = await (await hub.ask("GET", path, role=None, headers=bound)).json()
        return sorted(each[key] for each in found[path.rpartition("/")[2]])

    own = await hub.ask(
        "POST", "/api/v1/tasks", role=None, headers=bound, json={"command": "true", "project": "web", "title": "own"}
    )
    beyond = [
        await hub.ask("POST", "/api/v1/tasks", role=None, headers=bound, json=body)
        for body in (
            {"command": "true", "project": "api"},
            {"command": "true"},
            {"tasks": [{"command": "true", "project": "web"}, {"command": "true", "project": "api"}]},
        )
    ]

    assert own.status == 201
    assert [answer.status for answer in beyond] == [403, 403, 403]
    assert (await beyond[0].json())["code"] == "out_of_scope"
    assert set(await told("/api/v1/tasks", "title")) == {"own", "web"}
    assert await told("/api/v1/projects", "name") == ["web"]
    assert (await hub.ask("GET", f"/api/v1/tasks/{place.tasks['web']}", role=None, headers=bound)).status == 200


async def test_a_token_of_one_project_names_no_task_of_another_as_kin(place: Place) -> None:
    hub, nobody = place.hub, "01hzy0m5k3v8f6c2q9w4e7r1t0"
    bound = await place.make("submitter", projects=["web"])

    async def asked(**kin: object) -> tuple[int, list[tuple[str, str]]]:
        spec = {"command": "true", "project": "web", "title": "own", **kin}
        answer = await hub.ask("POST", "/api/v1/tasks", role=None, headers=bound, json=spec)
        found = (await answer.json()).get("errors", [])
        return answer.status, [(each["path"], each["problem"]) for each in found]

    own, other = place.tasks["web"], place.tasks["api"]
    assert await asked(depends_on=[own], parent=own) == (201, [])
    hidden, missing = (
        await asked(depends_on=[own, other], parent=other),
        await asked(depends_on=[own, nobody], parent=nobody),
    )
    assert hidden == (422, [("depends_on[1]", f"no task {other}"), ("parent", f"no task {other}")])
    assert missing == (422, [("depends_on[1]", f"no task {nobody}"), ("parent", f"no task {nobody}")])


async def test_an_idempotency_key_is_one_of_its_token(place: Place) -> None:
    hub, key = place.hub, {"Idempotency-Key": "nightly"}
    one, other = [{**await place.make("submitter"), **key} for _ in range(2)]

    async def made(headers: dict[str, str], title: str) -> tuple[int, str, bool]:
        answer = await hub.ask("POST", "/api/v1/tasks", role=None, headers=headers, json={"title": title})
        return answer.status, (await answer.json()).get("title", ""), "Idempotency-Replayed" in answer.headers

    assert [await made(one, "a"), await made(other, "b"), await made(one, "a"), await made(other, "b")] == [
        (201, "a", False), (201, "b", False), (201, "a", True), (201, "b", True),
    ]  # fmt: skip
    assert (await made(other, "a"))[0] == 409


async def test_a_submitter_controls_only_what_its_own_token_has_submitted(place: Place) -> None:
    hub = place.hub
    mine, other = await place.make("submitter"), await place.make("submitter")
    made = await hub.ask("POST", "/api/v1/tasks", role=None, headers=mine, json={"command": "true", "title": "mine"})
    task = (await made.json())["id"]
    controls = [route for route in ALL if route.permission == "tasks:control" and scopes.is_of_task(route)]

    refused = [await place.status(route, other, task=task) for route in controls]
    bulk = await hub.ask(
        "POST", "/api/v1/tasks/bulk", role=None, headers=other, json={"verb": "cancel", "preview": True}
    )
    theirs = await hub.ask("POST", f"/api/v1/tasks/{task}/cancel", role=None, headers=other)
    seen = await hub.ask("GET", f"/api/v1/tasks/{task}", role=None, headers=other)
    cancelled = await hub.ask("POST", f"/api/v1/tasks/{task}/cancel", role=None, headers=mine)

    assert set(refused) == {403}
    assert frozenset({(Role.SUBMITTER, "tasks:control")}) == OWN_ONLY
    assert (await theirs.json())["code"] == "not_yours"
    assert (await bulk.json())["matched"] == 0
    assert (seen.status, cancelled.status) == (200, 200)


async def test_a_token_of_one_sidecar_speaks_for_no_other(place: Place) -> None:
    bound = await place.make("agent", agents=["Just Testing"])
    asks = [route for route in ALL if any(param.name == "sidecar" for param in route.params)]
    found = {}
    for sidecar in ("Just Testing", "Somebody Else"):
        # A boot that no sidecar of another test has: the hub may have given one of this name the task.
        said = {"sidecar": sidecar, "boot": "99", "epoch": "1", "path": "a", "sha256": "0" * 64}
        for route in asks:
            query = urlencode({param.name: said[param.name] for param in route.params})
            path = f"{route.path.replace('{id}', place.tasks['web'])}?{query}"
            data = b"x" if route.consumes else None
            answer = await place.hub.ask(route.method, path, role=None, headers=bound, data=data)
            found[sidecar, route.path] = (answer.status, (await answer.json())["code"])

    assert len(asks) == 4
    assert {found["Somebody Else", route.path] for route in asks} == {(403, "out_of_scope")}
    assert {found["Just Testing", route.path] for route in asks} == {(409, "stale")}


@pytest.mark.parametrize(
    "body",
    [
        {"role": "god"},
        {},
        {"role": "viewer", "ttl_s": -1},
        {"role": "viewer", "ttl_s": 1e12},
        {"role": "viewer", "x": 1},
        {"role": "admin", "projects": ["web"]},
        {"role": "agent", "projects": ["web"]},
        {"role": "viewer", "agents": ["Just Testing"]},
        {"role": "viewer", "projects": ["../web"]},
        {"role": "agent", "agents": [""]},
        {"role": "viewer", "projects": [f"p{number}" for number in range(101)]},
    ],
)
async def test_a_bad_wish_for_a_token_is_422(place: Place, body: dict[str, object]) -> None:
    assert (await place.hub.ask("POST", "/api/v1/tokens", json=body)).status == 422


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/x/health", "/healthz/", "/api/v1", "/static/app.js", "/dashboard/../hub.sqlite", "/readyz/x", "//healthz"],
)
async def test_what_is_not_there_is_401_without_a_token(place: Place, path: str) -> None:
    assert (await place.hub.ask("GET", path, role=None)).status == 401


@pytest.mark.parametrize("header", SCHEME_ERRORS)
async def test_a_header_that_is_no_token_is_401(place: Place, header: str) -> None:
    answer = await place.hub.ask("GET", "/api/v1/tasks", role=None, headers={"Authorization": header})

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await answer.json())["code"] == "unauthenticated"


async def test_a_revoked_token_counts_no_more_at_once(place: Place) -> None:
    hub = place.hub
    made = await place.make("viewer", label="ci")
    before = await hub.ask("GET", "/api/v1/tasks", role=None, headers=made)

    revoked = await hub.ask("DELETE", f"/api/v1/tokens/{made['X-Id']}")
    after = await hub.ask("GET", "/api/v1/tasks", role=None, headers=made)

    assert (before.status, revoked.status, after.status) == (200, 204, 401)
    assert "was revoked" in (await after.json())["detail"]


async def test_a_secret_is_shown_once_and_never_again(place: Place) -> None:
    hub = place.hub
    listed = await (await hub.ask("GET", "/api/v1/tokens")).text()
    events = await (await hub.ask("GET", "/api/v1/events", headers={"Accept": "application/json"})).text()

    assert not [token for token in hub.tokens.values() if token in listed + events]
    assert all(token.split("_")[1] in listed for token in hub.tokens.values())


async def test_the_last_admin_token_cannot_be_revoked(place: Place) -> None:
    admin = place.hub.tokens["admin"].split("_")[1]

    answer = await place.hub.ask("DELETE", f"/api/v1/tokens/{admin}")

    assert answer.status == 409
    assert "last valid one of role 'admin'" in (await answer.json())["detail"]


async def test_the_api_document_tells_of_exactly_the_routes_that_are_tested_here(place: Place) -> None:
    document = await (await place.hub.ask("GET", "/openapi.json")).json()
    told = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}

    assert told == {(route.method, route.path) for route in ALL if route.is_listed}


async def test_a_sidecar_of_another_name_does_not_come_in_with_a_bound_token(place: Place) -> None:
    token = (await place.make("agent", agents=["Just Testing"]))["Authorization"].split()[1]

    own = await ForeignAgent.dial(place.hub.url, token)
    await own.say(hello(name="Just Testing"))
    other = await ForeignAgent.dial(place.hub.url, token)
    await other.say(hello(name="Somebody Else"))

    assert (await own.until("welcome"))["protocol"] == 1
    refused = await other.until("error")
    assert (refused["code"], refused["fatal"]) == ("forbidden", True)
    await own.leave()
