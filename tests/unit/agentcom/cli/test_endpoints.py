"""Promises of :mod:`agentcom.cli.endpoints`."""

import asyncio

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
