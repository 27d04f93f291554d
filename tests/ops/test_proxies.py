"""The proxies of ``ops/proxy`` before a real hub, by TLS: people, programs, streams, sidecars; with a name or a path.

A hub has to tell its callers apart behind them, so what they say of addresses is looked at, too.
"""

import asyncio
import io
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from agentcom.bench.light import LightSidecar
from tests.support.certificates import self_signed
from tests.support.ports import free_port
from tests.support.proxies import FILES, proxy
from tests.support.running_hub import PATIENCE_S, Reader, RunningHub, running_hub

PAGE = {"Accept": "text/html"}
CALLER = "127.0.0.2"
"""Another address of this machine than the proxy's."""


class Here(AbstractResolver):
    """Every name is this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None: ...


@dataclass
class Site:
    """A hub behind a proxy, and somebody who comes to it."""

    hub: RunningHub
    url: str
    client: aiohttp.ClientSession

    @property
    def origin(self) -> str:
        return "/".join(self.url.split("/")[:3])


@pytest.fixture(params=[(kind, way) for kind in FILES for way in ("name", "path")], ids="-".join)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    kind, way = request.param
    port, name = free_port(), "mesh.example.org" if way == "name" else "example.org"
    cert, key = self_signed(tmp_path, name)
    origin = f"https://{name}:{port}"
    trust = ssl.create_default_context(cafile=str(cert))
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
    connector = aiohttp.TCPConnector(resolver=Here(), ssl=trust, local_addr=(CALLER, 0))
    async with (
        running_hub(tmp_path / "hub", trusted_proxies=("127.0.0.1",), origins=(origin,)) as hub,
        proxy(kind, tmp_path, hub.url.removeprefix("http://"), port, cert, key),
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as client,
    ):
        yield Site(hub, origin if way == "name" else f"{origin}/agentcom", client)


async def get(site: Site, path: str, **headers: str) -> tuple[int, str]:
    async with site.client.get(site.url + path, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_people_log_in_see_the_page_and_its_stream_and_leave(site: Site) -> None:
    assert 'action="session"' in (await get(site, "/", **PAGE))[1]
    token = {"token": site.hub.tokens["admin"]}
    async with site.client.post(
        f"{site.url}/session", data=token, headers={"Origin": site.origin}, allow_redirects=False
    ) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "./")
        assert "Secure" in answer.headers["Set-Cookie"]
    assert 'src="dashboard/app.js"' in (await get(site, "/", **PAGE))[1]
    status, script = await get(site, "/dashboard/push.js")
    assert (status, "showNotification" in script) == (200, True)
    async with site.client.get(f"{site.url}/dashboard/live") as live:
        reader = Reader(live)
        assert (await reader.next())["data"]["role"] == "admin"
        async with asyncio.timeout(PATIENCE_S):
            while "echo" not in str(await reader.next()):  # while the stream is open: nobody holds it back
                await site.hub.ask("POST", "/api/v1/tasks", json={"title": "echo", "executor": "noop"})
    async with site.client.delete(f"{site.url}/session", headers={"Origin": site.origin}) as answer:
        assert answer.status == 204
    assert 'action="session"' in (await get(site, "/", **PAGE))[1]


async def test_a_page_of_somebody_else_behind_the_same_proxy_may_do_nothing(site: Site) -> None:
    body, headers = {"token": site.hub.tokens["admin"]}, {"Origin": "https://evil.example.org"}
    async with site.client.post(f"{site.url}/session", data=body, headers=headers) as answer:
        assert answer.status == 403


async def test_sidecars_come_by_websocket_and_programs_send_large_bodies(site: Site) -> None:
    headers = {"Authorization": f"Bearer {site.hub.tokens['admin']}"}
    tasks = [{"title": str(number), "prompt": "x" * 10_000} for number in range(300)]
    body = io.BytesIO(json.dumps({"tasks": tasks}).encode())
    headers["Content-Type"] = "application/json"
    async with site.client.post(f"{site.url}/api/v1/tasks", data=body, headers=headers) as answer:
        assert answer.status == 201, await answer.text()
    sidecar = LightSidecar("Below", 1, [])
    agent = {"Authorization": f"Bearer {site.hub.tokens['agent']}"}
    async with aiohttp.ClientSession(connector=site.client.connector, connector_owner=False, headers=agent) as session:
        await sidecar.join(session, f"{site.url}/mesh".replace("http", "ws", 1))
        agents: dict[str, Any] = await (await site.hub.ask("GET", "/api/v1/agents")).json()
        await sidecar.leave()

    assert [each["name"] for each in agents["agents"]] == ["Below"]


async def test_the_hub_knows_callers_by_their_own_address_whatever_they_say(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    lies = {"Authorization": "Bearer acm_wrong", "X-Forwarded-For": "192.0.2.66"}
    assert (await get(site, "/api/v1/tasks", **lies))[0] == 401

    told = [line for line in capsys.readouterr().out.splitlines() if "token_refused" in line]
    assert len(told) == 1
    assert f"address={CALLER}" in told[0]
