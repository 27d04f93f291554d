"""A network between simulated machines: it delays, holds back, cuts and refuses, as far as TCP could.

What a connection carries are whole frames in order. A frame may be held back for as long as its route is blocked (what
a peer sees of a half-open line), and a cut loses a frame and all behind it, each direction by itself. Nothing is ever
reordered, doubled or replayed within a connection: TCP does not do that either. An HTTP request is one exchange that
may be lost before it has come, or its answer after it was done, or may come twice (a proxy that tries again).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from protocol.errors import HubUnreachable
from tests.simulation.world import Process, World

WINDOW_BYTES: Final = 256 << 10
"""What a socket takes before its reader has read."""
CLOSE_S: Final = 1.0
"""How long a closing handshake may take."""
_END: Final = object()


@dataclass(slots=True)
class Weather:
    """What the network between one machine and the hub is like; faults change it."""

    delay_s: float = 0.001
    jitter_s: float = 0.002
    up_until: float = 0.0
    """Nothing of this machine arrives at the hub before that."""
    down_until: float = 0.0
    """Nothing of the hub arrives at this machine before that."""
    refuses_until: float = 0.0
    loses: float = 0.0
    """How likely an HTTP request or its answer is lost."""


class Server(Protocol):
    """What listens."""

    process: Process | None
    is_listening: bool

    def accept(self, line: "End") -> None:
        """A connection has come in; called in no process."""
        ...


class Pipe:
    """One direction of one connection."""

    def __init__(self, network: "Network", machine: str, *, is_up: bool, to: "End") -> None:
        self._network, self._machine, self._is_up, self._to = network, machine, is_up, to
        self._frames: deque[tuple[float, object]] = deque()  # when it may arrive, at the earliest
        self._last = 0.0
        self._is_moving = False
        self.is_dead = False

    def put(self, frame: object) -> None:
        """A frame is on its way."""
        if self.is_dead:
            return
        world = self._network.world
        at = max(self._last, world.now + self._network.delay_s(self._machine))
        self._last = at
        self._frames.append((at, frame))
        if not self._is_moving:
            self._is_moving = True
            world.later(at - world.now, self._arrive)

    def _arrive(self) -> None:
        world = self._network.world
        blocked_until = self._network.blocked_until(self._machine, is_up=self._is_up)
        while self._frames:
            at, frame = self._frames[0]
            at = max(at, blocked_until)
            if at > world.now:
                world.later(at - world.now, self._arrive)
                return
            self._frames.popleft()
            self._to.arrived(frame)
        self._is_moving = False

    def cut(self) -> None:
        """Some of what is on its way still arrives, then the end."""
        keep = self._network.chance.randrange(len(self._frames) + 1)
        while len(self._frames) > keep:
            self._frames.pop()
        self.put(_END)
        self.is_dead = True

    def die(self) -> None:
        """Nothing arrives any more, and nobody is told."""
        self._frames.clear()
        self.is_dead = True


class End:
    """One end of a connection: a :class:`sidecar.dial.Connection` and a :class:`hub.gateway.server.Line`."""

    def __init__(self, network: "Network", process: Process) -> None:
        self._network, self.process = network, process
        self.out: Pipe
        self.peer: End
        self.number = network.count()
        self.is_broken = False
        self.is_over = False  # the other end has said all
        self._closed = False
        self._inbox: deque[bytes] = deque()
        self.received_bytes = 0
        self.unread_bytes = 0  # of what we have sent: on its way, or not read by the peer
        self._readers: list[asyncio.Future[None]] = []
        self._writers: list[asyncio.Future[None]] = []

    is_welcome = True
    token = ""
    channels: frozenset[str] = frozenset()
    channel = ""

    def is_for(self, _sidecar: str) -> bool:
        """Every name may come in."""
        return True

    def arrived(self, frame: object) -> None:
        """The network has brought something; the kernel keeps it even while the process stands still."""
        if frame is _END:
            self.is_over = True
        elif isinstance(frame, bytes):
            self._network.world.mark(self.number * 65_537 + len(frame))
            self._inbox.append(frame)
            self.received_bytes += len(frame)
        _wake(self._readers)
        _wake(self._writers)

    async def receive(self) -> Any:  # noqa: ANN401 - bytes; None at the end, where the hub's side asks
        while not self._inbox:
            if self.is_broken or self._closed:
                raise ConnectionResetError("connection lost")
            if self.is_over:
                return self._at_end()
            await _wait(self.process, self._readers)
        frame = self._inbox.popleft()
        self.peer.unread_bytes -= len(frame)
        _wake(self.peer._writers)
        return frame

    async def listen(self, heard: Callable[[bytes], None]) -> None:
        while (frame := await self.receive()) is not None:
            heard(frame)

    def _at_end(self) -> None:
        raise ConnectionResetError("no close frame received or sent")

    async def send(self, frame: bytes) -> None:
        while True:
            if self.is_broken or self.is_over or self._closed:
                raise ConnectionResetError("Cannot write to closing transport")
            if self.unread_bytes < WINDOW_BYTES:
                break
            await _wait(self.process, self._writers)
        self.put(frame)

    @property
    def is_free(self) -> bool:
        return self.unread_bytes < WINDOW_BYTES

    def put(self, frame: bytes) -> None:
        if self.is_broken or self.is_over or self._closed:
            raise ConnectionResetError("Cannot write to closing transport")
        self.unread_bytes += len(frame)
        self.out.put(frame)

    async def close(self, *, refused: bool = False, why: str = "") -> None:
        del refused, why
        if self._closed:
            return
        self._closed = True
        self.out.put(_END)
        self.out.is_dead = True
        _wake(self._readers)
        _wake(self._writers)
        try:
            async with asyncio.timeout(CLOSE_S):
                while not (self.is_over or self.is_broken):
                    await _wait(self.process, self._readers)
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Cut it off."""
        self.is_broken = self._closed = True
        self.out.put(_END)
        self.out.is_dead = True
        _wake(self._readers)
        _wake(self._writers)

    def died(self, *, silently: bool) -> None:
        """The process is gone; a kernel that lives says so, a machine without power does not."""
        self.is_broken = True
        if silently:
            self.out.die()
        else:
            self.out.put(_END)
            self.out.is_dead = True


