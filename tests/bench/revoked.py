"""How soon what a revoked token has opened ends: a part of ``./run bench doors``."""

import asyncio
import contextlib
import time

import aiohttp
import websockets

from tests.support.foreign_agent import ForeignAgent


async def revoked(url: str, admin: str, count: int) -> list[float]:
    """Open a stream with half of so many tokens, the link of a sidecar with the others, and revoke them one by one.

    Returns:
        Milliseconds from the request that revokes a token until what it opened has ended, for each.
    """
    headers = {"Authorization": f"Bearer {admin}"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as client:
        return [await _one(client, url, number) for number in range(count)]


async def _one(client: aiohttp.ClientSession, url: str, number: int) -> float:
    role = ("viewer", "agent")[number % 2]
    async with client.post(f"{url}/api/v1/tokens", json={"role": role}) as answer:
        answer.raise_for_status()
        made = await answer.json()
    opened = await (_stream(client, url, made["token"]) if role == "viewer" else _link(url, made["token"], number))
    began = time.perf_counter()
    async with client.delete(f"{url}/api/v1/tokens/{made['id']}") as answer:
        answer.raise_for_status()
    await opened
    return (time.perf_counter() - began) * 1_000


async def _stream(client: aiohttp.ClientSession, url: str, token: str) -> "asyncio.Task[None]":
    """Done when the stream is; it stands when this returns."""
    bearer = {"Authorization": f"Bearer {token}"}
    answer = await client.get(f"{url}/api/v1/events", headers=bearer, timeout=aiohttp.ClientTimeout(total=60))
    answer.raise_for_status()
    await answer.content.readany()

    async def ends() -> None:
        with contextlib.suppress(aiohttp.ClientError):
            while await answer.content.readany():
                pass
        answer.close()

    return asyncio.create_task(ends())


async def _link(url: str, token: str, number: int) -> "asyncio.Task[None]":
    agent = await ForeignAgent.join(url, token, name=f"Brief{number}", boot=1)

    async def ends() -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await agent.socket.recv()

    return asyncio.create_task(ends())
