"""Git of an attempt through the hub, with git's own client and a server that wants a password."""

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sidecar.gate import Way
from tests.support.foreign_agent import ForeignAgent
from tests.support.git_server import PASSWORD, USER, GitServer, Reply, git_server
from tests.support.repositories import git
from tests.support.running_hub import RunningHub, running_hub

PATIENCE_S = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "server").mkdir()
    with git_server(tmp_path / "server") as running:
        yield running


@dataclass
class Held:
    """A hub with one attempt of a project in the hands of a foreign agent; ``clone`` is what that has."""

    hub: RunningHub
    agent: ForeignAgent
    attempt: list[Any]
    clone: Path

    @property
    def branch(self) -> str:
        return f"agentcom/foreign/x-{self.attempt[2]}-e{self.attempt[3]}"

    async def access(self, wanted: int = 201, **changed: object) -> dict[str, Any]:
        """What the hub answers when it is asked for a credential."""
        sidecar, boot, task, epoch = self.attempt
        query = {"sidecar": sidecar, "boot": boot, "epoch": epoch, **changed}
        answer = await self.hub.ask("POST", f"/api/v1/tasks/{task}/git-access", role="agent", params=query)
        assert answer.status == wanted, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found

    async def git(self, way: Way, *arguments: str) -> tuple[int, str]:
        """A git command as a sidecar would start it: how it ended, and what it said."""
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_TERMINAL_PROMPT": "0", **way.env()}
        pipe = asyncio.subprocess.PIPE
        command = ("git", *(part.replace("HUB", way.address) for part in arguments))
        process = await asyncio.create_subprocess_exec(*command, cwd=self.clone, env=env, stdout=pipe, stderr=pipe)
        async with asyncio.timeout(PATIENCE_S):
            out, error = await process.communicate()
        return process.returncode or 0, (out + error).decode()


@contextlib.asynccontextmanager
async def holding(folder: Path, server: GitServer, **settings: object) -> AsyncIterator[Held]:
    async with running_hub(folder / "hub", git_ca_file=str(server.ca_file), **settings) as hub:
        project = {"name": "p", "repository": server.with_login()}
        assert (await hub.ask("POST", "/api/v1/projects", json=project)).status == 201
        agent = await ForeignAgent.join(hub.url, hub.tokens["agent"])
        made = await hub.ask("POST", "/api/v1/tasks", json={"command": "x", "executor": "shell", "project": "p"})
        assert made.status == 201
        assign = await agent.until("assign")
        await agent.tell("accept", assign["attempt"])
        clone = folder / "clone"
        clone.mkdir()
        git(clone, "init", "--quiet", "--initial-branch=x")
        git(clone, "commit", "--quiet", "--allow-empty", "--message", "Work of an attempt")
        yield Held(hub, agent, assign["attempt"], clone)
        await agent.leave()


@pytest.fixture
async def held(tmp_path: Path, server: GitServer) -> AsyncIterator[Held]:
    async with holding(tmp_path, server) as found:
        yield found


async def way_of(held: Held) -> Way:
    access = await held.access()
    return Way(f"{held.hub.url}{access['path']}", access["token"])


async def test_an_attempt_fetches_and_pushes_its_branch_without_the_password(held: Held, server: GitServer) -> None:
    way = await way_of(held)
    fetched = await held.git(way, "fetch", "--quiet", "HUB", "+refs/heads/*:refs/remotes/origin/*")
    pushed = await held.git(way, "push", "--porcelain", "HUB", f"x:refs/heads/{held.branch}")
    (held.clone / "large").write_bytes(os.urandom(3 << 20))  # beyond what git sends in one piece
    git(held.clone, "add", "large")
    git(held.clone, "commit", "--quiet", "--message", "A large file")
    large = await held.git(way, "push", "--porcelain", "HUB", f"x:refs/heads/{held.branch}")

    assert (fetched, pushed[0], large[0]) == ((0, ""), 0, 0), pushed[1] + large[1]
    assert server.remote.tip("main") == git(held.clone, "rev-parse", "refs/remotes/origin/main")
    assert server.remote.tip(held.branch) == git(held.clone, "rev-parse", "x")
    assert {is_known for _, _, is_known in server.asked} == {True}
    assert PASSWORD not in str(fetched) + str(pushed) + str(large)


async def test_nothing_but_the_branch_of_the_attempt_can_be_pushed(held: Held, server: GitServer) -> None:
    way = await way_of(held)
    before = server.remote.branches(), server.remote.tip("main")
    await held.git(way, "fetch", "--quiet", "HUB", "+refs/heads/*:refs/remotes/origin/*")
    own = f"refs/heads/{held.branch}"
    for wanted in (
        ("+x:refs/heads/main",),
        (":refs/heads/main",),
        ("x:refs/tags/v1",),
        (f"x:{own}0",),
        (f"x:refs/heads/x-{held.attempt[2]}-e{held.attempt[3]}",),
        (f"x:{own}", "+x:refs/heads/main"),
    ):
        status, said = await held.git(way, "push", "--porcelain", "HUB", *wanted)
        assert status != 0
        assert "403" in said

    assert (server.remote.branches(), server.remote.tip("main")) == before


