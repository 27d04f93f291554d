"""The store as services see it: one way to write, some ways to read.

Writing is :meth:`Store.post`: changes are folded into one transaction with everything else that waits, and the callback
runs after the commit. A failed commit never calls back with success: it ends the hub.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from msgspec import Struct

from hub.core.facets import Alike
from hub.core.measures import Measure
from hub.core.window import Place
from hub.store.audit_reads import AuditReads
from hub.store.budget_changes import BudgetRow, Purses, Sums
from hub.store.changes import AnyChange, Outcome
from hub.store.endpoint_changes import EndpointRow, HealthRow
from hub.store.hold_changes import HoldRow
from hub.store.hub_changes import Standing, WaitingTask
from hub.store.join_changes import JoinReads
from hub.store.level_changes import LevelRow
from hub.store.project_changes import ProjectRow
from hub.store.pull_changes import PullRow
from hub.store.rate_changes import RateRow
from hub.store.review_changes import ReviewRow
from hub.store.secret_changes import SecretReads
from hub.store.token_changes import TokenRow
from protocol.events import Event
from protocol.model import AttemptState, FailureClass, TaskState

Done = Callable[[Outcome], None]
ALONE_MS: Final = 10 * 366 * 86_400_000
"""Lease of a hub that cannot have others beside it."""


class TaskRow(Struct, frozen=True, kw_only=True):
    """A task as stored, without its spec. Times are Unix milliseconds."""

    id: str
    state: TaskState
    class_text: str
    priority: int
    epoch: int
    agent: str | None
    title: str
    labels: dict[str, str]
    retries: int
    max_retries: int
    infra_failures: int
    ready_ms: int | None
    submitted_ms: int
    queued_ms: int | None
    started_ms: int | None
    ended_ms: int | None
    execution_ok: bool | None
    verified: bool | None
    reason: str
    hub: int | None = None
    """The hub that answers for the attempt in hand."""
    tier: str = ""
    """What it counts as; empty: it is from before that was kept here."""
    model: str = ""
    """The model that did, does or is to do the work; empty: none, or whichever there is."""

    @property
    def place(self) -> Place:
        """Where it stands in the queue of its class."""
        return (self.priority, self.id)


class AttemptRow(Struct, frozen=True, kw_only=True):
    """An attempt as stored; ``placement`` and ``result`` are MessagePack."""

    task: str
    epoch: int
    agent: str
    host: str
    boot: int
    state: AttemptState
    accepted: bool
    failure: FailureClass | None
    reason: str
    assigned_ms: int
    started_ms: int | None
    ended_ms: int | None
    placement: bytes
    result: bytes | None
    suspect: bool = False
    """Nobody knows yet that its agent has outlived it."""


class LogRow(Struct, frozen=True, kw_only=True):
    """A stored piece of output."""

    seq: int
    at_ms: int
    epoch: int
    stream: str
    text: str


class OutputRow(LogRow, frozen=True, kw_only=True):
    """A stored piece of output, and whose it is."""

    task: str
    title: str
    labels: dict[str, str]
    agent: str


class ArtifactRow(Struct, frozen=True, kw_only=True):
    """A file that an attempt has left, as stored."""

    id: str
    task: str
    epoch: int
    path: str
    size_bytes: int
    sha256: str
    at_ms: int
    accepted: bool


class AgentRow(Struct, frozen=True, kw_only=True):
    """An agent as it last introduced itself."""

    name: str
    host: str
    boot: int
    slots: int
    version: str
    capabilities: tuple[str, ...]
    draining: bool
    last_seen_ms: int
    leaving: bool = False
    instance: str = ""
    hub: int | None = None
    """The hub that has welcomed it last; nobody, if that hub has seen it go."""
    seat: int = 0
    quarantine: str = ""
    """Why it gets no work until a person decides; empty: it gets some."""


class Cursor(Struct, frozen=True, kw_only=True):
    """The log of events now: all up to ``floor`` are gone; ``is_known``: the one asked about is there, or the floor."""

    floor: int
    newest: int
    is_known: bool


class TaskQuery(Struct, frozen=True, kw_only=True):
    """Which tasks, newest first; ``before`` is the id where the last page ended.

    ``words`` stand in the title, in letters of any size, or are at least 8 characters of the id. What is empty is not
    filtered.
    """

    states: frozenset[TaskState] = frozenset()
    agent: str = ""
    label: tuple[str, str] | None = None
    before: str | None = None
    limit: int = 50
    words: str = ""
    priorities: frozenset[int] = frozenset()
    tiers: frozenset[str] = frozenset()
    model: str = ""


class Start(Struct, frozen=True, kw_only=True):
    """What a hub needs to know when it starts; ``standing`` among others, with all that is in hand."""

    hub_boot: int
    last_task: str
    last_event: int
    standing: Standing
    classes: tuple[str, ...]
    agents: tuple[AgentRow, ...]
    endpoints: tuple[EndpointRow, ...]
    healths: tuple[HealthRow, ...]
    next_ready_ms: int | None
    next_deadline_ms: int | None
    measures: tuple[Measure, ...] = ()
    """What was learnt."""
    purses: Purses = Purses()


def nothing_known(last_event: int) -> Start:
    """The start of a hub that only shows what a damaged store still holds."""
    return Start(
        hub_boot=0,
        last_task="",
        last_event=last_event,
        standing=Standing(is_known=False),
        classes=(),
        agents=(),
        endpoints=(),
        healths=(),
        next_ready_ms=None,
        next_deadline_ms=None,
    )


class Store(AuditReads, JoinReads, SecretReads, Sums, Protocol):
    """Durable memory; see the module."""

    kind: str
    """Which database it is, for people: ``sqlite``, ``postgresql``."""
    newest_event: int
    on_seal: Callable[[], None]
    """Called just before a batch is sealed: the last moment to post changes that join it."""
    on_commit: Callable[[Sequence[Event]], None]
    """Called after a commit with its events, numbered, in order."""
    on_failure: Callable[[BaseException], None]
    """Called once when the store can no longer promise durability. Nothing is written after that."""

    damage: str
    """What is wrong with the store's bytes; empty if nothing was found."""

    @property
    def trouble(self) -> str:
        """Why nothing can be read or written for the moment; empty if all is well."""
        ...

    @property
    def is_behind(self) -> bool:
        """So much waits for the disk that output should be left out."""
        ...

    def post(self, change: AnyChange, done: Done | None = None) -> None:
        """Write ``change`` with the next batch; ``done`` gets its outcome after the commit."""
        ...

    def wake(self) -> None:
        """Seal a batch soon even if nothing is posted (so that ``on_seal`` runs)."""
        ...

    async def commit(self, change: AnyChange) -> Any:  # noqa: ANN401 - each verb documents its outcome
        """As :meth:`post`, waiting for the outcome.

        Raises:
            AgentComError: the outcome was one.
            StoreFailed: the commit failed.
        """
        ...

    async def task(self, task: str) -> TaskRow | None:
        """A task, or ``None``.

        Raises:
            Unavailable: this and every other reading method, while the database is away.
        """
        ...

    async def spec(self, task: str) -> tuple[bytes, bytes] | None:
        """Spec and tier decision, MessagePack."""
        ...

    async def attempts(self, task: str) -> list[AttemptRow]:
        """All attempts of a task, in order."""
        ...

    async def frozen_checks(self, task: str) -> str:
        """Digest of a task's checks as they were when it was submitted; empty without any."""
        ...

    async def reviews(self, task: str) -> list[ReviewRow]:
        """What people have decided about attempts of a task, in order."""
        ...

    async def tasks(self, query: TaskQuery) -> list[TaskRow]:
        """A page of tasks, newest first."""
        ...

    async def facets(self, query: TaskQuery) -> list[Alike]:
        """How many tasks with its label and words are alike in state, priority, tier, agent and model."""
        ...

    async def label_sets(self, query: TaskQuery) -> list[tuple[dict[str, str], int]]:
        """The 1,000 most frequent sets of labels of tasks that fit all but its label, with how many have each."""
        ...

    async def summaries(self, ids: Sequence[str]) -> list[TaskRow]:
        """These tasks, in this order; those that are not there are left out."""
        ...

    async def blockers(self, task: str) -> list[tuple[str, TaskState]]:
        """Tasks it depends on that have not completed."""
        ...

    async def soon(self, task: str, limit: int) -> list[tuple[str, str]]:
        """Blocked tasks that wait for this one alone, with their classes; at most ``limit``."""
        ...

    async def ahead(self, row: TaskRow) -> dict[str, int]:
        """Ready tasks that go first by priority and age, by class: 10,000 of its own, 1,000 of each of 100 more."""
        ...

    async def between(self, class_text: str, first: tuple[int, str], last: tuple[int, str]) -> int:
        """Ready tasks of a class that go behind one place (priority and id) and before another; at most 10,000."""
        ...

    async def events(self, after: int, limit: int, task: str | None = None) -> list[Event]:
        """Events behind ``after``, oldest first."""
        ...

    async def cursor(self, seq: int) -> Cursor:
        """Where the log of events begins and ends now, and whether ``seq`` is one of them."""
        ...

    async def walk_tasks(self, after: str, limit: int) -> list[tuple[str, TaskState, int | None]]:
        """Tasks behind ``after`` by id: id, state, when it ended (Unix ms)."""
        ...

    async def walk_keys(self, after: str, limit: int) -> list[tuple[str, int]]:
        """Idempotency keys behind ``after``: key, when it was used (Unix ms)."""
        ...

    async def walk_logs(self, after: int, limit: int) -> list[tuple[int, int]]:
        """Output of all tasks behind ``after``: number, when it came (Unix ms)."""
        ...

    async def oldest_events(self, after: int, limit: int) -> list[tuple[int, int]]:
        """Events behind ``after``: number, when it happened (Unix ms)."""
        ...

    async def logs(self, task: str, after: int, limit: int) -> list[LogRow]:
        """Output of a task behind ``after``, oldest first."""
        ...

    async def logs_before(self, task: str, before: int, limit: int) -> list[LogRow]:
        """Output of a task before ``before``, newest first."""
        ...

    async def output(self, after: int, limit: int) -> list[OutputRow]:
        """Output of all tasks behind ``after``, oldest first."""
        ...

    async def newest_output(self) -> int:
        """Number of the newest piece of output of any task; 0: there is none."""
        ...

    async def artifacts(self, task: str) -> list[ArtifactRow]:
        """Files that the attempts of a task have left, attempt by attempt, by path."""
        ...

    async def artifact(self, artifact: str) -> ArtifactRow | None:
        """One of them, or ``None``."""
        ...

    async def over_progress(self, after: str, limit: int) -> list[str]:
        """Tasks behind ``after`` that have ended for good, and of whose work in progress something is kept."""
        ...

    async def hold(self, task: str) -> HoldRow | None:
        """Why a task is held up, or was the last time; ``None``: it never was."""
        ...

    async def open_holds(self, tasks: Sequence[str]) -> tuple[HoldRow, ...]:
        """Of these tasks the holds of those that are held up."""
        ...

    async def is_kept(self, sha256: str) -> bool:
        """Whether any of them holds the bytes with this digest."""
        ...

    async def counts(self) -> dict[TaskState, int]:
        """Tasks by state."""
        ...

    async def rates(self) -> list[RateRow]:
        """Limits on how often may be asked that are not the usual ones."""

    async def log_levels(self) -> list[LevelRow]:
        """Components that somebody has given a level."""

    async def tokens(self) -> list[TokenRow]:
        """All tokens, newest first."""
        ...

    async def classes(self) -> tuple[str, ...]:
        """Classes that have ready tasks."""
        ...

    async def agents(self) -> tuple[AgentRow, ...]:
        """All agents as they last introduced themselves, at any hub."""
        ...

    async def endpoints(self) -> tuple[EndpointRow, ...]:
        """Endpoints that people have added."""

    async def healths(self) -> tuple[HealthRow, ...]:
        """How endpoints do, those that people have added and those that sidecars have told of."""
        ...

    async def projects(self) -> tuple[ProjectRow, ...]:
        """All projects, by name."""
        ...

    async def pull(self, task: str) -> PullRow | None:
        """The pull request of a task, or ``None``."""
        ...

    async def due_pulls(self, now_ms: int, limit: int) -> list[PullRow]:
        """Those that somebody has to look at, the longest due first: of tasks that have ended, however."""
        ...

    async def pulls(self, before: str, state: str, project: str, limit: int) -> list[PullRow]:
        """Those of tasks before this one, the newest first; of one state or project, empty: of any."""
        ...

    async def budgets(self) -> tuple[BudgetRow, ...]:
        """All budgets."""
        ...

    async def purses(self, day: int) -> Purses:
        """All budgets and how they stand on a day (counted since 1970)."""
        ...

    async def measures(self) -> tuple[Measure, ...]:
        """What was learnt, of each kind the oldest first."""
        ...

    async def waiting_tasks(self, tasks: Sequence[str]) -> list[WaitingTask]:
        """Of these tasks those that are queued or blocked."""
        ...

    async def last_event(self) -> int:
        """Number of the newest event that any hub has committed."""
        ...

    def saw(self, newest: int) -> None:
        """Another hub has committed the event ``newest``: ``newest_event`` is never behind what was seen."""
        ...

    async def listen(self, on_news: Callable[[int], None]) -> None:
        """Call ``on_news`` with the number of the newest event when another hub commits, until cancelled.

        Returns at once if the database tells nothing; 0: something may have been missed.
        """
        ...

    async def start(self, now_ms: int = 0, *, node: str = "", version: str = "", lease_ms: int = ALONE_MS) -> Start:
        """What a hub needs to know when it starts; counts its boot and enters it among the hubs (EnterHub)."""
        ...

    async def close(self) -> None:
        """Write what waits and close."""
        ...
