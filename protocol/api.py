"""Shapes of the HTTP API under ``/api/v1``: what comes back, and the bodies that are not task specs.

The OpenAPI document is generated from these types. Times are UTC in ISO 8601 (RFC 3339), sizes in bytes.
"""

from datetime import datetime
from typing import Any, Final

from msgspec import Struct

from protocol.backups import BackupList as BackupList  # noqa: PLC0414 - it was here first, and is passed on
from protocol.backups import BackupView as BackupView  # noqa: PLC0414 - it was here first, and is passed on
from protocol.bounds import Few, Measure, Sentence, Word
from protocol.errors import Problem
from protocol.loads import Answering
from protocol.model import (
    AgentState,
    AttemptState,
    FailureClass,
    Iteration,
    Role,
    Routing,
    TaskResult,
    TaskSpec,
    TaskState,
    Usage,
)
from protocol.progress import HoldView, ProgressView
from protocol.pulls import PullView
from protocol.reviews import ProofView, ReviewView

PREFIX: Final = "/api/v1"
PROBLEM_TYPE: Final = "application/problem+json"


class ProblemDocument(Struct, kw_only=True, omit_defaults=True):
    """An error, as in RFC 9457, with a stable ``code`` and every problem found."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    errors: tuple[Problem, ...] = ()
    retryable: bool = False
    request_id: str = ""
    """Of the request that failed, as in its answer's ``X-Request-Id``; the hub's log tells more under it."""


class AttemptView(Struct, kw_only=True):
    """One assignment of the task."""

    epoch: int
    agent: str
    host: str
    state: AttemptState
    accepted: bool
    """This attempt's result is the task's result."""
    failure: FailureClass | None = None
    reason: str = ""
    assigned_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    routing: Routing | None = None
    result: TaskResult | None = None
    answering: Answering | None = None
    """How the answer of a model comes along that it waits for, as its last heartbeat told."""
    suspect: bool = False
    """Its agent died during it, or has not been heard of since; so many of these and the task is a dead letter."""


class TaskSummary(Struct, kw_only=True):
    """A task in a list."""

    id: str
    title: str
    state: TaskState
    priority: str
    agent: str | None
    epoch: int
    execution_ok: bool | None
    verified: bool | None
    reason: str
    labels: dict[str, str]
    submitted_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    tier: str = ""
    """What it counts as; empty: it is from before that was told."""
    model: str = ""
    """The model that did, does or is to do the work; empty: none, or whichever there is."""


class TaskView(TaskSummary, kw_only=True):
    """A task, whole."""

    spec: TaskSpec
    routing: Routing
    attempts: tuple[AttemptView, ...]
    iterations: tuple[Iteration, ...]
    result: TaskResult | None
    usage: Usage
    """Summed over all attempts."""
    retries_left: int
    ready_at: datetime | None
    """When a delayed or retried task may start; ``None``: now."""
    hold: HoldView | None = None
    """Who holds it up, if anybody does."""
    progress: ProgressView | None = None
    """How far the work had come when it was last kept, while the task has not ended."""
    checks: str = ""
    """SHA-256 of its checks as they were frozen when it was submitted; empty without any."""
    reviews: tuple[ReviewView, ...] = ()
    """What people have decided about its attempts."""
    pull: PullView | None = None
    """The pull request that offers its work, if its project has any."""
    proof: ProofView | None = None
    """What another machine says about its checks; ``None``: none was asked."""


class TaskList(Struct, kw_only=True):
    """A page of tasks, newest first."""

    tasks: tuple[TaskSummary, ...]
    next_cursor: str | None


class TaskFacets(Struct, kw_only=True):
    """How many tasks each choice of the list's filters would show.

    Kinds are ``state``, ``priority``, ``tier``, ``agent``, ``model`` and ``label`` (as ``key:value``).

    A choice counts what fits all other filters; ``total`` fits all. Of each kind the 200 most frequent are told.
    """

    facets: dict[str, dict[str, int]]
    total: int


class Submitted(Struct, kw_only=True):
    """Ids of a batch, in the order of the request; ``replayed``: the idempotency key had made them before."""

    tasks: tuple[TaskSummary, ...]
    replayed: bool = False


class AgentView(Struct, kw_only=True):
    """An agent."""

    name: str
    state: AgentState
    host: str
    slots: int
    busy: int
    capabilities: tuple[str, ...]
    version: str
    boot_epoch: int
    last_seen_at: datetime | None
    tasks: tuple[str, ...]
    draining: bool
    alarm: str = ""
    """Another sidecar has come under its name; what became of that one."""
    alarm_at: datetime | None = None
    hub: str = ""
    """Address of the hub that it is at; empty: it is at none."""
    violations: int = 0
    """How often it has not kept to the protocol lately."""
    violation: str = ""
    """What the last one was."""
    shut_out_until: datetime | None = None
    """Because of them it was not let in again before then."""
    quarantine: str = ""
    """Why it gets no work until a person releases it: its key is in use twice."""
    upgrade: str = ""
    """The step at which its machine is with another release; empty: nothing is under way that this hub knows of."""
    upgrade_failed: str = ""
    """Why the last one came to nothing."""


class AgentList(Struct, kw_only=True):
    """All agents, by name."""

    agents: tuple[AgentView, ...]
    next_cursor: str | None = None


class EventView(Struct, kw_only=True):
    """One fact; ``seq`` orders all of them and is the SSE id."""

    seq: int
    at: datetime
    kind: str
    task: str | None
    agent: str | None
    epoch: int | None
    facts: dict[str, Any]


class EventList(Struct, kw_only=True):
    """Events, oldest first.

    ``reset``: what lay between the position asked for and the first event here is gone, or the position is none of this
    log (the hub was restored): read the state again, then go on behind ``next_cursor`` or ``newest``. Events up to
    ``floor`` are gone (0: nobody looked, as nothing is missing here); ``newest`` is the last one that there is.
    """

    events: tuple[EventView, ...]
    next_cursor: str | None
    reset: bool = False
    floor: int = 0
    newest: int = 0


class ArtifactView(Struct, kw_only=True):
    """A file that an attempt has left; ``accepted``: its attempt's result is the task's result."""

    id: str
    task: str
    epoch: int
    path: str
    """Where it lay in the workspace."""
    size_bytes: int
    sha256: str
    at: datetime
    accepted: bool = False


class ArtifactList(Struct, kw_only=True):
    """All files of a task, attempt by attempt, by path."""

    artifacts: tuple[ArtifactView, ...]
    next_cursor: str | None = None


class LogPiece(Struct, kw_only=True):
    """A piece of an attempt's output; ``seq`` orders the pieces of a task and is the cursor."""

    seq: int
    at: datetime
    epoch: int
    stream: str
    text: str


