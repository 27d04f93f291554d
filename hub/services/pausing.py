"""Tasks that people hold up: paused or taken over, and let go again. Answers after the commit.

A queued task waits at once. Of one in hand the sidecar is told to stop at the end of its turn, and the task waits as
soon as its attempt has ended, whatever ended it: the store sees to that (``hub/store/hold_verbs.py``). The word to the
sidecar is a wake-up like any other: the loop tells what the rows say to whoever has not heard it from this hub.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from hub.core.agent import Held
from hub.core.ending import AgentPort
from hub.core.fleet import Fleet
from hub.core.window import Window
from hub.store.hold_changes import EndHold, HeldUp, HoldRow, LetGo, PutHold
from hub.store.store import Store
from protocol.clock import Clock
from protocol.errors import BadInput, Conflict, Problem, StoreFailed, Unavailable
from protocol.messages import Pause
from protocol.model import AttemptId, TaskState
from protocol.progress import MAX_NOTE_CHARS, PAUSE, HoldKind

log = structlog.get_logger(__name__)
LOOK_S: Final = 3.0


class Pausing:
    """The use cases of whoever holds a task up."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        window: Window,
        agents: AgentPort,
        clock: Clock,
        *,
        on_delayed: Callable[[int], None] = lambda _ready_ms: None,
    ) -> None:
        self._store, self._fleet, self._window, self._agents = store, fleet, window, agents
        self._clock, self._on_delayed = clock, on_delayed
        self._told: dict[AttemptId, None] = {}  # to stop, by this hub
        self._wake = asyncio.Event()

    async def hold(self, task: str, kind: HoldKind, reason: str, by: str) -> None:
        """Have a task wait; one that waits for this already goes on waiting.

        Raises:
            NotFound: there is no such task.
            IllegalTransition: it is blocked, or has ended.
            Conflict: it is in hand and cannot stop before its end, or waits for something else.
        """
        _check(reason, "reason")
        self._check_able(self._fleet.held.get(task))
        change = PutHold(at_ms=self._clock.now_ms(), task=task, kind=kind, by=by, reason=reason)
        held_up: HeldUp = await self._store.commit(change)
        if held_up.was is TaskState.QUEUED:
            self._window.discard(held_up.class_text, task)
        log.info("task_held_up", task=task, was=held_up.was.value, how=kind.value, by=by)
        self._wake.set()

    def _check_able(self, held: Held | None) -> None:
        agent = self._fleet.agents.get(held.agent) if held is not None else None
        if agent is not None and agent.capabilities and PAUSE not in agent.capabilities:
            raise Conflict(f"agent {agent.name} is of a version that cannot pause; wait for the end of its work")

    async def let_go(self, task: str, note: str, by: str) -> None:
        """Let a task go on; one that nobody holds up goes on as it does.

        Raises:
            NotFound: there is no such task.
            IllegalTransition: it is blocked, or has ended.
            Conflict: it waits for something else.
        """
        _check(note, "note")
        let_go: LetGo = await self._store.commit(EndHold(at_ms=self._clock.now_ms(), task=task, by=by, note=note))
        if let_go.is_ready:
            self._window.add(let_go.class_text, (let_go.priority, task))
        if let_go.ready_ms is not None:
            self._on_delayed(let_go.ready_ms)
        if let_go.is_news:
            log.info("task_let_go", task=task, was=let_go.was.value, by=by)
        self._store.wake()
        self._wake.set()

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell sidecars what people want of the work in their hands, until cancelled."""
        while True:
            try:
                await self.look()
            except StoreFailed:
                return  # the hub is ending
            except Unavailable as exc:
                log.debug("holds_unread", why=str(exc), next="trying again")
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def look(self) -> None:
        """Compare what is held up with what is in hand here, and tell sidecars what they have not been told.

        This alone speaks to them, so the last word is about the newest rows; also when another hub has let a task go.
        """
        told: dict[AttemptId, None] = {}
        in_hand = [task for task, held in self._fleet.held.items() if held.is_committed]
        for row in await self._store.open_holds(in_hand) if in_hand else ():
            held = self._fleet.held.get(row.task)
            if held is None or not held.is_committed or PAUSE not in self._fleet.agents[held.agent].capabilities:
                continue
            attempt = _id(held)
            told[attempt] = None
            if attempt not in self._told:
                self._agents.send(held.agent, held.boot, Pause(attempt=attempt, reason=reason_of(row)))
        for attempt in self._told:
            held = self._fleet.held.get(attempt.task)
            if attempt not in told and held is not None and _id(held) == attempt:
                self._agents.send(held.agent, held.boot, Pause(attempt=attempt, on=False))
        self._told = told


def _id(held: Held) -> AttemptId:
    return AttemptId(held.agent, held.boot, held.task, held.epoch)


def _check(text: str, path: str) -> None:
    if len(text) > MAX_NOTE_CHARS:
        raise BadInput([Problem(path, f"{len(text):,} characters; at most {MAX_NOTE_CHARS:,}")], "request")


def reason_of(row: HoldRow) -> str:
    """Why the work stops, in words."""
    what = "a person takes it over" if row.kind is HoldKind.TAKE else "it was paused"
    return f"{what}: {row.reason}" if row.reason else what
