"""A hub below a path of a real reverse proxy: login, page, streams and sidecars, with nothing set but that proxy."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from string import Template
from typing import Final

import aiohttp
import pytest

from agentcom.aio import AsyncClient
from agentcom.bench.light import LightSidecar
from tests.support.ports import free_port
from tests.support.proxies import program
from tests.support.running_hub import PATIENCE_S, Reader, RunningHub, running_hub

CONFIG: Final = Template("""
daemon off; pid $folder/pid; error_log stderr; worker_processes 1; $user
events {}
http {
    access_log off;
    client_body_temp_path $folder/body; proxy_temp_path $folder/proxy; fastcgi_temp_path $folder/f;
    uwsgi_temp_path $folder/u; scgi_temp_path $folder/s;
    server {
        listen 127.0.0.1:$port;
        location /below/agentcom/ {
            proxy_pass $hub/;
            proxy_http_version 1.1;
            proxy_set_header Host $$http_host;
            proxy_set_header Upgrade $$http_upgrade;
            proxy_set_header Connection $$http_connection;
            proxy_buffering off;
        }
    }
}
""")


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path / "hub") as running:
        yield running


@pytest.fixture
async def below(hub: RunningHub, tmp_path: Path) -> AsyncIterator[str]:
    """The address of the hub behind the proxy."""
    nginx, port = program("nginx"), free_port()
    user = "user root;" if (tmp_path.stat().st_uid == 0) else ""
    config = tmp_path / "nginx.conf"
    config.write_text(CONFIG.substitute(folder=tmp_path, port=port, hub=hub.url, user=user))
    proxy = await asyncio.create_subprocess_exec(nginx, "-c", str(config), "-e", "stderr")
    address = f"http://127.0.0.1:{port}/below/agentcom"
    try:
        async with asyncio.timeout(PATIENCE_S):
            await _until_there(hub, address)
        yield address
    finally:
        proxy.terminate()
        await proxy.wait()


async def _until_there(hub: RunningHub, address: str) -> None:
    while True:  # another program: it is asked, not heard
        if await _answers(hub, address):
            return
        await asyncio.sleep(0.02)


async def _answers(hub: RunningHub, address: str) -> bool:
    try:
        async with hub.client.get(f"{address}/healthz") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def test_people_log_in_and_see_the_live_page_below_a_path(hub: RunningHub, below: str) -> None:
    origin = below.removesuffix("/below/agentcom")
    page = {"Accept": "text/html"}
    async with hub.client.get(f"{below}/docs", headers=page) as answer:
        assert 'action="session"' in await answer.text()
    async with hub.client.get(f"{below}/api/v1/tasks", headers=page) as answer:
        assert 'action="../../session"' in await answer.text()
    token = {"token": hub.tokens["admin"]}
    async with hub.client.post(
        f"{below}/session", data=token, headers={"Origin": origin}, allow_redirects=False
    ) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "./")
        assert "path" not in answer.headers["Set-Cookie"].lower()
    async with hub.client.get(f"{below}/", headers=page) as answer:
        assert answer.status == 200
        assert 'src="dashboard/app.js"' in await answer.text()
    async with hub.client.get(f"{below}/dashboard/live") as live:
        assert (await Reader(live).next())["data"]["role"] == "admin"
    async with hub.client.get(f"{origin}/elsewhere/") as answer:
        assert not answer.request_info.headers.get("Cookie")


async def test_programs_and_sidecars_come_in_below_a_path(hub: RunningHub, below: str) -> None:
    async with AsyncClient(hub=below, token=hub.tokens["admin"]) as client:
        task = await client.submit(title="from below", executor="noop")
    headers = {"Authorization": f"Bearer {hub.tokens['agent']}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        sidecar = LightSidecar("Below", 1, [])
        await sidecar.join(session, f"{below}/mesh".replace("http", "ws", 1))
        agents = await (await hub.ask("GET", "/api/v1/agents")).json()
        await sidecar.leave()

    assert [agent["name"] for agent in agents["agents"]] == ["Below"]
    assert (await hub.ask("GET", f"/api/v1/tasks/{task.id if hasattr(task, 'id') else task}")).status == 200