class HubEnd(End):
    """The hub's end: aiohttp tells of the end with a message, not with an error."""

    def _at_end(self) -> None:
        return None


class Network:
    """All routes to the hub, and what runs over them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = world.random("network")
        self._routes: dict[str, Weather] = {}
        self.ends: list[End] = []
        self._counted = 0

    def count(self) -> int:
        """A number for the next end."""
        self._counted += 1
        return self._counted

    def route(self, machine: str) -> Weather:
        """The route between a machine and the hub."""
        found = self._routes.get(machine)
        if found is None:
            found = self._routes[machine] = Weather()
        return found

    def delay_s(self, machine: str) -> float:
        """How long the next frame takes."""
        route = self.route(machine)
        chance = self.chance.random()
        return route.delay_s + route.jitter_s * chance * chance

    def blocked_until(self, machine: str, *, is_up: bool) -> float:
        """When the route lets anything through again."""
        route = self.route(machine)
        return route.up_until if is_up else route.down_until

    # --- connections --------------------------------------------------------------------------------------------------

    async def dial(self, process: Process, server: Server) -> End:
        """A connection to what listens there; the caller limits the time.

        Raises:
            OSError: nobody listens, or the network says no.
        """
        world, machine = self.world, process.machine.name
        answered: asyncio.Future[End] = process.create_future()

        def knock() -> None:
            if (wait_s := self.blocked_until(machine, is_up=True) - world.now) > 0:
                world.later(wait_s, knock)
                return
            hub = server.process
            if hub is None or hub.is_dead or not server.is_listening or self.route(machine).refuses_until > world.now:
                world.later(self.delay_s(machine), settle, None)
                return
            mine, theirs = End(self, process), HubEnd(self, hub)
            mine.peer, theirs.peer = theirs, mine
            mine.out, theirs.out = Pipe(self, machine, is_up=True, to=theirs), Pipe(self, machine, is_up=False, to=mine)
            self.ends = [end for end in self.ends if not (end.is_broken or end.process.is_dead)]
            self.ends += [mine, theirs]
            hub.call_soon(let_in, mine, theirs)

        def let_in(mine: End, theirs: End) -> None:
            server.accept(theirs)
            tell(mine)

        def tell(mine: End) -> None:
            wait_s = max(self.delay_s(machine), self.blocked_until(machine, is_up=False) - world.now)
            world.later(wait_s, settle, mine)

        def settle(mine: End | None) -> None:
            if answered.done() or process.is_dead:
                if mine is not None:
                    mine.abort()
            elif mine is None:
                answered.set_exception(ConnectionRefusedError("Connect call failed"))
            else:
                answered.set_result(mine)

        world.later(self.delay_s(machine), knock)
        return await answered

    def cut(self, machine: str) -> int:
        """Cut every connection of a machine; how many there were."""
        found = [end for end in self.ends if end.process.machine.name == machine and not end.out.is_dead]
        for end in found:
            end.out.cut()
            end.peer.out.cut()
        return len(found)

    def gone(self, process: Process, *, silently: bool) -> None:
        """A process has ended, and with it its connections."""
        for end in self.ends:
            if end.process is process and not end.is_broken:
                end.died(silently=silently)

    def revived(self, machine: str) -> None:
        """A machine that was without power is back: its kernel knows nothing of the old connections, and says so."""
        for end in self.ends:
            if end.process.machine.name == machine and end.process.is_dead and end.is_broken:
                self.world.later(self.delay_s(machine), end.peer.arrived, _END)

    # --- requests -----------------------------------------------------------------------------------------------------

    async def ask(
        self, process: Process, server: Server, handle: Callable[[], Awaitable[Any]], timeout_s: float = 30.0
    ) -> Any:  # noqa: ANN401 - what the handler answers
        """Have ``handle`` run at the hub; its answer, or the error that it raised.

        Raises:
            HubUnreachable: the hub has not done it.
            Unknown: nobody can say whether the hub has done it, or will.
        """
        exchange = _Exchange(self, process, server, handle)
        try:
            async with asyncio.timeout(timeout_s):
                return await exchange.answer
        except TimeoutError:
            raise Unknown from None


class _Exchange:
    """One HTTP request and its answer."""

    def __init__(
        self, network: Network, process: Process, server: Server, handle: Callable[[], Awaitable[Any]]
    ) -> None:
        self._network, self._process, self._server, self._handle = network, process, server, handle
        self._machine, loses = process.machine.name, network.route(process.machine.name).loses
        self._is_lost, self._is_doubled = network.chance.random() < loses, network.chance.random() < loses / 2
        self.answer: asyncio.Future[Any] = process.create_future()
        self._later(self._come)

    def _later(self, call: Callable[..., None], *args: object) -> None:
        self._network.world.later(self._network.delay_s(self._machine), call, *args)

    def _settle(self, value: object, error: BaseException | None) -> None:
        if self.answer.done() or self._process.is_dead:
            return
        if error is None:
            self.answer.set_result(value)
        else:
            self.answer.set_exception(error)

    def _come(self) -> None:
        hub = self._server.process
        if hub is None or hub.is_dead or not self._server.is_listening:
            self._later(self._settle, None, HubUnreachable("hub", "refused"))
            return
        for is_double in (False, True)[: 1 + self._is_doubled]:
            hub.call_soon(self._begin, hub, is_double)
        self._watch(hub)

    def _watch(self, hub: Process) -> None:
        """The hub's kernel tells the client when the hub has died."""
        if hub.is_dead:
            self._later(self._settle, None, Unknown())
        elif not self.answer.done():
            self._network.world.later(0.5, self._watch, hub)

    def _begin(self, hub: Process, is_double: bool) -> None:
        task = hub.create_task(self._handle())  # type: ignore[arg-type]  # handlers are coroutines
        task.add_done_callback(lambda done: self._leave(done, is_double=is_double))

    def _leave(self, done: "asyncio.Task[Any]", *, is_double: bool) -> None:
        error = None if done.cancelled() else done.exception()
        if is_double:
            return  # nobody reads the second answer
        if self._is_lost:
            self._later(self._settle, None, Unknown())
        else:
            self._later(self._settle, None if error else done.result(), error)


class Unknown(Exception):
    """The answer is lost: it may have been done, or not, or may still be."""


def _wake(waiting: "list[asyncio.Future[None]]") -> None:
    if waiting:
        futures = waiting[:]
        waiting.clear()
        for future in futures:
            if not future.done():
                future.set_result(None)


async def _wait(process: Process, waiting: "list[asyncio.Future[None]]") -> None:
    future: asyncio.Future[None] = process.create_future()
    waiting.append(future)
    await future