class LogList(Struct, kw_only=True):
    """Output of a task, oldest first."""

    logs: tuple[LogPiece, ...]
    next_cursor: str | None


class OutputPiece(LogPiece, kw_only=True):
    """A piece of output among that of all tasks; ``seq`` orders all of it."""

    task: str
    title: str
    agent: str
    """Who wrote it."""


class OutputList(Struct, kw_only=True):
    """Output of all tasks, oldest first; ``next_cursor`` is behind what was looked at, whether any of it was wanted."""

    logs: tuple[OutputPiece, ...]
    next_cursor: str


class HostExplanation(Struct, kw_only=True):
    """Why one agent does not take the task; no reasons: it could."""

    agent: str
    host: str
    state: AgentState
    reasons: tuple[str, ...]
    cost: dict[str, float] = {}
    """What work for a model is expected to cost here now, term by term, in seconds."""


class Explanation(Struct, kw_only=True):
    """Why a task stands where it stands, and what would move it."""

    task: str
    state: TaskState
    summary: str
    unblock: tuple[str, ...]
    position: int | None
    """Ready tasks that go first by priority and age; ``None`` unless it is ready itself."""
    agents: tuple[HostExplanation, ...]
    routing: Routing
    starts_in_s: float | None = None
    """When it will probably begin, in seconds; ``None``: nobody can tell."""


class ComponentHealth(Struct, kw_only=True):
    """``ok``, ``degraded`` or ``down``, and why."""

    state: str
    detail: str


class Health(Struct, kw_only=True):
    """The hub's own view of itself."""

    state: str
    version: str
    started_at: datetime
    components: dict[str, ComponentHealth]
    queue: dict[str, int]
    """Tasks that are not final, by state."""


class TokenBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /tokens``."""

    role: Role
    label: Sentence = ""
    ttl_s: Measure | None = None
    projects: Few[Word] = ()
    """It is good for these projects and their tasks only, and sees no others; for operator, submitter and viewer."""
    agents: Few[Word] = ()
    """Sidecars that come in with it may have one of these names only; for the role agent."""


class TokenCreated(Struct, kw_only=True):
    """The only time the token itself is shown."""

    id: str
    token: str
    role: Role
    label: str
    expires_at: datetime | None
    projects: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()


class TokenView(Struct, kw_only=True):
    """A token, without its secret."""

    id: str
    role: Role
    label: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    projects: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()


class TokenList(Struct, kw_only=True):
    """All tokens, newest first."""

    tokens: tuple[TokenView, ...]
    next_cursor: str | None = None


class CancelBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /tasks/{id}/cancel``; the body may be left out."""

    reason: Sentence = ""
