"""The verbs of the store, as data.

A service states what should become of the rows; the writer folds everything that waits into one transaction. Every verb
is conditional (on state and epoch), writes its event rows in the same transaction, and answers with an outcome: what it
found, or an :class:`AgentComError` for a caller who is too late. None ever leaves half of itself behind.
"""

from typing import Any, Final

from msgspec import Struct

from hub.core.budgets import Charge
from hub.core.ladder import Ladder, Step
from hub.core.proving import Rooms
from hub.core.window import Place
from hub.store.alert_changes import AlertChange
from hub.store.audit_changes import Attest, ForgetAudit
from hub.store.budget_changes import PutBudget, RemoveBudget, Settle
from hub.store.endpoint_changes import ForgetHealth, PutEndpoint, PutHealth, RemoveEndpoint
from hub.store.hold_changes import EndHold, PutHold
from hub.store.hub_changes import (
    EnterHub,
    KeepMeasures,
    KeptChange,
    LeaveAgent,
    LeaveHub,
    MarkAgent,
    PutAgent,
    ReadHeld,
    RenewHub,
)
from hub.store.join_changes import AddJoinToken, AskToJoin, BindMachine, DecideJoin, LetGo, LetIn, RevokeJoinToken
from hub.store.keeping_changes import (
    ForgetEvents,
    ForgetKeys,
    ForgetLogs,
    ForgetTasks,
    KeepSample,
    RemoveAgent,
    Restore,
)
from hub.store.level_changes import PutLevels
from hub.store.many_changes import End, Many, Submissions
from hub.store.project_changes import PutProject, RemoveProject
from hub.store.pull_changes import DropPull, PutPull
from hub.store.rate_changes import DropRates, PutRate
from hub.store.review_changes import Review
from hub.store.secret_changes import SecretChange
from hub.store.token_changes import AddToken, RevokeToken, TouchTokens
from protocol.errors import AgentComError
from protocol.events import Event
from protocol.messages import Carry, Proof
from protocol.model import AttemptState, FailureClass, TaskState, Usage


class Change(Struct, frozen=True, kw_only=True):
    """Base of all verbs. ``at_ms`` is the hub's wall clock, Unix time in milliseconds."""

    at_ms: int


class NewTask(Struct, frozen=True, kw_only=True):
    """A task to add; ``spec`` and ``tier`` are MessagePack."""

    id: str
    state: TaskState
    class_text: str
    priority: int
    title: str
    labels: dict[str, str]
    spec: bytes
    tier: bytes
    max_retries: int
    parent: str | None = None
    ready_ms: int | None = None
    expires_ms: int | None = None
    complete_by_ms: int | None = None
    depends_on: tuple[str, ...] = ()
    checks: str = ""
    """Digest of its checks (:func:`protocol.checks.digest_of`)."""
    level: str = ""
    """The effective tier, for lists."""
    model: str = ""
    """The model that is asked for."""


class AddTasks(Change, frozen=True, kw_only=True):
    """Store all of these or none. Outcome: :class:`Added`, or IdempotencyConflict, or BadInput (unknown dependency)."""

    tasks: tuple[NewTask, ...]
    by: str
    key: str | None = None
    digest: bytes = b""

    @property
    def kept_key(self) -> str:
        """The key as it is kept: every token has keys of its own. None of them holds a line feed."""
        return f"{self.by}\n{self.key}"


class Added(Struct, frozen=True, kw_only=True):
    """Ids in the order of the request. ``replayed``: the idempotency key had made them before, nothing was stored.

    ``states`` are the states the tasks began in (a dependency may have completed by now).
    """

    ids: tuple[str, ...]
    states: tuple[TaskState, ...]
    replayed: bool = False


class Claim(Change, frozen=True, kw_only=True):
    """Give a queued task to an agent of ``hub``.

    Outcome: :class:`Claimed`, :class:`Unwilling`, :class:`Buried`, :class:`hub.store.budget_changes.Unfunded`,
    :class:`hub.store.budget_changes.Spent`, :class:`Ready` (it waits in another class by now), or StaleTask.
    """

    task: str
    agent: str
    host: str
    boot: int
    placement: bytes
    class_text: str = ""
    """The class in which it was found, and for which it was placed; empty: nobody has looked."""
    hub: int = 0
    carries: bool = False
    """The task has climbed: what its last attempt has left is wanted."""
    charge: Charge | None = None
    """What the attempt may use, where budgets count; ``own_micro``: all the money that the task itself may use."""
    own_micro: int | None = None
    model: str = ""
    """The model that will do it; empty: none."""


