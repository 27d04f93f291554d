"""A fleet of sidecars that do nothing but come, stay and come back: many of them in one event loop.

They speak the protocol as somebody else would (``foreign_agent.py``) and do what a sidecar does when it cannot come in:
wait as long as the hub asks, or a random time below a bound that doubles.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import websockets

from tests.support.foreign_agent import ForeignAgent

LONGEST_S = 15.0


@dataclass
class LightFleet:
    """``size`` sidecars of one hub.

    Attributes:
        entered: when each welcome came, on the monotonic clock.
        refused: how often the hub asked one to come back later.
    """

    url: str
    token: str
    size: int
    online: int = 0
    entered: list[float] = field(default_factory=list)
    refused: int = 0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """All of them dial from now on, until :meth:`stop`."""
        self._tasks = [asyncio.create_task(self._live(number)) for number in range(self.size)]

    async def stop(self) -> None:
        """All of them go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, fact: Callable[[], bool], timeout_s: float) -> None:
        """Wait for a fact about the fleet.

        Raises:
            TimeoutError: it does not become one.
        """
        async with asyncio.timeout(timeout_s):
            while not fact():  # noqa: ASYNC110 - many tasks change it, none of them knows who waits
                await asyncio.sleep(0.05)

    async def _live(self, number: int) -> None:
        failures = 0
        while True:
            wait_s = random.random() * min(LONGEST_S, 2.0**failures)
            failures += 1
            try:
                agent = await ForeignAgent.join(self.url, self.token, name=f"Light{number}", boot=1)
            except websockets.InvalidStatus as exc:
                self.refused += 1
                wait_s = float(exc.response.headers.get("Retry-After", wait_s)) + random.random()
            except (OSError, TimeoutError, websockets.WebSocketException):
                pass
            else:
                failures = 0
                await self._stay(agent)
                wait_s = random.random()
            await asyncio.sleep(wait_s)

    async def _stay(self, agent: ForeignAgent) -> None:
        self.entered.append(time.monotonic())
        self.online += 1
        try:
            with contextlib.suppress(OSError, TimeoutError, websockets.WebSocketException):
                while True:
                    message = await agent.next()
                    if message["t"] == "ping":
                        await agent.say({"t": "pong", "token": message["token"]})
        finally:
            self.online -= 1
            with contextlib.suppress(OSError, websockets.WebSocketException):
                await agent.leave()
