"""Have models loaded before their work is ready, and take that back when the work goes elsewhere.

Two things tell that work is near: a task is the first of its class and waits for a turn, or the last task that others
wait for is being done. What is loaded is decided in ``hub/core/prewarm.py``; the word goes to the sidecar beside the
server (``Prewarm``), and events tell of it. A hub that starts again knows nothing of it: what was loaded leaves by
itself.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from hub.core.board import Board
from hub.core.ending import AgentPort
from hub.core.fleet import Fleet
from hub.core.matching import Matcher
from hub.core.prewarm import Near, Wish, best_way, wish_for
from hub.core.routing import requirements_of
from hub.core.speeds import Speeds
from hub.core.terms import Rates
from hub.core.window import Window
from hub.store.changes import Record
from hub.store.store import Store
from protocol.clock import Clock
from protocol.errors import StoreFailed, Unavailable
from protocol.events import Event, EventKind
from protocol.messages import PREWARM, Prewarm
from protocol.model import AgentState

log = structlog.get_logger(__name__)

LOOK_S: Final = 5.0
MAX_NEXT: Final = 8
"""Tasks behind one that are looked at."""
MAX_CLASSES: Final = 16
"""Classes whose first task is looked at."""
MAX_NEAR: Final = 1_000
"""Tasks in hand whose dependents are to be looked at."""
_BEGINS: Final = frozenset({EventKind.TASK_ITERATION, EventKind.TASK_VERIFYING})
_ENDS: Final = frozenset({EventKind.TASK_CANCELLED, EventKind.TASK_FAILED, EventKind.TASK_DEAD})


class Prewarming:
    """The wishes of this hub; :meth:`run` is its loop."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        window: Window,
        speeds: Speeds,
        agents: AgentPort,
        clock: Clock,
        *,
        matcher: Matcher | None = None,
        rates: Rates = Rates(),  # noqa: B008 - frozen
    ) -> None:
        self._store, self._fleet, self._window, self._speeds = store, fleet, window, speeds
        self._agents, self._clock, self._rates = agents, clock, rates
        self._matcher = matcher or Matcher(fleet)  # the one that decides: a load ahead is to be where the work will go
        self._wishes: dict[str, Wish] = {}
        self._near: dict[str, bool] = {}
        self._wake = asyncio.Event()

    @property
    def wishes(self) -> tuple[Wish, ...]:
        """What is being loaded ahead, or was and waits for its work."""
        return tuple(self._wishes.values())

    @property
    def _is_of_use(self) -> bool:
        return any(PREWARM in agent.capabilities and agent.endpoints for agent in self._fleet.online())

    # --- what tells that work is near ---------------------------------------------------------------------------------

    def committed(self, events: Sequence[Event]) -> None:
        """Look through what has happened: tasks that begin or are checked, and those that loads were for."""
        is_of_use: bool | None = None  # it looks at every agent, so only once something begins
        for event in events:
            if event.task is None:
                continue
            if event.kind in _BEGINS and len(self._near) < MAX_NEAR:
                is_of_use = self._is_of_use if is_of_use is None else is_of_use
                if not is_of_use and not self._wishes:
                    continue
                self._near[event.task] = event.kind is EventKind.TASK_VERIFYING
                self._wake.set()
            elif event.task in self._wishes:
                if event.kind in _ENDS:
                    self._take_back(self._wishes[event.task], event.kind.value)
                elif event.kind is EventKind.TASK_ASSIGNED:
                    self._assigned(self._wishes[event.task])

    def _assigned(self, wish: Wish) -> None:
        held = self._fleet.held.get(wish.task)
        if held is not None and (held.server, held.model) == (wish.server, wish.model):
            del self._wishes[wish.task]  # it came, as it was expected to
        else:
            self._take_back(wish, "the work went elsewhere")

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at what comes behind the tasks in hand, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self.look()
            except StoreFailed:
                return  # the hub is ending
            except Unavailable as exc:
                log.info("prewarm_postponed", why=str(exc))

    async def look(self) -> None:
        """Ask for what is near now: the first of each class that waits, and what the work in hand leads to."""
        for wish in self.wishes:
            if wish.until <= self._clock.monotonic() or not self._is_there(wish):
                del self._wishes[wish.task]  # its model has left by itself, or went with its sidecar
        near, self._near = self._near, {}
        if not self._is_of_use:
            return
        for queue in [q for q in self._window.classes.values() if q.head and q.requirements.needs_model][:MAX_CLASSES]:
            assert queue.head is not None, "the line above has looked"
            self._consider(Near(queue.head[1], queue.requirements, "its turn comes next"))
        for task, is_checked in near.items():
            for dependent, class_text in await self._store.soon(task, MAX_NEXT):
                requirements = requirements_of(class_text)
                if requirements.needs_model:
                    self._consider(Near(dependent, requirements, f"it waits only for {task}", may_evict=is_checked))

    def _is_there(self, wish: Wish) -> bool:
        agent = self._fleet.agents.get(wish.agent)
        return agent is not None and agent.boot == wish.boot and agent.state is not AgentState.OFFLINE

    def _consider(self, near: Near) -> None:
        if near.task in self._wishes or near.task in self._fleet.held:
            return
        now = self._clock.monotonic()
        wanted = self._window.wanted()
        board = Board(self._fleet, self._speeds, now, wanted.__getitem__, rates=self._rates)
        found = self._matcher.match(near.requirements.place)
        chosen = best_way(found, near.requirements, near.requirements.kind, board, self._speeds)
        if chosen is None:
            return
        taken = {wish.server for wish in self._wishes.values()}
        wish = wish_for(near, chosen, self._window, self._fleet, now=now, taken=taken, wanted=wanted.__getitem__)
        if wish is not None:
            self._wishes[wish.task] = wish
            self._send(wish, on=True)
            self._tell(EventKind.MODEL_PREWARMED, wish, wish.reason)

    # --- the word -----------------------------------------------------------------------------------------------------

    def _take_back(self, wish: Wish, why: str) -> None:
        del self._wishes[wish.task]
        if not any(held.server == wish.server and held.model == wish.model for held in self._fleet.held.values()):
            self._send(wish, on=False)
        self._tell(EventKind.PREWARM_CANCELLED, wish, why)

    def _send(self, wish: Wish, *, on: bool) -> None:
        message = Prewarm(
            endpoint=wish.endpoint, model=wish.model, on=on, context=wish.context, keep_alive_s=wish.keep_alive_s
        )
        self._agents.send(wish.agent, wish.boot, message)

    def _tell(self, kind: EventKind, wish: Wish, why: str) -> None:
        facts = {"endpoint": wish.endpoint, "model": wish.model, "context": wish.context, "reason": why}
        event = Event(kind=kind, at_ms=self._clock.now_ms(), task=wish.task, agent=wish.agent, facts=facts)
        self._store.post(Record(event))
