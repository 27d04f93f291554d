"""Promises of :mod:`agentcom.cli.endpoints`."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from agentcom.cli import run
from tests.unit.agentcom.conftest import Script, refuses, replies

ADDED: dict[str, object] = {
    "id": "ollama-1",
    "kind": "ollama",
    "url": "http://x:11434",
    "host": None,
    "local": True,
    "state": "down",
    "detail": "Connection refused",
    "checked_at": None,
    "models": [],
    "default_model": "",
    "agents": [],
}


@pytest.mark.parametrize(
    "words",
    [
        ("ollama", "http://x:11434"),
        ("--kind", "ollama", "http://x:11434"),
        ("ollama", "--url", "http://x:11434"),
        ("--kind", "ollama", "--url", "http://x:11434"),
    ],
)
async def test_an_endpoint_is_added_by_kind_and_address(
    script: Script, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_x")
    script.then(replies(ADDED, status=201))

    more = ("--id", "ollama-1", "--local", "--default-model", "m")
    status = await asyncio.to_thread(run, ["endpoints", "add", "--hub", script.url, *words, *more])

    assert status == 0
    body = {"kind": "ollama", "url": "http://x:11434", "id": "ollama-1", "local": True, "default_model": "m"}
    assert script.bodies == [body]
    assert capsys.readouterr().out == "ollama-1 is down: Connection refused\n"


async def test_an_address_that_the_hub_refuses_exits_2(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_x")
    script.then(refuses(422, "bad_input", "not an address"))

    status = await asyncio.to_thread(run, ["endpoints", "add", "--hub", script.url, "ollama", "nonsense"])

    assert status == 2
    assert "not an address" in capsys.readouterr().err


async def test_what_is_left_out_of_a_change_stays(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_x")
    script.then(replies(ADDED | {"state": "up", "detail": ""}))

    words = ["endpoints", "change", "ollama-1", "--hub", script.url, "--cloud", "--default-model", ""]
    status = await asyncio.to_thread(run, words)

    assert status == 0
    assert script.bodies == [{"local": False, "default_model": ""}]
    assert capsys.readouterr().out == "ollama-1 is up\n"


async def test_a_change_of_nothing_exits_2(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_x")

    status = await asyncio.to_thread(run, ["endpoints", "change", "ollama-1", "--hub", script.url])

    assert status == 2
    assert "nothing to change: give --url" in capsys.readouterr().err
    assert script.bodies == []


async def test_a_list_says_how_each_endpoint_does_and_for_how_long(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_x")
    until = (datetime.now(UTC) + timedelta(hours=2, minutes=30)).isoformat()
    listed = ADDED | {"state": "degraded", "health": "cooldown", "until": until, "detail": "HTTP 429", "turns": 3}
    script.then(replies({"endpoints": [listed], "next_cursor": None}))

    status = await asyncio.to_thread(run, ["endpoints", "--hub", script.url])

    assert status == 0
    head, line = capsys.readouterr().out.splitlines()
    wanted = "endpoint state health kind where turns host url quota models detail"
    assert head.split() == wanted.split()
    assert "local  3 " in line
    assert "degraded  cooldown 2h  ollama" in line


async def test_a_list_of_models_says_how_their_endpoints_do(
    script: Script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_x")
    model = {
        "name": "qwen3:8b", "endpoint": "ollama", "host": "box", "local": True, "residency": "warm",
        "size_bytes": 5 << 30, "vram_bytes": 6 << 30, "context": 8192, "health": "half_open",
    }  # fmt: skip
    script.then(replies({"models": [model], "next_cursor": None}))

    status = await asyncio.to_thread(run, ["models", "--hub", script.url])

    assert status == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split() == ["qwen3:8b", "ollama", "box", "local", "warm", "half_open", "6.0", "GiB", "8,192"]
