"""Promises of :mod:`agentcom.cli.doctor`."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agentcom.cli import doctor
from protocol.api import AgentView
from protocol.model import AgentState

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
    found = doctor._skew(date, NOW)

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
