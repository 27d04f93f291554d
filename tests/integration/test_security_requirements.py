"""Security requirements, each by its number (docs/reference/guarantees.md names them, and the tests of the others)."""

import ast
import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio

from hub.core.access import make_token, may
from hub.settings import load
from hub.web import scopes
from hub.web.application import check
from hub.web.routes import ROUTES, WITHOUT_TOKEN
from hub.web.routing import Route
from protocol.errors import BadInput
from protocol.model import Role
from tests.support.running_hub import FastClock, RunningHub, running_hub

ROOT = Path(__file__).parents[2]
DANGEROUS = {"pickle", "marshal", "shelve", "yaml", "eval", "exec"}
PACKAGES = ("protocol", "hub", "sidecar", "dashboard", "provisioning", "agentcom")
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    """Over TLS, with this machine as a listed proxy."""
    folder = tmp_path_factory.mktemp("hub")
    async with running_hub(folder, tls=True, origins=["https://mesh.example.org"]) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxied(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path_factory.mktemp("proxied"), trusted_proxies=["127.0.0.1"]) as running:
        yield running


@pytest.fixture
def clock() -> FastClock:
    return FastClock()


@pytest_asyncio.fixture(loop_scope="module")
async def guessed_at(tmp_path: Path, clock: FastClock) -> AsyncIterator[RunningHub]:
    """A hub of its own: whoever guesses too often is told to wait, and so would be the other tests."""
    async with running_hub(tmp_path, clock) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path_factory.mktemp("plain")) as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def told(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """What an answer says beside when it was, and which request it is for."""
    return sorted((name, text) for name, text in headers.items() if name.lower() not in {"date", "x-request-id"})


async def said(answer: aiohttp.ClientResponse) -> str:
    """The text of an answer without the name of its request."""
    return (await answer.text()).replace(answer.headers["X-Request-Id"], "")


async def test_s01_others_reach_a_hub_over_tls_or_through_a_listed_proxy_or_not_at_all() -> None:
    assert load({}, env={"HOME": "/h"})[0].is_local
    assert load({"listen": "0.0.0.0:1"}, env={})[0].speaks_tls
    with pytest.raises(BadInput, match="the hub speaks TLS with a certificate of its own"):
        load({"listen": "0.0.0.0:1", "plaintext": True}, env={})


@pytest.mark.parametrize("path", ["/x/health", "/api/v1/healthz", "/healthz/", "/readyz/x", "/api/v1/x/ready", "/mesh"])
async def test_s02_nothing_that_only_looks_like_health_is_free(hub: RunningHub, path: str) -> None:
    assert {place for _, place in WITHOUT_TOKEN} >= {"/healthz", "/readyz"}
    assert (await hub.ask("GET", path, role=None)).status == 401


async def test_s03_a_route_without_a_policy_is_no_route() -> None:
    with pytest.raises(ValueError, match="has no permission"):
        check((*ROUTES, Route("GET", "/new", ROUTES[0].handler, None, "forgotten")))


async def test_s04_wrong_tokens_get_one_answer(guessed_at: RunningHub, clock: FastClock) -> None:
    chance = random.Random(4)
    revoked = await (await guessed_at.ask("POST", "/api/v1/tokens", json={"role": "viewer"})).json()
    expired = await (await guessed_at.ask("POST", "/api/v1/tokens", json={"role": "viewer", "ttl_s": 1})).json()
    await guessed_at.ask("DELETE", f"/api/v1/tokens/{revoked['id']}")
    clock.more_ms = 2_000
    answers = set()
    for number in range(80):
        unknown = make_token(chance.getrandbits)[1]
        token = (unknown, f"{unknown[:-1]}-", revoked["token"], expired["token"])[number % 4]
        answer = await guessed_at.ask("GET", "/api/v1/tasks", role=None, headers=bearer(token))
        answers.add((answer.status, await said(answer), *told(answer.headers)))

    assert len(answers) == 1
    assert next(iter(answers))[0] == 401


async def test_s04_whatever_stands_in_the_header_is_no_error_of_ours(guessed_at: RunningHub) -> None:
    chance = random.Random(5)
    letters = "acm_ Bearer\t'\";%{}[]()<>-=0x\u00e9"
    for _ in range(150):
        text = "".join(chance.choice(letters) for _ in range(chance.randrange(1, 80))).strip()
        answer = await guessed_at.ask("GET", "/api/v1/tasks", role=None, headers={"Authorization": f"Bearer {text}"})
        assert answer.status in {400, 401}, text


async def test_s05_what_a_caller_says_of_itself_gives_no_right(hub: RunningHub) -> None:
    claims = {"X-Role": "admin", "X-Scopes": "tokens:manage", "X-Forwarded-User": "admin"}

    assert (await hub.ask("GET", "/api/v1/tokens?role=admin", role="viewer", headers=claims)).status == 403


async def test_s06_nothing_that_runs_what_it_reads_is_used() -> None:
    bad = []
    for file in (found for package in PACKAGES for found in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = {
                ast.Import: lambda node: [each.name for each in node.names],
                ast.ImportFrom: lambda node: [node.module or ""],
                ast.Call: lambda node: [getattr(node.func, "id", "")],
            }.get(type(node), lambda _node: [])(node)
            bad += [
                (file.name, name) for name in names if name in {"pickle", "marshal", "shelve", "yaml", "eval", "exec"}
            ]

    assert bad == [("cell.py", "marshal")]  # it hands its own launcher to its own child


async def test_s07_what_is_of_another_project_answers_as_what_is_not_there(hub: RunningHub) -> None:
    for name in ("web", "api"):
        body = {"name": name, "repository": f"https://git.example/{name}.git"}
        assert (await hub.ask("POST", "/api/v1/projects", json=body)).status == 201
    made = await hub.ask("POST", "/api/v1/tasks", json={"title": "x", "command": "true", "project": "api"})
    bound = await (await hub.ask("POST", "/api/v1/tokens", json={"role": "operator", "projects": ["web"]})).json()
    task = (await made.json())["id"]
    different = []
    for route in ROUTES:
        of_task, of_project = scopes.is_of_task(route), scopes.is_of_project(route)
        if not (of_task or of_project) or route.permission is None or not may(Role.OPERATOR, route.permission):
            continue
        place = route.path.replace("{path}", "a.txt").replace("{folder}", "views")
        answers = []
        for found in (task, "01hzzzzzzzzzzzzzzzzzzzzzzz") if of_task else ("api", "nobody"):
            path = place.replace("{id}", found).replace("{name}", found)
            answer = await hub.ask(route.method, path, role=None, headers=bearer(bound["token"]))
            answers.append((answer.status, (await said(answer)).replace(found, "")))
        if answers[0] != answers[1] or answers[0][0] != 404:
            different.append((route.method, route.path, answers))

    assert different == []


@pytest.mark.parametrize(
    "method, headers, status",
    [
        ("POST", {"Origin": "https://evil.example"}, 403),
        ("DELETE", {"Origin": "null"}, 403),
        ("GET", {"Origin": "https://evil.example", "Upgrade": "websocket", "Connection": "Upgrade"}, 403),
        ("POST", {"Origin": "https://mesh.example.org"}, 0),
        ("POST", {}, 0),
    ],
)
async def test_s08_a_token_that_a_foreign_page_shows_changes_nothing(
    hub: RunningHub, method: str, headers: dict[str, str], status: int
) -> None:
    path = "/mesh" if "Upgrade" in headers else f"/api/v1/tasks{'' if method == 'POST' else '/x'}"
    answer = await hub.ask(method, path, headers=headers, json={"title": "x"} if method == "POST" else None)

    assert answer.status == status if status else answer.status == 201


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE", "OPTIONS"])
async def test_s09_with_a_cookie_only_a_page_of_the_hub_may_do_more_than_look(
    hub: RunningHub, site: str, method: str
) -> None:
    await hub.ask("POST", "/session", role=None, json={"token": hub.tokens["admin"]})
    foreign = await hub.ask(method, "/api/v1/tasks", role=None, headers={"Sec-Fetch-Site": site}, json={"title": "x"})
    hub.client.cookie_jar.clear()

    assert foreign.status in {403, 405} if method != "POST" else foreign.status == 403


async def test_s10_the_cookie_of_a_session_is_bound_as_far_as_browsers_can(hub: RunningHub) -> None:
    made = await hub.ask("POST", "/session", role=None, json={"token": hub.tokens["admin"]})
    cookie = made.headers["Set-Cookie"]
    hub.client.cookie_jar.clear()

    assert cookie.startswith(f"__Host-agentcom_session_{urlsplit(hub.url).port}=")
    assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert made.headers["Strict-Transport-Security"]


@pytest.mark.parametrize("path", ["/", "/api/v1/tasks", "/docs", "/nowhere", "/healthz"])
async def test_s11_every_answer_binds_what_a_browser_may_do_with_it(hub: RunningHub, path: str) -> None:
    answer = await hub.ask("GET", path)
    policy = answer.headers["Content-Security-Policy"]

    assert "default-src 'self'" in policy or "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_s12_what_is_on_disk_opens_nothing(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub:
        secrets = [token.encode() for role, token in hub.tokens.items() if role not in {"admin", "agent"}]
    kept = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".token")

    assert [secret for secret in secrets if secret in kept] == []
    assert all(secret.startswith(b"acm_") and len(secret) == 66 for secret in secrets)


async def test_s13_nobody_has_a_password(hub: RunningHub) -> None:
    document = (await (await hub.ask("GET", "/openapi.json")).text()).lower()

    assert '"password"' not in document


async def test_s14_a_revoked_token_ends_what_it_has_opened(hub: RunningHub) -> None:
    made = await (await hub.ask("POST", "/api/v1/tokens", json={"role": "viewer", "ttl_s": 3600})).json()
    hub.tokens["brief"] = made["token"]
    async with hub.stream("/api/v1/events", role="brief") as reader:
        await hub.ask("DELETE", f"/api/v1/tokens/{made['id']}")
        with pytest.raises((EOFError, aiohttp.ClientError)):
            await reader.until("nothing of this kind")

    listed = (await (await hub.ask("GET", "/api/v1/tokens")).json())["tokens"]
    assert made["expires_at"]
    assert [each["revoked_at"] for each in listed if each["id"] == made["id"]] != [None]
    assert (await hub.ask("GET", "/api/v1/tasks", role="brief")).status == 401


async def test_s18_a_thousand_wrong_tokens_are_enough_and_who_has_a_good_one_is_served(guessed_at: RunningHub) -> None:
    host, _, port = guessed_at.url.removeprefix("http://").partition(":")
    chance = random.Random(18)
    reader, writer = await asyncio.open_connection(host, int(port))
    statuses: list[int] = []
    waits: list[int] = []
    while len(statuses) < 1_100 or not waits:  # a hundred at a time; while they come, a few more are forgiven
        for _ in range(100):
            token = make_token(chance.getrandbits)[1]
            writer.write(f"GET /api/v1/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        for _ in range(100):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            await reader.readexactly(int(fields["Content-Length"]))
            statuses.append(int(head.split()[1]))
            waits += [int(fields["Retry-After"])] if "Retry-After" in fields else []
        assert (await guessed_at.ask("GET", "/api/v1/agents", role="viewer")).status == 200
    writer.close()

    assert statuses[:1000] == [401] * 1000
    assert set(statuses) == {401, 429}
    assert len(waits) == statuses.count(429)
    assert min(waits) >= 1


@pytest.mark.parametrize(
    "name, secure", [("X-Forwarded-Proto", True), ("Forwarded", False), ("X-Forwarded-Ssl", False)]
)
async def test_s19_a_listed_proxy_is_believed_and_nobody_else(
    proxied: RunningHub, plain: RunningHub, name: str, *, secure: bool
) -> None:
    said = {name: "https" if name == "X-Forwarded-Proto" else "on"}
    for hub, is_believed in ((proxied, secure), (plain, False)):
        made = await hub.ask("POST", "/session", role=None, json={"token": hub.tokens["viewer"]}, headers=said)
        hub.client.cookie_jar.clear()

        assert ("Secure" in made.headers["Set-Cookie"]) is is_believed
        assert made.headers["Set-Cookie"].startswith("__Secure-") is is_believed
        assert ("Strict-Transport-Security" in made.headers) is is_believed


async def test_s19_a_name_that_a_stranger_forwards_opens_no_page(proxied: RunningHub, plain: RunningHub) -> None:
    for hub, is_believed in ((proxied, True), (plain, False)):
        made = await hub.ask("POST", "/session", role=None, json={"token": hub.tokens["viewer"]})
        cookie = made.headers["Set-Cookie"].partition(";")[0].partition("=")[2]
        port = urlsplit(hub.url).port
        hub.client.cookie_jar.clear()
        headers = {"Cookie": f"agentcom_session_{port}={cookie}", "X-Forwarded-Host": f"evil.example:{port}"}

        answer = await hub.ask("GET", "/api/v1/tasks", role=None, headers=headers)

        assert answer.status == (421 if is_believed else 200)
