"""A hub for tests of the sidecar's link: the real wire protocol over a real socket, without queue or store.

It keeps one session per boot of a sidecar, writes down every message it gets, answers hellos, and does on demand what
hubs and networks do: restart, cut lines, fall silent, refuse.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import WSMsgType, web

from protocol import codec
from protocol.messages import AnyMessage, Heartbeat, HeldAttempt, Hello, Message, Ordered, Verdict, Welcome
from protocol.salvage import readable
from protocol.session import Session

PATIENCE_S = 10.0
Kind = TypeVar("Kind", bound=Message)


def keep_all(held: HeldAttempt) -> str:
    """The verdict of a hub that knows every attempt."""
    del held
    return "keep"


@dataclass
class HubServer:
    """The hub; the public fields may be changed at any time and count from the next use."""

    boot: int = 1
    token: str = "acm_good"
    heartbeat_s: float = 0.05
    lease_s: float = 30.0
    protocol: int = 1
    draining: bool = False
    status: int = 0
    """Answer every dial with this HTTP status; 0: let it in."""
    first: Message | None = None
    """Say this instead of a welcome."""
    is_silent: bool = False
    """Read nothing and say nothing, but keep lines open; ends with :meth:`speak`."""
    acknowledges: bool = True
    verdict: Callable[[HeldAttempt], str] = keep_all

    hellos: list[Hello] = field(default_factory=list)
    heartbeats: list[Heartbeat] = field(default_factory=list)
    received: list[AnyMessage] = field(default_factory=list)
    """All messages but hellos and heartbeats, as a hub would act on them: each ordered one once a boot."""
    headers: list[dict[str, str]] = field(default_factory=list)
    unacknowledged: list[int] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self._sessions: dict[tuple[str, int], Session] = {}
        self._sockets: list[web.WebSocketResponse] = []
        self._current: tuple[Session, web.WebSocketResponse] | None = None
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._port = 0
        self.dials = 0

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        app = web.Application()
        app.router.add_get("/mesh", self._mesh)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        assert self._runner.addresses
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Listen no more; all lines break."""
        await self.speak()
        self.cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def restart(self) -> None:
        """Forget every session and come back as a new boot."""
        await self.stop()
        self.forget_sessions()
        self.boot += 1
        await self.start()

    def forget_sessions(self) -> None:
        """Lose count of what was said and heard."""
        self._sessions.clear()
        self.unacknowledged.clear()

    async def speak(self) -> None:
        """Be silent no more."""
        self.is_silent = False
        await self._wake()

    def cut(self) -> None:
        """Break every line without a word."""
        self._current = None
        sockets, self._sockets = self._sockets, []
        for socket in sockets:
            transport = socket._req.transport if socket._req is not None else None
            if transport is not None:
                transport.abort()

    # --- talk -------------------------------------------------------------------------------------------------------

    async def say(self, *messages: Message) -> None:
        """Send messages to the sidecar that is connected."""
        assert self._current is not None, "no sidecar is connected"
        session, socket = self._current
        for message in messages:
            session.send(message)
        await self._flush(session, socket)

    async def say_bytes(self, frame: bytes) -> None:
        """Send a frame as it is."""
        assert self._current is not None, "no sidecar is connected"
        await self._current[1].send_bytes(frame)

    async def acknowledge_all(self, *also: Message) -> None:
        """Acknowledge what was held back by ``acknowledges = False``, and send messages with it."""
        assert self._current is not None, "no sidecar is connected"
        session, socket = self._current
        for number in self.unacknowledged:
            session.acknowledge(number)
        self.unacknowledged.clear()
        for message in also:
            session.send(message)
        await self._flush(session, socket)

    async def until(self, fact: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
        """Wait for a fact; it is looked at after everything that happens at this hub."""
        async with asyncio.timeout(patience_s), self._changed:
            await self._changed.wait_for(fact)

    @property
    def unsent(self) -> int:
        """Ordered messages that the sidecar has not acknowledged."""
        return sum(session.unacked for session in self._sessions.values())

    def of(self, kind: type[Kind]) -> list[Kind]:
        """Messages of one kind, in the order they came."""
        return [message for message in self.received if isinstance(message, kind)]

    # --- inside -----------------------------------------------------------------------------------------------------

    async def _mesh(self, request: web.Request) -> web.StreamResponse:
        self.dials += 1
        self.headers.append(dict(request.headers))
        await self._wake()
        if self.status:
            return web.Response(status=self.status)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        socket = web.WebSocketResponse(compress=False, autoping=False)
        await socket.prepare(request)
        self._sockets.append(socket)
        await self._serve(socket)
        return socket

    async def _serve(self, socket: web.WebSocketResponse) -> None:
        session: Session | None = None
        async for frame in socket:
            if frame.type is not WSMsgType.BINARY:
                break
            async with self._changed:
                await self._changed.wait_for(lambda: not self.is_silent)
            if session is None:
                session = await self._welcome(socket, codec.decode(frame.data))
                if session is None:
                    break
                continue
            for message in readable(session.receive(frame.data, self._now())):
                self._take(message, session)
            await self._flush(session, socket)
            await self._wake()
        if session is not None and self._current is not None and self._current[1] is socket:
            session.disconnected()
            self._current = None
        await self._wake()

    async def _welcome(self, socket: web.WebSocketResponse, messages: list[AnyMessage]) -> Session | None:
        (hello,) = messages
        assert isinstance(hello, Hello)
        self.hellos.append(hello)
        if self.first is not None:
            await socket.send_bytes(codec.encode(self.first))
            await self._wake()
            return None
        session = self._sessions.setdefault((hello.sidecar, hello.boot), Session(heartbeat_s=60, dead_after_s=600))
        welcome = Welcome(
            protocol=self.protocol,
            hub_boot=self.boot,
            received=session.received,
            heartbeat_s=self.heartbeat_s,
            lease_s=self.lease_s,
            verdicts=tuple(Verdict(attempt=held.attempt, verdict=self.verdict(held)) for held in hello.inventory),
            draining=self.draining,
        )
        await socket.send_bytes(codec.encode(welcome))
        session.connected(hello.received if hello.hub_boot == self.boot else 0, self._now())
        self._current = session, socket
        await self._flush(session, socket)
        await self._wake()
        return session

    def _take(self, message: AnyMessage, session: Session) -> None:
        if isinstance(message, Heartbeat):
            self.heartbeats.append(message)
            return
        self.received.append(message)
        if isinstance(message, Ordered):
            if self.acknowledges:
                session.acknowledge(message.n)
            else:
                self.unacknowledged.append(message.n)

    async def _flush(self, session: Session, socket: web.WebSocketResponse) -> None:
        try:
            while frames := session.data_to_send():
                for frame in frames:
                    await socket.send_bytes(frame)
        except ConnectionError:
            pass  # the line broke; the session resends on the next one

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
