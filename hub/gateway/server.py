"""Accept a sidecar, agree on who it is, then carry messages between its line and the services.

A line is whatever carries whole frames both ways (``line.py``); the WebSocket at ``/mesh`` is ``socket.py``. Nothing
a sidecar sends is believed beyond its own name: the token says that it may join, the hello says who it is, whoever is
on a machine that has joined signs that (``identity.py``), and every message of an attempt is checked against the lease
that this name holds.
"""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, get_args

import structlog

from hub.core.agent import Held
from hub.gateway.connection import DROPPED, Link, Links
from hub.gateway.identity import IdentityPort, prove
from hub.gateway.line import Line
from hub.gateway.patience import Patience, Waited
from hub.gateway.ports import ConductPort, PresencePort, ResultsPort, SecretsPort
from hub.store.refusals import LostAttempt
from protocol import codec, messages
from protocol.clock import Clock
from protocol.errors import (
    AgentComError,
    BadInput,
    Forbidden,
    MalformedFrame,
    ProtocolViolation,
    StaleAttempt,
    Throttled,
)
from protocol.ids import NAME
from protocol.limits import DEAD_AFTER_HEARTBEATS, HANDSHAKE_S, LONGEST_FRAME_S, MIN_DEAD_AFTER_S
from protocol.log_levels import LOG_LEVELS
from protocol.model import AttemptState
from protocol.salvage import Unreadable
from protocol.session import Session
from protocol.version import negotiate

log = structlog.get_logger(__name__)
MAX_SLOTS: Final = 1_024
ALIVE_S: Final = 2.0
"""How long a start of a sidecar may take to answer before the next one has its place; whoever dials waits for 5 s."""
REFUSE_S: Final = 2.0
"""How long the word that refuses a sidecar may take to leave."""
_OfAttempt = messages.Accept | messages.Report | messages.Progress | messages.Log | messages.Reject
_OF_ATTEMPTS: Final = get_args(_OfAttempt)
_WAITED_FOR: Final = (messages.Log, messages.Progress)
"""Their sender holds back more, or goes on, only when they are known to be safe."""
_Told = tuple[messages.Report, messages.Accept | None]
_PASSED: Final = AttemptState.PASSED


