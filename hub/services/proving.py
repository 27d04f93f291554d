"""Which machines could prove work of others, and what becomes of work that waits for one in vain.

What the clean room is stands in ``hub/core/proving.py``. Work that need not be proven waits for another machine as long
as one is there, busy or not; when all have been gone for a while, what its own machine has found counts.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from hub.core.agent import Agent
from hub.core.fleet import Fleet
from hub.core.proving import PATIENCE_S, Rooms, rooms_of
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

    def rooms(self) -> Rooms:
        """The machines that there are now."""
        return rooms_of(self._fleet, self._default, self.is_elsewhere)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(ROUND_S)
            if self.leads():
                self.look()

    def look(self) -> None:
        """One round: let go what has waited for another machine in vain."""
        waiting = [queue for queue in self._window.classes.values() if _may_go_without(queue)]
        if not waiting:
            self._alone_since.clear()
            return
        now, rooms = self._clock.monotonic(), self.rooms()
        for queue in waiting:
            proof = queue.requirements.proof
            if proof is None or rooms.beside(proof.host, queue.requirements.needs):
                self._alone_since.pop(queue.text, None)
            elif now - self._alone_since.setdefault(queue.text, now) >= self._patience_s:
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
