"""What people ask about tasks and the hub: reads only, from the rows and from what is in memory."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import structlog
from msgspec.structs import replace

from hub.core import explain, facets
from hub.core.agent import Agent
from hub.core.board import Board
from hub.core.fleet import Fleet
from hub.core.matching import Match, Matcher
from hub.core.outlook import Outlook
from hub.core.output import Wanted
from hub.core.prefixes import blocks_of
from hub.core.recent import Recent
from hub.core.routing import Requirements, requirements_of, routing_of
from hub.core.speeds import Speeds
from hub.core.task import HELD_STATES
from hub.core.terms import Rates
from hub.core.window import Window
from hub.store import rows
from hub.store.store import AttemptRow, Cursor, LogRow, Store, TaskQuery, TaskRow
from protocol import codec
from protocol.api import (
    ComponentHealth,
    EventList,
    Explanation,
    Health,
    HostExplanation,
    LogList,
    LogPiece,
    OutputList,
    TaskFacets,
    TaskList,
    TaskView,
)
from protocol.choice import Choice
from protocol.clock import Clock
from protocol.errors import BadInput, NotFound, Problem, Unavailable
from protocol.events import Event
from protocol.ids import TASK_ID
from protocol.model import FINAL_STATES, AgentState, Priority, TaskState, TierDecision
from protocol.progress import HoldKind, HoldView, ProgressView

log = structlog.get_logger(__name__)
LOG_PAGE_CHARS: Final = 1 << 20
"""A page of output holds at most this and one more read: five hundred full pieces would be 16 MiB."""
_LOG_STEP: Final = 32
LOG_TAIL_CHARS: Final = 1 << 18
"""So much of the end of an output is told at once; whoever wants more asks for what comes before."""
_TAIL_STEP: Final = 16
MAX_SEQ: Final = 2**63 - 1
MAX_CLASSES: Final = 20
"""Classes whose tasks in the store are counted one by one."""

ALARM_SHOWN_MS: Final = 3_600_000
"""How long a name that was used twice counts against the hub's health."""


Waits = Callable[[Requirements, Match, str], tuple[str, tuple[str, ...], float | None] | None]
Saved = Callable[[str, Sequence[AttemptRow]], Awaitable[ProgressView | None]]
"""How far the work on a task had come when it was last kept."""


async def _nothing_saved(_task: str, _attempts: Sequence[AttemptRow]) -> ProgressView | None:
    return None


_MAY_BE_HELD_UP: Final = HELD_STATES | {TaskState.WAITING}


