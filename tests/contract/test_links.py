"""Every link of the OpenAPI document leads somewhere: what was made or changed is asked about as its answer says.

schemathesis draws chains of requests by chance (``test_openapi.py``) and comes to few of them: what a link goes out
from has to succeed first. Here each is gone once, from a thing that is made for it. What cannot be reached says why.
"""

import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.foreign_agent import ForeignAgent
from tests.support.running_hub import RunningHub, running_hub
from tests.support.strangers import join, until_state

API: Final = "/api/v1"
BODIES: Final[dict[str, Any]] = {
    f"{API}/tasks": {"title": "x", "executor": "noop", "needs": ["nowhere"]},
    f"{API}/projects": {"name": "{new}", "repository": "https://git.example/{new}.git"},
    f"{API}/notifiers": {"url": "http://127.0.0.1:9/{new}"},
    f"{API}/tokens": {"role": "viewer"},
    f"{API}/join-tokens": {},
}
BEFORE: Final = {"resume": ("pause",), "hand-back": ("take",)}
"""What has to be done to a task before that can be."""
UNREACHED: Final = {
    f"{API}/tasks/{{id}}/approve": "no work waits for a person",
    f"{API}/tasks/{{id}}/reject": "no work waits for a person",
    f"{API}/tasks/{{id}}/artifacts": "only the holder of an attempt keeps files",
    f"{API}/tasks/{{id}}/git-access": "only the holder of an attempt of a project gets access",
    f"{API}/agents/{{name}}/release": "no machine is in quarantine",
    f"{API}/agents/{{name}}/reclaim": "a stranger has no GPU to take back",
    f"{API}/agents/{{name}}/give-back": "a stranger has no GPU to take back",
    f"{API}/agents/{{name}}/upgrade": "a stranger installs no release",
    f"{API}/endpoints": "no server of models answers",
    f"{API}/pulls/{{id}}/approve": "no branch was pushed",
    f"{API}/pulls/{{id}}/retry": "no branch was pushed",
    f"{API}/alerts/{{id}}/acknowledge": "no alert fires",
    f"{API}/alerts/{{id}}/silence": "no alert fires",
    f"{API}/join-requests": "only a machine without a token asks to join",
}
"""Operations that cannot succeed at a hub of its own with one stranger, and why."""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


class Walker:
    """Makes things, and goes on from what it is answered."""

    def __init__(self, hub: RunningHub, agent: ForeignAgent, document: dict[str, Any]) -> None:
        self.hub, self.agent = hub, agent
        self._numbers = itertools.count()
        ways = [(path, way.upper(), op) for path, ops in document["paths"].items() for way, op in ops.items()]
        self.operations = {op["operationId"]: (path, way, op) for path, way, op in ways}
        self.sources = [
            (path, way, op, status, answer["links"])
            for path, way, op in ways
            for status, answer in op["responses"].items()
            if "links" in answer
        ]

    async def do(self, way: str, path: str, op: dict[str, Any], body: Any = None) -> tuple[int, Any]:  # noqa: ANN401 - any JSON
        """One request as the document has it: status, and the body if it is JSON."""
        sent = {"json": {} if body is None else body} if "requestBody" in op else {}
        headers = {"Accept": "application/json"}
        answer = await self.hub.ask(way, path, headers=headers, **sent)
        return answer.status, await answer.json(content_type=None) if "json" in answer.content_type else None

    async def dead(self) -> str:
        """A task that is a dead letter."""
        spec = {"title": "x", "executor": "noop", "needs": ["dying"], "max_retries": 0}
        made = await (await self.hub.ask("POST", f"{API}/tasks", json=spec)).json()
        while (attempt := await self.agent.take())[2] != made["id"]:
            await self.agent.report(attempt)  # one that was tried again
        await self.agent.until_acknowledged(await self.agent.report(attempt, "failed"))
        await until_state(self.hub, made["id"], "dead")
        return str(made["id"])

    async def thing(self, path: str) -> str:
        """What an operation on one thing can be done to."""
        if path.startswith(f"{API}/agents/"):
            return "Foreign"
        if path.endswith("/retry"):
            return await self.dead()
        made = await (await self.hub.ask("POST", f"{API}/tasks", json=BODIES[f"{API}/tasks"])).json()
        for verb in BEFORE.get(path.rpartition("/")[2], ()):
            before = await self.hub.ask("POST", f"{API}/tasks/{made['id']}/{verb}", json={})
            assert before.status == 200, await before.text()
        return str(made["id"])

    async def go(self, path: str, way: str, op: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
        """The operation that a link goes out from: status, what its path names, and the answer."""
        places = {}
        if "{" in path:
            name = path[path.index("{") + 1 : path.index("}")]
            places = {name: await self.thing(path)}
        new = f"n{next(self._numbers)}"
        body = json.loads(json.dumps(BODIES.get(path, {})).replace("{new}", new))
        status, answer = await self.do(way, path.format(**places), op, body)
        return status, places, answer


def value(where: str, places: dict[str, str], answer: Any) -> str:  # noqa: ANN401 - any JSON
    """What a link's parameter is, by its runtime expression (OpenAPI 3.1, 4.8.20.4)."""
    if where.startswith("$request.path."):
        return places[where.removeprefix("$request.path.")]
    found = answer
    for step in where.removeprefix("$response.body#/").split("/"):
        found = found[step]
    return str(found)


@pytest.mark.timeout(300)
async def test_every_link_leads_to_what_its_operation_knows(hub: RunningHub) -> None:
    document = await (await hub.ask("GET", "/openapi.json")).json()
    agent = await join(hub, capabilities=["executor:noop", "dying"])
    walker = Walker(hub, agent, document)
    followed, missed, wrong = Counter[str](), Counter[str](), list[str]()
    for path, way, op, status, links in walker.sources:
        if path in UNREACHED:
            missed[f"{way} {path}: {UNREACHED[path]}"] += len(links)
            continue
        for link in links.values():
            done, places, answer = await walker.go(path, way, op)
            assert str(done) == status, f"{way} {path}: {done} {answer}"
            said = {name: value(where, places, answer) for name, where in link["parameters"].items()}
            target, how, known = walker.operations[link["operationId"]]
            if "{" in target.format_map({**said, "path": "a.txt"}):
                missed[f"{how} {target}: names more than the link gives"] += 1
                continue
            found, told = await walker.do(how, target.format(**{"path": "a.txt", **said}), known)
            followed[str(found)] += 1
            if str(found) not in known["responses"] or (found >= 500 and str(found) != "502"):
                wrong.append(f"{way} {path} -> {how} {target}: {found} {told}")

    total = sum(len(links) for *_, links in walker.sources)
    print(f"\n{followed.total()} of {total} links followed, answered {dict(sorted(followed.items()))}; not followed:")
    print("\n".join(f"  {count:3} {why}" for why, count in sorted(missed.items())))
    assert wrong == []
    assert followed.total() + missed.total() == total
    assert followed["200"] + followed["201"] + followed["204"] > total // 4
