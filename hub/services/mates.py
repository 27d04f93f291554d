"""What other hubs of the same database have committed, acted on here.

Every commit has numbered events. Those that this hub has not written itself are read, in order, as soon as the database
says that there are any, and once a second in case it did not. They are wake-ups, never the truth: each is checked
against the rows or against the order of things (epochs of attempts, seats of agents), so that one that is late or comes
twice does no harm. Now and then, and whenever too much has happened to be read one by one, all is compared with the
rows.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol

import structlog

from hub.core.agent import Agent
from hub.core.ending import AgentPort, stop
from hub.core.fleet import Fleet
from hub.core.routing import class_of_work, is_proof
from hub.core.window import Window
from hub.store.hub_changes import HeldRow, ReadHeld
from hub.store.store import AgentRow, Store
from protocol import messages
from protocol.clock import Clock
from protocol.errors import StoreFailed, Unavailable
from protocol.events import Event, EventKind
from protocol.model import AgentState

log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
AUDIT_S: Final = 10.0
PAGE: Final = 500
MANY: Final = 4
"""Full pages in a row after which the rest is not read one by one."""

_READY: Final = frozenset(
    {
        EventKind.TASK_QUEUED,
        EventKind.TASK_REQUEUED,
        EventKind.TASK_READY,
        EventKind.TASK_BLOCKED,
        EventKind.TASK_RESUMED,
        EventKind.TASK_PRIORITISED,
    }
)
"""After one of these a task may wait in the queue; the store says whether it does."""
_ENDS: Final = frozenset(
    {
        EventKind.TASK_COMPLETED,
        EventKind.TASK_FAILED,
        EventKind.TASK_CANCELLED,
        EventKind.TASK_DEAD,
        EventKind.TASK_REQUEUED,
    }
)
_FINAL: Final = _ENDS - {EventKind.TASK_REQUEUED}
_TOKENS: Final = frozenset(
    {
        EventKind.TOKEN_CREATED,
        EventKind.TOKEN_REVOKED,
        EventKind.MACHINE_JOINED,
        EventKind.MACHINE_LEFT,
        EventKind.RATE_LIMIT_SET,
        EventKind.RATE_LIMIT_RESET,
        EventKind.LOG_LEVELS_SET,
    }
)
"""Also what they may be asked for how often, and from which level on they log."""
_ENDPOINTS: Final = frozenset({EventKind.ENDPOINT_ADDED, EventKind.ENDPOINT_REMOVED})
_PROJECTS: Final = frozenset({EventKind.PROJECT_ADDED, EventKind.PROJECT_CHANGED, EventKind.PROJECT_REMOVED})
_BUDGETS: Final = frozenset({EventKind.BUDGET_SET, EventKind.BUDGET_REMOVED})
_CLONES: Final = frozenset({EventKind.AGENT_QUARANTINED, EventKind.AGENT_RELEASED})
_WILL: Final = frozenset({EventKind.AGENT_DRAINING, EventKind.AGENT_RESUMED})


class Lines(AgentPort, Protocol):
    """The links to sidecars, as far as this needs them."""

    def drop(self, name: str) -> None:
        """Forget what was said to a sidecar, and close its line."""
        ...

    def cut_all(self) -> None:
        """Close the lines of all sidecars."""
        ...


class Readers(Protocol):
    """Who reads events and output."""

    def committed(self, events: Sequence[Event]) -> None:
        """These are durable."""
        ...

    def saw(self, newest: int) -> None:
        """So are all up to this one, whatever they are."""
        ...

    def look(self) -> None:
        """There may be new output of any task."""
        ...


Reload = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    pass


class Mates:
    """Follows what the other hubs do.

    Attributes:
        on_tokens, on_endpoints, on_projects, on_budgets: read them again, another hub has changed them.
    """

    def __init__(  # noqa: PLR0913 - the parts it is made of
        self,
        store: Store,
        fleet: Fleet,
        window: Window,
        lines: Lines,
        readers: Readers,
        clock: Clock,
        *,
        hub: int,
        newest: int,
        is_shared: bool,
        take: Callable[[Iterable[HeldRow]], None],
        on_due: Callable[[int], None],
    ) -> None:
        """Begin behind the event ``newest``.

        Args:
            is_shared: other hubs may have the same database.
            take: answer for attempts that nobody here knows of.
            on_due: hears when time will want something of a task.
        """
        self._store, self._fleet, self._window, self._lines, self._readers = store, fleet, window, lines, readers
        self._clock, self._hub, self._is_shared = clock, hub, is_shared
        self._take, self._on_due = take, on_due
        self.on_tokens: Reload = _nothing
        self.on_endpoints: Reload = _nothing
        self.on_projects: Reload = _nothing
        self.on_budgets: Reload = _nothing
        self._seen = newest
        self._own: deque[tuple[int, int]] = deque()  # numbers of our own events that lie before us
        self._news = asyncio.Event()
        self._odd: set[tuple[str, int]] = set()  # what the last audit found that may only have been under way

    # --- hearing ------------------------------------------------------------------------------------------------------

    def committed(self, events: Sequence[Event]) -> None:
        """This hub has committed these itself."""
        if events and self._is_shared:
            self._own.append((events[0].seq, events[-1].seq))
            self._skip_own()

    def _skip_own(self) -> None:
        while self._own and self._own[0][0] <= self._seen + 1:
            self._seen = max(self._seen, self._own.popleft()[1])

    def listen(self, newest: int = 0) -> None:
        """Something was committed; ``newest`` is its last event, if that is known."""
        if not newest or newest > self._seen:
            self._news.set()

    async def run(self) -> None:
        """Follow until cancelled; returns at once where there can be no others."""
        audited_at = self._clock.monotonic()
        while self._is_shared:
            try:
                await self.catch_up()
                if self._clock.monotonic() - audited_at >= AUDIT_S:
                    audited_at = self._clock.monotonic()
                    await self.audit()
            except StoreFailed:
                return  # the hub is ending
            except Unavailable as exc:
                log.debug("mates_unheard", why=str(exc), next="trying again")
            try:
                async with asyncio.timeout(POLL_S):
                    await self._news.wait()
            except TimeoutError:
                self._readers.look()
            self._news.clear()

    async def catch_up(self) -> None:
        """Act on everything that other hubs have committed so far."""
        for _ in range(MANY):
            events = await self._store.events(self._seen, PAGE)
            if not events:
                return
            await self._act([event for event in events if not self._is_own(event.seq)])
            self._seen = max(self._seen, events[-1].seq)
            self._skip_own()
            if len(events) < PAGE:
                return
        await self._resync()

    def _is_own(self, seq: int) -> bool:
        return any(first <= seq <= last for first, last in self._own)

    # --- acting -------------------------------------------------------------------------------------------------------

    async def _act(self, events: Sequence[Event]) -> None:
        if not events:
            return
        waiting: dict[str, None] = {}
        for event in events:
            self._act_on(event)
            if event.task is not None:
                if event.kind in _READY:
                    waiting[event.task] = None
                elif event.kind is EventKind.TASK_ASSIGNED or event.kind in _FINAL:
                    waiting.pop(event.task, None)  # others tell more of a task that waits: that it climbed, say
        await self._queue(tuple(waiting))
        kinds = {event.kind for event in events}
        if kinds & _TOKENS:
            await self.on_tokens()
        if kinds & _ENDPOINTS:
            await self.on_endpoints()
        if kinds & _PROJECTS:
            await self.on_projects()
        if kinds & _BUDGETS:
            await self.on_budgets()
        self._store.saw(events[-1].seq)
        self._readers.committed(events)
        self._store.wake()

    def _act_on(self, event: Event) -> None:
        if event.task is not None:
            if event.kind is EventKind.TASK_ASSIGNED and event.facts.get("hub") != self._hub:
                self._given(event.task, event.agent or "", event.epoch or 0)
            elif event.kind in _ENDS:
                self._ended(event.task, event.epoch, event.facts.get("reason") or event.kind.value)
        elif event.agent is not None:
            if event.kind is EventKind.AGENT_JOINED:
                self._moved(event)
            elif event.kind is EventKind.AGENT_LOST:
                self._left(event)
            elif event.kind in _WILL and "by" in event.facts:
                self._marked(self._fleet.agent(event.agent), draining=event.kind is EventKind.AGENT_DRAINING)
            elif event.kind in _CLONES:
                self._judged(self._fleet.agent(event.agent), str(event.facts.get("why", "")))

    async def _queue(self, tasks: tuple[str, ...]) -> None:
        """Of these tasks, those that wait in the queue: they may be ours to give."""
        for task in await self._store.waiting_tasks(tasks) if tasks else ():
            if task.is_ready:
                if is_proof(task.class_text):  # its work was done elsewhere, and may still stand here as to be done
                    self._window.discard(class_of_work(task.class_text), task.task)
                self._window.add(task.class_text, (task.priority, task.task))
            if task.wake_ms is not None:
                self._on_due(task.wake_ms)

    def _given(self, task: str, agent: str, epoch: int) -> None:
        self._fleet.give_away(task, agent)
        held = self._fleet.held.get(task)
        if held is not None and held.is_committed and held.epoch < epoch:
            stop(self._fleet, self._lines, task, held.epoch, "this attempt does not count any more")

    def _ended(self, task: str, epoch: int | None, reason: str) -> None:
        self._fleet.bring_back(task)
        held = self._fleet.held.get(task)
        if held is not None and held.is_committed and epoch is not None and held.epoch <= epoch:
            log.info("stopped_by_another_hub", task=task, epoch=held.epoch, agent=held.agent, why=reason)
            stop(self._fleet, self._lines, task, held.epoch, reason)

    # --- agents -------------------------------------------------------------------------------------------------------

    def _moved(self, event: Event) -> None:
        """An agent was welcomed by another hub; what it holds went with it."""
        facts = event.facts
        agent = self._fleet.agent(event.agent or "")
        seat, hub = int(facts.get("seat", 0)), facts.get("hub")
        if seat <= agent.seat or hub == self._hub:
            return  # it is here again since
        agent.seat, agent.hub, agent.last_seen_ms = seat, hub, event.at_ms
        agent.host, agent.slots = str(facts.get("host", agent.host)), int(facts.get("slots", agent.slots))
        agent.began(max(agent.boot, int(facts.get("boot", 0))), self._clock.monotonic())
        agent.endpoints, agent.report = (), None
        for held in [held for held in agent.held.values() if held.is_committed]:
            self._fleet.release(held.task, held.epoch)
            self._fleet.give_away(held.task, agent.name)
        if agent.state is not AgentState.OFFLINE:
            log.info("agent_moved", agent=agent.name, hub=hub)
            agent.fire("lose")
        self._lines.drop(agent.name)
        self._fleet.changed(agent)

    def _left(self, event: Event) -> None:
        agent = self._fleet.agent(event.agent or "")
        if agent.hub is not None and agent.hub == event.facts.get("hub"):
            agent.hub, agent.last_seen_ms = None, event.at_ms

    def _marked(self, agent: Agent, *, draining: bool) -> None:
        """A person has said at another hub that this agent gets no new work, or gets it again."""
        if agent.is_draining == draining:
            return
        agent.is_draining = draining
        if agent.state is not AgentState.OFFLINE:
            agent.fire("drain" if draining else "resume_busy" if agent.held else "resume")
        self._lines.send(agent.name, agent.boot, messages.Drain(on=draining))
        self._fleet.changed(agent)

    def _judged(self, agent: Agent, quarantine: str) -> None:
        """Its key is in use twice, another hub has found, or a person has put that right there."""
        if agent.quarantine == quarantine:
            return
        if quarantine:
            agent.quarantine = quarantine
        else:
            agent.released(is_away=agent.state is AgentState.OFFLINE and agent.hub is None)
        self._fleet.changed(agent)

    def _learn(self, rows: Iterable[AgentRow]) -> None:
        for row in rows:
            agent = self._fleet.agent(row.name)
            self._marked(agent, draining=row.draining)
            self._judged(agent, row.quarantine)
            if row.seat >= agent.seat and self._hub not in {row.hub, agent.hub}:
                agent.began(row.boot, self._clock.monotonic())
                agent.host, agent.slots, agent.version = row.host, row.slots, row.version
                agent.capabilities, agent.last_seen_ms = frozenset(row.capabilities), row.last_seen_ms
                agent.seat, agent.hub = row.seat, row.hub

    # --- what this hub answers for ------------------------------------------------------------------------------------

    def take(self, rows: Iterable[HeldRow]) -> None:
        """Answer for these attempts from now on."""
        self._take(rows)

    def let_go(self) -> None:
        """Close the lines of all sidecars: they are to find another hub. What they hold stays theirs."""
        self._lines.cut_all()

    def forget(self) -> None:
        """Another hub answers for what is in hand here: know nothing of it, and let the sidecars say hello again."""
        for held in [held for held in self._fleet.held.values() if held.is_committed]:
            self._fleet.release(held.task, held.epoch)
        for agent in self._fleet.agents.values():
            if agent.state is not AgentState.OFFLINE:
                agent.fire("lose")
            if agent.hub == self._hub:
                agent.hub = None
            self._lines.drop(agent.name)
        self._fleet.changed()

    # --- the net ------------------------------------------------------------------------------------------------------

    async def _resync(self) -> None:
        """Too much has happened: look at the rows instead of at each event."""
        newest = await self._store.last_event()
        log.info("mates_resync", behind=newest - self._seen)
        self._seen = max(self._seen, newest)
        self._skip_own()
        for text in await self._store.classes():
            self._window.open(text)
            self._window.classes[text].has_more = True
        await self.on_tokens()
        await self.on_endpoints()
        await self.on_projects()
        await self.on_budgets()
        await self.audit()
        self._store.saw(newest)
        self._readers.saw(newest)
        self._store.wake()

    async def audit(self) -> None:
        """Compare what is in hand with the rows. What differs twice in a row was not just under way."""
        rows: tuple[HeldRow, ...] = await self._store.commit(ReadHeld(at_ms=self._clock.now_ms()))
        self._learn(await self._store.agents())
        ours = {(row.task.id, row.task.epoch): row for row in rows if row.task.hub == self._hub}
        self._fleet.forget_away()
        for row in rows:
            if row.task.hub != self._hub:
                self._fleet.give_away(row.task.id, row.attempt.agent)
        known = {(held.task, held.epoch): held for held in self._fleet.held.values() if held.is_committed}
        odd = ours.keys() ^ known.keys()
        for key in odd & self._odd:
            log.warning("audit_mended", task=key[0], epoch=key[1], known=key in known)
            if key in known:
                stop(self._fleet, self._lines, *key, "this attempt does not count any more")
            else:
                self._take([ours[key]])
        self._odd = odd - self._odd
