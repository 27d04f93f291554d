"""The links to sidecars: one session a boot, over any number of sockets.

A link outlives its socket: what was sent and not acknowledged goes out again when the same boot comes back. A newer
boot of the same sidecar ends the older link.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from hub.gateway.line import Line
from protocol.clock import Clock
from protocol.errors import AgentComError, FrameTooLarge, Overloaded
from protocol.limits import LITTLE_BYTES
from protocol.messages import Message, Ordered
from protocol.session import Session

log = structlog.get_logger(__name__)
BEHIND_BYTES: Final = 1 << 20
"""What a sidecar may have on its way to it before it gets no more work: 8 s on a line of 1 Mbit/s."""
ACK_S: Final = 0.05
"""How long the word that something is safe may wait for a frame to go with: alone it costs both ends a wake-up, and the
sidecar a transaction, just when the submitter hears of the end and sends the next task."""
FORGET_S: Final = 900.0
"""How long a link is kept for a sidecar that is away; one that comes later begins to count anew."""
SWEEP_S: Final = 60.0
DROPPED: Final = -1
"""Number of no socket: a link that was dropped serves nobody any more."""


class Wake:
    """A word to the one who writes that there is something to write: an event for one waiter.

    ``asyncio.Event`` would take five times the memory, for every sidecar that is idle.
    """

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits who was not told yet."""
        return self._waiter is not None and not self._is_set

    def set(self) -> None:
        """There is."""
        self._is_set = True
        _end(self._waiter)

    async def wait(self) -> None:
        """Return when it was set since the last call has returned."""
        if not self._is_set:
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                if self._waiter is waiter:  # else the writer of a later socket waits already
                    self._waiter = None
        self._is_set = False


