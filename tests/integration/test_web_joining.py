"""Machines come in over HTTP: with a join token, or because a person approves them; and out again."""

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocol.joining import code_of, make_secret, read_token
from protocol.keys import text
from tests.support.foreign_agent import ForeignAgent
from tests.support.joiner import Machine
from tests.support.running_hub import RunningHub, running_hub

API = "/api/v1"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


async def secret_of(hub: RunningHub, **body: object) -> str:
    answer = await hub.ask("POST", f"{API}/join-tokens", json=body, role="operator")
    assert answer.status == 201
    made = await answer.json()
    assert made["command"] == f"agentcom join {hub.url} --token {made['token']}"
    return read_token(made["token"])[1]


async def join(hub: RunningHub, body: dict[str, Any], path: str = "join") -> tuple[int, dict[str, Any]]:
    answer = await hub.ask("POST", f"{API}/{path}", json=body, role=None)
    return answer.status, await answer.json()


async def own(
    hub: RunningHub, method: str, token: str, path: str = "", body: dict[str, Any] | None = None
) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token}"}
    more = {"json": body} if body else {}
    answer = await hub.ask(method, f"{API}/machine{path}", role=None, headers=headers, **more)
    return answer.status, await answer.json() if answer.status != 204 else {}


async def test_a_machine_joins_with_a_token_sees_itself_and_leaves(hub: RunningHub) -> None:
    secret = await secret_of(hub, label="rack 3")
    status, joined = await join(hub, Machine().body(secret))

    assert (status, joined["version"], joined["hubs"]) == (201, joined["version"], [])
    assert await own(hub, "GET", joined["token"]) == (
        200,
        {
            "name": joined["name"],
            "state": "unseen",
            "version": "",
            "hub_version": joined["version"],
            "boot": 0,
            "protocol": [1, 1],
        },
    )
    status, task = await own(hub, "POST", joined["token"], "/smoke")
    assert (status, task["state"], task["verified"]) == (201, "queued", None)
    assert (await own(hub, "GET", joined["token"], f"/smoke/{task['task']}"))[0] == 200
    listed = await (await hub.ask("GET", f"{API}/join-tokens")).json()
    assert [(one["label"], one["state"], one["used"]) for one in listed["join_tokens"]] == [("rack 3", "used", 1)]

    assert (await own(hub, "DELETE", joined["token"]))[0] == 204
    assert (await own(hub, "GET", joined["token"]))[0] == 401


async def test_a_machine_sees_no_task_but_its_own_first_one(hub: RunningHub) -> None:
    secret = await secret_of(hub, uses=2)
    (_, one), (_, two) = [await join(hub, Machine().body(secret)) for _ in range(2)]
    _, task = await own(hub, "POST", one["token"], "/smoke")
    other = await (await hub.ask("POST", f"{API}/tasks", json={"command": "true"})).json()

    assert one["name"] != two["name"]
    assert (await own(hub, "GET", two["token"], f"/smoke/{task['task']}"))[0] == 404
    assert (await own(hub, "GET", one["token"], f"/smoke/{other['id']}"))[0] == 404
    assert (await own(hub, "GET", hub.tokens["agent"]))[0] == 409


async def test_a_join_that_was_heard_is_refused_to_whoever_repeats_it(hub: RunningHub) -> None:
    machine, secret = Machine(), await secret_of(hub)
    first = machine.body(secret)
    status, joined = await join(hub, first)
    assert status == 201

    status, refused = await join(hub, first)
    assert (status, refused["code"]) == (403, "join_refused")
    status, refused = await join(hub, Machine().body(secret))
    assert (status, "used once" in refused["detail"]) == (403, True)
    assert (await own(hub, "GET", joined["token"]))[0] == 200

    status, again = await join(hub, machine.body(secret))  # its answer was lost: it counts on, and signs anew
    assert (status, again["name"]) == (201, joined["name"])
    assert (await own(hub, "GET", joined["token"]))[0] == 401
    assert (await own(hub, "GET", again["token"]))[0] == 200


@pytest.mark.parametrize(
    "change, status",
    [
        ({"attempt": 7}, 403),
        ({"name": "Other"}, 403),
        ({"key": text(bytes(32))}, 403),
        ({"signature": text(bytes(64))}, 403),
        ({"key": "short"}, 422),
        ({"key": "\u00e9" * 43}, 422),
        ({"signature": ""}, 422),
        ({"attempt": 0}, 422),
        ({"name": "-x"}, 422),
        ({"token": "acj1"}, 422),
        ({"more": 1}, 422),
        ({"facts": {"host": 7}}, 422),
    ],
)
async def test_what_no_machine_sends_is_refused_and_burns_nothing(
    hub: RunningHub, change: dict[str, Any], status: int
) -> None:
    secret = await secret_of(hub)

    assert (await join(hub, Machine().body(secret) | change))[0] == status
    assert (await join(hub, Machine().body(secret)))[0] == 201


async def test_a_name_that_is_taken_is_told(hub: RunningHub) -> None:
    secret = await secret_of(hub, uses=3)
    assert (await join(hub, Machine().body(secret, "Grey-Area")))[1]["name"] == "Grey-Area"

    status, refused = await join(hub, Machine().body(secret, "Grey-Area"))
    assert (status, refused["code"]) == (409, "name_taken")


