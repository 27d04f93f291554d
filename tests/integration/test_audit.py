"""The audit log as people use it: decisions of a day, looked through, taken away, and tampered with."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import msgpack
import pytest

from agentcom.cli import run
from tests.support.running_hub import RunningHub, running_hub

LIST = "/api/v1/audit"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


async def entries(hub: RunningHub, query: str = "") -> list[dict[str, Any]]:
    answer = await hub.ask("GET", f"{LIST}{query}", role="operator")
    assert answer.status == 200, await answer.text()
    found: list[dict[str, Any]] = (await answer.json())["entries"]
    return found


async def test_a_day_of_decisions_says_who_what_and_how_it_ended(hub: RunningHub) -> None:
    made = await (await hub.ask("POST", "/api/v1/tasks", role="submitter", json={"title": "x"})).json()
    task = made["id"]
    await hub.ask("POST", f"/api/v1/tasks/{task}/cancel", role="operator", json={"reason": "no"})
    budget = {"tokens": 5}
    assert (await hub.ask("PUT", "/api/v1/budgets/hub", json=budget)).status == 200
    assert (await hub.ask("GET", "/api/v1/tokens", role="viewer")).status == 403
    assert (await hub.ask("POST", "/session", role=None, json={"token": hub.tokens["viewer"]})).status == 303
    assert (await hub.ask("POST", "/session", role=None, json={"token": "wrong"})).status == 401
    await hub.ask("POST", "/api/v1/tasks", json={"title": "whatever shares no commit with them"})

    found = {(e["action"], e["role"], e["verdict"]): e for e in await entries(hub)}
    assert {
        ("task.submit", "submitter", "done"),
        ("task.cancel", "operator", "done"),
        ("budget.set", "admin", "done"),
        ("tokens:manage", "viewer", "refused"),
        ("session.open", "viewer", "done"),
        ("session.open", "", "refused"),
        ("token.create", "hub", "done"),
        ("hub.start", "hub", "done"),
    } <= set(found)
    cancelled = found["task.cancel", "operator", "done"]
    assert cancelled["subject"] == task
    assert cancelled["detail"] == {"reason": "no"}
    assert [e["action"] for e in await entries(hub, f"?subject={task}")] == ["task.cancel", "task.submit"]
    assert {e["action"].partition(".")[0] for e in await entries(hub, "?action=token")} == {"token"}
    assert await entries(hub, "?since=2999-01-01T00:00:00Z") == []
    secret = hub.tokens["viewer"].split("_")[2]
    assert secret not in json.dumps(await entries(hub))


@pytest.mark.parametrize(
    "query", ["?since=yesterday", "?since=2026-01-01T00:00:00", "?cursor=x", "/verify?seq=1&hash=z"]
)
async def test_what_is_not_understood_is_said(hub: RunningHub, query: str) -> None:
    assert (await hub.ask("GET", LIST + query)).status == 422


@pytest.mark.parametrize("role", ["viewer", "submitter", "agent"])
async def test_only_who_runs_the_hub_reads_it(hub: RunningHub, role: str) -> None:
    for path in (LIST, f"{LIST}/entries", f"{LIST}/verify"):
        assert (await hub.ask("GET", path, role=role)).status == 403


async def test_the_commands_list_look_through_and_export(
    hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", hub.tokens["admin"])
    file = tmp_path / "audit.jsonl"

    async def says(*words: str) -> tuple[int, str]:
        status = await asyncio.to_thread(run, ["audit", *words, "--hub", hub.url])
        return status, capsys.readouterr().out

    status, text = await says("ls", "--action", "token")
    assert (status, "token.create" in text, "hub.start" in text) == (0, True, False)
    status, text = await says("verify")
    assert (status, "as written" in text) == (0, True)
    anchor = text.split("anchor ")[1].strip()
    assert (await says("verify", "--anchor", anchor))[0] == 0
    assert (await says("verify", "--anchor", anchor[:-64] + 64 * "0"))[0] == 1
    assert (await says("export", str(file)))[0] == 0
    assert (await says("verify", "--file", str(file), "--anchor", anchor))[0] == 0
    assert holds(file)

    lines = file.read_text("utf-8").splitlines()
    for wrong in (lines[:2] + lines[3:], [lines[0], lines[2], lines[1], *lines[3:]], lines[1:], lines[:3]):
        file.write_text("\n".join(wrong), "utf-8")
        assert (await says("verify", "--file", str(file), "--anchor", anchor))[0] == 1

    store = apsw.Connection(str(next(tmp_path.rglob("hub.sqlite"))))
    store.set_busy_timeout(60_000)  # the hub may be writing
    store.execute("UPDATE audit SET actor = 'somebody' WHERE seq = 2")
    store.close()
    status, text = await says("verify")
    assert (status, "entry 2 is not what was written" in text, "TAMPERED" in text) == (1, True, True)


def holds(file: Path) -> bool:
    """What the documentation tells others to do (docs/reference/audit.md)."""
    with file.open(encoding="utf-8") as lines:
        before = bytes.fromhex(json.loads(next(lines))["before"])
        for line in lines:
            e = json.loads(line)
            words = [e[k] for k in ("seq", "at_ms", "actor", "role", "action", "subject", "verdict", "detail")]
            before = hashlib.sha256(before + msgpack.packb(words)).digest()
            if before.hex() != e["hash"]:
                return False
    return True