class Claimed(Struct, frozen=True, kw_only=True):
    """The new attempt, and what its agent and the hub need to know of the task."""

    epoch: int
    spec: bytes
    tier: bytes
    retries: int
    infra_failures: int
    max_retries: int
    carry: Carry | None = None
    proof: Proof | None = None
    """The work that is to be proven."""
    spent_usd: float = 0.0
    """What earlier attempts have used of the task's own money."""


class Unwilling(Struct, frozen=True, kw_only=True):
    """The agent takes no new work, by a person's will or its own; the task is still queued, as ``ready``.

    ``elsewhere``: it has been welcomed by another hub, or again with a newer boot, since the claim was planned.
    """

    ready: "Ready"
    draining: bool
    leaving: bool
    elsewhere: bool = False


class Death(Struct, frozen=True, kw_only=True):
    """An attempt of a task with which its agent died, or was never heard of again."""

    epoch: int
    agent: str
    host: str
    boot: int


class Buried(Struct, frozen=True, kw_only=True):
    """The task has taken too many agents along and is dead instead of given away."""

    reason: str
    deaths: tuple[Death, ...]


class Exonerate(Change, frozen=True, kw_only=True):
    """This boot of the agent has outlived the attempt: it was not the attempt that killed it. Outcome: ``None``."""

    task: str
    epoch: int
    agent: str
    boot: int


class Accept(Change, frozen=True, kw_only=True):
    """The agent has written the attempt down. Outcome: ``None``, or StaleAttempt.

    From here on, a StaleAttempt is a LostAttempt if the attempt counts and another ``hub`` answers for it.
    """

    task: str
    epoch: int
    hub: int = 0


class Advance(Change, frozen=True, kw_only=True):
    """The attempt moved to another phase or iteration. Outcome: ``None``, or StaleAttempt."""

    task: str
    epoch: int
    state: AttemptState
    iteration: int
    detail: str = ""
    hub: int = 0


class Finish(Change, frozen=True, kw_only=True):
    """End an attempt and say what becomes of its task. Outcome: :class:`Finished`, or StaleAttempt.

    ``orderly``: its agent lives, whatever became of the work; otherwise the attempt stays under suspicion.
    ``avoid``: where it should not be tried again, if it is queued again and there is another place (``Requirements``).
    ``ladder``: the task may go on with another model instead; ``step`` is then for the verb to find (``climbing.py``).
    ``accepts``: its agent takes it in the same breath (:class:`Accept`). ``is_charged``: it may have a reservation.
    """

    task: str
    epoch: int
    attempt: AttemptState
    next: TaskState
    retries: int
    infra_failures: int
    failure: FailureClass | None = None
    reason: str = ""
    result: bytes | None = None
    execution_ok: bool | None = None
    verified: bool | None = None
    ready_ms: int | None = None
    facts: dict[str, Any] = {}
    orderly: bool = True
    avoid: str = ""
    hub: int = 0
    ladder: Ladder | None = None
    step: Step | None = None
    checks: str = ""
    """Digest of the checks that the result is about, if its agent says so: others than the task's do not count."""
    names_checks: bool = False
    """Its agent knows how to say so: a result that is verified by checks that it does not name does not count."""
    is_charged: bool = True
    is_refused: bool = False  # its result counts for nothing
    accepts: bool = False
    offers: bool = False  # its work was pushed: if it passes, it may become a pull request
    rooms: Rooms | None = None
    """Who could prove its work elsewhere; for work that has passed its checks (``proving.py``)."""
    queue: str = ""  # the class in which the task queues from now on, if that is another one
    is_proof: bool = False  # what it tells is about the work of another attempt
    used: Usage | None = None
    """What it has used of models, if that is known; ``None``: nothing."""


class Ready(Struct, frozen=True, kw_only=True):
    """A task that may run from now on."""

    class_text: str
    place: Place


class Finished(Struct, frozen=True, kw_only=True):
    """What the end of a task has set in motion: ``again`` the task itself, ``ready`` those that depended on it.

    If it has climbed (``step`` says where to) or its result is ``refused``, ``next`` is its state, whatever was asked.
    """

    again: Ready | None = None
    ready: tuple[Ready, ...] = ()
    next: TaskState | None = None
    step: Step | None = None
    refused: bool = False