async def test_a_machine_without_a_token_waits_for_a_person(hub: RunningHub) -> None:
    machine = Machine()
    status, asked = await join(hub, machine.body(), "join-requests")
    assert (status, asked["state"], asked["code"]) == (201, "waiting", code_of(machine.key))
    status, wait = await join(hub, machine.body())
    assert (status, wait["code"]) == (409, "not_yet_approved")
    (shown,) = (await (await hub.ask("GET", f"{API}/join-requests")).json())["join_requests"]
    assert (shown["code"], shown["facts"]["host"]) == (asked["code"], "box")

    approved = await hub.ask("POST", f"{API}/join-requests/{asked['code']}/approve", role="operator")
    assert approved.status == 204
    status, joined = await join(hub, machine.body())
    assert status == 201
    assert (await own(hub, "GET", joined["token"]))[0] == 200
    assert (await (await hub.ask("GET", f"{API}/join-requests")).json())["join_requests"] == []


async def test_a_machine_that_a_person_denies_stays_out(hub: RunningHub) -> None:
    machine = Machine()
    _, asked = await join(hub, machine.body(), "join-requests")

    for verb, status in (("deny", 204), ("approve", 409)):
        assert (await hub.ask("POST", f"{API}/join-requests/{asked['code']}/{verb}")).status == status
    assert (await hub.ask("POST", f"{API}/join-requests/nobody/approve")).status == 404
    assert (await join(hub, machine.body()))[1]["code"] == "join_refused"


@pytest.mark.parametrize(
    "body", [{"ttl_s": 0}, {"ttl_s": 1e9}, {"uses": 0}, {"uses": 10**6}, {"url": "ftp://x"}, {"url": "http://a;rm x"}]
)
async def test_a_join_token_that_cannot_be_is_refused(hub: RunningHub, body: dict[str, Any]) -> None:
    answer = await hub.ask("POST", f"{API}/join-tokens", json=body)

    assert answer.status == 422
    assert [one["path"] for one in (await answer.json())["errors"]] == list(body)


async def test_a_revoked_join_token_lets_nobody_in(hub: RunningHub) -> None:
    secret = await secret_of(hub)
    token = secret.partition("_")[0]

    assert (await hub.ask("DELETE", f"{API}/join-tokens/{token}")).status == 204
    assert "was revoked" in (await join(hub, Machine().body(secret)))[1]["detail"]
    assert (await hub.ask("DELETE", f"{API}/join-tokens/nobody")).status == 404


async def test_who_tries_join_tokens_or_asks_again_and_again_is_slowed_and_a_good_token_is_not(hub: RunningHub) -> None:
    secret, (_, wrong) = await secret_of(hub), make_secret(Random(1).getrandbits)
    await hub.ask("PATCH", f"{API}/rate-limits/stranger", json={"per_s": 0.1, "burst": 4})

    tried = [(await join(hub, Machine().body(wrong)))[0] for _ in range(2)]
    asked = [(await join(hub, Machine().body(), "join-requests"))[0] for _ in range(3)]
    waiting = await (await hub.ask("GET", f"{API}/join-requests")).json()

    assert (tried, asked) == ([403] * 2, [201] * 2 + [429])
    assert len(waiting["join_requests"]) == 2  # nothing is kept of the one that was refused
    assert (await join(hub, Machine().body(wrong)))[0] == 429
    assert (await join(hub, Machine().body(secret)))[0] == 201


async def test_a_proxy_that_speaks_tls_for_the_hub_is_where_machines_join(tmp_path: Path) -> None:
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "mesh.example.org", "X-Forwarded-For": "192.0.2.7"}
    async with running_hub(tmp_path, trusted_proxies=["127.0.0.1"]) as hub:
        made = await (await hub.ask("POST", f"{API}/join-tokens", headers=said)).json()
        await hub.ask("POST", f"{API}/join-requests", role=None, headers=said, json=Machine().body())
        waiting = await (await hub.ask("GET", f"{API}/join-requests")).json()

    assert (made["url"], read_token(made["token"])[0], made["note"]) == ("https://mesh.example.org", "web", "")
    assert [each["address"] for each in waiting["join_requests"]] == ["192.0.2.7"]


async def test_a_machine_is_asked_to_get_the_release_of_the_hub_and_tells_how_it_goes(hub: RunningHub) -> None:
    _, joined = await join(hub, Machine().body(await secret_of(hub)))
    name, token = joined["name"], joined["token"]
    where = f"{API}/agents/{name}/upgrade"
    assert (await hub.ask("POST", where)).status == 404
    old = await ForeignAgent.join(hub.url, token, name=name, capabilities=["executor:noop"])
    answer = await hub.ask("POST", where)
    assert (answer.status, "agentcom upgrade" in await answer.text()) == (409, True)
    await old.leave()

    agent = await ForeignAgent.join(hub.url, token, name=name, boot=2, capabilities=["executor:noop", "upgrade"])
    assert (await hub.ask("POST", where, role="viewer")).status == 403
    shown = await (await hub.ask("POST", where, role="operator")).json()
    assert (shown["draining"], shown["upgrade"]) == (True, "asked")
    assert (await agent.until("upgrade"))["by"]

    async def told(step: str, why: str = "") -> tuple[str, str]:
        status, _ = await own(hub, "POST", token, "/upgrade", {"step": step, "why": why})
        assert status == 204
        shown = await (await hub.ask("GET", f"{API}/agents/{name}")).json()
        return shown["upgrade"], shown["upgrade_failed"]

    assert await told("build") == ("build", "")
    assert await told("ready", "nobody is\nthere") == ("", "ready: nobody isthere")
    assert await told("back") == ("", "ready: nobody isthere")
    assert await told("fetch") == ("fetch", "")
    assert await told("tidy") == ("", "")
    assert (await own(hub, "POST", token, "/upgrade", {"step": "fetch", "more": 1}))[0] == 422
    async with hub.stream(f"{API}/events?kind=agent_upgrade_failed", headers={"Last-Event-ID": "0"}) as facts:
        assert (await facts.until("agent_upgrade_failed"))["facts"] == {"step": "ready", "why": "nobody isthere"}
    await agent.leave()
