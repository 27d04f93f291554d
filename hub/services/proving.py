"""Which machines could prove work of others, and what becomes of work that waits for one in vain.

What the clean room is stands in ``hub/core/proving.py``. Work that need not be proven waits for another machine as long
as one is there that can take it, busy or not; when none has been for a while, what its own machine has found counts.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from hub.core.agent import Agent
from hub.core.fleet import Fleet
from hub.core.proving import PATIENCE_S, Rooms, is_one_able, rooms_of
from hub.core.window import ClassQueue, Window
from hub.store.changes import Finished, Outcome, SkipProof
from hub.store.store import Store
from protocol.choice import CleanRoom
from protocol.clock import Clock
from protocol.model import TaskState

log = structlog.get_logger(__name__)

ROUND_S: Final = 5.0


class Proofs:
    """The use case of work that waits to be proven.

    Attributes:
        leads: whether this hub is the one that looks; only one of several does.
        is_elsewhere: whether an agent is at another hub.
        on_ended: hears of every task that ends here.
    """

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        window: Window,
        clock: Clock,
        *,
        default: CleanRoom = CleanRoom.AUTO,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._store, self._fleet, self._window, self._clock = store, fleet, window, clock
        self._default, self._patience_s = default, patience_s
        self.leads: Callable[[], bool] = lambda: True
        self.is_elsewhere: Callable[[Agent], bool] = lambda _agent: False
        self.on_ended: Callable[[TaskState], None] = lambda _state: None
        self._alone_since: dict[str, float] = {}
        self._began_ms = clock.now_ms()

    def rooms(self) -> Rooms:
        """The machines that there are, or were a moment ago: one whose link has just broken may be back at once."""
        return rooms_of(self._fleet, self._default, lambda agent: self.is_elsewhere(agent) or self._was_there(agent))

    def _was_there(self, agent: Agent) -> bool:
        """Whether an agent was heard of lately, or was at a hub that has ended and left it to this one."""
        seen_ms = max(agent.last_seen_ms or 0, self._began_ms if agent.hub is not None else 0)
        return self._clock.now_ms() - seen_ms < self._patience_s * 1000

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(ROUND_S)
            if self.leads():
                self.look()

    def look(self) -> None:
        """One round: let go what has waited for another machine in vain."""
        now, before, self._alone_since = self._clock.monotonic(), self._alone_since, {}
        for queue in [queue for queue in self._window.classes.values() if _may_go_without(queue)]:
            proof = queue.requirements.proof
            if proof is None or is_one_able(self._fleet, queue.sought, self.is_elsewhere):
                continue
            since = self._alone_since[queue.text] = before.get(queue.text, now)
            if now - since >= self._patience_s:
                self._let_go(queue, proof.host)

    def _let_go(self, queue: ClassQueue, host: str) -> None:
        reason = f"no machine but {host} was there to prove it"
        for place in [queue.at(number) for number in range(len(queue))]:
            if place is not None:
                change = SkipProof(at_ms=self._clock.now_ms(), task=place[1], reason=reason)
                self._store.post(change, partial(self._gone, queue.text, place[1]))

    def _gone(self, text: str, task: str, outcome: Outcome) -> None:
        if not isinstance(outcome, Finished):
            return  # it is in somebody's hands by now, or has ended
        self._window.discard(text, task)
        for ready in outcome.ready:
            self._window.add(ready.class_text, ready.place)
        self._store.wake()
        self.on_ended(TaskState.COMPLETED)
        log.warning("proof_skipped", task=task, why="no other machine was there to prove it")


def _may_go_without(queue: ClassQueue) -> bool:
    proof = queue.requirements.proof
    return proof is not None and not proof.must and len(queue) > 0
