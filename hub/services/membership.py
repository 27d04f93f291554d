"""How this hub stands among the hubs of one database: that it lives, whether it leads, what it takes over.

A hub keeps its lease up by renewing it. The database judges the lease; the hub itself counts it from the moment at
which it *sent* the last renewal that was answered, so it knows that it may have been given up before anybody can give
it up. Then it lets go of its sidecars, so that they find a hub that can grant and take results, and closes its door
until it is back. It never ends for that. A hub that has no others beside it has nobody to leave its sidecars to: it
keeps them, and waits for its database.

A hub that was given up is told so by its next renewal: it forgets what it held (another one answers for it now) and
begins again under the same boot.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import structlog

from hub.store.hub_changes import EnterHub, HeldRow, HubRow, LeaveHub, RenewHub, Standing
from hub.store.store import Store
from protocol.clock import Clock
from protocol.errors import AgentComError, StoreFailed, Unavailable

log = structlog.get_logger(__name__)

ROUNDS: Final = 4
"""Renewals in one lease."""
GOODBYE_S: Final = 2.0


class Held(Protocol):
    """What this hub answers for; ``hub/assembly.py`` passes the part."""

    def take(self, rows: Iterable[HeldRow]) -> None:
        """Answer for these attempts from now on."""
        ...

    def let_go(self) -> None:
        """Close the lines of all sidecars: they are to find another hub. What they hold stays theirs."""
        ...

    def forget(self) -> None:
        """As :meth:`let_go`, and another hub answers for what they hold: know nothing of it any more."""
        ...


class Membership:
    """One hub's membership; :meth:`run` keeps it up.

    Attributes:
        leader: the epoch under which this hub leads; ``None``: another one does.
        url: how others reach this hub; told with the next renewal.
    """

    def __init__(  # noqa: PLR0913 - the parts it is made of
        self,
        store: Store,
        clock: Clock,
        held: Held,
        standing: Standing,
        *,
        boot: int,
        node: str,
        version: str,
        lease_s: float,
        on_lead: Callable[[], None],
    ) -> None:
        """Take up the membership that ``store.start`` has begun.

        Args:
            lease_s: how long the others wait for a sign of life; 0: there can be no others.
            on_lead: hears that this hub leads from now on.
        """
        self._store, self._clock, self._held = store, clock, held
        self._boot, self._node, self._version, self._lease_s = boot, node, version, lease_s
        self._on_lead = on_lead
        self.leader = standing.leader
        self.url = ""
        self._others: tuple[HubRow, ...] = tuple(hub for hub in standing.hubs if hub.boot != boot)
        now = clock.monotonic()
        self._sent_at = self._steady_since = now
        self._is_cut_off = False

    # --- what others ask ----------------------------------------------------------------------------------------------

    @property
    def urls(self) -> dict[int, str]:
        """Addresses of the hubs that live, by boot; this one among them."""
        return {**{hub.boot: hub.url for hub in self._others}, self._boot: self.url}

    @property
    def has_others(self) -> bool:
        """Whether any other hub lived when we last looked."""
        return bool(self._others)

    @property
    def trouble(self) -> str:
        """Why this hub takes no sidecars in; empty if it does."""
        return "this hub is cut off from its database; another one has its sidecars" if self._is_cut_off else ""

    # --- life ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Renew until cancelled; returns at once where there can be no others."""
        while self._lease_s:
            try:
                await self.renew()
            except StoreFailed:
                return  # the hub is ending
            except Unavailable as exc:
                log.warning("renewal_postponed", why=str(exc), next="trying again")
            await asyncio.sleep(self._lease_s / ROUNDS)

    async def renew(self) -> None:
        """One renewal; while it is not answered, watch the end of the lease."""
        sent_at = self._clock.monotonic()
        if sent_at - self._sent_at > self._lease_s / 2:
            self._steady_since = sent_at  # we were silent ourselves: no moment to judge the silence of others
        change = RenewHub(
            at_ms=self._clock.now_ms(),
            boot=self._boot,
            url=self.url,
            lease_ms=self._lease_ms,
            may_bury=sent_at - self._steady_since >= self._lease_s,
        )
        renewal = asyncio.ensure_future(self._store.commit(change))
        try:
            while not renewal.done():
                left_s = self._sent_at + self._lease_s - self._clock.monotonic()
                if left_s <= 0 and not self._is_cut_off:
                    self._cut_off()
                await asyncio.wait({renewal}, timeout=self._lease_s if self._is_cut_off else max(0.01, left_s))
        finally:
            renewal.cancel()
        standing: Standing = renewal.result()
        if standing.is_known:
            self._stands(standing, sent_at)
        else:
            await self._begin_again()

    @property
    def _lease_ms(self) -> int:
        return int(self._lease_s * 1000)

    def _cut_off(self) -> None:
        self._is_cut_off = True
        self.leader = None
        log.warning("hub_cut_off", others=len(self._others), next="grants nothing until its database answers")
        if self._others:
            self._held.let_go()

    def _stands(self, standing: Standing, sent_at: float) -> None:
        self._sent_at = sent_at
        self._others = tuple(hub for hub in standing.hubs if hub.boot != self._boot)
        if self._is_cut_off:
            self._is_cut_off = False
            log.info("hub_back", boot=self._boot)
        if standing.leader != self.leader:
            self.leader = standing.leader
            log.info("leader_changed", boot=self._boot, epoch=standing.leader, leads=standing.leader is not None)
            if standing.leader is not None:
                self._on_lead()
        if standing.buried:
            log.warning("hubs_lost", boots=standing.buried, took=len(standing.taken), next="their work is ours")
        taken = [row for row in standing.held if row.task.id in standing.taken]
        if taken:
            self._held.take(taken)

    async def _begin_again(self) -> None:
        """Another hub has given this one up: what it held is not its own any more."""
        log.warning("hub_given_up", boot=self._boot, next="it begins again with nothing in hand")
        self._held.forget()
        sent_at = self._clock.monotonic()
        enter = EnterHub(
            at_ms=self._clock.now_ms(),
            boot=self._boot,
            node=self._node,
            version=self._version,
            url=self.url,
            lease_ms=self._lease_ms,
        )
        standing: Standing = await self._store.commit(enter)
        self._steady_since = sent_at
        self._stands(standing, sent_at)
        self._held.take(row for row in standing.held if row.task.hub == self._boot)

    async def leave(self) -> None:
        """The hub ends in order: let another one have what it held at once, if the database answers."""
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self._store.commit(LeaveHub(at_ms=self._clock.now_ms(), boot=self._boot))
        except (AgentComError, TimeoutError) as exc:
            log.info("leave_not_told", why=str(exc) or "no answer", next="the others notice when its lease is over")