async def test_a_credential_ends_with_its_attempt(held: Held, server: GitServer) -> None:
    way = await way_of(held)
    task = held.attempt[2]
    assert (await held.git(way, "ls-remote", "HUB"))[0] == 0
    assert (await held.hub.ask("POST", f"/api/v1/tasks/{task}/cancel")).status == 200
    await held.agent.until("cancel")
    result = {"execution_ok": False, "verified": None}
    await held.agent.tell("report", held.attempt, state="cancelled", result=result)

    async def is_over() -> bool:
        return bool((await (await held.hub.ask("GET", f"/api/v1/tasks/{task}")).json())["state"] == "cancelled")

    async with asyncio.timeout(PATIENCE_S):
        while not await is_over():  # noqa: ASYNC110 - the hub tells this test nothing, it is asked
            await asyncio.sleep(0.02)
    asked = len(server.asked)
    status, said = await held.git(way, "push", "HUB", f"x:refs/heads/{held.branch}")

    assert status != 0
    assert "403" in said
    assert (await held.access(409))["code"] == "stale"
    assert len(server.asked) == asked, "the server was not even asked"


async def test_a_credential_ends_with_the_lease_though_its_sidecar_says_nothing(
    tmp_path: Path, server: GitServer
) -> None:
    async with holding(tmp_path, server, heartbeat_s=0.2, lease_s=5.0) as held:
        way = await way_of(held)
        async with asyncio.timeout(PATIENCE_S):
            while (await held.git(way, "ls-remote", "HUB"))[0] == 0:  # noqa: ASYNC110 - the lease ends by itself
                await asyncio.sleep(0.05)
        status, said = await held.git(way, "ls-remote", "HUB")

    assert status != 0
    assert "403" in said


async def test_who_is_not_the_attempt_gets_no_credential_and_cannot_use_one(held: Held) -> None:
    for changed in ({"sidecar": "other"}, {"boot": 9}, {"epoch": 2}):
        assert (await held.access(409, **changed))["code"] == "stale"
    way = await way_of(held)
    place = way.address.removeprefix(held.hub.url) + "/info/refs?service=git-upload-pack"
    other = (await (await held.hub.ask("POST", "/api/v1/tasks", json={"title": "y"})).json())["id"]
    key = {"Authorization": f"Bearer {way.token}"}

    assert (await held.hub.ask("GET", place, role=None, headers=key)).status == 200
    assert (await held.hub.ask("GET", place, role=None)).status == 401
    assert (await held.hub.ask("GET", place, role="admin")).status == 403
    elsewhere = place.replace(held.attempt[2], other)
    assert (await held.hub.ask("GET", elsewhere, role=None, headers=key)).status == 403
    assert (await held.hub.ask("GET", "/api/v1/tasks", role=None, headers=key)).status == 401
    assert (await held.hub.ask("GET", place.replace("upload", "archive"), role=None, headers=key)).status == 422
    for role in ("viewer", "submitter", "operator"):
        refused = await held.hub.ask("POST", f"/api/v1/tasks/{held.attempt[2]}/git-access", role=role)
        assert refused.status == 403


async def test_work_elsewhere_than_in_a_project_with_a_password_gets_none(held: Held) -> None:
    await held.hub.ask("PATCH", "/api/v1/projects/p", json={"repository": "https://example.org/public.git"})

    assert (await held.access(404))["code"] == "not_found"


async def test_a_password_that_the_server_tells_back_in_its_errors_is_found_nowhere(
    held: Held, server: GitServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    way = await way_of(held)
    heard: list[str] = []

    def tell_back(_method: str, path: str, headers: Mapping[str, str], _body: bytes) -> Reply:
        coded = headers.get("Authorization", "").partition(" ")[2]
        heard.append(base64.b64decode(coded).decode())
        said = f"remote: {path}: {heard[-1]} ({coded}) may not do this"
        asks = {"Content-Type": "text/plain", "WWW-Authenticate": 'Basic realm="git"'}
        return (403 if coded else 401), asks, said.encode()

    server.apis["/"] = tell_back
    status, said = await held.git(way, "ls-remote", "HUB")
    cloned = await held.hub.ask("POST", "/api/v1/projects/p/git/clone")
    told = [said, await cloned.text()]
    paths = ("projects", "tasks", f"tasks/{held.attempt[2]}", "audit")
    told += [await (await held.hub.ask("GET", f"/api/v1/{path}")).text() for path in paths]
    told += capfd.readouterr()
    files = [path for path in (tmp_path / "hub").rglob("*") if path.is_file() and path.parent.name != "logins"]
    kept = {path.name: path.read_bytes() for path in files}

    assert heard[-1] == f"{USER}:{PASSWORD}", "it was shown where it belongs"
    assert status != 0
    assert cloned.status >= 400
    forms = [PASSWORD, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()[8:-4]]
    assert [form for form in forms if any(form in text for text in told)] == []
    assert [name for name, raw in kept.items() if any(form.encode() in raw for form in forms)] == []
