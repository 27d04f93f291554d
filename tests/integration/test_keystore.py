"""Secrets at a whole hub: set over HTTP, given over the line to who holds the task, and found nowhere else."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.core.envelope import TEXT
from hub.store.alert_changes import NotifierRow, PutNotifier
from hub.store.secret_changes import ResealSecret
from hub.store.sqlite import SqliteStore
from protocol.alerts import Severity
from tests.support.foreign_agent import ForeignAgent, Plain
from tests.support.running_hub import RunningHub, running_hub
from tests.support.strangers import join, submit, task, until_state

CANARY = "canary-Sx7!pQ/9zW+4vT%2k"
SECRETS = "/api/v1/secrets"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as made:
        yield made


async def put(hub: RunningHub, name: str = "TOKEN", role: str = "operator", **body: Any) -> aiohttp.ClientResponse:
    return await hub.ask("PUT", f"{SECRETS}/{name}", role=role, json={"value": CANARY, **body})


async def ask(agent: ForeignAgent, attempt: list[Any]) -> Plain:
    await agent.say({"t": "ask_secrets", "attempt": attempt})
    return await agent.until("secrets")


async def holder(hub: RunningHub, name: str = "Foreign", **more: Any) -> ForeignAgent:
    return await join(hub, name=name, capabilities=["executor:noop", "secrets"], **more)


async def audited(hub: RunningHub) -> list[tuple[str, str, dict[str, Any]]]:
    entries = (await (await hub.ask("GET", "/api/v1/audit")).json())["entries"]
    return [(entry["action"], entry["subject"], entry["detail"]) for entry in reversed(entries)]


def spoils(folder: Path) -> list[Path]:
    """Files below a folder that hold the canary, as it is or in base64."""
    forms = CANARY.encode(), base64.b64encode(CANARY.encode())
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [file for file in files if any(form in file.read_bytes() for form in forms)]


async def test_a_secret_is_set_listed_and_removed_and_no_answer_holds_it(hub: RunningHub, tmp_path: Path) -> None:
    made = await put(hub, projects=["web"])
    again = await put(hub)
    listed = await hub.ask("GET", SECRETS, role="operator")
    one = await hub.ask("GET", f"{SECRETS}/TOKEN", role="operator")

    assert (made.status, again.status) == (200, 200)
    view = await one.json()
    assert (view["version"], view["projects"], view["is_readable"]) == (2, ["web"], True), "left out: as it was"
    assert (await listed.json()) == {"secrets": [view], "key": view["key"]}
    for answer in (made, again, listed, one):
        assert CANARY not in await answer.text()
    assert (tmp_path / "keystore.key").stat().st_mode & 0o777 == 0o600
    assert (await hub.ask("DELETE", f"{SECRETS}/TOKEN")).status == 204
    assert [(await hub.ask(way, f"{SECRETS}/TOKEN")).status for way in ("GET", "DELETE")] == [404, 404]
    told = await audited(hub)
    assert [entry[:2] for entry in told if entry[0].startswith("secret")] == [
        ("secret.set", "TOKEN"), ("secret.set", "TOKEN"), ("secret.remove", "TOKEN"),
    ]  # fmt: skip
    assert CANARY not in json.dumps(told)


@pytest.mark.parametrize("role", ["submitter", "viewer", "agent"])
async def test_who_does_not_manage_secrets_may_not_even_list_them(hub: RunningHub, role: str) -> None:
    assert (await put(hub, role=role)).status == 403
    assert (await hub.ask("GET", SECRETS, role=role)).status == 403
    assert (await hub.ask("DELETE", f"{SECRETS}/TOKEN", role=role)).status == 403
    assert (await hub.ask("POST", "/api/v1/keystore/rotate", role=role)).status == 403


async def test_what_can_be_no_secret_is_refused_and_the_answer_does_not_repeat_it(hub: RunningHub) -> None:
    for name, body in (
        ("TOKEN", {"value": "short"}),
        ("a-b", {}),
        ("TOKEN", {"value": f"{CANARY}\0"}),
        ("T", {"key": 1}),
    ):
        refused = await put(hub, name, **body)
        assert refused.status == 422, name
        assert CANARY not in await refused.text()
    assert (await (await hub.ask("GET", SECRETS)).json())["secrets"] == []


async def test_the_holder_of_the_lease_gets_what_its_task_names_and_nobody_else_gets_anything(hub: RunningHub) -> None:
    await put(hub)
    await put(hub, "OTHER", value="of another task")
    thief = await holder(hub, "Thief", boot=9)
    owner = await join(hub, capabilities=["executor:noop", "secrets", "mine"])
    name = await submit(hub, secrets=[{"name": "TOKEN", "env": "X"}], needs=["mine"])
    attempt = await owner.take()

    assert await ask(owner, attempt) == {"t": "secrets", "attempt": attempt, "values": {"TOKEN": CANARY}}
    refused = [
        await ask(thief, attempt),  # another's attempt
        await ask(thief, ["Thief", 9, name, attempt[3]]),  # in its own name
        await ask(owner, [*attempt[:3], attempt[3] + 1]),  # of a later epoch
        await ask(owner, [attempt[0], attempt[1] + 1, *attempt[2:]]),  # of another boot
    ]
    await owner.until_acknowledged(await owner.report(attempt, output="done"))
    refused.append(await ask(owner, attempt))  # its lease has ended with it

    assert [(answer["code"], answer.get("values")) for answer in refused] == [("stale", None)] * 5
    released = [entry for entry in await audited(hub) if entry[0] == "secret.release"]
    assert [(subject, detail["secrets"], detail["agent"]) for _, subject, detail in released] == [
        (name, ["TOKEN"], "Foreign")
    ]


async def test_a_task_that_names_an_unknown_secret_is_refused_with_all_of_them(hub: RunningHub) -> None:
    await put(hub, "OF_WEB", projects=["web"])
    uses = [{"name": "NONE"}, {"name": "OF_WEB"}]
    one = await hub.ask("POST", "/api/v1/tasks", json={"title": "x", "executor": "noop", "secrets": uses})
    batch = {"tasks": [{"title": "x", "executor": "noop"}, {"title": "y", "executor": "noop", "secrets": uses[:1]}]}
    many = await hub.ask("POST", "/api/v1/tasks", json=batch)

    assert (one.status, many.status) == (422, 422)
    assert [(problem["path"], problem["problem"][:40]) for problem in (await one.json())["errors"]] == [
        ("secrets[0].name", "secret NONE is not kept at this hub; set"),
        ("secrets[1].name", "secret OF_WEB is not for tasks without a"),
    ]
    assert [problem["path"] for problem in (await many.json())["errors"]] == ["tasks[1].secrets[0].name"]
    assert (await (await hub.ask("GET", "/api/v1/tasks")).json())["tasks"] == []


async def test_a_token_that_is_bound_to_a_project_uses_what_was_set_for_it_only(hub: RunningHub) -> None:
    await hub.ask("POST", "/api/v1/projects", json={"name": "web", "repository": "git@example.org:r"})
    await put(hub, "OPEN")
    await put(hub, "OF_WEB", projects=["web"])
    made = await hub.ask("POST", "/api/v1/tokens", json={"role": "submitter", "projects": ["web"]})
    hub.tokens["bound"] = (await made.json())["token"]

    async def status(name: str, role: str) -> int:
        spec = {"title": "x", "executor": "noop", "project": "web", "secrets": [{"name": name}]}
        return (await hub.ask("POST", "/api/v1/tasks", role=role, json=spec)).status

    found = [await status(name, role) for name in ("OF_WEB", "OPEN") for role in ("submitter", "bound")]
    assert found == [201, 201, 201, 422]
    assert (await hub.ask("GET", SECRETS, role="bound")).status == 403


async def test_a_secret_that_was_removed_or_taken_from_the_project_is_not_given_any_more(hub: RunningHub) -> None:
    await put(hub)
    await put(hub, "GONE")
    agent = await holder(hub)
    await submit(hub, secrets=[{"name": "TOKEN"}])
    first = await agent.take()
    await submit(hub, secrets=[{"name": "GONE"}])
    second = await agent.take()
    await put(hub, projects=["web"])
    await hub.ask("DELETE", f"{SECRETS}/GONE")

    answers = [await ask(agent, first), await ask(agent, second)]
    assert [(answer["code"], answer["detail"].partition(";")[0]) for answer in answers] == [
        ("secret_missing", "secret TOKEN is not for tasks without a project"),
        ("secret_missing", "secret GONE is not kept at this hub"),
    ]


async def test_an_older_sidecar_gets_no_task_with_secrets_and_explain_says_why(hub: RunningHub) -> None:
    await put(hub)
    await join(hub)
    name = await submit(hub, secrets=[{"name": "TOKEN"}])
    told = await (await hub.ask("GET", f"/api/v1/tasks/{name}/explain")).text()

    assert (await task(hub, name))["state"] == "queued"
    assert "lacks 'secrets'" in told
    assert "upgrade a sidecar: it does not know how to ask for secrets" in told


async def test_the_value_is_in_no_file_of_the_hub_and_in_no_backup_also_with_a_new_key(
    tmp_path: Path,
) -> None:
    async with running_hub(tmp_path) as hub:
        await put(hub)
        await hub.ask("POST", "/api/v1/notifiers", json={"url": f"http://127.0.0.1:1/{CANARY}", "secret": CANARY})
        before = (tmp_path / "keystore.key").read_bytes()
        made = await hub.ask("POST", "/api/v1/backups")
        rotated = await (await hub.ask("POST", "/api/v1/keystore/rotate")).json()
        agent = await holder(hub)
        await submit(hub, secrets=[{"name": "TOKEN"}])
        attempt = await agent.take()

        assert (await ask(agent, attempt))["values"] == {"TOKEN": CANARY}
        assert made.status == 201
        assert (rotated["sealed"], len(rotated["dropped"])) == (2, 1)
        [row] = await hub.running.store.notifiers()
        assert (row.url.startswith(TEXT), row.secret) == (True, "")
        [shown] = (await (await hub.ask("GET", "/api/v1/notifiers")).json())["notifiers"]
        assert (shown["url"], shown["is_signed"]) == ("http://127.0.0.1:1/...", True)
        assert spoils(tmp_path) == []
    assert spoils(tmp_path) == []
    after = (tmp_path / "keystore.key").read_bytes()
    assert after.strip() not in before
    copies = [file for file in (tmp_path / "backups").rglob("*") if file.is_file()]
    assert copies
    assert [file for file in copies if before.strip() in file.read_bytes() or after.strip() in file.read_bytes()] == []


async def test_addresses_that_an_older_hub_has_kept_in_clear_are_sealed_at_the_start(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    row = NotifierRow(
        id="n", kind="webhook", url=f"http://127.0.0.1:1/{CANARY}", secret=CANARY, label="", least=Severity.INFO
    )
    await store.commit(PutNotifier(row, is_new=True))
    await store.close()
    assert spoils(tmp_path) != []

    async with running_hub(tmp_path) as hub:
        [shown] = (await (await hub.ask("GET", "/api/v1/notifiers")).json())["notifiers"]
        assert (shown["url"], shown["is_signed"]) == ("http://127.0.0.1:1/...", True)
    assert spoils(tmp_path) == [], "also not in what SQLite has left of the page"


async def test_an_exchange_of_keys_that_was_cut_off_is_ended_by_the_next_start(tmp_path: Path) -> None:
    file = tmp_path / "keystore.key"
    async with running_hub(tmp_path) as hub:
        for name in ("ONE", "TWO"):
            await put(hub, name)
        await hub.ask("POST", "/api/v1/notifiers", json={"url": "http://127.0.0.1:1/x"})
    old, new = file.read_bytes(), base64.b64encode(bytes(range(32))) + b"\n"
    file.write_bytes(new + old)  # the new key was kept, and then the power went

    async with running_hub(tmp_path) as hub:
        assert file.read_bytes() == new
        views = (await (await hub.ask("GET", SECRETS)).json())["secrets"]
        [shown] = (await (await hub.ask("GET", "/api/v1/notifiers")).json())["notifiers"]
        agent = await holder(hub)
        await submit(hub, secrets=[{"name": "ONE"}])
        assert (await ask(agent, await agent.take()))["values"] == {"ONE": CANARY}
    assert [(view["is_readable"], view["version"]) for view in views] == [(True, 1)] * 2
    assert shown["url"] == "http://127.0.0.1:1/..."


async def test_a_value_that_does_not_open_keeps_its_key_and_stops_no_other(tmp_path: Path) -> None:
    file = tmp_path / "keystore.key"
    async with running_hub(tmp_path) as hub:
        await put(hub, "ONE")
        await put(hub, "TWO", value="the other value")
        rows = {row.name: row for row in await hub.running.store.secrets()}
        swapped = ResealSecret("TWO", 1, rows["TWO"].key, rows["ONE"].sealed)
        await hub.running.store.commit(swapped)  # somebody with a hand in the database
        agent = await holder(hub)
        await submit(hub, secrets=[{"name": "TWO"}])
        answer = await ask(agent, await agent.take())
        rotated = await hub.ask("POST", "/api/v1/keystore/rotate")

        assert answer["code"] == "secret_unreadable"
        assert "was changed, or belongs to another name or version" in answer["detail"]
        assert rotated.status == 409
        assert len(file.read_bytes().split()) == 2
        await hub.ask("DELETE", f"{SECRETS}/TWO")
        assert (await hub.ask("POST", "/api/v1/keystore/rotate")).status == 200
        assert len(file.read_bytes().split()) == 1


async def test_a_hub_whose_keys_are_lost_says_so_and_makes_no_new_ones(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub:
        await put(hub)
    (tmp_path / "keystore.key").rename(tmp_path / "elsewhere.key")
    async with running_hub(tmp_path) as hub:
        refused = await put(hub, "NEW")
        [view] = (await (await hub.ask("GET", SECRETS)).json())["secrets"]
        agent = await holder(hub)
        await submit(hub, secrets=[{"name": "TOKEN"}])
        answer = await ask(agent, await agent.take())

        assert (refused.status, (await refused.json())["code"]) == (409, "key_lost")
        assert view["is_readable"] is False
        assert (answer["code"], "values" in answer) == ("secret_unreadable", False)
        (tmp_path / "elsewhere.key").rename(tmp_path / "keystore.key")
        assert (await put(hub, "NEW")).status == 200


async def test_a_line_that_says_what_only_hubs_say_is_closed(hub: RunningHub) -> None:
    agent = await holder(hub)
    await agent.say({"t": "secrets", "attempt": ["Foreign", 1, "01hzy0m5k3v8f6c2q9w4e7r1t0", 1], "values": {}})

    assert (await agent.until("error"))["code"] == "protocol_violation"
    await agent.closed()


async def test_a_task_whose_secret_is_unknown_at_the_hub_when_it_is_done_again_keeps_its_spec(hub: RunningHub) -> None:
    await put(hub)
    agent = await holder(hub)
    name = await submit(hub, secrets=[{"name": "TOKEN"}])
    await agent.work()

    done = await until_state(hub, name, "completed")
    assert done["spec"]["secrets"] == [{"name": "TOKEN"}]
    assert CANARY not in json.dumps(done)
