"""Limits on how often may be asked, over real HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.foreign_agent import ForeignAgent, hello
from tests.support.running_hub import RunningHub, running_hub

LOW = {"per_s": 0.1, "burst": 3}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path / "hub") as made:
        yield made


async def statuses(hub: RunningHub, role: str | None, count: int, **headers: str) -> list[int]:
    return [(await hub.ask("GET", "/api/v1/tasks", role=role, headers=headers)).status for _ in range(count)]


async def test_who_asks_too_often_is_told_when_to_come_back_and_others_are_served(hub: RunningHub) -> None:
    viewer = hub.tokens["viewer"].split("_")[1]
    set_ = await hub.ask("PATCH", f"/api/v1/rate-limits/{viewer}", json={**LOW, "action": "read"})
    found = await statuses(hub, "viewer", 4)
    refused = await hub.ask("GET", "/api/v1/tasks", role="viewer")
    shown = await (await hub.ask("GET", "/api/v1/rate-limits", role="operator")).json()
    metrics = await (await hub.ask("GET", "/metrics")).text()

    assert set_.status == 200
    assert found == [200, 200, 200, 429]
    assert (await refused.json())["code"] == "throttled"
    assert int(refused.headers["Retry-After"]) >= 1
    assert await statuses(hub, "operator", 5) == [200] * 5
    assert [(each["caller"], each["refused"], each["is_own"]) for each in shown["callers"]] == [(viewer, 2, True)]
    assert 'agentcom_throttled_total{action="read"} 2.0' in metrics


async def test_what_an_administrator_has_set_survives_a_restart(tmp_path: Path) -> None:
    async with running_hub(tmp_path / "hub") as hub:
        assert (await hub.ask("PATCH", "/api/v1/rate-limits/read", json=LOW)).status == 200
        viewer = hub.tokens["viewer"]
    async with running_hub(tmp_path / "hub") as hub:
        hub.tokens["viewer"] = viewer
        found = await statuses(hub, "viewer", 4)
        locked_out = await statuses(hub, "admin", 4)
        reset = await hub.ask("DELETE", "/api/v1/rate-limits/read")

        assert found == locked_out == [200, 200, 200, 429]
        assert reset.status == 204  # whoever has locked himself out gets in again
        assert await statuses(hub, "admin", 4) == [200] * 4


async def test_sidecars_come_in_however_often_their_token_was_used(hub: RunningHub) -> None:
    assert (await hub.ask("PATCH", "/api/v1/rate-limits/read", json={"per_s": 0.1, "burst": 1})).status == 200
    for name in ("One", "Two", "Three"):
        agent = await ForeignAgent.dial(hub.url, hub.tokens["agent"])
        await agent.say(hello(name=name))
        assert (await agent.until("welcome"))["protocol"] == 1
        await agent.leave()


async def test_wrong_tokens_of_an_address_are_limited_and_a_right_one_from_there_is_not(hub: RunningHub) -> None:
    await hub.ask("PATCH", "/api/v1/rate-limits/stranger", json={"per_s": 0.1, "burst": 20})
    wrong = f"Bearer {hub.tokens['viewer'][:-1]}"

    found = await statuses(hub, None, 25, Authorization=wrong)
    silent = await statuses(hub, None, 3)
    logins = [
        (await hub.ask("POST", "/session", role=None, json={"token": "acm_x"})).status,
        (await hub.ask("POST", "/session", role=None, json={"token": hub.tokens["viewer"]})).status,
    ]

    assert found == [401] * 20 + [429] * 5
    assert logins == [429, 303]
    assert await statuses(hub, "viewer", 3) == [200] * 3
    assert silent == [401] * 3  # it shows nothing: there is nothing to guess with


@pytest.mark.parametrize(
    "proxies, said, found",
    [
        ([], "10.0.0.{}", [401] * 3 + [429] * 2),  # nobody listed says so
        (
            ["127.0.0.1"],
            "10.0.0.{}, 192.0.2.1",
            [401] * 3 + [429] * 2,
        ),  # what stands left of the caller is its own word
        (["127.0.0.1"], "2001:db8::{}", [401] * 3 + [429] * 2),  # one household
        (["127.0.0.1"], "10.0.0.{}", [401] * 5),
    ],
)
async def test_nobody_gets_round_the_limit_by_forwarded_addresses_of_his_own(
    tmp_path: Path, proxies: list[str], said: str, found: list[int]
) -> None:
    async with running_hub(tmp_path / "hub", trusted_proxies=proxies) as hub:
        await hub.ask("PATCH", "/api/v1/rate-limits/stranger", json=LOW)
        asked = [
            await statuses(hub, None, 1, **{"Authorization": "Bearer acm_x", "X-Forwarded-For": said.format(number)})
            for number in range(5)
        ]

    assert [status for one in asked for status in one] == found


@pytest.mark.parametrize("body", [{}, {"per_s": 0, "burst": 1}, {"per_s": 1, "burst": 0}, {"per_s": 1e9, "burst": 1}])
async def test_a_limit_that_cannot_be_is_422(hub: RunningHub, body: dict[str, float]) -> None:
    assert (await hub.ask("PATCH", "/api/v1/rate-limits/read", json=body)).status == 422
