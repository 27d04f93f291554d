"""A whole hub on a real socket, in the test's own event loop, and a client that holds a token of any role."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from hub.app import Running, start_hub
from hub.clock import SystemClock
from hub.settings import load
from protocol.clock import Clock
from protocol.pinning import pinned_context

PATIENCE_S = 60.0


class FastClock(SystemClock):
    """The time, and as much more as a test wants."""

    more_ms = 0

    def now_ms(self) -> int:
        """Milliseconds since 1970, and more."""
        return super().now_ms() + self.more_ms


@dataclass
class RunningHub:
    """A hub that answers; ``tokens`` has one of every role."""

    running: Running
    client: aiohttp.ClientSession
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.running.url

    def bearer(self, role: str) -> dict[str, str]:
        """Headers that show the token of ``role``."""
        return {"Authorization": f"Bearer {self.tokens[role]}"}

    async def ask(
        self, method: str, path: str, *, role: str | None = "admin", headers: dict[str, str] | None = None, **more: Any
    ) -> aiohttp.ClientResponse:
        """One request; the answer's body is read."""
        sent = {**(self.bearer(role) if role else {}), **(headers or {})}
        async with (
            asyncio.timeout(PATIENCE_S),
            self.client.request(method, self.url + path, headers=sent, allow_redirects=False, **more) as answer,
        ):
            await answer.read()
            return answer

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, *, role: str = "admin", headers: dict[str, str] | None = None
    ) -> AsyncIterator["Reader"]:
        """A stream of events, open."""
        sent = {**self.bearer(role), "Accept": "text/event-stream", **(headers or {})}
        async with self.client.get(self.url + path, headers=sent) as answer:
            yield Reader(answer)


@dataclass
class Reader:
    """Reads server-sent events as the standard says."""

    answer: aiohttp.ClientResponse
    last_id: str = ""

    async def next(self) -> dict[str, Any]:
        """The next event that has data: ``{"id", "event", "data"}``.

        Raises:
            EOFError: the stream has ended.
        """
        name = "message"
        data: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            while True:
                raw = await self.answer.content.readline()
                if not raw:
                    raise EOFError
                line = raw.decode().rstrip("\n")
                if not line:
                    if data:
                        return {"id": self.last_id, "event": name, "data": json.loads("\n".join(data))}
                    name = "message"
                    continue
                label, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if label == "id":
                    self.last_id = value
                elif label == "event":
                    name = value
                elif label == "data":
                    data.append(value)

    async def until(self, kind: str) -> dict[str, Any]:
        """The data of the next event of this kind (of a log of facts)."""
        while True:
            found: dict[str, Any] = (await self.next())["data"]
            if found.get("kind") == kind:
                return found


@contextlib.asynccontextmanager
async def running_hub(folder: Path, clock: Clock | None = None, **settings: object) -> AsyncIterator[RunningHub]:
    """A hub with its data in ``folder``, by its own clock or this one."""
    chosen, _ = load({"data_dir": str(folder), "listen": "127.0.0.1:0", **settings}, env={})
    running = await start_hub(chosen, clock)
    jar = aiohttp.CookieJar(unsafe=True)
    pem = running.ca_pem
    connector = aiohttp.TCPConnector(ssl=pinned_context(pem) if pem else True)
    async with aiohttp.ClientSession(cookie_jar=jar, connector=connector) as client:
        hub = RunningHub(running, client)
        hub.tokens["admin"] = (folder / "admin.token").read_text("utf-8").strip()
        hub.tokens["agent"] = (folder / "agent.token").read_text("utf-8").strip()
        for role in ("operator", "submitter", "viewer"):
            made = await hub.ask("POST", "/api/v1/tokens", json={"role": role})
            hub.tokens[role] = (await made.json())["token"]
        try:
            yield hub
        finally:
            await running.stop()