NOTHING_ELSE: Final = Finished()
"""What most ends set in motion."""


class SkipProof(Change, frozen=True, kw_only=True):
    """No other machine can prove the work of this task: what its own machine has found counts.

    Outcome: :class:`Finished`, or StaleTask (it does not wait for a proof, or insists on one).
    """

    task: str
    reason: str


class Cancel(Change, frozen=True, kw_only=True):
    """A person no longer wants the task. Outcome: :class:`Ended`, or NotFound, or Conflict."""

    task: str
    reason: str
    by: str


class Ended(Struct, frozen=True, kw_only=True):
    """A live task that was ended from outside: where it stood before."""

    task: str
    was: TaskState
    epoch: int
    agent: str | None
    class_text: str


class Retry(Change, frozen=True, kw_only=True):
    """A person wants a dead letter to run again. Outcome: :class:`Ready`, or NotFound, or Conflict."""

    task: str
    by: str


class Prioritise(Change, frozen=True, kw_only=True):
    """A person wants a live task to go earlier, or later.

    Outcome: :class:`Ready` if it may run now, else ``None``; or NotFound, or IllegalTransition: it has ended.
    """

    task: str
    priority: int
    by: str


class Promote(Change, frozen=True, kw_only=True):
    """Make delayed tasks ready whose time has come. Outcome: :class:`Promoted`, or NotLeader.

    ``leader``: the epoch under which the hub leads; left out, nobody is asked who leads.
    """

    limit: int = 1_000
    leader: int | None = None


class Promoted(Struct, frozen=True, kw_only=True):
    """Tasks that may run now, and when the next delayed one may (Unix ms; ``None``: there is none)."""

    ready: tuple[Ready, ...]
    next_ms: int | None


class Expire(Change, frozen=True, kw_only=True):
    """End tasks whose ``ttl_s`` or ``complete_by`` has passed. Outcome: :class:`Expired`, or NotLeader (as above)."""

    limit: int = 1_000
    leader: int | None = None


class Expired(Struct, frozen=True, kw_only=True):
    """Tasks that ended, and the next deadline (Unix ms; ``None``: there is none)."""

    ended: tuple[Ended, ...]
    next_ms: int | None


class ReadClass(Change, frozen=True, kw_only=True):
    """Best ready tasks of a class behind ``after``. A verb, so that it sees every change before it. Outcome: places."""

    class_text: str
    limit: int
    after: Place | None = None


class AppendLog(Change, frozen=True, kw_only=True):
    """Keep a piece of output. Outcome: ``None``, or StaleAttempt (never stored for an attempt that does not exist)."""

    task: str
    epoch: int
    offset: int
    stream: str
    text: str
    hub: int = 0


class Record(Struct, frozen=True):
    """Write down a fact that changes no row. Outcome: ``None``."""

    event: Event


AnyChange = (
    AddTasks
    | Claim
    | Exonerate
    | Accept
    | Advance
    | Finish
    | End
    | Many
    | Submissions
    | SkipProof
    | Cancel
    | Retry
    | Prioritise
    | Review
    | Promote
    | Expire
    | ReadClass
    | AppendLog
    | EnterHub
    | RenewHub
    | LeaveHub
    | ReadHeld
    | PutAgent
    | LeaveAgent
    | MarkAgent
    | AddToken
    | RevokeToken
    | TouchTokens
    | AddJoinToken
    | RevokeJoinToken
    | AskToJoin
    | DecideJoin
    | LetIn
    | LetGo
    | BindMachine
    | PutRate
    | DropRates
    | PutLevels
    | KeptChange
    | PutEndpoint
    | RemoveEndpoint
    | PutHealth
    | ForgetHealth
    | PutProject
    | RemoveProject
    | PutPull
    | DropPull
    | PutHold
    | EndHold
    | PutBudget
    | RemoveBudget
    | Settle
    | Record
    | Attest
    | ForgetAudit
    | ForgetTasks
    | ForgetLogs
    | ForgetEvents
    | ForgetKeys
    | RemoveAgent
    | KeepSample
    | AlertChange
    | SecretChange
    | KeepMeasures
    | Restore
)
Outcome = Any | AgentComError
