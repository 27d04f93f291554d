"""The line to the hub: dials it, says hello, moves messages both ways, and dials again when the line breaks.

Decides nothing about attempts: what the hub says goes to the :class:`sidecar.inlet.Owner`, what the owner
sends goes through the session (``protocol/session.py``), which keeps order and resends. Before anything leaves, the
owner writes down what it promised, so an ``accept`` or an ``ack`` never tells of something that a crash could undo.

Nothing here waits for bulk: live output is bounded (:attr:`Link.log_room`), so at most a quarter of a frame of
it can stand before a heartbeat, and when the hub does not take it, output is dropped (and counted), reports never.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from protocol import codec, messages
from protocol.clock import Clock
from protocol.endpoints import EndpointTrouble
from protocol.errors import BadInput, HubUnreachable, ProtocolViolation, StaleAttempt
from protocol.limits import LITTLE_BYTES
from protocol.machine import HostReading
from protocol.model import EndpointReport
from protocol.salvage import Unreadable
from protocol.session import ORDERED, Session
from sidecar import greeting
from sidecar.core.addresses import Addresses
from sidecar.core.readings import Facts
from sidecar.dial import (
    FINAL,
    Connection,
    Dial,
    HubBusy,
    HubRefused,
    Pace,
    challenge_in,
    dead_after_s,
    dial,
    refusal_in,
    welcome_in,
)
from sidecar.identity import Identity
from sidecar.inlet import Owner
from sidecar.keys import Signer
from sidecar.leases import Leases
from sidecar.outbox import Outbox
from sidecar.tasks import together

log = structlog.get_logger(__name__)

TIDY_S: Final = 0.2
"""How long something that may be forgotten waits for more of it, or for a commit that is made anyway."""
BROKEN: Final = (OSError, TimeoutError, BadInput, ProtocolViolation, HubUnreachable)
"""What ends one connection and is answered by the next one."""


class Link:
    """The line of one boot of a sidecar to its hub, over any number of connections.

    Attributes:
        online: set while the hub has welcomed us on the connection that stands.
        leases: until when work may go on.
        connection: the number of the connection that stands, if the hub has welcomed us on it; else 0.
        artifact_bytes, artifacts_bytes: the largest file that the hub keeps, all of one attempt; 0: it does not say.
    """

    def __init__(  # noqa: PLR0913 - the parts it is made of
        self,
        hubs: str | Sequence[str],
        token: Callable[[], str],
        identity: Identity,
        *,
        clock: Clock,
        chance: Callable[[], float],
        pace: Pace | None = None,
        dial: Dial = dial,
        leases: Leases | None = None,
        on_event: Callable[[str], None] = lambda _event: None,
        signer: Callable[[], Signer | None] = lambda: None,
    ) -> None:
        """Prepare a link; :meth:`run` dials.

        Args:
            hubs: the HTTP address of the hub, or those of several that share one database.
            token: reads the token; asked before every dial, so a changed token file counts at once.
            identity: who we are.
            clock, chance: the time, and random numbers from 0 to 1.
            pace, dial: how fast to try, and what opens a connection; a WebSocket if left out.
            leases: what is proven is told to them; of its own if left out.
            on_event: hears ``dial``, ``welcome`` and ``lose`` (``sidecar/lifecycle.py``).
            signer: reads the key of this machine, asked before every dial; ``None``: it has none.
        """
        self.identity, self.online = identity, asyncio.Event()
        self.leases = leases or Leases(clock.monotonic)
        self._addresses = Addresses([hubs] if isinstance(hubs, str) else hubs)
        self._token, self._clock, self._chance, self._signer = token, clock, chance, signer
        self._pace, self._dial, self._on_event = pace or Pace(), dial, on_event
        self._session = Session()
        self._outbox = Outbox(self._session)
        self._hub_boot = 0  # of the hub that our session counts with; 0: none
        self._dials = 0  # hellos said
        self._was_welcomed, self._welcomed_at = False, float("-inf")
        self._changed = asyncio.Event()  # something waits to be written down
        self._ready = asyncio.Event()  # the same, or to be sent: whoever sends need not wait for the other
        self._is_untidy = False  # something may be forgotten, and a timer runs for it
        self._is_stirred = False  # both are set: a frame asks for that hundreds of times
        self._is_idle = False  # whoever sends waits for something to be sent
        self._beat_now = asyncio.Event()
        self._taken = 0  # the last ordered message acted on, to be acknowledged after the next commit; 0: none
        self._facts, self._trouble = Facts(), ""
        self._shown: tuple[str, Signer | None] = "", None  # token and key of the last dial
        self.connection = self.artifact_bytes = self.artifacts_bytes = 0
        self.on_secrets: Callable[[messages.Secrets], None] = lambda _message: None

    # --- what the owner says ----------------------------------------------------------------------------------------

    def send(self, message: messages.Message, encoded: bytes = b"") -> None:
        """Send a message with the next frame; an ordered one arrives exactly once, now or after a reconnect."""
        self._outbox.send(message, encoded)
        if not self._is_stirred:
            self._stir()

    @property
    def log_room(self) -> int:
        """Bytes of live output that may still be sent before the hub has acknowledged some."""
        return self._outbox.log_room

    @property
    def unacknowledged_reports(self) -> int:
        """Reports that the hub has not confirmed."""
        return self._outbox.unacknowledged_reports

    async def delivered(self) -> None:
        """Wait until the hub has confirmed every report."""
        await self._outbox.delivered()

    def touch(self) -> None:
        """Something may be forgotten: have it tidied away soon. Nobody waits for that."""
        if not self._is_untidy:
            self._is_untidy = True
            asyncio.get_running_loop().call_later(TIDY_S, self._tidy)

    def _tidy(self) -> None:
        self._is_untidy = False
        self._changed.set()

    def _stir(self) -> None:
        self._is_stirred = True
        self._changed.set()
        self._ready.set()

    def beat(self) -> None:
        """Send a heartbeat now: something that only heartbeats tell has changed."""
        self._beat_now.set()

    def tell(
        self,
        *,
        reading: HostReading | None = None,
        endpoints: tuple[EndpointReport, ...] | None = None,
        capabilities: tuple[str, ...] | None = None,
        troubles: tuple[EndpointTrouble, ...] | None = None,
    ) -> None:
        """Tell the hub what the machine has: resources with the next heartbeat, a change of the others at once."""
        if self._facts.learn(reading, endpoints, capabilities, troubles):
            self._beat_now.set()

    # --- connections ------------------------------------------------------------------------------------------------

    async def run(self, owner: Owner) -> None:
        """Keep the line up until cancelled.

        Raises:
            HubRefused: the hub does not know our token and never did, or has no place for us.
            VersionMismatch: the hub settled on a protocol that we do not speak.
        """
        try:
            await together(self._dial_for_ever(owner), self._write_down(owner), self._watch_leases(owner))
        finally:
            owner.commit()

    async def _dial_for_ever(self, owner: Owner) -> None:
        while True:
            self._on_event("dial")
            refused, asked_s = False, 0.0
            try:
                await self._one_connection(owner)
            except HubRefused as exc:
                if exc.reason in FINAL or (self._addresses.refused() and not self._was_welcomed):
                    raise
                refused = True
                self._tell_trouble("hub_refused", str(exc))
            except BROKEN as exc:
                if isinstance(exc, ProtocolViolation):
                    # The two ends do not count alike. Say that we know no hub: then both start again from 1, and what
                    # comes twice because of it is recognised by task and epoch.
                    self._hub_boot = 0
                if isinstance(exc, HubBusy):
                    asked_s = (exc.retry_after_s or 0.0) + self._chance()  # with many others, who were told the same
                event = "hub_lost" if self.online.is_set() else "hub_unreachable"
                self._tell_trouble(event, str(exc) or type(exc).__name__)
            lived_s = self._clock.monotonic() - self._welcomed_at if self.online.is_set() else 0.0
            self._close()
            rounds = self._addresses.turn(lived=lived_s >= self._pace.settled_s)
            delay_s = self._pace.delay_s(rounds, self._chance())
            if refused and rounds is not None:
                await self._rest()
            else:
                await asyncio.sleep(delay_s if rounds is None else asked_s or delay_s)

    async def _rest(self) -> None:
        """Wait after a refusal; as soon as token or key are others than those that were refused, no longer."""
        until = self._clock.monotonic() + self._pace.refused_s
        while (left_s := until - self._clock.monotonic()) > 0:
            await asyncio.sleep(min(left_s, self._pace.watch_s))
            with contextlib.suppress(OSError, BadInput):
                if self._credentials() != self._shown:
                    return

    def _credentials(self) -> tuple[str, Signer | None]:
        return self._token(), self._signer()

    def _tell_trouble(self, event: str, why: str) -> None:
        """One line per change: a hub that is away for a night fills no log."""
        if (trouble := f"{event} {why}") != self._trouble:
            self._trouble = trouble
            log.warning(event, hub=self._addresses.current, why=why, next="reconnect")

    def _close(self) -> None:
        if self.online.is_set():
            self.online.clear()
            self.connection = 0
            self._on_event("lose")
        self._session.disconnected()

    @property
    def hub(self) -> str:
        """The address of the hub that is dialled now."""
        return self._addresses.current

    async def _one_connection(self, owner: Owner) -> None:
        token, _ = self._shown = self._credentials()
        async with self._dial(self.hub, token, self.identity.version, self._pace.handshake_s) as connection:
            self._act_on(await self._handshake(connection, owner), connection, owner)
            try:
                await together(
                    self._read(connection, owner), self._write(connection, owner), self._beat(connection, owner)
                )
            except HubUnreachable:
                connection.abort()  # it does not listen: a closing handshake would only take time
                raise

    async def _handshake(self, connection: Connection, owner: Owner) -> bytes:
        """Say hello, take the welcome and its verdicts; returns the frame, which may hold more than the welcome."""
        owner.commit()
        self._facts.greeted()
        hello_at = self._clock.monotonic()
        async with asyncio.timeout(self._pace.handshake_s):  # a hub that takes nothing is no better than a silent one
            _, signer = self._shown
            await connection.send(self._hello(owner, signer.public if signer else ""))
            frame = await connection.receive()
            if signer is not None and (asked := challenge_in(codec.decode(frame))) is not None:
                me, channel = self.identity, connection.channel
                signature = signer.sign(asked.nonce, channel, me.sidecar, me.boot)
                await connection.send(codec.encode(messages.Signature(signature=signature, channel=channel)))
                frame = await connection.receive()
        welcome = welcome_in(codec.decode(frame))
        self._begin(welcome, hello_at)
        for verdict in welcome.verdicts:
            self._judge(verdict, owner)
        owner.drain(on=welcome.draining)
        return frame

    def _hello(self, owner: Owner, key: str) -> bytes:
        self._dials += 1
        said = greeting.hello(
            self.identity,
            owner,
            self._facts,
            hub_boot=self._hub_boot,
            received=self._session.received,
            dial=self._dials,
            key=key,
        )
        return codec.encode(self._outbox.looked_at(said) or said)

    def _begin(self, welcome: messages.Welcome, hello_at: float) -> None:
        now = self._clock.monotonic()
        is_other = welcome.hub_boot != self._hub_boot
        if is_other or welcome.afresh or welcome.received < self._session.acknowledged:
            # Another boot of the hub, or one that has dropped what it knew of us: it counts from 1 again.
            self._outbox.start_again()
            self._taken = 0
        self._session.heartbeat_s, self._session.dead_after_s = welcome.heartbeat_s, dead_after_s(welcome)
        self._session.connected(welcome.received, now)
        self._hub_boot, self.leases.lease_s = welcome.hub_boot, welcome.lease_s
        self.artifact_bytes, self.artifacts_bytes = welcome.artifact_bytes, welcome.artifacts_bytes
        self._welcomed_at, self._was_welcomed, self.connection, self._trouble = now, True, self._dials, ""
        self.leases.proven(hello_at)
        self.online.set()
        self._on_event("welcome")
        self._stir()
        self._addresses.learn(welcome.hubs)
        log.info("hub_welcomed", hub=self._addresses.current, hub_boot=welcome.hub_boot, verdicts=len(welcome.verdicts))

    def _judge(self, verdict: messages.Verdict, owner: Owner) -> None:
        if verdict.verdict != "keep":
            log.info("attempt_dropped", task=verdict.attempt.task, epoch=verdict.attempt.epoch, why=verdict.verdict)
            owner.forget(verdict.attempt)

    # --- pumps ------------------------------------------------------------------------------------------------------

    async def _read(self, connection: Connection, owner: Owner) -> None:
        await connection.listen(lambda frame: self._act_on(frame, connection, owner))

    def _act_on(self, frame: bytes, connection: Connection, owner: Owner) -> None:
        was_stirred, self._is_stirred = self._is_stirred, True  # nobody is woken before all of it was acted on
        is_whole = False
        self._session.read_bytes = connection.received_bytes
        try:
            for message in self._session.receive(frame, self._clock.monotonic()):
                if isinstance(message, Unreadable):
                    self._pass_over(message)
                    raise message.error
                self._act(message, owner)
                if type(message) in ORDERED:
                    self._taken = message.n  # type: ignore[union-attr]  # these have a number
            is_whole = True
        finally:
            # After the assignments that stand before the answer: what it proves does not name them.
            self.leases.proven(self._session.proven_at)
            self._is_stirred = was_stirred
            try:
                if not (is_whole and self._write_at_once(connection, owner)):
                    self._stir()
            finally:
                # Behind what the hub waits for; also before the line ends: the next hub will not confirm it again.
                self._settle(owner)

    def _write_at_once(self, connection: Connection, owner: Owner) -> bool:
        """Write down and send what waits without waking the pumps, if it is little and the line is free: then true."""
        is_little = self._is_idle and connection.is_free and self._session.waiting_bytes <= LITTLE_BYTES
        if is_little:
            self._commit(owner, tidy=False)
            while frames := self._session.data_to_send():
                for frame in frames:
                    connection.put(frame)
        return is_little

    def _pass_over(self, message: Unreadable) -> None:
        """The hub has said something that cannot be read: it need not say it again, and its work is not done here."""
        if message.n:
            self._taken = message.n
        if message.kind == "assign" and message.attempt is not None:
            self.send(messages.Reject(attempt=message.attempt, code=message.error.code, reason=message.error.problem))

    def _act(self, message: messages.AnyMessage, owner: Owner) -> None:
        if type(message) is messages.Assign:  # nearly all are, and a class of structs is slow to know its instances
            owner.assigned(message)
            return
        match message:
            case messages.Cancel():
                owner.cancelled(message)
            case messages.Drain():
                owner.drain(on=message.on)
            case _ if isinstance(message, messages.Wish):
                owner.wish(message)
            case messages.Secrets():
                self.on_secrets(message)
            case messages.Error(fatal=True):
                raise refusal_in(message)
            case messages.Error():
                self._hear_error(message, owner)
            case messages.Welcome():
                pass  # the handshake has taken it
            case _:
                raise ProtocolViolation("a message of a hub", type(message).__name__)

    def _hear_error(self, message: messages.Error, owner: Owner) -> None:
        if message.code == StaleAttempt.code and message.attempt is not None:
            log.info("attempt_stale", task=message.attempt.task, epoch=message.attempt.epoch)
            owner.forget(message.attempt)
        else:
            log.warning("hub_error", code=message.code, detail=message.detail)

    def _settle(self, owner: Owner) -> None:
        """The hub has acknowledged some of what we sent: reports are done with, output makes room."""
        for attempt in self._outbox.settle():
            owner.forget(attempt)
        if self._session.has_words:  # what was kept back until now
            self._stir()

    def _commit(self, owner: Owner, *, tidy: bool = True) -> None:
        owner.commit(tidy=tidy)
        if self._taken:
            self._session.acknowledge_all(self._taken)
            self._taken = 0

    async def _write_down(self, owner: Owner) -> None:
        """Commit after every tick in which something happened, online or not, however slow the line is."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._is_stirred = False
            self._commit(owner)

    async def _write(self, connection: Connection, owner: Owner) -> None:
        self._is_idle = False
        while True:
            # Between the last commit and now more may have been promised: nothing leaves before it is written down.
            self._commit(owner)
            frames = self._session.data_to_send()
            for frame in frames:
                await connection.send(frame)
            if not frames:
                self._is_idle = True
                await self._ready.wait()
                self._ready.clear()
                self._is_idle = self._is_stirred = False

    async def _beat(self, connection: Connection, owner: Owner) -> None:
        self._session.read_bytes = connection.received_bytes
        while True:
            if (beat := self._outbox.looked_at(greeting.heartbeat(self.identity, owner, self._facts))) is not None:
                self._session.send(beat)
            # The answer proves that the hub has this heartbeat, from which the next lease counts.
            self._session.ping(self._clock.monotonic())
            self._stir()
            now = self._clock.monotonic()
            with contextlib.suppress(TimeoutError):
                # Until the next heartbeat, or until the hub counts as gone if that is sooner.
                async with asyncio.timeout(max(0.01, self._session.next_deadline(now) - now)):
                    await self._beat_now.wait()
            self._beat_now.clear()
            self._session.heard(connection.received_bytes, self._clock.monotonic())
            if self._session.is_dead(self._clock.monotonic()):
                raise HubUnreachable(self._addresses.current, f"silent for {self._session.dead_after_s:g} s")

    @property
    def heartbeat_s(self) -> float:
        """How often heartbeats go out."""
        return self._session.heartbeat_s

    async def _watch_leases(self, owner: Owner) -> None:
        while True:
            left_s = self.leases.left_s
            if left_s <= 0 and self._was_welcomed:
                owner.fence()
            await asyncio.sleep(min(self._pace.watch_s, left_s) if left_s > 0 else self._pace.watch_s)
