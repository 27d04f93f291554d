"""Promises of :mod:`agentcom.cli.hosts`."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from agentcom.cli import hosts, run
from protocol.host_views import HostView
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
    cells = ("box", "12% of 16", "1.5/64.0 GiB", "500.0 GiB/2.0 TiB", *[""] * 5, "Boo, Zap", "2", "5m ago")

    assert rows() == [cells]


def test_every_gpu_has_a_line_and_what_its_driver_does_not_tell_stays_empty() -> None:
    full = {"name": "A", "vram_total_bytes": 24 * GIB, "vram_used_bytes": 6 * GIB, "utilization": 50.0}
    half = {"name": "B", "vram_total_bytes": 24 * GIB}
    first, second, third = rows(gpus=[full | {"temperature_c": 61.0, "vram_foreign_bytes": GIB}, half, {"name": "C"}])

    assert first[4:9] == ("A", "6.0/24.0 GiB", "1.0 GiB", "50%", "61 C")
    assert second == ("", "", "", "", "B", "?/24.0 GiB", "", "", "", "", "", "")
    assert third[4:9] == ("C", "", "", "", "")


def test_a_machine_that_has_not_reported_says_never() -> None:
    (row,) = rows(cpu=None, ram=None, disk=None, at=None, agents=[], models=[])

    assert row == ("box", "", "", "", "", "", "", "", "", "", "0", "never")


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


# --- one machine ------------------------------------------------------------------------------------------------------

CARD: dict[str, Any] = {
    "name": "L40S",
    "vendor": "nvidia",
    "uuid": "GPU-1",
    "driver": "580.95",
    "vram_total_bytes": 48 * GIB,
    "vram_used_bytes": 20 * GIB,
    "vram_ours_bytes": 12 * GIB,
    "vram_foreign_bytes": 8 * GIB,
    "utilization": 97.0,
    "temperature_c": 71.0,
    "power_w": 290.0,
    "power_limit_w": 350.0,
    "processes": [
        {"pid": 70, "name": "ollama", "owner": "server", "vram_bytes": 12 * GIB},
        {"pid": 71, "name": "", "owner": "other", "vram_bytes": None},
    ],
}
MINUTE = {
    "host": "box",
    "span": "minute",
    "at": [datetime.now(UTC).isoformat()] * 3,
    "series": [
        {"metric": "cpu_percent", "gpu": "", "mean": [0.0, 50.0, 100.0]},
        {"metric": "vram_used_bytes", "gpu": "GPU-1", "mean": [None, 10.0 * GIB, 20.0 * GIB]},
        {"metric": "utilization", "gpu": "GPU-that-is-gone", "mean": [1.0, 1.0, 1.0]},
        {"metric": "temperature_c", "gpu": "GPU-1", "mean": [70.0, 71.0, None]},
    ],
}


def test_a_bar_is_as_high_as_its_figure_and_what_is_unknown_is_a_gap() -> None:
    assert hosts.sparkline([0, 50, 100, None, 250], 100) == "▁▅█ █"
    assert hosts.sparkline([1.0, 2.0], 0) == "▅█"
    assert hosts.sparkline([0.0, None], 0) == "▁ "
    assert hosts.sparkline([], 0) == ""


async def test_one_machine_is_shown_with_its_gpus_processes_and_last_minute(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_x")
    part = {"name": "H100 MIG", "part_of": "GPU-0", "unified": True}
    cpu = {"percent": 12.4, "cores": 2, "per_core": [0, 100], "load": [1.0, 0.5, 0.25]}
    machine = host(gpus=[CARD, part], cpu=cpu, online=True, notes={"amd": "no answer for 40 s"})
    script.then(replies(MINUTE), replies({"hosts": [host(name="other"), machine]}))

    status = await asyncio.to_thread(run, ["hosts", "show", "box", "--hub", script.url])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    assert status == 0
    assert [request.path_qs for request in script.requests] == [
        "/api/v1/hosts/box/history?span=minute",
        "/api/v1/hosts",
    ]
    assert "state online" in lines
    assert "cpu 12% of 2 cores ▁█ load 1.00, 0.50, 0.25" in lines
    assert "! amd no answer for 40 s" in lines
    assert "L40S 20.0/48.0 GiB 12.0 GiB 8.0 GiB 97% 71 C 290/350 W 580.95 GPU-1" in lines
    assert "H100 MIG (memory of the machine), part of GPU-0" in lines
    assert "0 L40S 70 ollama 12.0 GiB an LLM server" in lines
    assert "0 L40S 71 ? ? somebody else" in lines
    assert "cpu ▁▅█ 100%" in lines
    assert "vram 0 L40S ▅█ 20.0 GiB" in lines
    assert "temp 0 L40S ▆▆" in lines
    assert not [line for line in lines if line.startswith("load 1%")]  # of a GPU that is gone


async def test_programs_get_machine_and_history_and_may_ask_for_the_hour(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_x")
    script.then(replies(MINUTE | {"span": "hour"}), replies({"hosts": [host()]}))

    await asyncio.to_thread(run, ["hosts", "show", "box", "--hour", "--hub", script.url, "--json"])
    told = json.loads(capsys.readouterr().out)

    assert script.requests[0].path_qs == "/api/v1/hosts/box/history?span=hour"
    assert (told["host"]["name"], told["history"]["span"]) == ("box", "hour")