class Gateway:
    """The door for sidecars."""

    def __init__(  # noqa: PLR0913 - the parts it is made of
        self,
        links: Links,
        presence: PresencePort,
        results: ResultsPort,
        clock: Clock,
        *,
        hub_boot: int,
        heartbeat_s: float,
        lease_s: float,
        resend: Callable[[Held], Awaitable[None]],
        hubs: Callable[[], Iterable[str]] = tuple,
        dead_after_s: float | None = None,
        artifact_bytes: int = 0,
        artifacts_bytes: int = 0,
        conduct: ConductPort | None = None,
        secrets: SecretsPort | None = None,
    ) -> None:
        self._conduct, self._secrets = conduct, secrets
        self._links, self._presence, self._results, self._clock = links, presence, results, clock
        self._hub_boot, self._heartbeat_s, self._lease_s, self._resend = hub_boot, heartbeat_s, lease_s, resend
        self._hubs, self._most_bytes = hubs, (artifact_bytes, artifacts_bytes)
        self._dead_after_s = dead_after_s or max(DEAD_AFTER_HEARTBEATS * heartbeat_s, MIN_DEAD_AFTER_S)
        # A writer notices a silent peer first, unless it is itself stuck in a write that nobody takes.
        self._patience = Patience(
            clock,
            seconds=self._dead_after_s + heartbeat_s,
            longest_s=LONGEST_FRAME_S,
            heartbeat_s=heartbeat_s,
        )
        self._sockets = 0
        self._on_behind = self._behind  # one for all links
        self.identities: IdentityPort | None = None
        """Who knows machines by their keys; ``None``: none has one."""
        self.log_levels: dict[str, str] = {}
        """Of sidecars, by component, where somebody has set some."""

    async def serve(self, line: Line) -> None:
        """Serve one line until it closes. The caller has checked the token."""
        link: Link | None = None
        try:
            link, number = await self._welcome(line)
            await self._serve(line, link, number)
        except Throttled as exc:
            await self._refuse(line, exc, exc.retry_after_s or 0.0)
        except (BadInput, ProtocolViolation) as exc:
            why = codec.in_full(exc) if isinstance(exc, MalformedFrame) else exc
            known = self._conduct if link is not None else None
            await self._refuse(line, why, known.violated(link.name, why) if known and link else 0.0)
        except AgentComError as exc:
            await self._refuse(line, exc)
        except (ConnectionError, TimeoutError) as exc:
            log.info("socket_lost", agent=link.name if link else None, error=str(exc) or type(exc).__name__)
        finally:
            await line.close()

    def cut_all(self) -> None:
        """The hub is ending."""
        self._links.cut_all()

    async def _refuse(self, line: Line, error: AgentComError, retry_after_s: float = 0.0) -> None:
        log.warning("sidecar_refused", code=error.code, why=str(error))
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(REFUSE_S):
                word = messages.Error(code=error.code, detail=str(error), fatal=True, retry_after_s=retry_after_s)
                await line.send(codec.encode(word))
        await line.close(refused=True, why=error.code)

    # --- hello --------------------------------------------------------------------------------------------------------

    async def _welcome(self, line: Line) -> tuple[Link, int]:
        hello = await self._hello(line)
        if not line.is_for(hello.sidecar):
            raise Forbidden("agent", f"come in as {hello.sidecar!r}: its token is bound to other names")
        if self._conduct is not None and (wait_s := self._conduct.wait_s(hello.sidecar)):
            raise Throttled(f"{hello.sidecar} has not kept to the protocol", wait_s)
        protocol = negotiate(hello.protocol)
        asked_at = self._clock.monotonic()
        if is_signed := await prove(line, hello, self.identities):
            await self._look_for_clone(hello)
        verdicts, again = await self._presence.hello(hello, asked_at if is_signed else None)
        if hello.hub_boot not in {0, self._hub_boot}:
            self._links.drop(hello.sidecar)  # it was at another hub since: what we meant to tell it is out of date
        link = self._links.open(hello.sidecar, hello.boot, self._session)
        is_new = link.socket == 0
        link.cut()  # a socket of the same boot that is still open is a dead one
        self._sockets += 1
        number = link.socket = self._sockets
        link.line, link.instance, link.on_behind = line, hello.instance, self._on_behind
        session = link.session
        knows_us = hello.hub_boot == self._hub_boot and not is_new
        if not knows_us:
            session.peer_restarted()
        welcome = messages.Welcome(
            protocol=protocol,
            hub_boot=self._hub_boot,
            received=session.safe,
            heartbeat_s=self._heartbeat_s,
            lease_s=self._lease_s,
            verdicts=verdicts,
            draining=self._presence.is_draining(hello.sidecar),
            afresh=not knows_us,
            hubs=tuple(sorted(url for url in self._hubs() if url)),
            artifact_bytes=self._most_bytes[0],
            artifacts_bytes=self._most_bytes[1],
        )
        try:
            await line.send(codec.encode(welcome))
            _check_is_in_charge(link, number)
            session.revise(self._still_true)
            session.connected(hello.received if knows_us else 0, self._clock.monotonic())
            link.arrived()
            link.work.set()
            for held in again if is_new else ():  # what an older session has not acknowledged it sends by itself
                await self._resend(held)
            _check_is_in_charge(link, number)
        except BaseException:
            self._leave(link, number)
            raise
        self._presence.ready(hello.sidecar, hello.boot)
        if self.log_levels and LOG_LEVELS in hello.capabilities:
            link.send(messages.LogLevels(levels=self.log_levels))
        return link, number

    async def _look_for_clone(self, hello: messages.Hello) -> None:
        """Pass if the start that has this name and key now is over, or never ends before this one.

        Its socket may stand though it is dead: only what answers now is alive, beside the start that has just signed.

        Raises:
            Cloned: it is alive.
        """
        link = self._links.of(hello.sidecar)
        if link is None or not link.session.is_connected:
            return
        is_other = bool(link.instance and hello.instance) and link.instance != hello.instance
        if not is_other and link.boot >= hello.boot:
            return  # its own line that broke; or it is the older one, which presence judges
        if await link.answers(self._clock.monotonic(), ALIVE_S):
            raise self._presence.cloned(hello)
        if is_other and self._links.of(hello.sidecar) is link:
            self._links.drop(hello.sidecar)
            self._presence.gone(link.name, link.boot)

    def _still_true(self, message: messages.Ordered) -> messages.Ordered:
        """What waits for a sidecar that was away: an assignment that was given up meanwhile starts no work there."""
        if isinstance(message, messages.Assign) and not self._presence.holds(message.attempt):
            return messages.Cancel(attempt=message.attempt, reason="it was given up before it arrived")
        return message

    def _leave(self, link: Link, number: int) -> None:
        """The socket ``number`` is over; if no later one has taken its place, the sidecar is gone."""
        if link.socket == number:
            link.left(self._clock.monotonic())
            self._presence.gone(link.name, link.boot)

    def _behind(self, link: Link, is_behind: bool) -> None:  # noqa: FBT001 - the one thing it tells
        self._presence.behind(link.name, link.boot, is_behind=is_behind)

    def _session(self) -> Session:
        return Session(heartbeat_s=self._heartbeat_s, dead_after_s=self._dead_after_s)

    async def _hello(self, line: Line) -> messages.Hello:
        async with asyncio.timeout(HANDSHAKE_S):
            frame = await line.receive()
        if frame is None:
            raise ProtocolViolation("a hello", "the end")
        found = codec.decode(frame)
        if len(found) != 1 or not isinstance(found[0], messages.Hello):
            raise ProtocolViolation(
                "a single hello", ", ".join(type(m).__name__.lower() for m in found[:5]) or "nothing"
            )
        hello = found[0]
        if not NAME.fullmatch(hello.sidecar):
            raise MalformedFrame(f"not a usable sidecar name: {hello.sidecar[:80]!r}")
        if not 1 <= hello.slots <= MAX_SLOTS:
            raise MalformedFrame(f"slots must be from 1 to {MAX_SLOTS}, found {hello.slots}")
        return hello

    # --- after that ---------------------------------------------------------------------------------------------------

    async def _serve(self, line: Line, link: Link, number: int) -> None:
        """Act on frames until the line ends; one that is still coming over a slow line is waited for.

        Raises:
            TimeoutError: nothing comes, or no end of it.
        """
        writer = asyncio.create_task(self._write(line, link, number), name=f"write-{link.name}")
        waited = None
        try:
            async with asyncio.timeout(None) as limit:
                waited = self._patience.begin(line, link, limit)
                await line.listen(functools.partial(self._hear, link, number, waited))
        finally:
            if waited is not None:
                self._patience.stop(waited)
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await writer
            self._leave(link, number)

    def _hear(self, link: Link, number: int, waited: Waited, frame: bytes) -> None:
        if link.socket != number:
            return  # whoever has overtaken this line has cut it
        now, session = self._clock.monotonic(), link.session
        session.read_bytes = waited.heard(now)
        self._take(link, session.receive(frame, now))
        link.look()
        if session.has_words:
            link.work.set()  # a pong that comes late makes the sidecar believe that its leases are ending

    def _take(self, link: Link, found: Iterable[messages.AnyMessage | Unreadable]) -> None:
        """Act on messages in order; reports that stand next to one another are acted on together."""
        for message in _together(found):
            if isinstance(message, list):
                self._results.reports(link.name, message, functools.partial(self._answer, link, link.session.count))
            else:
                self._act(link, message)

    def _act(self, link: Link, message: messages.AnyMessage | Unreadable) -> None:
        if isinstance(message, _OF_ATTEMPTS):
            answer = functools.partial(self._answer, link, link.session.count, ((message, None),))
            self._results.take(link.name, message, answer)
        elif isinstance(message, messages.Heartbeat):
            for attempt in self._presence.heartbeat(link.name, message):
                link.send(messages.Cancel(attempt=attempt, reason="this attempt does not count any more"))
        elif isinstance(message, messages.AskSecrets) and self._secrets is not None:
            self._secrets.ask(link.name, message, link.send)
        elif isinstance(message, messages.Error):
            log.warning("sidecar_error", agent=link.name, code=message.code, detail=message.detail[:500])
        elif isinstance(message, Unreadable):
            self._pass_over(link, message)
        else:
            raise ProtocolViolation("a message that sidecars send", type(message).__name__.lower())

    def _pass_over(self, link: Link, message: Unreadable) -> None:
        """Its sender has violated the protocol; but one with a number is not asked for again.

        It would come for ever, and stand before all that follows.

        Raises:
            MalformedFrame: always.
        """
        if message.n:
            answer = functools.partial(self._passed_over, link, link.session.count, message.n)
            self._results.unreadable(link.name, message, answer)
        raise message.error

    def _passed_over(self, link: Link, count: int, number: int, error: AgentComError | None) -> None:
        if isinstance(error, LostAttempt):
            self._forget(link)
        else:
            link.answered(number, count)

    def _forget(self, link: Link) -> None:
        if link.socket != DROPPED:
            self._links.drop(link.name)
            self._presence.gone(link.name, link.boot)

    def _answer(
        self,
        link: Link,
        count: int,
        told: Sequence[tuple[_OfAttempt, messages.Accept | None]],
        error: AgentComError | None,
    ) -> None:
        """The effect of all that was ``told``, in the ``count``-th counting of its link, is stored, or it has none.

        They came in a row, each behind the acceptance that went with it.
        """
        if error is not None:
            if isinstance(error, LostAttempt):
                # It counts, but not here. Not acknowledged, it is told again to the hub that welcomes the sidecar next.
                self._forget(link)
                return
            for message, _ in told:
                is_late = isinstance(error, StaleAttempt) and type(message) is not messages.Log
                if is_late or isinstance(error, BadInput):
                    link.send(messages.Error(code=error.code, detail=str(error), attempt=message.attempt))
        first, accept = told[0]
        link.answered(first.n if accept is None else accept.n, count, told[-1][0].n)
        if type(first) in _WAITED_FOR:
            link.work.set()

    async def _write(self, line: Line, link: Link, number: int) -> None:
        session = link.session
        session.read_bytes, link.writing = line.received_bytes, number
        try:
            async with asyncio.timeout(None) as limit:
                while link.socket == number:
                    await link.work.wait()
                    if link.socket == number and not await self._write_on(line, link, number, limit):
                        return
        except TimeoutError:
            log.warning("sidecar_takes_nothing", agent=link.name, stalled_s=LONGEST_FRAME_S, next="cutting it off")
            await line.close(why="stalled")
        link.work.set()  # it was meant for the writer of the later socket, like all that waits to be sent

    async def _write_on(self, line: Line, link: Link, number: int, limit: asyncio.Timeout) -> bool:
        """Write all that waits; ``False``: no more will be written to this line."""
        session, loop, now = link.session, asyncio.get_running_loop(), self._clock.monotonic()
        session.heard(line.received_bytes, now)
        if session.is_dead(now):
            log.warning("sidecar_silent", agent=link.name, next="closing its socket")
            await line.close(why="silent")
            return False
        if not line.is_welcome:
            await line.close(refused=True, why="unauthenticated")
            return False
        session.tick(now)
        while link.socket == number and (frames := session.data_to_send()):
            for frame in frames:
                timer = loop.call_later(LONGEST_FRAME_S, limit.reschedule, 0.0)
                try:
                    await line.send(frame)
                finally:
                    timer.cancel()
        return True


def _together(
    found: Iterable[messages.AnyMessage | Unreadable],
) -> Iterator[messages.AnyMessage | Unreadable | list[_Told]]:
    """Messages in order, reports that stand next to one another as one list.

    An acceptance goes with the report of its attempt if that comes next and all went well.
    """
    told: list[_Told] = []
    waiting: messages.Accept | None = None
    for message in found:
        # By type: to ask a class of structs for its instances costs several times as much.
        if type(message) is messages.Report and (waiting is None or _goes_with(waiting, message)):
            told.append((message, waiting))
            waiting = None
            continue
        if told and (waiting is not None or type(message) is not messages.Accept):
            yield told
            told = []
        if waiting is not None:
            yield waiting
            waiting = None
        if type(message) is messages.Accept:
            waiting = message
        elif type(message) is messages.Report:
            told.append((message, None))
        else:
            yield message
    if told:
        yield told
    if waiting is not None:
        yield waiting


def _goes_with(accept: messages.Accept, report: messages.Report) -> bool:
    return report.state is _PASSED and report.attempt == accept.attempt


def _check_is_in_charge(link: Link, number: int) -> None:
    if link.socket != number:
        raise ConnectionResetError("overtaken by a later socket of the same sidecar")