def _end(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _told_nobody(_link: "Link", _is_behind: bool) -> None:  # noqa: FBT001 - the one thing it tells
    """Nobody wants to know that a sidecar falls behind."""


class Link:
    """One boot of one sidecar."""

    __slots__ = (
        "_is_ack_due",
        "_is_behind",
        "_waiting",
        "boot",
        "instance",
        "left_at",
        "line",
        "name",
        "on_behind",
        "session",
        "socket",
        "work",
        "writing",
    )

    def __init__(self, name: str, boot: int, session: Session) -> None:
        self.name, self.boot, self.session = name, boot, session
        self.work = Wake()
        self.writing = 0  # number of the socket whose writer has begun
        self.instance = ""
        """The state directory that it works from, if it says so."""
        self._waiting: tuple[asyncio.Future[None], ...] = ()  # those who wait for a sign of life
        self.socket = 0  # number of the socket that is in charge; an older one that is still open has lost it
        self.line: Line | None = None
        """That of the socket, until it is told to close."""
        self.left_at: float | None = None
        self.on_behind: Callable[[Link, bool], None] = _told_nobody
        self._is_behind = False
        self._is_ack_due = False

    def arrived(self) -> None:
        """A socket stands again, and its sidecar knows of nothing that is said here."""
        self.left_at, self._is_behind = None, False
        self.look()

    async def answers(self, now: float, seconds: float) -> bool:
        """Whether the other end answers, within so many seconds, what it is asked at ``now``."""
        self.session.ping(now)
        self.work.set()
        try:
            async with asyncio.timeout(seconds):
                while self.session.is_connected and self.session.proven_at < now:
                    heard = asyncio.get_running_loop().create_future()
                    self._waiting = (*self._waiting, heard)
                    try:
                        await heard
                    finally:
                        self._waiting = tuple(each for each in self._waiting if each is not heard)
        except TimeoutError:
            return False
        return self.session.is_connected

    def wake_waiting(self) -> None:
        """Something came, or nothing will: whoever waits for a sign of life looks again."""
        for waiting in self._waiting:
            _end(waiting)

    def look(self) -> None:
        """A frame has come: tell when the sidecar falls behind with what it was sent, and when it no longer is."""
        if self._waiting:
            self.wake_waiting()
        is_behind = self.session.unacked_bytes > BEHIND_BYTES
        if is_behind is not self._is_behind:
            self._is_behind = is_behind
            self.on_behind(self, is_behind)

    def send(self, *messages: Message) -> None:
        """Queue messages and have them written soon, with all that is sent in this turn of the event loop."""
        self._queue(messages)
        self.work.set()

    def send_now(self, *messages: Ordered) -> None:
        """Send messages that nothing else is expected to go with: at once, if whoever writes has nothing to do."""
        try:
            self.session.send_all(messages)
            self.look()
        except (Overloaded, FrameTooLarge):
            self._queue(messages)  # one by one: what fits leaves
        if not (self.work.is_awaited and self._write_at_once()):
            self.work.set()

    def _write_at_once(self) -> bool:
        """Write what waits, if it is little and the line is free; whether that was so.

        The turn of the event loop that wakes a writer is time that a lone task waits for its agent.
        """
        line, session = self.line, self.session
        if line is None or self.writing != self.socket or not line.is_free:
            return False
        if session.waiting_bytes > LITTLE_BYTES or not line.is_welcome:
            return False
        try:
            while frames := session.data_to_send():
                for frame in frames:
                    line.put(frame)
        except ConnectionError:
            pass  # whoever reads from it notices
        return True

    def _queue(self, messages: Sequence[Message]) -> None:
        send = self.session.send
        for message in messages:
            try:
                send(message)
            except Overloaded:
                # It reads nothing any more: cut it off. Its leases decide what becomes of its work.
                log.warning("link_overloaded", agent=self.name, unacked=self.session.unacked, next="its leases decide")
                self.cut()
                return
            except FrameTooLarge as exc:
                # Senders keep their messages small; one that did not must not take the hub along.
                log.warning("message_too_large", agent=self.name, kind=type(message).__name__, why=str(exc))
        self.look()

    def answered(self, number: int, count: int, last: int = 0) -> None:
        """The effect of the peer's message ``number`` of its ``count``-th counting is safe, of all up to ``last``.

        A peer that has begun to count again sends it again: under its old number it says nothing about the new ones.
        """
        session = self.session
        if count == session.count:
            session.acknowledge(number, last)
            if not self._is_ack_due:
                self._is_ack_due = True
                asyncio.get_running_loop().call_later(ACK_S, self._tell_what_is_safe)

    def _tell_what_is_safe(self) -> None:
        self._is_ack_due = False
        self.work.set()

    def left(self, now: float) -> None:
        """The socket that was in charge is over."""
        self.session.disconnected()
        self.wake_waiting()
        self.line, self.left_at, self.writing = None, now, 0

    def cut(self, *, refused: bool = False, why: str = "") -> None:
        """Close the socket that is in charge, if there is one; nothing that it says counts any more."""
        if self.line is not None:
            line, self.line = self.line, None
            task = asyncio.ensure_future(line.close(refused=refused, why=why))
            task.add_done_callback(_closed)


def _closed(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and isinstance(error := task.exception(), OSError | AgentComError):
        log.debug("close_failed", error=str(error))


class Links:
    """All links, by sidecar; the services' way to reach an agent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._links: dict[str, Link] = {}
        self._swept_at = clock.monotonic()

    def open(self, name: str, boot: int, make: Callable[[], Session]) -> Link:
        """The link of this boot, made if it is new; an older boot's link is cut."""
        self._forget_the_gone()
        link = self._links.get(name)
        if link is None or link.boot != boot:
            if link is not None:
                link.cut()
            link = self._links[name] = Link(name, boot, make())
        return link

    def _forget_the_gone(self) -> None:
        now = self._clock.monotonic()
        if now - self._swept_at < SWEEP_S:
            return
        self._swept_at = now
        for name, link in list(self._links.items()):
            if link.left_at is not None and now - link.left_at >= FORGET_S:
                self.drop(name)

    @property
    def kept(self) -> int:
        """Sidecars that could come back to where they were."""
        return len(self._links)

    def of(self, name: str) -> Link | None:
        """The link of the newest boot of a sidecar, if it is kept."""
        return self._links.get(name)

    def drop(self, name: str) -> None:
        """Forget what was said to a sidecar, and close its line: the next one begins to count anew."""
        link = self._links.pop(name, None)
        if link is not None:
            link.socket = DROPPED
            link.session.disconnected()
            link.wake_waiting()
            link.cut()

    def send(self, agent: str, boot: int, message: Message) -> None:
        """Send to that boot of an agent, now or when it is back; dropped if a newer boot has come."""
        link = self._links.get(agent)
        if link is not None and link.boot == boot:
            link.send(message)

    def send_all(self, agent: str, boot: int, messages: Sequence[Ordered]) -> None:
        """As :meth:`send`, many in their order, and nothing more for now: they need not wait for company."""
        link = self._links.get(agent)
        if link is not None and link.boot == boot:
            link.send_now(*messages)

    def look_again(self) -> None:
        """A token was revoked: its lines end now, though whoever writes may be stuck in one that takes nothing."""
        for link in self._links.values():
            if link.line is not None and not link.line.is_welcome:
                link.cut(refused=True, why="unauthenticated")

    def cut_all(self) -> None:
        """The hub is ending."""
        for link in self._links.values():
            link.cut()

    @property
    def connected(self) -> int:
        """Sidecars with an open socket."""
        return sum(link.session.is_connected for link in self._links.values())
