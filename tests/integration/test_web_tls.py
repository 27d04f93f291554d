"""A hub that speaks TLS: whom it shows itself to be, what it tells browsers, and who never gets as far as a word."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from hub import tls
from hub.app import start_hub
from hub.core.porch import PATIENCE_S
from hub.settings import load
from protocol.errors import BadInput
from protocol.joining import read_token
from protocol.pinning import MAX_ANSWER_BYTES, authority_in, authority_request, blind_context, ca_hash, pinned_context
from tests.support.certificates import self_signed
from tests.support.running_hub import RunningHub, running_hub


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path, tls=True) as running:
        yield running


def place(hub: RunningHub) -> tuple[str, int]:
    parts = urlsplit(hub.url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


async def test_a_stranger_learns_the_authority_and_a_pinned_client_speaks_with_it_alone(
    hub: RunningHub, tmp_path: Path
) -> None:
    reader, writer = await asyncio.open_connection(*place(hub), ssl=blind_context())
    writer.write(authority_request("hub"))
    expected = ca_hash((tmp_path / "tls" / "ca.pem").read_text())
    pem = authority_in(hub.url, await reader.read(MAX_ANSWER_BYTES), expected)
    writer.close()

    assert hub.url.startswith("https://127.0.0.1:")
    assert pem == hub.running.ca_pem
    assert (await hub.ask("GET", "/api/v1/tasks")).status == 200


async def test_over_tls_the_cookie_is_of_this_host_alone_and_browsers_come_in_no_other_way(hub: RunningHub) -> None:
    login = await hub.ask("POST", "/session", role=None, json={"token": hub.tokens["admin"]})

    cookie = login.headers["Set-Cookie"]
    assert cookie.startswith(f"__Host-agentcom_session_{place(hub)[1]}=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    assert login.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert (await hub.ask("GET", "/api/v1/tasks", role=None)).status == 200  # by the cookie
    gone = await hub.ask("DELETE", "/session", role=None, headers={"Origin": hub.url})
    assert gone.status == 204
    assert "Secure" in gone.headers["Set-Cookie"]
    assert (await hub.ask("GET", "/api/v1/tasks", role=None)).status == 401


async def test_what_speaks_no_tls_gets_no_answer_and_costs_nobody_else_one(hub: RunningHub) -> None:
    reader, writer = await asyncio.open_connection(*place(hub))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    said = b""
    with contextlib.suppress(ConnectionError):
        said = await asyncio.wait_for(reader.read(), 60)
    writer.close()

    assert b"HTTP" not in said
    assert (await hub.ask("GET", "/healthz", role=None)).status == 200


async def test_who_never_ends_the_handshake_is_shown_out(hub: RunningHub) -> None:
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    reader, writer = await asyncio.open_connection(*place(hub))
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()

    assert loop.time() - began_at >= PATIENCE_S - 1


async def test_a_large_body_and_a_stream_cross_tls_whole(hub: RunningHub) -> None:
    tasks = [{"title": f"{number}", "executor": "noop", "prompt": "x" * 4_000} for number in range(200)]
    async with hub.stream("/api/v1/events") as reader:
        made = await hub.ask("POST", "/api/v1/tasks", json={"tasks": tasks})

        assert made.status == 201
        assert await reader.until("task_queued")


async def test_a_given_certificate_is_shown_and_read_again_when_it_changes(tmp_path: Path) -> None:
    cert, key = self_signed(tmp_path, "127.0.0.1")
    async with running_hub(tmp_path / "hub", tls_cert=str(cert), tls_key=str(key)) as hub:
        assert hub.running.ca_pem == cert.read_text()
        assert (await hub.ask("GET", "/healthz", role=None)).status == 200


async def test_a_join_token_names_the_authority_that_the_hub_has_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_S", 0.01)
    cert, key = self_signed(tmp_path, "127.0.0.1")
    async with running_hub(tmp_path / "hub", tls_cert=str(cert), tls_key=str(key)) as hub:
        before = await (await hub.ask("POST", "/api/v1/join-tokens", json={})).json()
        old = ca_hash(cert.read_text())
        self_signed(tmp_path, "127.0.0.1")
        new = ca_hash(cert.read_text())
        context = pinned_context(cert.read_text())
        async with asyncio.timeout(30), aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as client:
            while True:
                with contextlib.suppress(aiohttp.ClientSSLError):
                    bearer = {"Authorization": f"Bearer {hub.tokens['admin']}"}
                    async with client.post(f"{hub.url}/api/v1/join-tokens", json={}, headers=bearer) as answer:
                        after = await answer.json()
                        break

    assert (read_token(before["token"])[0], read_token(after["token"])[0]) == (old, new)
    assert old != new


async def test_a_certificate_without_its_key_is_named(tmp_path: Path) -> None:
    cert, _ = self_signed(tmp_path, "127.0.0.1")
    (tmp_path / "other").mkdir()
    _, key = self_signed(tmp_path / "other", "127.0.0.1")
    settings, _ = load(
        {"data_dir": str(tmp_path / "hub"), "listen": "127.0.0.1:0", "tls_cert": str(cert), "tls_key": str(key)}, env={}
    )

    with pytest.raises(BadInput, match="tls_cert: cannot use"):
        await start_hub(settings)


async def test_without_tls_there_is_no_authority_and_nothing_is_said_of_it(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub:
        answer = await hub.ask("GET", "/ca.pem", role=None)

        assert answer.status == 404
        assert "Strict-Transport-Security" not in answer.headers
        assert not (tmp_path / "tls").exists()


async def test_another_hubs_authority_opens_nothing(hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> None:
    pem = self_signed(tmp_path_factory.mktemp("other"), "127.0.0.1")[0].read_text()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=pinned_context(pem))) as client:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.get(hub.url + "/healthz", headers=hub.bearer("admin"))
