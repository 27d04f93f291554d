"""Logs of a hub over real HTTP: levels set while it runs, and one id for a request in all that tells of it."""

import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from protocol import logs
from protocol.logs import ACCESS
from tests.support.foreign_agent import ForeignAgent
from tests.support.running_hub import RunningHub, running_hub

PLACE = "/api/v1/log-levels"


@pytest.fixture
def text() -> Iterator[io.StringIO]:
    made = io.StringIO()
    logs.configure(json=True, stream=made, is_final=False)  # loggers of modules outlive this test
    yield made
    logs.set_levels({})
    structlog.reset_defaults()


@pytest.fixture
async def hub(tmp_path: Path, text: io.StringIO) -> AsyncIterator[RunningHub]:
    del text  # it is there before the hub begins to log
    async with running_hub(tmp_path / "hub") as made:
        yield made


def lines(text: io.StringIO, event: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, text.getvalue().splitlines()) if line["event"] == event]


async def test_a_request_has_one_id_in_its_answer_its_error_and_its_lines(hub: RunningHub, text: io.StringIO) -> None:
    quiet = await hub.ask("GET", "/api/v1/tasks")
    set_ = await hub.ask("PATCH", PLACE, json={"levels": {ACCESS: "info"}})
    token = hub.tokens["viewer"]
    found = await hub.ask("GET", "/api/v1/tasks/nothing?secret=x", role="viewer", headers={"X-Request-Id": "mine-7"})
    made = await hub.ask("GET", "/api/v1/agents/nobody")

    assert (quiet.status, set_.status) == (200, 200)
    assert found.headers["X-Request-Id"] == (await found.json())["request_id"] == "mine-7"
    assert made.headers["X-Request-Id"] == (await made.json())["request_id"]
    told = {line["request_id"]: line for line in lines(text, "request")}
    assert set(told) == {"mine-7", made.headers["X-Request-Id"]}
    line = told["mine-7"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/v1/tasks/nothing", 422)
    assert (line["by"], line["component"], line["address"]) == (token.split("_")[1], ACCESS, "127.0.0.1")
    assert line["ms"] >= 0
    assert "secret=x" not in text.getvalue()


async def test_what_a_request_sets_off_tells_its_id(hub: RunningHub, text: io.StringIO) -> None:
    task = (await (await hub.ask("POST", "/api/v1/tasks", json={"command": "true"})).json())["id"]
    await hub.ask("POST", f"/api/v1/tasks/{task}/cancel", headers={"X-Request-Id": "mine-8"})

    (line,) = lines(text, "task_cancelled")
    assert (line["task"], line["request_id"]) == (task, "mine-8")


async def test_levels_are_kept_over_a_restart_and_taken_back(tmp_path: Path, text: io.StringIO) -> None:
    async with running_hub(tmp_path / "hub") as hub:
        shown = await (await hub.ask("GET", PLACE, role="operator")).json()
        await hub.ask("PATCH", PLACE, json={"levels": {"hub.web": "debug", "aiohttp": "error"}})
    async with running_hub(tmp_path / "hub") as hub:
        kept = await (await hub.ask("GET", PLACE)).json()
        structlog.get_logger("hub.web.stream").debug("seen")
        await hub.ask("PATCH", PLACE, json={"levels": {"hub.web": None}})
        structlog.get_logger("hub.web.stream").debug("unseen")
        back = await (await hub.ask("GET", PLACE)).json()
        audit = await (await hub.ask("GET", "/api/v1/audit?action=log_levels.set")).json()

    assert (shown["usual"], shown["levels"]) == ("info", [])
    assert {"hub.services.dispatch", "hub.web.access", "sidecar"} <= set(shown["components"])
    assert [(each["component"], each["level"]) for each in kept["levels"]] == [
        ("aiohttp", "error"),
        ("hub.web", "debug"),
    ]
    assert [each["component"] for each in back["levels"]] == ["aiohttp"]
    assert len(lines(text, "seen")) == 1
    assert not lines(text, "unseen")
    assert len(audit["entries"]) == 2


@pytest.mark.parametrize(
    "levels, problem",
    [
        ({"hub.wep": "debug"}, "did you mean hub.web"),
        ({"hub.web": "loud"}, "levels"),
        ({"sidecar; rm": "debug"}, "no such component"),
    ],
)
async def test_what_cannot_be_is_refused_with_the_way_out(
    hub: RunningHub, levels: dict[str, str], problem: str
) -> None:
    refused = await hub.ask("PATCH", PLACE, json={"levels": {"hub.store": "debug", **levels}})

    assert refused.status == 422
    assert problem in (await refused.text())
    assert (await (await hub.ask("GET", PLACE)).json())["levels"] == []


async def test_only_those_who_operate_may_see_and_set_levels(hub: RunningHub) -> None:
    assert (await hub.ask("GET", PLACE, role="viewer")).status == 403
    assert (await hub.ask("PATCH", PLACE, role="submitter", json={"levels": {}})).status == 403


async def test_sidecars_are_told_when_they_come_and_when_it_changes(hub: RunningHub) -> None:
    await hub.ask("PATCH", PLACE, json={"levels": {"sidecar.link": "debug", "hub.web": "debug"}})
    agent = await ForeignAgent.join(hub.url, hub.tokens["agent"], capabilities=["log_levels"])
    first = await agent.until("log_levels")
    await hub.ask("PATCH", PLACE, json={"levels": {"sidecar.link": None}})
    second = await agent.until("log_levels")
    await agent.leave()

    assert first["levels"] == {"sidecar.link": "debug"}
    assert "levels" not in second
