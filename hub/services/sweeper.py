"""What happens because time passes: leases end, delayed tasks become ready, deadlines pass.

Every loop of the hub is woken by facts; this one also looks by itself, so that a lost wake-up costs a second and never
a task. After a pause of the hub itself (a suspended machine, a stopped process) one round of leases is skipped: the
silence was ours.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from hub.core.agent import Held
from hub.core.ending import AgentPort, stop
from hub.core.fleet import Fleet
from hub.core.window import Window
from hub.store.changes import Expire, Expired, Promote, Promoted
from hub.store.refusals import NotLeader
from hub.store.store import Store
from protocol.clock import Clock
from protocol.errors import Overloaded, StoreFailed
from protocol.model import TaskState

log = structlog.get_logger(__name__)

ROUND_S: Final = 1.0
SAFETY_S: Final = 5.0
"""How often the store is asked for due tasks even if nothing is known to be due."""
PAUSE_S: Final = 5.0
"""A gap between two rounds that can only mean that the hub itself stood still."""


class Sweeper:
    """The loop over time."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        window: Window,
        agents: AgentPort,
        clock: Clock,
        *,
        lose: Callable[[Held, str], None],
        lease_s: float,
        leads: Callable[[], int | None] | None = None,
    ) -> None:
        self._store, self._fleet, self._window, self._agents = store, fleet, window, agents
        self._clock, self._lose, self._lease_s = clock, lose, lease_s
        self._leads = leads
        self._due_ms: int | None = None  # the earliest known moment at which a row wants attention
        self._looked_at = 0.0
        self._last_round = clock.monotonic()
        self._wake = asyncio.Event()

    def silent_s(self) -> float:
        """Seconds since the last round began."""
        return self._clock.monotonic() - self._last_round

    def due(self, at_ms: int) -> None:
        """Something will want attention at ``at_ms``."""
        if self._due_ms is None or at_ms < self._due_ms:
            self._due_ms = at_ms
            self._wake.set()

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep()
            except Overloaded as exc:
                log.warning("sweep_postponed", why=str(exc), next="trying again")
                self.due(self._clock.now_ms())
                await asyncio.sleep(ROUND_S)
                continue
            except StoreFailed:
                return  # the hub is ending
            now_ms = self._clock.now_ms()
            wait_s = ROUND_S if self._due_ms is None else min(ROUND_S, max(0.005, (self._due_ms - now_ms) / 1000))
            self._wake.clear()
            try:
                async with asyncio.timeout(wait_s):  # wait_for() may swallow the cancellation that ends this loop
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def sweep(self) -> None:
        """One round."""
        now = self._clock.monotonic()
        gap, self._last_round = now - self._last_round, now
        if gap > PAUSE_S:
            log.warning("hub_paused", seconds=round(gap, 1), next="leases get another term")
            for held in self._fleet.held.values():
                held.lease_until = max(held.lease_until, now + self._lease_s)
        for held in self._fleet.expired(now):
            if held.is_committed:
                self._lose(held, "its lease ended without a sign of life")
        now_ms = self._clock.now_ms()
        if (self._due_ms is not None and self._due_ms <= now_ms) or now - self._looked_at >= SAFETY_S:
            self._looked_at = now
            await self._look(now_ms)

    async def _look(self, now_ms: int) -> None:
        self._due_ms = None  # what it is told of while it looks comes on top of what it finds
        leader = None
        if self._leads is not None and (leader := self._leads()) is None:
            return  # another hub does it
        try:
            await self._act(now_ms, leader)
        except NotLeader as exc:
            log.info("sweep_refused", why=str(exc))

    async def _act(self, now_ms: int, leader: int | None) -> None:
        promoted: Promoted = await self._store.commit(Promote(at_ms=now_ms, leader=leader))
        for ready in promoted.ready:
            self._window.add(ready.class_text, ready.place)
        expired: Expired = await self._store.commit(Expire(at_ms=now_ms, leader=leader))
        for ended in expired.ended:
            if ended.was is TaskState.QUEUED:
                self._window.discard(ended.class_text, ended.task)
            stop(self._fleet, self._agents, ended.task, ended.epoch, "its deadline has passed")
            log.info("task_expired", task=ended.task, was=ended.was.value)
        for at_ms in (promoted.next_ms, expired.next_ms):
            if at_ms is not None:
                self.due(at_ms)
        self._window.forget_empty()
        self._store.wake()
