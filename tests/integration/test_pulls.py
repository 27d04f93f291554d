"""Pull requests: a real hub, an agent that has pushed, and a forge that keeps state and checks every request."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.foreign_agent import ForeignAgent
from tests.support.forge_server import Fault, ForgeServer, Pull, forge_server
from tests.support.git_server import PASSWORD
from tests.support.repositories import git
from tests.support.running_hub import RunningHub, running_hub

PATIENCE_S = 60.0
LOOK_S = 0.02
OK = 200
KINDS = ("forgejo", "github")
CHECKS = [{"type": "command_succeeds", "command": "true"}]
PASSED = {"name": "true", "type": "command_succeeds", "passed": True, "seconds": 0.5}
USAGE = {"model": "qwen3:8b", "endpoint": "here", "input_tokens": 1200, "output_tokens": 340, "cost_usd": 0.0125}
_NEEDED = {"cached_input_tokens": 0, "seconds": 12.5}
SMALL = {"src/calc.py": "def add(a, b):\n    return a + b\n"}


@pytest.fixture(params=KINDS)
def forge(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ForgeServer]:
    (tmp_path / "forge").mkdir()
    with forge_server(tmp_path / "forge", request.param) as running:
        yield running
        assert running.bad == [], "the hub asks nothing that the API does not know"


def pushed(forge: ForgeServer, branch: str, files: dict[str, str]) -> str:
    """A new branch from the newest main with these files; its commit."""
    clone = forge.git.remote.clone
    git(clone, "fetch", "--quiet", "origin")
    git(clone, "checkout", "--quiet", "-B", branch, "origin/main")
    return forge.git.remote.commit(files, "Mend add", branch)


@pytest.fixture
def forgejo(tmp_path: Path) -> Iterator[ForgeServer]:
    (tmp_path / "forge").mkdir()
    with forge_server(tmp_path / "forge", "forgejo") as running:
        yield running
        assert running.bad == []


@dataclass
class Shop:
    """A hub with a project whose work goes to a forge, and an agent that does it."""

    hub: RunningHub
    forge: ForgeServer
    agent: ForeignAgent

    async def ask(self, method: str, path: str, wanted: int = 200, **more: Any) -> dict[str, Any]:
        answer = await self.hub.ask(method, f"/api/v1{path}", **more)
        assert answer.status == wanted, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found

    async def work(self, files: dict[str, str], *, verified: bool | None = True, also: str = "", **spec: Any) -> str:
        """A task whose agent has pushed these files (``also`` to another branch); its id."""
        checks = {} if verified is None else {"verification": CHECKS}
        task = {"title": "Mend add", "prompt": "add() subtracts", "executor": "shell", "command": "x", "project": "p"}
        made = await self.ask("POST", "/tasks", 201, json={**task, **checks, **spec})
        assign = await self.agent.until("assign")
        attempt = assign["attempt"]
        await self.agent.tell("accept", attempt)
        branch = f"agentcom/foreign/mend-{attempt[2]}-e{attempt[3]}"
        commit = pushed(self.forge, branch, files)
        if also:
            git(self.forge.git.remote.clone, "push", "--quiet", "origin", f"HEAD:refs/heads/{also}")
        result = {
            "execution_ok": True,
            "verified": verified,
            "report": [PASSED] if verified else [],
            "usage": USAGE | _NEEDED,
            "branch": branch,
            "commit": commit,
            "pushed": True,
        }
        await self.agent.tell("report", attempt, state="passed", result=result)
        return str(made["id"])

    async def pull(self, task: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The request of a task as soon as it is so."""
        return await self.until(f"/pulls/{task}", lambda status, seen: status == OK and is_so(seen))

    async def until(self, path: str, is_so: Callable[[int, dict[str, Any]], bool]) -> dict[str, Any]:
        """What the hub answers as soon as it is so: the hub tells this test nothing, it is asked."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = await self.hub.ask("GET", f"/api/v1{path}")
                seen: dict[str, Any] = await answer.json()
                if is_so(answer.status, seen):
                    return seen
                await asyncio.sleep(LOOK_S)

    async def events(self, task: str) -> list[dict[str, Any]]:
        found = await self.ask("GET", f"/tasks/{task}/events")
        return [event for event in found["events"] if event["kind"].startswith("pull_")]


@contextlib.asynccontextmanager
async def shop(folder: Path, forge: ForgeServer, **rules: Any) -> AsyncIterator[Shop]:
    async with running_hub(folder / "hub", git_ca_file=str(forge.git.ca_file)) as hub:
        pulls = {"forge": forge.kind, **rules}
        made = await hub.ask(
            "POST", "/api/v1/projects", json={"name": "p", "repository": forge.address, "pulls": pulls}
        )
        assert made.status == 201, await made.text()
        agent = await ForeignAgent.join(hub.url, hub.tokens["agent"])
        yield Shop(hub, forge, agent)
        await agent.leave()


async def test_safe_work_is_offered_told_of_and_merged(tmp_path: Path, forge: ForgeServer) -> None:
    async with shop(tmp_path, forge, merge="safe") as place:
        task = await place.work(SMALL)
        done = await place.pull(task, lambda pull: bool(pull["state"] == "merged"))
        told = [event["kind"] for event in await place.events(task)]
        shown = await place.ask("GET", f"/tasks/{task}")

    (pull,) = forge.pulls
    assert (pull.head, pull.base, pull.title, pull.is_merged) == (done["branch"], "main", "Mend add", True)
    assert (done["risk"], done["reasons"], done["number"], done["problem"]) == ("low", [], 1, "")
    assert forge.git.remote.show("main", "src/calc.py") == SMALL["src/calc.py"].strip()
    for fact in ("add() subtracts", "verified: all checks passed", "qwen3:8b at here", "1,200 in", "340 out",
                 "0.012500 USD", task, done["commit"], "low: goes on by itself"):  # fmt: skip
        assert fact in pull.body
    assert told == ["pull_opened", "pull_merged"]
    assert shown["pull"]["url"] == done["url"]
    assert PASSWORD not in json.dumps([shown, done, pull.body])


async def test_risky_work_is_a_draft_until_a_person_has_looked_at_it(tmp_path: Path, forge: ForgeServer) -> None:
    async with shop(tmp_path, forge, merge="safe", protected=["src/"]) as place:
        task = await place.work({**SMALL, ".github/workflows/ci.yml": "on: push\n"})
        draft = await place.pull(task, lambda pull: bool(pull["state"] == "draft"))
        (pull,) = forge.pulls
        assert forge.count("/merge") == 0
        assert draft["risk"] == "high"
        assert draft["reasons"] == [
            "changes protected paths: src/calc.py",
            "changes pipelines of the forge: .github/workflows/ci.yml",
        ]
        assert "waits for a person" in pull.body
        refused = await place.hub.ask("POST", f"/api/v1/pulls/{task}/approve", role="submitter")
        approved = await place.ask("POST", f"/pulls/{task}/approve", role="operator")
        done = await place.pull(task, lambda pull: bool(pull["state"] == "merged"))
        again = await place.hub.ask("POST", f"/api/v1/pulls/{task}/approve")
        told = [event["kind"] for event in await place.events(task)]

    assert refused.status == 403
    assert approved["approved_by"]
    assert done["approved_by"] == approved["approved_by"]
    assert (pull.is_merged, pull.title) == (True, "Mend add")
    assert again.status == 409
    assert told == ["pull_opened", "pull_approved", "pull_merged"]


async def test_work_that_nothing_has_proven_waits_and_nothing_is_merged_unasked(
    tmp_path: Path, forgejo: ForgeServer
) -> None:
    async with shop(tmp_path, forgejo) as place:
        unproven = await place.work(SMALL, verified=None)
        waits = await place.pull(unproven, lambda pull: bool(pull["state"] == "draft"))
        proven = await place.work({"src/other.py": "x = 1\n"})
        opened = await place.pull(proven, lambda pull: bool(pull["state"] == "open"))

    assert waits["reasons"] == ["no check has looked at it"]
    assert opened["risk"] == "low"
    assert forgejo.count("/merge") == 0
    assert [pull.is_merged for pull in forgejo.pulls] == [False, False]


HANGS_UP = [(where, is_after) for where in ("POST", "PATCH", "/merge") for is_after in (False, True)]


async def test_a_forge_that_hangs_up_costs_time_and_nothing_is_done_twice(tmp_path: Path) -> None:
    (tmp_path / "forge").mkdir()
    with forge_server(tmp_path / "forge", "forgejo") as forge:
        async with shop(tmp_path, forge, merge="safe") as place:
            for number, (where, is_after) in enumerate(HANGS_UP, start=1):
                forge.cut(where, is_after=is_after)
                task = await place.work({"src/calc.py": f"x = {number}\n"})
                stuck = await place.pull(task, lambda pull: bool(pull["problem"]))
                await place.ask("POST", f"/pulls/{task}/retry")
                done = await place.pull(task, lambda pull: bool(pull["state"] == "merged"))
                told = [event["kind"] for event in await place.events(task)]

                assert "unreachable" in stuck["problem"]
                assert (len(forge.pulls), done["number"], done["problem"]) == (number, number, "")
                assert told == ["pull_opened", "pull_merged"]
    assert forge.bad == []


TROUBLES: list[tuple[int, dict[str, str], str]] = [
    (502, {}, "broken"),  # of what comes last: by then the request is there
    (429, {"Retry_After": "77"}, "limited"),
    (500, {}, "broken"),
    (503, {}, "broken"),
    (401, {}, "refused"),
    (403, {}, "refused"),
    (404, {}, "missing"),
    (422, {}, "rejected"),
    (302, {"Location": "https://elsewhere.example.org/"}, "missing"),
]


async def test_every_answer_of_a_forge_has_its_name_and_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "forge").mkdir()
    with forge_server(tmp_path / "forge", "forgejo") as forge:
        async with shop(tmp_path, forge) as place:
            for number, (status, headers, trouble) in enumerate(TROUBLES, start=1):
                forge.fail("/files" if number == 1 else "POST", status, f"no, not with {PASSWORD}", **headers)
                task = await place.work({"src/calc.py": f"x = {number}\n"})
                stuck = await place.pull(task, lambda pull: bool(pull["problem"]))
                listed = await place.ask("GET", f"/pulls?state={stuck['state']}&project=p")
                told = await place.events(task)
                await place.ask("POST", f"/pulls/{task}/retry")
                done = await place.pull(task, lambda pull: bool(pull["state"] == "open"))

                is_passing = trouble in {"limited", "broken"}
                assert trouble in stuck["problem"]
                assert str(status) in stuck["problem"]
                assert PASSWORD not in json.dumps([stuck, told])
                assert stuck["state"] == ("pending" if is_passing else "failed")
                assert (stuck["next_at"] is not None) == is_passing
                assert [event["kind"] for event in told] == ([] if is_passing else ["pull_failed"])
                assert [pull["task"] for pull in listed["pulls"]] == [task]
                assert (len(forge.pulls), done["problem"]) == (number, "")


async def test_a_wrong_password_is_told_and_the_right_one_mends_it(tmp_path: Path, forge: ForgeServer) -> None:
    forge.password = "another-one"
    async with shop(tmp_path, forge) as place:
        task = await place.work(SMALL)
        failed = await place.pull(task, lambda pull: bool(pull["state"] == "failed"))
        forge.password = PASSWORD
        await place.ask("POST", f"/pulls/{task}/retry")
        await place.pull(task, lambda pull: bool(pull["state"] == "open"))

    assert "refused" in failed["problem"]
    assert "a token that may write pull requests" in failed["problem"]
    assert PASSWORD not in json.dumps(failed)


ODD: list[tuple[str, bytes, str]] = [
    ("/files", b"[" * 5_000, "its answer is no JSON"),
    ("/graphql", b'{"errors": 5}', "take it out of draft: rejected"),
    ("/graphql", b'{"errors": [{"message": "no, not with PASSWORD"}]}', "no, not with [secret]"),
]


async def test_an_answer_that_nobody_understands_is_told_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "forge").mkdir()
    with forge_server(tmp_path / "forge", "github") as forge:
        async with shop(tmp_path, forge) as place:
            for number, (where, answer, said) in enumerate(ODD, start=1):
                json_type = {"Content-Type": "application/json"}
                forge.faults.append(Fault(where, (200, json_type, answer.replace(b"PASSWORD", PASSWORD.encode()))))
                task = await place.work({"src/calc.py": f"x = {number}\n"})
                stuck = await place.pull(task, lambda pull: bool(pull["problem"]))
                await place.ask("POST", f"/pulls/{task}/retry")
                await place.pull(task, lambda pull: bool(pull["state"] == "open"))

                assert said in stuck["problem"]
    assert forge.bad == []


async def test_a_change_of_many_files_is_seen_page_by_page(tmp_path: Path, forge: ForgeServer) -> None:
    forge.page = 100 if forge.is_github else 7
    async with shop(tmp_path, forge) as place:
        task = await place.work({f"src/f{number}.py": "x = 1\n" for number in range(120)} | {"go.mod": "module x\n"})
        found = await place.pull(task, lambda pull: bool(pull["state"] == "draft"))

    assert found["reasons"] == ["changes 121 files, far more than 20", "changes dependencies: go.mod"]


async def test_what_people_do_at_the_forge_is_seen(tmp_path: Path, forgejo: ForgeServer) -> None:
    async with shop(tmp_path, forgejo) as place:
        task = await place.work(SMALL)
        await place.pull(task, lambda pull: bool(pull["state"] == "open"))
        forgejo.pulls[0].state = "closed"
        await place.ask("POST", f"/pulls/{task}/retry")
        await place.pull(task, lambda pull: bool(pull["state"] == "closed"))
        refused = await place.hub.ask("POST", f"/api/v1/pulls/{task}/retry")
        told = [event["kind"] for event in await place.events(task)]

    assert refused.status == 409
    assert told == ["pull_opened", "pull_closed"]


async def test_a_branch_that_has_moved_on_is_not_merged(tmp_path: Path, forgejo: ForgeServer) -> None:
    forgejo.fail("/merge", 405, "Please try again later")
    async with shop(tmp_path, forgejo, merge="safe") as place:
        task = await place.work(SMALL)
        waiting = await place.pull(task, lambda pull: bool(pull["problem"]))
        forgejo.git.remote.commit({"src/evil.py": "x\n"}, "More", waiting["branch"])
        await place.ask("POST", f"/pulls/{task}/retry")
        stuck = await place.pull(task, lambda pull: "409" in pull["problem"])

    assert "try again later" in waiting["problem"]
    assert stuck["state"] == "open"
    assert not forgejo.pulls[0].is_merged


async def test_a_branch_of_a_person_with_the_same_commit_is_offered_in_its_place(
    tmp_path: Path, forge: ForgeServer
) -> None:
    async with shop(tmp_path, forge) as place:
        task = await place.work(SMALL, labels={"offer": "people/mend-add"}, also="people/mend-add")
        done = await place.pull(task, lambda pull: bool(pull["state"] == "open"))
        moved = pushed(forge, "people/moved", {"src/evil.py": "x\n"})
        other = await place.work(SMALL, labels={"offer": "people/moved"})
        waits = await place.pull(other, lambda pull: bool(pull["state"] == "draft"))

    assert (done["branch"], done["risk"]) == ("people/mend-add", "low")
    assert waits["commit"] != moved
    assert waits["reasons"] == ["its last commit is not the one that was looked at"]
    assert [pull.head for pull in forge.pulls] == ["people/mend-add", "people/moved"]


async def test_a_branch_that_was_merged_before_is_offered_again_with_its_new_work(
    tmp_path: Path, forge: ForgeServer
) -> None:
    offered = {"labels": {"offer": "people/work"}, "also": "people/work"}
    async with shop(tmp_path, forge, merge="safe") as place:
        first = await place.work({"src/a.py": "a = 1\n"}, **offered)
        await place.pull(first, lambda pull: bool(pull["state"] == "merged"))
        forge.pulls.append(Pull(2, "people/work", "main", "a stranger's", "", repository=2))
        forge.cut("POST", is_after=True)  # it is there, and nobody knows
        second = await place.work({"src/b.py": "b = 1\n"}, **offered)
        await place.pull(second, lambda pull: bool(pull["problem"]))
        await place.ask("POST", f"/pulls/{second}/retry")
        done = await place.pull(second, lambda pull: bool(pull["state"] == "merged"))

    assert [pull.is_merged for pull in forge.pulls] == [True, False, True]
    assert done["number"] == 3
    assert forge.git.remote.show("main", "src/b.py") == "b = 1"


async def test_what_was_merged_before_the_hub_knew_of_it_is_not_opened_again(
    tmp_path: Path, forge: ForgeServer
) -> None:
    def merged() -> None:
        (pull,) = forge.pulls
        pull.state, pull.is_merged, pull.last = "closed", True, forge.git.remote.tip(pull.head)

    async with shop(tmp_path, forge) as place:
        forge.cut("POST", is_after=True, then=merged)
        task = await place.work(SMALL)
        await place.pull(task, lambda pull: bool(pull["problem"]))
        await place.ask("POST", f"/pulls/{task}/retry")
        done = await place.pull(task, lambda pull: bool(pull["state"] == "merged"))

    assert (len(forge.pulls), done["number"]) == (1, 1)


async def test_work_of_a_project_without_a_forge_is_offered_nowhere(tmp_path: Path) -> None:
    (tmp_path / "forge").mkdir()
    with forge_server(tmp_path / "forge", "forgejo") as forge:
        async with shop(tmp_path, forge) as place:
            off = await place.ask("PATCH", "/projects/p", json={"pulls": {"forge": "none"}})
            task = await place.work(SMALL)
            await place.until(f"/tasks/{task}", lambda _, seen: bool(seen["state"] == "completed"))
            await place.until(f"/pulls/{task}", lambda status, _: status == 404)

        assert off["pulls"] == {}
        assert forge.asked == []


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"forge": "svn"}, "pulls.forge"),
    ({"forge": "forgejo", "into": "-x"}, "pulls.into"),
    ({"forge": "forgejo", "protected": [""]}, "pulls.protected[0]"),
    ({"forge": "forgejo", "most_lines": -1}, "pulls.most_lines"),
    ({"forge": "forgejo", "merge": "all"}, "pulls.merge"),
]


async def test_rules_that_cannot_be_are_refused(tmp_path: Path) -> None:
    async with running_hub(tmp_path / "hub") as hub:
        for changed, path in WRONG:
            body = {"name": "p", "repository": "https://forge.example.org/a/b.git", "pulls": changed}
            answer = await hub.ask("POST", "/api/v1/projects", json=body)
            assert answer.status == 422
            assert path in [error["path"] for error in (await answer.json())["errors"]]
        elsewhere = {"name": "q", "repository": "ssh://git@forge.example.org/a/b.git", "pulls": {"forge": "forgejo"}}
        other = await hub.ask("POST", "/api/v1/projects", json=elsewhere)

    assert other.status == 422
    assert "https://HOST" in (await other.json())["detail"]
