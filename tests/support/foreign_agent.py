"""A sidecar as somebody else would write it: plain MessagePack over a plain WebSocket, nothing of ours imported.

What it can do from the wire's description alone, any language can do. It keeps its own counts and acknowledges by hand,
so a test can also be late, forgetful or rude with it.
"""

import asyncio
from typing import Any, Final

import msgpack
import websockets

PATIENCE_S: Final = 10.0
Plain = dict[str, Any]


def hello(name: str = "Foreign", boot: int = 1, **more: Any) -> Plain:
    """The first message of a sidecar that can run shell and noop work."""
    return {
        "t": "hello",
        "protocol": [1, 1],
        "sidecar": name,
        "boot": boot,
        "host": "elsewhere",
        "slots": 4,
        "version": "0.0.1-foreign",
        "capabilities": ["executor:shell", "executor:noop"],
        **more,
    }


class ForeignAgent:
    """One socket to a hub."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket
        self.welcome: Plain = {}
        self.sent = 0
        self.received = 0
        self._came: list[Plain] = []

    @classmethod
    async def dial(cls, url: str, token: str) -> "ForeignAgent":
        """A socket, with nothing said yet.

        Raises:
            websockets.InvalidStatus: the hub did not let it in.
        """
        address = url.replace("http", "ws", 1) + "/mesh"
        headers = {"Authorization": f"Bearer {token}"}
        return cls(
            await websockets.connect(
                address, additional_headers=headers, max_size=1 << 20, proxy=None, ping_interval=None, compression=None
            )
        )

    @classmethod
    async def join(cls, url: str, token: str, **more: Any) -> "ForeignAgent":
        """A socket whose hello was answered by a welcome."""
        agent = await cls.dial(url, token)
        agent.sent = more.pop("sent", 0)
        agent.received = more.get("received", 0)
        await agent.say(hello(**more))
        agent.welcome = await agent.next()
        assert agent.welcome["t"] == "welcome", agent.welcome
        return agent

    async def say(self, *messages: Plain) -> None:
        """Send messages as they are: one alone, several as an array."""
        await self.socket.send(msgpack.packb(messages[0] if len(messages) == 1 else list(messages)))

    async def tell(self, kind: str, attempt: list[Any], **fields: Any) -> int:
        """Send an ordered message of an attempt; its number."""
        self.sent += 1
        await self.say({"t": kind, "n": self.sent, "attempt": attempt, **fields})
        return self.sent

    async def report(self, attempt: list[Any], state: str = "passed", **result: Any) -> int:
        """Report the end of an attempt; the number of the message."""
        return await self.tell(
            "report", attempt, state=state, result={"execution_ok": state == "passed", "verified": None, **result}
        )

    async def next(self) -> Plain:
        """The next message.

        Raises:
            websockets.ConnectionClosed: the hub has closed the socket.
        """
        async with asyncio.timeout(PATIENCE_S):
            return await self.next_ever()

    async def next_ever(self) -> Plain:
        """The next message, however long that takes.

        Raises:
            websockets.ConnectionClosed: the hub has closed the socket.
        """
        while not self._came:
            found = msgpack.unpackb(await self.socket.recv())
            self._came = found if isinstance(found, list) else [found]
        message: Plain = self._came.pop(0)
        self.received = max(self.received, message.get("n", 0) if message["t"] != "ack" else 0)
        return message

    async def until(self, kind: str, **fields: Any) -> Plain:
        """The next message of this kind (and these fields); others before it are dropped."""
        while True:
            message = await self.next()
            if message["t"] == kind and all(message.get(name) == value for name, value in fields.items()):
                return message

    async def until_acknowledged(self, number: int) -> None:
        """Wait until everything up to this number is safe at the hub."""
        while (await self.until("ack"))["n"] < number:
            pass

    async def acknowledge(self) -> None:
        """All that came is safe here."""
        await self.say({"t": "ack", "n": self.received})

    async def take(self) -> list[Any]:
        """Wait for an assignment and accept it; its attempt."""
        attempt: list[Any] = (await self.until("assign"))["attempt"]
        await self.tell("accept", attempt)
        await self.acknowledge()
        return attempt

    async def work(self) -> list[Any]:
        """Do one task, whole."""
        attempt = await self.take()
        await self.until_acknowledged(await self.report(attempt, output="done"))
        return attempt

    async def closed(self) -> int:
        """Wait until the hub closes the socket; the close code."""
        async with asyncio.timeout(PATIENCE_S):
            await self.socket.wait_closed()
        return self.socket.close_code or 0

    async def leave(self) -> None:
        """Close the socket."""
        await self.socket.close()
