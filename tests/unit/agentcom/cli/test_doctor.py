"""Promises of :mod:`agentcom.cli.doctor`: the commonest faults are found, each with what to do about it."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from agentcom.cli import diagnosis, doctor, run
from protocol.api import AgentView
from protocol.model import AgentState
from tests.unit.agentcom.conftest import Script, refuses, replies

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "date, state",
    [
        ("Thu, 01 Jan 2026 12:00:00 GMT", "ok"),
        ("Thu, 01 Jan 2026 11:59:50 GMT", "warn"),
        ("Thu, 01 Jan 2026 12:01:00 GMT", "fail"),
        ("", "warn"),
        ("yesterday", "warn"),
    ],
)
def test_a_clock_that_is_off_is_found(date: str, state: str) -> None:
    found = diagnosis.skew(date, NOW)

    assert found.state == state
    assert bool(found.fix) is (state != "ok")


def test_secrets_that_others_can_read_are_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    token = tmp_path / "admin.token"
    token.write_text("acm_x")
    token.chmod(0o644)

    (found,) = doctor._data_dir(tmp_path)

    assert (found.state, found.fix) == ("fail", f"chmod 600 {token}")


def test_a_data_directory_for_its_owner_only_is_fine(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)

    assert [each.state for each in doctor._data_dir(tmp_path)] == ["ok"]
    assert [each.state for each in doctor._data_dir(tmp_path / "none")] == ["ok"]


def test_the_disk_is_judged_where_the_data_will_be(tmp_path: Path) -> None:
    assert str(tmp_path) in doctor._disk(tmp_path / "not" / "there").detail


def agent(name: str, capability: str) -> AgentView:
    return AgentView(
        name=name,
        state=AgentState.IDLE,
        host="h",
        slots=1,
        busy=0,
        capabilities=(capability,),
        version="1",
        boot_epoch=1,
        last_seen_at=NOW,
        tasks=(),
        draining=False,
    )


def test_agents_that_confine_nothing_are_found() -> None:
    levels = {"Good": "sandbox:bubblewrap", "Bare": "sandbox:none", "Open": "sandbox:unsafe", "Old": "gpu"}
    agents = [agent(name, level) for name, level in levels.items()]

    found = {each.detail: each for each in doctor._sandboxes(agents)}

    assert {detail: each.state for detail, each in found.items()} == {
        "bubblewrap: Good": "ok",
        "none: Bare": "fail",
        "unsafe: Open": "warn",
        "unknown: Old": "warn",
    }
    assert "apt install bubblewrap" in found["none: Bare"].fix
    assert found["bubblewrap: Good"].fix == ""


def test_an_agent_whose_key_is_in_use_twice_is_found_with_the_way_out() -> None:
    copied = msgspec.structs.replace(agent("Copied", "gpu"), quarantine="its key is in use on a and on b")

    (found,) = doctor._clones([agent("Well", "gpu"), copied])
    assert (found.state, found.detail) == ("fail", "Copied gets no work: its key is in use on a and on b")
    assert "agentcom agents release Copied" in found.fix


def test_agents_of_another_release_are_found() -> None:
    agents = [agent("Same", "gpu"), msgspec.structs.replace(agent("Old", "gpu"), version="0.9")]

    (found,) = doctor._versions("1", agents)
    assert (found.state, found.detail) == ("warn", "not 1: Old (0.9)")
    assert "agentcom machines upgrade" in found.fix
    assert list(doctor._versions("1", agents[:1])) == []


def test_a_git_that_is_missing_or_too_old_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (doctor._git().state, doctor._git().fix) == ("fail", "install git")
    old = tmp_path / "git"
    old.write_text("#!/bin/sh\necho git version 2.20.1\n")
    old.chmod(0o755)
    assert doctor._git().state == "warn"


async def looked(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, *args: str
) -> dict[str, dict[str, str]]:
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_x")
    words = ["doctor", "--json", "--hub", args[0] if args else script.url, "--data-dir", str(folder)]
    assert await asyncio.to_thread(run, words) in {0, 1}
    checks = msgspec.json.decode(capsys.readouterr().out)["checks"]
    return {check["name"]: check for check in checks}


async def test_a_hub_that_does_not_answer_is_found(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = await looked(script, monkeypatch, capsys, tmp_path, "http://127.0.0.1:9")

    assert (found["hub"]["state"], "agentcom up" in found["hub"]["fix"]) == ("fail", True)


async def test_a_token_that_the_hub_does_not_know_is_found(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script.then(replies({"status": "ok"}), refuses(401, "unauthenticated", "unknown"))
    found = await looked(script, monkeypatch, capsys, tmp_path)

    assert (found["token"]["state"], "--token-file" in found["token"]["fix"]) == ("fail", True)


@pytest.mark.parametrize("part", ["store", "backups", "audit", "sweeper", "disk", "memory", "agents", "dispatch"])
async def test_parts_of_the_hub_that_are_not_well_are_found_with_what_to_do(
    part: str, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    down = {"state": "down", "detail": "it is so"}
    health = {
        "state": "down",
        "version": "1",
        "started_at": "2026-01-01T00:00:00Z",
        "components": {part: down},
        "queue": {},
    }
    nothing = [replies({name: [], "next_cursor": None}) for name in ("agents", "endpoints", "hosts")]
    agents, endpoints, hosts = nothing
    tokens = replies({"tokens": []})
    script.then(replies({"status": "ok"}), tokens, replies(health), agents, replies(health), endpoints, hosts)
    capsys.readouterr()
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_x")
    words = ["doctor", "--json", "--hub", script.url, "--data-dir", str(tmp_path)]

    assert await asyncio.to_thread(run, words) == 1
    checks = msgspec.json.decode(capsys.readouterr().out)["checks"]
    found = next(check for check in checks if check["detail"] == "it is so")
    assert (found["name"], found["state"]) == (part, "fail")
    assert found["fix"] == doctor._OF_PARTS.get(part, "look into the hub's log")
    states = {check["name"]: check["state"] for check in checks if check["detail"] != "it is so"}
    assert (states["agents"] if part != "agents" else "warn", states["endpoints"]) == ("warn", "warn"), (
        "nobody is there"
    )