class Insight:
    """The use cases of a reader."""

    def __init__(  # noqa: PLR0913 - the parts it is made of
        self,
        store: Store,
        fleet: Fleet,
        clock: Clock,
        *,
        version: str,
        started_at: datetime,
        matcher: Matcher | None = None,
        speeds: Speeds | None = None,
        rates: Rates = Rates(),  # noqa: B008 - frozen
        told: Callable[[Requirements], Choice | None] = lambda _requirements: None,
        waits: Waits = lambda _requirements, _found, _task: None,
        recent: Recent,
        machine: Callable[[], dict[str, ComponentHealth]] = dict,
        trouble: Callable[[], str] = str,
        is_elsewhere: Callable[[Agent], bool] = lambda _agent: False,
        saved: Saved = _nothing_saved,
        window: Window | None = None,
    ) -> None:
        self._store, self._fleet, self._clock = store, fleet, clock
        self._matcher, self._speeds, self._rates = matcher or Matcher(fleet), speeds or Speeds(), rates
        self._version, self._started_at, self._recent, self._machine = version, started_at, recent, machine
        self._trouble, self._is_elsewhere, self._told, self._waits = trouble, is_elsewhere, told, waits
        self._saved, self._window = saved, window
        self._watched: dict[str, Callable[[], ComponentHealth]] = {}

    def watch(self, part: str, health: Callable[[], ComponentHealth]) -> None:
        """Tell of this part of the hub too, when somebody asks how it is."""
        self._watched[part] = health

    @property
    def newest_event(self) -> int:
        """Sequence number of the newest committed event."""
        return self._store.newest_event

    async def _row(self, task: str) -> TaskRow:
        row = await self._store.task(task) if TASK_ID.fullmatch(task) else None
        if row is None:
            raise NotFound("task", task)
        return row

    async def owner(self, task: str) -> tuple[str, str]:
        """Id of the token that has submitted a task, and the task's project (empty: none).

        Raises:
            NotFound: there is no such task.
        """
        found = requirements_of((await self._row(task)).class_text)
        return found.by, found.project

    async def projects(self, tasks: Iterable[str]) -> dict[str, str]:
        """The project (empty: none) of each of these tasks that there is."""
        rows = await self._store.summaries(list(dict.fromkeys(tasks)))
        return {row.id: requirements_of(row.class_text).project for row in rows}

    async def task(self, task: str) -> TaskView:
        """A task, whole.

        Raises:
            NotFound: there is no such task.
        """
        row = await self._row(task)
        stored = await self._store.spec(task)
        assert stored is not None, "a task is stored with its spec"
        attempts = await self._store.attempts(task)
        view = rows.task(row, codec.decode_spec(stored[0]), codec.decode_tier(stored[1]), attempts)
        view.checks = await self._store.frozen_checks(task)
        view.reviews = tuple(rows.review(review) for review in await self._store.reviews(task))
        if (pull := await self._store.pull(task)) is not None and pull.project:
            view.pull = rows.pull(pull)
        held = self._fleet.held.get(task)
        if held is not None and view.attempts and view.attempts[-1].epoch == held.epoch:
            view.attempts[-1].answering = self._fleet.agents[held.agent].answering.get(task)
        if row.state in _MAY_BE_HELD_UP and (hold := await self._store.hold(task)) and hold.ended_ms is None:
            stopping = row.state is not TaskState.WAITING
            at = rows.moment(hold.at_ms)
            view.hold = HoldView(kind=hold.kind, by=hold.by, reason=hold.reason, at=at, stopping=stopping)
        if attempts and row.state not in FINAL_STATES and requirements_of(row.class_text).executor != "noop":
            view.progress = await self._saved(task, attempts)
            if view.progress is not None and len(view.progress.iterations) > len(view.iterations):
                view.iterations = view.progress.iterations
        return view

    async def tasks(self, query: TaskQuery, only: Callable[[TaskRow], bool] | None = None) -> TaskList:
        """A page of tasks, newest first; ``query.before`` is the cursor.

        With ``only`` the page holds those for which it is true, and may be short though more come behind it.

        Raises:
            BadInput: the cursor is not one of ours.
        """
        if query.before is not None and not TASK_ID.fullmatch(query.before):
            raise BadInput(
                [Problem("cursor", "not a cursor of this list; take next_cursor of the page before")], "query"
            )
        found = await self._store.tasks(replace(query, limit=query.limit + 1))
        page = found[: query.limit]
        return TaskList(
            tasks=tuple(rows.summary(row) for row in page if only is None or only(row)),
            next_cursor=page[-1].id if len(found) > query.limit else None,
        )

    async def facets(self, query: TaskQuery) -> TaskFacets:
        """How many tasks each choice of the filters in ``query`` would show."""
        names = tuple(Priority)
        chosen = {
            "state": frozenset(str(state) for state in query.states),
            "priority": frozenset(str(names[order]) for order in query.priorities),
            "tier": query.tiers,
            "agent": frozenset(filter(None, (query.agent,))),
            "model": frozenset(filter(None, (query.model,))),
        }
        found = facets.count(await self._store.facets(query), chosen)
        found.facets["label"] = facets.labels(await self._store.label_sets(query))
        return found

    def newest_behind(self, after: int, limit: int) -> Sequence[Event] | None:
        """The first ``limit`` events behind ``after`` as they are, if memory holds all of them; else ``None``.

        It holds those that this hub has committed. Behind them there may be events of others.
        """
        found = self._recent.behind(after, limit)
        if found is None or len(found) == limit:
            return found
        return found if (found[-1].seq if found else after) >= self._store.newest_event else None

    async def events(
        self, *, after: int = 0, limit: int = 500, task: str | None = None, kinds: frozenset[str] = frozenset()
    ) -> EventList:
        """Events behind ``after``, oldest first; 0: from the oldest that there is.

        With ``kinds`` only those of ``limit`` events that are of one of them: there may be more although none is told.
        ``reset`` in the answer: what came behind ``after`` is gone, or it is no event of this log.
        """
        found = self.newest_behind(after, limit) if task is None else None
        newest = self._store.newest_event
        if found is not None:
            ends = Cursor(floor=0, newest=newest, is_known=True)
        else:  # nothing new here, or what other hubs have written, or what is older
            found = await self._store.events(after, limit, task)
            # Asked after the page was read: what was forgotten in between was still on the page.
            ends = await self._store.cursor(after)
        return EventList(
            events=tuple([rows.event(row) for row in found if not kinds or row.kind in kinds]),
            next_cursor=str(found[-1].seq) if len(found) == limit else None,
            reset=bool(after) and not ends.is_known,
            floor=ends.floor,
            newest=ends.newest,
        )

    async def logs(self, task: str, *, after: int = 0, limit: int = 1_000) -> LogList:
        """Output of a task behind ``after``, oldest first; a page ends early rather than grow large.

        Raises:
            NotFound: there is no such task.
        """
        await self._row(task)
        found: list[LogRow] = []
        chars = 0
        while True:
            asked = min(_LOG_STEP, limit - len(found))
            more = await self._store.logs(task, found[-1].seq if found else after, asked)
            found += more
            chars += sum(len(row.text) for row in more)
            is_end = len(more) < asked
            if is_end or len(found) == limit or chars >= LOG_PAGE_CHARS:
                cursor = None if is_end else str(found[-1].seq)
                return LogList(logs=tuple(rows.log_piece(row) for row in found), next_cursor=cursor)

    async def logs_before(self, task: str, before: int | None = None, *, limit: int = 1_000) -> tuple[LogPiece, ...]:
        """The last output of a task, or the last before ``before``, oldest first.

        At most ``limit`` pieces, and no more once ``LOG_TAIL_CHARS`` are there.

        Raises:
            NotFound: there is no such task.
        """
        await self._row(task)
        found: list[LogRow] = []
        chars, place = 0, MAX_SEQ if before is None else before
        while len(found) < limit and chars < LOG_TAIL_CHARS:
            asked = min(_TAIL_STEP, limit - len(found))
            more = await self._store.logs_before(task, place, asked)
            found += more
            chars += sum(len(row.text) for row in more)
            if len(more) < asked:
                break
            place = more[-1].seq
        return tuple(rows.log_piece(row) for row in reversed(found))

    async def output(self, after: int, wanted: Wanted, limit: int) -> OutputList:
        """What is wanted of the next ``limit`` pieces of output of all tasks behind ``after``, oldest first."""
        found = await self._store.output(after, limit)
        pieces = tuple(
            rows.output_piece(row)
            for row in found
            if wanted.takes(task=row.task, agent=row.agent, labels=row.labels, stream=row.stream, text=row.text)
        )
        return OutputList(logs=pieces, next_cursor=str(found[-1].seq if found else after))

    async def newest_output(self) -> int:
        """Number of the newest piece of output of any task; 0: there is none."""
        return await self._store.newest_output()

    async def explain(self, task: str) -> Explanation:
        """Why a task stands where it stands, agent by agent, and what would move it.

        Raises:
            NotFound: there is no such task.
        """
        row = await self._row(task)
        stored = await self._store.spec(task)
        assert stored is not None, "a task is stored with its spec"
        tier: TierDecision = codec.decode_tier(stored[1])
        attempts = await self._store.attempts(task)
        routing = (rows.attempt(attempts[-1], tier).routing if attempts else None) or routing_of(tier, None)
        summary, unblock, agents = "", tuple[str, ...](), tuple[HostExplanation, ...]()
        position, starts_in_s = None, None
        is_ready = row.state is TaskState.QUEUED and row.ready_ms is None
        ahead = await self._ahead(row) if is_ready else {}
        if row.state is TaskState.QUEUED:
            now, requirements = self._clock.monotonic(), requirements_of(row.class_text)
            board = Board(self._fleet, self._speeds, now, rates=self._rates)
            demand = self._speeds.asked(requirements, requirements.kind)
            found = self._matcher.match(requirements.place)
            blocks = self._fleet.prefixes.of(task)
            if requirements.needs_model and not blocks:
                blocks = blocks_of(codec.decode_spec(stored[0]))
            summary, unblock, agents = explain.waiting(self._fleet, requirements, board, demand, found, blocks)
            outlook = Outlook(self._fleet, self._matcher, self._speeds, board, now)
            starts_in_s = outlook.starts_in(requirements, ahead) if is_ready else None
            if (waits := self._waits(requirements, found, task)) is not None:
                summary, unblock, starts_in_s = waits
            routing = replace(routing, learnt=self._told(requirements) or routing.learnt)
        if is_ready:
            position = sum(ahead.values())
        else:
            summary, unblock = await self._standing(row)
        return Explanation(
            task=task,
            state=row.state,
            summary=summary,
            unblock=unblock,
            position=position,
            agents=agents,
            routing=routing,
            starts_in_s=None if starts_in_s is None else round(starts_in_s, 1),
        )

    async def _ahead(self, row: TaskRow) -> Mapping[str, int]:
        """Ready tasks that go first, by class: from memory as far as they are there, which is much quicker."""
        if self._window is None:
            return await self._store.ahead(row)
        place = row.priority, row.id
        found, more = self._window.before(place)
        if len(more) > MAX_CLASSES:
            return await self._store.ahead(row)
        for text, last in more.items():
            if count := await self._store.between(text, last, place):
                found[text] = found.get(text, 0) + count
        return found

    async def _standing(self, row: TaskRow) -> tuple[str, tuple[str, ...]]:
        reason = row.reason
        unblock: tuple[str, ...] = ()
        if row.state is TaskState.BLOCKED:
            blockers = await self._store.blockers(row.id)
            reason = ", ".join(f"{task} is {state.value}" for task, state in blockers)
            unblock = tuple(f"look why it has not completed: agentcom tasks explain {task}" for task, _ in blockers)
        wait_s = None
        if row.state is TaskState.QUEUED and row.ready_ms is not None:
            wait_s = max(0.0, (row.ready_ms - self._clock.now_ms()) / 1000)
            unblock = ("wait for its time", f"or cancel it, and submit it again: agentcom tasks cancel {row.id}")
        if row.state is TaskState.WAITING:
            look = f"look at its report and its branch: agentcom tasks show {row.id}"
            unblock = (look, f"agentcom tasks approve {row.id}", f"or: agentcom tasks reject {row.id} --reason TEXT")
            if (hold := await self._store.hold(row.id)) and hold.ended_ms is None:
                verb = "hand-back" if hold.kind is HoldKind.TAKE else "resume"
                unblock = (f"let it go on: agentcom tasks {verb} {row.id}",)
        if row.state is TaskState.DEAD:
            unblock = (f"put it back by hand: agentcom tasks retry {row.id}",)
        return explain.standing(row.state, agent=row.agent, reason=reason, ready_in_s=wait_s), unblock

    async def health(self) -> Health:
        """The hub's own view of itself."""
        counts: dict[TaskState, int] = {}
        trouble = self._store.trouble or self._store.damage or self._trouble()
        try:
            counts = await self._store.counts()
        except Unavailable as exc:
            trouble = str(exc)
        agents = list(self._fleet.agents.values())
        online = sum(agent.state is not AgentState.OFFLINE or self._is_elsewhere(agent) for agent in agents)
        is_well = bool(agents) and online == len(agents) and not self._alarms(agents)
        parts = {
            "store": ComponentHealth(
                state="down" if trouble else "ok",
                detail=f"{self._store.kind}: {trouble or f'event {self._store.newest_event}'}",
            ),
            "agents": ComponentHealth(
                state="ok" if is_well else "degraded" if online else "down",
                detail=f"{online} of {len(agents)} online{self._alarms(agents)}",
            ),
            "dispatch": ComponentHealth(state="ok", detail=f"{len(self._fleet.held)} attempts held"),
            **self._machine(),
            **{name: health() for name, health in self._watched.items()},
        }
        states = {part.state for part in parts.values()}
        worst = "down" if parts["store"].state == "down" else "ok" if states == {"ok"} else "degraded"
        queue = {state.value: counts.get(state, 0) for state in TaskState if state not in FINAL_STATES}
        return Health(state=worst, version=self._version, started_at=self._started_at, components=parts, queue=queue)

    def _alarms(self, agents: Iterable[Agent]) -> str:
        since_ms = self._clock.now_ms() - ALARM_SHOWN_MS
        held = sorted(agent.name for agent in agents if agent.quarantine)
        names = sorted(agent.name for agent in agents if agent.alarm and agent.alarm_ms >= since_ms)
        told = f"; in quarantine, as their keys are in use twice: {', '.join(held)}" if held else ""
        return told + (f"; more than one sidecar is named {', '.join(names)}" if names else "")

    async def counts(self) -> dict[TaskState, int]:
        """Tasks by state, final ones too."""
        return await self._store.counts()
