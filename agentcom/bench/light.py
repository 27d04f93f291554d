"""Sidecars without a machine: the real protocol with real tokens, thousands of them in this process.

Each has a connection of its own, says hello, sends heartbeats, and answers an assignment with acceptance and report at
once. They measure what a fleet costs the hub; what a sidecar itself costs is measured on real ones.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from time import perf_counter
from typing import Any, Final, Self

import aiohttp
from aiohttp import hdrs

from protocol import codec
from protocol.errors import Overloaded, WorkFailed
from protocol.limits import MAX_FRAME_BYTES
from protocol.messages import Accept, AnyMessage, Assign, Heartbeat, Hello, Ordered, Report, Welcome
from protocol.model import AttemptState, Iteration, TaskResult
from protocol.salvage import readable
from protocol.session import Session
from protocol.version import NEWEST, OLDEST

AT_A_TIME: Final = 64
"""Connections that are being opened at the same moment."""
_DONE: Final = TaskResult(
    execution_ok=True, verified=None, iterations=(Iteration(number=1, execution_ok=True, passed=None),)
)


class LightSidecar:
    """One connection; ``answered_ms`` gets the time from when each heartbeat was due to the hub's answer.

    While ``is_at_rest`` its heartbeats say that it takes no new work.
    """

    def __init__(self, name: str, slots: int, answered_ms: list[float]) -> None:
        self.name, self._slots, self._answered_ms = name, slots, answered_ms
        self._session = Session()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._proven_at = self._session.proven_at
        self.is_at_rest = True
        self.taken = 0

    async def join(self, client: aiohttp.ClientSession, url: str) -> None:
        """Connect and be welcomed.

        Raises:
            Overloaded: the hub lets only so many in at a time, and says when this one may come.
            WorkFailed: the hub answered with something else than a welcome.
        """
        try:
            socket = await client.ws_connect(url, max_msg_size=MAX_FRAME_BYTES, autoping=True)
        except aiohttp.WSServerHandshakeError as exc:
            asked_s = exc.headers.get(hdrs.RETRY_AFTER, "") if exc.headers else ""
            if exc.status != HTTPStatus.SERVICE_UNAVAILABLE or not asked_s.isdecimal():
                raise WorkFailed(f"a light sidecar was not let in: the hub answered {exc.status}") from exc
            raise Overloaded("the hub is busy", float(asked_s)) from exc
        self._socket = socket
        await socket.send_bytes(codec.encode(self.hello()))
        welcome, *rest = codec.decode(await socket.receive_bytes())
        if not isinstance(welcome, Welcome):
            raise WorkFailed(f"a light sidecar was not welcomed: {welcome}")
        self._session.connected(welcome.received, perf_counter())
        await self._act(rest)

    def hello(self) -> Hello:
        """What it says of itself."""
        return Hello(
            protocol=(OLDEST, NEWEST),
            sidecar=self.name,
            boot=1,
            host="bench",
            slots=self._slots,
            version="bench",
            capabilities=("executor:noop",),
            draining=self.is_at_rest,
        )

    async def serve(self) -> None:
        """Act on what the hub says until it hangs up."""
        assert self._socket is not None, "join() comes first"
        async for frame in self._socket:
            if frame.type is aiohttp.WSMsgType.BINARY:
                await self._act(readable(self._session.receive(frame.data, perf_counter())))
                if self._session.proven_at > self._proven_at:
                    self._proven_at = self._session.proven_at
                    self._answered_ms.append((perf_counter() - self._proven_at) * 1000)

    async def leave(self) -> None:
        """Hang up."""
        if self._socket is not None:
            await self._socket.close()

    async def beat(self, due_at: float) -> None:
        """Send the heartbeat that was due at ``due_at``, and ask for an answer."""
        if self._socket is not None and not self._socket.closed:
            self._session.send(self.heartbeat())
            self._session.ping(due_at)
            await self._flush(self._socket)

    def heartbeat(self) -> Heartbeat:
        """What it says again and again."""
        return Heartbeat(sidecar=self.name, boot=1, draining=self.is_at_rest)

    def work(self, assign: Assign) -> Iterator[Accept | Report]:
        """What it says to an assignment: it is done at once."""
        yield Accept(attempt=assign.attempt)
        yield Report(attempt=assign.attempt, state=AttemptState.PASSED, result=_DONE)

    async def _act(self, messages: Sequence[AnyMessage]) -> None:
        assert self._socket is not None, "something came from it"
        for message in messages:
            if isinstance(message, Assign):
                self.taken += 1
                for answer in self.work(message):
                    self._session.send(answer)
            if isinstance(message, Ordered):
                self._session.acknowledge(message.n)
        await self._flush(self._socket)

    async def _flush(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError):  # then the hub is away, and serve() ends
            for frame in self._session.data_to_send():
                await socket.send_bytes(frame)


class LightFleet:
    """Many light sidecars on one hub; use it in an ``async with`` block."""

    def __init__(
        self, url: str, token: str, *, heartbeat_s: float, slots: int = 1, kind: type[LightSidecar] = LightSidecar
    ) -> None:
        self._kind, self._url = kind, f"{url}/mesh".replace("http", "ws", 1)
        self._token, self._heartbeat_s, self._slots = token, heartbeat_s, slots
        self._client: aiohttp.ClientSession | None = None
        self._serving: list[asyncio.Task[Any]] = []
        self.sidecars: list[LightSidecar] = []
        self.answered_ms: list[float] = []

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        headers = {"Authorization": f"Bearer {self._token}"}
        self._client = aiohttp.ClientSession(connector=connector, headers=headers)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await asyncio.gather(*(sidecar.leave() for sidecar in self.sidecars))
        assert self._client is not None, "it was entered"
        await self._client.close()

    @property
    def taken(self) -> int:
        """Tasks that were given to them."""
        return sum(sidecar.taken for sidecar in self.sidecars)

    async def join(self, count: int) -> float:
        """Connect ``count`` more, at the pace that the hub allows; welcomes a second."""
        assert self._client is not None, "it was entered"
        client = self._client
        fresh = [
            self._kind(f"light-{len(self.sidecars) + number}", self._slots, self.answered_ms) for number in range(count)
        ]
        began = perf_counter()
        room = asyncio.Semaphore(AT_A_TIME)

        async def let_in(sidecar: LightSidecar) -> None:
            while True:
                try:
                    async with room:
                        await sidecar.join(client, self._url)
                except Overloaded as exc:  # so many at once: each is told when to come back
                    await asyncio.sleep(exc.retry_after_s or 1.0)
                else:
                    self._serving.append(asyncio.create_task(sidecar.serve()))
                    return

        await asyncio.gather(*(let_in(sidecar) for sidecar in fresh))
        took_s = perf_counter() - began
        self.sidecars += fresh
        self._serving.append(asyncio.create_task(self._beat(fresh)))
        return count / took_s

    async def work(self, *, on: bool) -> None:
        """Let all of them take work from now on, or no more."""
        for sidecar in self.sidecars:
            sidecar.is_at_rest = not on
            await sidecar.beat(perf_counter())

    async def _beat(self, sidecars: Sequence[LightSidecar]) -> None:
        """Heartbeats, spread evenly; each counts from when it was due."""
        step_s = self._heartbeat_s / len(sidecars)
        due_at = perf_counter()
        while True:
            for sidecar in sidecars:
                due_at += step_s
                if (early_s := due_at - perf_counter()) > 0:
                    await asyncio.sleep(early_s)
                await sidecar.beat(due_at)

    def check(self) -> None:
        """Pass if every connection stands.

        Raises:
            WorkFailed: one does not.
        """
        ended = [task for task in self._serving if task.done()]
        for task in ended:
            task.result()
        if ended:
            raise WorkFailed(f"the hub hung up on {len(ended)} of {len(self.sidecars)} connections")
