"""Confined work asks LLM endpoints through the sidecar and never sees a key: real programs, a server as provider."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from protocol.endpoints import EndpointKind
from protocol.model import AttemptId, Budget, Usage
from sidecar.environment import minimal_env
from sidecar.errors import LeaseOver
from sidecar.llm.account import Account
from sidecar.llm.config import EndpointSettings
from sidecar.llm.passage import Passages
from sidecar.llm.porch import MOST
from sidecar.process import Processes
from sidecar.sandbox.cell import Cell, Level, Sandbox
from sidecar.sandbox.policy import Place, Rules
from tests.support.levels import LEVELS, need
from tests.support.serving import served

ATTEMPT = AttemptId("box", 1, "01jd0000000000000000000000", 1)
KEYS = {"claude": "key-of-claude-0123456789", "gpt": "key-of-openai-0123456789"}
ASK = """
import json, os, sys, urllib.error, urllib.request
def ask(which, path, fields, method="POST", body=b'{"model": "m"}'):
    request = urllib.request.Request(os.environ[which + "_BASE_URL"] + path, body, fields, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as exc:
        return exc.code, exc.read().decode(), dict(exc.headers)
token = os.environ.get("OPENAI_API_KEY", "")
"""
LOOK = """
import os
keys = [b"key-of-" + name for name in (b"claude", b"openai")]
def has(seen): return any(key in seen for key in keys)
found = has(repr(dict(os.environ)).encode())
for folder in ("/proc", os.getcwd(), os.environ["HOME"], "/tmp", "/run"):
    for here, folders, files in os.walk(folder):
        if "site-packages" in folders: folders.remove("site-packages")  # installed long before there was a key
        for name in files:
            if here.startswith("/proc") and name not in ("environ", "cmdline", "mountinfo"): continue
            try: found = found or has(open(os.path.join(here, name), "rb").read(1 << 20))
            except OSError: pass
print(found)
"""


@dataclass
class Provider:
    """Answers as both kinds of providers do, and repeats what it was told in its answers, as some do in errors."""

    heard: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    url: str = ""
    says: dict[str, object] | None = None

    async def answer(self, request: web.Request) -> web.StreamResponse:
        fields = {name.lower(): value for name, value in request.headers.items()}
        self.heard.append((request.path_qs, fields, await request.text()))
        if self.says is not None:
            return web.json_response(self.says)
        told = fields.get("x-api-key") or fields.get("authorization", "").removeprefix("Bearer ")
        if told not in KEYS.values():
            return web.json_response({"error": f"{told} is no key"}, status=401)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Set-Cookie": f"key={told}"})
        response.headers["Request-Id"] = f"of-{told}"
        await response.prepare(request)
        for piece in ("data: hello\n\n", f"data: you are {told[:9]}", f"{told[9:]}\n\n", "data: bye\n\n"):
            await response.write(piece.encode())
        return response


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{rest:.*}", made.answer)
    async with served(app) as made.url:
        yield made


@dataclass
class World:
    """A sidecar's passages, and what to make cells of."""

    passages: Passages
    sandbox: Sandbox
    place: Place
    is_over: bool = False

    def check(self, attempt: AttemptId) -> None:
        if self.is_over:
            raise LeaseOver(attempt)

    def cell(self, *needs: str, account: Account | None = None) -> Cell:
        return self.sandbox.cell(ATTEMPT, self.place, *self.passages.open(ATTEMPT, needs, account))


@pytest.fixture
async def world(tmp_path: Path, provider: Provider) -> AsyncIterator[World]:
    need(Level.BUBBLEWRAP)
    processes = Processes(base_env=minimal_env(os.environ, home=tmp_path), drain_s=0.2, grace_s=0.5)
    sandbox = Sandbox(processes, tmp_path, Rules())
    assert await sandbox.find("bubblewrap") is Level.BUBBLEWRAP, sandbox.why
    place = Place(tmp_path / "work", tmp_path / "scratch")
    place.workspace.mkdir()
    endpoints = (
        EndpointSettings("claude", EndpointKind.ANTHROPIC, provider.url, api_key=KEYS["claude"]),
        EndpointSettings("gpt", EndpointKind.OPENAI, f"{provider.url}/v1", api_key=KEYS["gpt"]),
        EndpointSettings("secret", EndpointKind.OPENAI, f"{provider.url}/v1", api_key="key-of-nobody-0123456789"),
    )
    made = World(Passages(), sandbox, place)
    made.passages = Passages(endpoints, ("claude", "gpt"), made.check)
    yield made
    await made.passages.close(ATTEMPT)
    await sandbox.close(ATTEMPT)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def said(cell: Cell, program: str) -> str:
    outcome = await cell.run(["/usr/bin/env", "python3", "-c", ASK + program], timeout_s=60)
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


async def test_both_kinds_are_asked_with_a_token_and_heard_with_the_key(world: World, provider: Provider) -> None:
    cell = world.cell("llm")
    output = await said(
        cell,
        """
gpt = {"Authorization": "Bearer " + token, "OpenAI-Organization": "o"}
claude = {"x-api-key": os.environ["ANTHROPIC_API_KEY"], "anthropic-version": "2023-06-01", "Cookie": "mine"}
print(json.dumps([ask("ANTHROPIC", "/v1/messages?beta=true", claude),
                  ask("OPENAI", "/chat/completions", gpt)]))
""",
    )
    (claude, openai) = json.loads(output)
    (first, second) = provider.heard

    assert claude[0] == openai[0] == 200
    assert claude[1] == openai[1] == "data: hello\n\ndata: you are [secret]\n\ndata: bye\n\n"
    assert not any(key in output for key in KEYS.values())
    assert "Set-Cookie" not in claude[2]
    assert (first[0], second[0]) == ("/v1/messages?beta=true", "/v1/chat/completions")
    assert first[1]["x-api-key"] == KEYS["claude"]
    assert second[1]["authorization"] == f"Bearer {KEYS['gpt']}"
    assert {"cookie", "openai-organization"} & {*first[1], *second[1]} == set()
    assert first[2] == second[2] == '{"model": "m"}'


async def test_no_program_finds_a_key(world: World) -> None:
    outcome = await world.cell("llm").run(["/usr/bin/env", "python3", "-c", LOOK], timeout_s=60)

    assert outcome.output == "False\n"


async def test_only_the_attempts_own_token_opens_and_only_for_questions(world: World, provider: Provider) -> None:
    output = await said(
        world.cell("llm"),
        """
mine = {"Authorization": "Bearer " + token}
base = os.environ["OPENAI_BASE_URL"]
print([ask("OPENAI", "/models", fields, "GET", None)[0] for fields in ({}, {"x-api-key": "x"}, {"x-api-key": "\\xff"})],
      [ask("OPENAI", path, mine)[0] for path in ("/files", "/../secret/chat/completions", "/models/../files")],
      ask("OPENAI", "/chat/completions", {**mine, "Content-Length": str(33 << 20)})[0])
os.environ["OPENAI_BASE_URL"] = base.replace("/gpt", "/secret")
print(ask("OPENAI", "/chat/completions", mine)[0])
""",
    )

    assert output == "[401, 401, 401] [403, 403, 403] 413\n404\n"
    assert provider.heard == []


async def test_a_token_dies_with_its_attempt(world: World, provider: Provider) -> None:
    cell = world.cell("llm")
    question = 'print(ask("OPENAI", "/models", {"Authorization": "Bearer " + token}, "GET", None)[0])'
    assert await said(cell, question) == "200\n"
    world.is_over = True
    assert await said(cell, question) == "403\n"  # its lease is over
    world.is_over = False
    await world.passages.close(ATTEMPT)

    assert await said(cell, question) == "401\n"
    assert len(provider.heard) == 1


async def test_a_program_that_opens_connection_after_connection_takes_few_descriptors_of_ours(world: World) -> None:
    before, all_there = descriptors(), asyncio.Event()
    many = """
import socket, time
held = [socket.socket() for _ in range(400)]
for each in held:
    each.settimeout(0.2)
    try: each.connect(("127.0.0.1", 3129))
    except OSError: pass
print("all", flush=True)
time.sleep(600)
"""
    command = ["/usr/bin/env", "python3", "-c", many]
    running = asyncio.create_task(world.cell("llm").run(command, on_output=lambda *_: all_there.set()))
    async with asyncio.timeout(110):
        await all_there.wait()
        while descriptors() > before + MOST + 16:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait({running})

    assert await said(world.cell("llm"), "print(len(token) > 20)") == "True\n"


async def test_a_task_that_does_not_need_it_has_nothing_of_it(world: World) -> None:
    output = (
        await world.cell("egress").run(
            "env | grep -c -e ANTHROPIC -e OPENAI; python3 -c 'import socket; "
            'print(socket.socket().connect_ex(("127.0.0.1", 3129)))\''
        )
    ).output

    assert output.split()[0] == "0"
    assert output.split()[1] != "0"


async def test_where_there_is_no_network_of_its_own_nothing_is_opened(tmp_path: Path, world: World) -> None:
    """Landlock knows ports, not addresses, and no socket files: whatever it opened would lead anywhere."""
    for level in (*LEVELS[1:], Level.UNSAFE):
        sandbox = Sandbox(Processes(base_env=minimal_env(os.environ, home=tmp_path)), tmp_path, Rules(), level)
        cell = sandbox.cell(ATTEMPT, world.place, *world.passages.open(ATTEMPT, ("llm",)))

        assert not sandbox.has_doors
        assert (await cell.run("env | grep -c -e ANTHROPIC -e OPENAI")).output == "0\n"
        await sandbox.close(ATTEMPT)


PRICED = {"model": "claude-sonnet-5", "usage": {"input_tokens": 1_000, "output_tokens": 100}}
ASK_CLAUDE = """
mine = {"x-api-key": os.environ["ANTHROPIC_API_KEY"], "anthropic-version": "2023-06-01"}
for path in PATHS: print(*ask("ANTHROPIC", path, mine)[:2])
"""


def questions(*paths: str) -> str:
    return ASK_CLAUDE.replace("PATHS", repr(paths))


@pytest.mark.parametrize(
    "left, said_, requests",
    [
        (Budget(tokens=1_100), ["200", "402"], 1),
        (Budget(tokens=1_101), ["200", "200"], 2),
        (Budget(tokens=None, usd=0.002), ["200", "402"], 1),
        (Budget(tokens=None, usd=1.0), ["200", "200"], 2),
        (Budget(tokens=0), ["402", "402"], 0),
    ],
)
async def test_what_is_asked_counts_and_is_refused_once_the_budget_is_spent(
    world: World, provider: Provider, left: Budget, said_: list[str], requests: int
) -> None:
    provider.says = PRICED
    account, heard = Account(), list[int]()
    account.begin(left, lambda: heard.append(account.usage.input_tokens))
    output = await said(world.cell("llm", account=account), questions("/v1/messages", "/v1/messages"))
    await account.settled()

    assert [line.split()[0] for line in output.splitlines()] == said_
    assert len(provider.heard) == requests
    assert heard == [1_000 * (number + 1) for number in range(requests)]
    assert (account.usage.input_tokens, account.usage.output_tokens) == (1_000 * requests, 100 * requests)
    # 2 and 10 dollars a million, as the list says.
    assert account.usage.cost_usd == pytest.approx(0.003 * requests)
    assert (account.spent is not None) == ("402" in said_)


async def test_counting_tokens_and_asking_for_models_is_free(world: World, provider: Provider) -> None:
    provider.says = PRICED
    account = Account()
    account.begin(Budget(tokens=0), lambda: None)
    output = await said(world.cell("llm", account=account), questions("/v1/messages/count_tokens"))
    await account.settled()

    assert output.startswith("200")
    assert (account.usage, account.spent) == (Usage(), None)


async def test_a_model_without_a_price_is_asked_once_where_money_is_bounded(world: World, provider: Provider) -> None:
    provider.says = {**PRICED, "model": "nobody-knows-this"}
    account = Account()
    account.begin(Budget(usd=1.0), lambda: None)
    output = await said(world.cell("llm", account=account), questions("/v1/messages", "/v1/messages"))
    await account.settled()

    assert [line.split()[0] for line in output.splitlines()] == ["200", "402"]
    assert "no price is known for model nobody-knows-this" in output
    assert account.usage.cost_usd is None


async def test_an_endpoint_that_is_away_is_said_to_be(world: World, provider: Provider) -> None:
    gone = EndpointSettings("gone", EndpointKind.OPENAI, "http://127.0.0.1:9/v1", api_key=KEYS["gpt"])
    world.passages = Passages((gone,), ("gone",))
    output = await said(
        world.cell("llm"), 'print(ask("OPENAI", "/models", {"Authorization": "Bearer " + token}, "GET", None)[:2])'
    )

    assert output.startswith("(502, ")
    assert "gone does not answer" in output
    assert KEYS["gpt"] not in output
