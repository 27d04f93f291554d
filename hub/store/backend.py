"""What every store does alike: hand changes to the writer, and turn rows into records.

A backend adds how it opens and closes, how it runs one batch in one durable transaction, and how it asks for rows.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from hub.core.budgets import DAY_MS
from hub.core.facets import Alike
from hub.core.measures import Measure
from hub.store import listing, records
from hub.store.alert_reads import AlertReads
from hub.store.audit_looks import AuditLooks
from hub.store.budget_changes import BudgetRow, Purses
from hub.store.changes import AnyChange
from hub.store.endpoint_changes import EndpointRow, HealthRow
from hub.store.hold_changes import HoldRow
from hub.store.hub_changes import EnterHub, Standing, WaitingTask
from hub.store.join_changes import JoinTokenRow, MachineRow
from hub.store.join_verbs import machine_of
from hub.store.level_changes import LevelRow
from hub.store.project_changes import ProjectRow
from hub.store.pull_changes import PullRow
from hub.store.rate_changes import RateRow
from hub.store.review_changes import ReviewRow
from hub.store.store import (
    ALONE_MS,
    AgentRow,
    ArtifactRow,
    AttemptRow,
    Cursor,
    Done,
    LogRow,
    OutputRow,
    Start,
    TaskQuery,
    TaskRow,
)
from hub.store.sums import Summing
from hub.store.token_changes import TokenRow
from hub.store.waiting import Waiting
from hub.store.writer import Landed, Writer
from protocol.budgets import BudgetScope
from protocol.errors import StoreDamaged
from protocol.events import Event
from protocol.model import TaskState

log = structlog.get_logger(__name__)


class Backend(AlertReads, AuditLooks, Summing, ABC):
    """A :class:`hub.store.store.Store` without its database."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._writer = Writer(self._begin)
        self._writer.on_commit = self._committed
        self.newest_event = 0
        self.damage = ""
        self.on_commit: Callable[[Sequence[Event]], None] = lambda _events: None

    # --- what a database adds -----------------------------------------------------------------------------------------

    @abstractmethod
    async def open(self) -> None:
        """Connect, bring the schema up to date, start the writer.

        Raises:
            StoreFailed: it cannot be used; the text says why and what to do.
        """

    @abstractmethod
    async def close(self) -> None:
        """Write what waits and close; closing twice is closing once."""

    @abstractmethod
    def _begin(self, batch: list[AnyChange], landed: Landed) -> None:
        """Write a batch in one durable transaction: see :data:`hub.store.writer.Begin`."""

    @abstractmethod
    async def _rows(self, name: str, *values: Any) -> Sequence[records.Row]:
        """What a query finds, beside the writer."""

    @abstractmethod
    async def _next_boot(self, now_ms: int) -> int:
        """Count a start of a hub; greater than every one before."""

    @property
    def trouble(self) -> str:
        """Why nothing can be read or written for the moment; empty if all is well."""
        return ""

    # --- writing ------------------------------------------------------------------------------------------------------

    @property
    def on_seal(self) -> Callable[[], None]:
        """Called just before a batch is sealed."""
        return self._writer.on_seal

    @on_seal.setter
    def on_seal(self, call: Callable[[], None]) -> None:
        self._writer.on_seal = call

    @property
    def on_failure(self) -> Callable[[BaseException], None]:
        """Called once when nothing can be made durable any more."""
        return self._writer.on_failure

    @on_failure.setter
    def on_failure(self, call: Callable[[BaseException], None]) -> None:
        self._writer.on_failure = call

    @property
    def is_behind(self) -> bool:
        """See :class:`hub.store.store.Store`."""
        return self._writer.waiting.is_behind

    @property
    def waiting(self) -> Waiting:
        """What waits for a commit, with its limits."""
        return self._writer.waiting

    @property
    def batches(self) -> int:
        """Transactions committed so far."""
        return self._writer.batches

    @property
    def changes(self) -> int:
        """Changes committed so far."""
        return self._writer.changes

    @property
    def batch_sizes(self) -> Mapping[int, int]:
        """Transactions by the number of binary digits of how many changes were in each (3: 4 to 7 changes)."""
        return self._writer.sizes

    @property
    def commit_s(self) -> float:
        """Seconds that all transactions took."""
        return self._writer.commit_s

    @property
    def commit_times(self) -> Mapping[int, int]:
        """Transactions by the number of binary digits of their milliseconds (3: 4 to 8 ms)."""
        return self._writer.times

    def post(self, change: AnyChange, done: Done | None = None) -> None:
        """See :class:`hub.store.store.Store`."""
        self._writer.post(change, done)

    def wake(self) -> None:
        """See :class:`hub.store.store.Store`."""
        self._writer.wake()

    async def commit(self, change: AnyChange) -> Any:  # noqa: ANN401 - each verb documents its outcome
        """See :class:`hub.store.store.Store`."""
        return await self._writer.commit(change)

    def saw(self, newest: int) -> None:
        """Another hub has committed the event ``newest``."""
        self.newest_event = max(self.newest_event, newest)

    async def listen(self, on_news: Callable[[int], None]) -> None:
        """See :class:`hub.store.store.Store`."""
        del on_news  # a database that only one hub has tells nothing

    def _found_damage(self, damage: StoreDamaged) -> None:
        """A reader has found bytes that are not those that were written: nothing more may be built on them."""
        if self.damage:
            return
        log.error("store_damaged", path=damage.path, damage=damage.damage)
        self.damage = damage.damage
        self.on_failure(damage)

    def _committed(self, events: Sequence[Event]) -> None:
        if events:
            self.newest_event = max(self.newest_event, events[-1].seq)
        self.on_commit(events)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def task(self, task: str) -> TaskRow | None:
        """A task, or ``None``."""
        rows = await self._rows("task", task)
        return records.task(rows[0]) if rows else None

    async def spec(self, task: str) -> tuple[bytes, bytes] | None:
        """Spec and tier decision, MessagePack."""
        rows = await self._rows("spec", task)
        return (bytes(rows[0][0]), bytes(rows[0][1])) if rows else None

    async def attempts(self, task: str) -> list[AttemptRow]:
        """All attempts of a task, in order."""
        return [records.attempt(row) for row in await self._rows("attempts", task)]

    async def frozen_checks(self, task: str) -> str:
        """Digest of a task's checks as they were when it was submitted; empty without any."""
        rows = await self._rows("frozen_checks", task)
        return str(rows[0][0]) if rows else ""

    async def reviews(self, task: str) -> list[ReviewRow]:
        """What people have decided about attempts of a task, in order."""
        return [records.review(row) for row in await self._rows("reviews", task)]

    async def tasks(self, query: TaskQuery) -> list[TaskRow]:
        """A page of tasks, newest first."""
        is_plain = query == TaskQuery(before=query.before, limit=query.limit)
        counts = {} if is_plain else await self.counts()
        found: list[TaskRow] = []
        for page in listing.pages(query, counts):
            found += [records.task(row) for row in await self._rows(page.name, *page.values)]
        return listing.merged(found, query.limit)

    async def facets(self, query: TaskQuery) -> list[Alike]:
        """How many tasks with its label and words are alike in state, priority, tier, agent and model."""
        return [records.alike(row) for row in await self._rows("facets", *listing.narrowed(query))]

    async def label_sets(self, query: TaskQuery) -> list[tuple[dict[str, str], int]]:
        """The 1,000 most frequent sets of labels of tasks that fit all but its label, with how many have each."""
        found = await self._rows("label_sets", *listing.of_labels(query))
        return [(json.loads(labels), int(tasks)) for labels, tasks in found]

    async def summaries(self, ids: Sequence[str]) -> list[TaskRow]:
        """These tasks, in this order."""
        found = [await self.task(task) for task in ids]
        return [row for row in found if row is not None]

    async def blockers(self, task: str) -> list[tuple[str, TaskState]]:
        """Tasks it depends on that have not completed."""
        return [(needed, TaskState(state)) for needed, state in await self._rows("open_needs", task)]

    async def soon(self, task: str, limit: int) -> list[tuple[str, str]]:
        """Blocked tasks that wait for this one alone, with their classes; at most ``limit``."""
        return [(waiting, class_text) for waiting, class_text in await self._rows("soon", task, limit)]

    async def ahead(self, row: TaskRow) -> dict[str, int]:
        """Ready tasks that are more urgent or older, by class: 10,000 of its own, 1,000 of each of 100 more."""
        rows = await self._rows("ahead", row.class_text, row.priority, row.id)
        return {class_text: int(tasks) for class_text, tasks in rows if tasks}

    async def between(self, class_text: str, first: tuple[int, str], last: tuple[int, str]) -> int:
        """Ready tasks of a class that go behind one place (priority and id) and before another; at most 10,000."""
        return int((await self._rows("between", class_text, *first, *last))[0][0])

    async def events(self, after: int, limit: int, task: str | None = None) -> list[Event]:
        """Events behind ``after``, oldest first."""
        if task is None:
            rows = await self._rows("events", after, limit)
        else:
            rows = await self._rows("events_of_task", after, limit, task)
        return [records.event(row) for row in rows]

    async def cursor(self, seq: int) -> Cursor:
        """Where the log of events begins and ends now, and whether ``seq`` is one of them."""
        floor, newest, is_there = (await self._rows("cursor", seq))[0]
        return Cursor(floor=floor, newest=newest, is_known=bool(is_there) or seq == floor)

    async def walk_tasks(self, after: str, limit: int) -> list[tuple[str, TaskState, int | None]]:
        """Tasks behind ``after`` by id: id, state, when it ended (Unix ms)."""
        return [(task, TaskState(state), ended) for task, state, ended in await self._rows("walk_tasks", after, limit)]

    async def walk_keys(self, after: str, limit: int) -> list[tuple[str, int]]:
        """Idempotency keys behind ``after``: key, when it was used (Unix ms)."""
        return [(key, at_ms) for key, at_ms in await self._rows("walk_keys", after, limit)]

    async def walk_logs(self, after: int, limit: int) -> list[tuple[int, int]]:
        """Output of all tasks behind ``after``: number, when it came (Unix ms)."""
        return [(seq, at_ms) for seq, at_ms in await self._rows("walk_logs", after, limit)]

    async def oldest_events(self, after: int, limit: int) -> list[tuple[int, int]]:
        """Events behind ``after``: number, when it happened (Unix ms)."""
        return [(seq, at_ms) for seq, at_ms in await self._rows("oldest_events", after, limit)]

    async def logs(self, task: str, after: int, limit: int) -> list[LogRow]:
        """Output of a task behind ``after``, oldest first."""
        return [records.log_piece(row) for row in await self._rows("logs", task, after, limit)]

    async def logs_before(self, task: str, before: int, limit: int) -> list[LogRow]:
        """Output of a task before ``before``, newest first."""
        return [records.log_piece(row) for row in await self._rows("logs_before", task, before, limit)]

    async def output(self, after: int, limit: int) -> list[OutputRow]:
        """Output of all tasks behind ``after``, oldest first."""
        return [records.output(row) for row in await self._rows("output", after, limit)]

    async def newest_output(self) -> int:
        """Number of the newest piece of output of any task; 0: there is none."""
        return int((await self._rows("newest_output"))[0][0] or 0)

    async def artifacts(self, task: str) -> list[ArtifactRow]:
        """Files that the attempts of a task have left, attempt by attempt, by path."""
        return [records.artifact(row) for row in await self._rows("artifacts", task)]

    async def artifact(self, artifact: str) -> ArtifactRow | None:
        """One of them, or ``None``."""
        rows = await self._rows("artifact", artifact)
        return records.artifact(rows[0]) if rows else None

    async def over_progress(self, after: str, limit: int) -> list[str]:
        """Tasks behind ``after`` that have ended for good, and of whose work in progress something is kept."""
        return [str(task) for (task,) in await self._rows("over_progress", after, limit)]

    async def hold(self, task: str) -> HoldRow | None:
        """Why a task is held up, or was the last time; ``None``: it never was."""
        rows = await self._rows("hold", task)
        return records.hold(rows[0]) if rows else None

    async def open_holds(self, tasks: Sequence[str]) -> tuple[HoldRow, ...]:
        """Of these tasks the holds of those that are held up."""
        return tuple(records.hold(row) for row in await self._rows("open_holds", json.dumps(tasks)))

    async def is_kept(self, sha256: str) -> bool:
        """Whether any of them holds the bytes with this digest."""
        return bool(await self._rows("artifact_of_digest", sha256))

    async def counts(self) -> dict[TaskState, int]:
        """Tasks by state."""
        return {TaskState(state): n for state, n in await self._rows("counts")}

    async def rates(self) -> list[RateRow]:
        """Limits that are not the usual ones."""
        return [records.rate(row) for row in await self._rows("rates")]

    async def log_levels(self) -> list[LevelRow]:
        """Components that somebody has given a level."""
        return [records.log_level(row) for row in await self._rows("log_levels")]

    async def tokens(self) -> list[TokenRow]:
        """All tokens, newest first."""
        return [records.token(row) for row in await self._rows("tokens")]

    async def join_tokens(self) -> tuple[JoinTokenRow, ...]:
        """Tokens with which machines may join, newest first; at most 1,000."""
        return tuple(records.join_token(row) for row in await self._rows("join_tokens"))

    async def machines_waiting(self) -> tuple[MachineRow, ...]:
        """Machines that wait for a person, oldest first."""
        return tuple(machine_of(row) for row in await self._rows("machines_waiting"))

    async def machines_at_door(self, token: str, name: str) -> tuple[MachineRow, ...]:
        """The machine whose token this is, and the one that has joined under this name: one, or none, or two."""
        return tuple(machine_of(row) for row in await self._rows("machines_at_door", token, name))

    async def machine_of_token(self, token: str) -> MachineRow | None:
        """The machine that has joined and got this token."""
        rows = await self._rows("machine_of_token", token)
        return machine_of(rows[0]) if rows else None

    async def classes(self) -> tuple[str, ...]:
        """Classes that have ready tasks."""
        classes: list[str] = []
        found = (await self._rows("first_class"))[0][0]
        while found is not None:
            classes.append(found)
            found = (await self._rows("next_class", found))[0][0]
        return tuple(classes)

    async def agents(self) -> tuple[AgentRow, ...]:
        """All agents as they last introduced themselves, at any hub."""
        return tuple(records.agent(row) for row in await self._rows("agents"))

    async def endpoints(self) -> tuple[EndpointRow, ...]:
        """Endpoints that people have added."""
        return tuple(records.endpoint(row) for row in await self._rows("endpoints"))

    async def projects(self) -> tuple[ProjectRow, ...]:
        """All projects, by name."""
        return tuple(records.project(row) for row in await self._rows("projects"))

    async def pull(self, task: str) -> PullRow | None:
        """The pull request of a task, or ``None``."""
        rows = await self._rows("pull", task)
        return records.pull(rows[0]) if rows else None

    async def due_pulls(self, now_ms: int, limit: int) -> list[PullRow]:
        """Those that somebody has to look at, the longest due first."""
        return [records.pull(row) for row in await self._rows("due_pulls", now_ms, limit)]

    async def pulls(self, before: str, state: str, project: str, limit: int) -> list[PullRow]:
        """Those of tasks before this one, the newest first; of one state or project, empty: of any."""
        return [records.pull(row) for row in await self._rows("pulls", before, state, project, limit)]

    async def budgets(self) -> tuple[BudgetRow, ...]:
        """All budgets."""
        return tuple(records.budget(row) for row in await self._rows("budgets"))

    async def purses(self, day: int) -> Purses:
        """All budgets and how they stand on a day (counted since 1970)."""
        rows = await self._rows("purses", day)
        purses = {(BudgetScope(row[0]), row[1]): records.purse(row) for row in rows}
        return Purses(budgets=await self.budgets(), day=day, purses=purses)

    async def measures(self) -> tuple[Measure, ...]:
        """What was learnt, of each kind the oldest first."""
        return tuple(Measure(about, name, bytes(value)) for about, name, value in await self._rows("measures"))

    async def healths(self) -> tuple[HealthRow, ...]:
        """How endpoints do, those that people have added and those that sidecars have told of."""
        return tuple(records.health(row) for row in await self._rows("healths"))

    async def waiting_tasks(self, tasks: Sequence[str]) -> list[WaitingTask]:
        """Of these tasks those that are queued or blocked."""
        return [records.waiting_task(row) for row in await self._rows("waiting_tasks", json.dumps(tasks))]

    async def last_event(self) -> int:
        """Number of the newest event that any hub has committed."""
        return int((await self._rows("last_event"))[0][0] or 0)

    async def start(self, now_ms: int = 0, *, node: str = "", version: str = "", lease_ms: int = ALONE_MS) -> Start:
        """What a hub needs to know when it starts; counts its boot and enters it among the hubs."""
        boot = await self._next_boot(now_ms)
        enter = EnterHub(at_ms=now_ms, boot=boot, node=node, version=version, lease_ms=lease_ms)
        standing: Standing = await self.commit(enter)
        return Start(
            hub_boot=boot,
            last_task=(await self._rows("last_task"))[0][0] or "",
            last_event=self.newest_event,
            standing=standing,
            classes=await self.classes(),
            agents=await self.agents(),
            endpoints=await self.endpoints(),
            measures=await self.measures(),
            purses=await self.purses(now_ms // DAY_MS),
            healths=await self.healths(),
            next_ready_ms=(await self._rows("next_ready"))[0][0],
            next_deadline_ms=(await self._rows("next_deadline"))[0][0],
        )
