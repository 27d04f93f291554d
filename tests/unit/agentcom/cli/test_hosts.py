"""Promises of :mod:`agentcom.cli.hosts`."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from agentcom.cli import hosts, run
from protocol.api import HostView
from tests.unit.agentcom.conftest import Script, replies

GIB = 2**30


def host(**over: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": "box",
        "agents": ["Boo", "Zap"],
        "cpu": {"percent": 12.4, "cores": 16},
        "ram": {"total_bytes": 64 * GIB, "used_bytes": 3 * GIB // 2},
        "disk": {"total_bytes": 2048 * GIB, "used_bytes": 500 * GIB},
        "gpus": [],
        "models": ["a", "b"],
        "at": (datetime.now(UTC) - timedelta(minutes=5)).isoformat(),
    }
    return found | over


def rows(**over: Any) -> list[tuple[str, ...]]:
    return list(hosts.rows(msgspec.convert(host(**over), HostView)))


def test_a_machine_takes_one_line_with_what_is_used_and_what_there_is() -> None:
    cells = ("box", "12% of 16", "1.5/64.0 GiB", "500.0 GiB/2.0 TiB", "", "", "", "", "Boo, Zap", "2", "5m ago")

    assert rows() == [cells]


def test_every_gpu_has_a_line_and_what_its_driver_does_not_tell_stays_empty() -> None:
    full = {"name": "A", "vram_total_bytes": 24 * GIB, "vram_used_bytes": 6 * GIB, "utilization": 50.0}
    half = {"name": "B", "vram_total_bytes": 24 * GIB}
    first, second, third = rows(gpus=[full | {"temperature_c": 61.0}, half, {"name": "C"}])

    assert first[4:8] == ("A", "6.0/24.0 GiB", "50%", "61 C")
    assert second == ("", "", "", "", "B", "?/24.0 GiB", "", "", "", "", "")
    assert third[4:8] == ("C", "", "", "")


def test_a_machine_that_has_not_reported_says_never() -> None:
    (row,) = rows(cpu=None, ram=None, disk=None, at=None, agents=[], models=[])

    assert row == ("box", "", "", "", "", "", "", "", "", "0", "never")


async def test_programs_get_the_hubs_own_list(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_x")
    script.then(replies({"hosts": [host()]}))

    status = await asyncio.to_thread(run, ["hosts", "ls", "--hub", script.url, "--json"])

    assert status == 0
    assert script.requests[0].path == "/api/v1/hosts"
    told = json.loads(capsys.readouterr().out)["hosts"][0]["cpu"]
    assert (told["percent"], told["cores"]) == (12.4, 16)


async def test_people_get_a_table_and_a_way_out_if_there_is_nothing(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_x")
    script.then(replies({"hosts": [host()]}), replies({"hosts": []}))

    await asyncio.to_thread(run, ["hosts", "--hub", script.url])
    shown = capsys.readouterr()
    await asyncio.to_thread(run, ["hosts", "--hub", script.url])
    empty = capsys.readouterr()

    assert "12% of 16  1.5/64.0 GiB" in shown.out
    assert (empty.out, "agentcom sidecar --hub" in empty.err) == ("", True)
