"""The nouns of the contract: task specs, checks, results, routing. Machines and endpoints have files of their own.

Plain immutable data, the same on the wire (MessagePack), in HTTP (JSON) and in the store. Sizes and cross-field rules
of what people send are checked by :mod:`protocol.schema`, which reports every problem at once; states and their allowed
changes live with their owners (``hub/core/task.py``, ``hub/core/agent.py``, ``sidecar/core/attempt.py``).
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

from msgspec import Struct, field

from protocol.bounds import Amount, Costs, Count, Few, Many, Measure, Script, Sentence, Text, Whole, Word, Words
from protocol.checks import Check
from protocol.choice import Choice, CleanRoom, Escalation, Rung
from protocol.endpoints import EndpointKind as EndpointKind  # noqa: PLC0414 - it was here first, and is passed on
from protocol.endpoints import EndpointReport as EndpointReport  # noqa: PLC0414 - it was here first, and is passed on
from protocol.endpoints import ModelReport as ModelReport  # noqa: PLC0414 - it was here first, and is passed on
from protocol.endpoints import Residency as Residency  # noqa: PLC0414 - it was here first, and is passed on
from protocol.keystore import SecretUse
from protocol.loads import LoadPlan
from protocol.prices import Bill, Price


class Priority(StrEnum):
    """Lanes of the queue; within a lane the oldest task goes first."""

    URGENT = "urgent"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


PRIORITY_ORDER: Final[dict[Priority, int]] = {p: n for n, p in enumerate(Priority)}


class Tier(StrEnum):
    """How hard a task is; decides who should do it."""

    TRIVIAL = "trivial"
    STANDARD = "standard"
    COMPLEX = "complex"


class Strategy(StrEnum):
    """What the routing picked: a shell command that costs no token, a local model, or a cloud model."""

    TRIVIAL = "trivial"
    LOCAL_LLM = "local_llm"
    CLOUD_LLM = "cloud_llm"


class TaskState(StrEnum):
    """Where a task stands; the allowed changes are ``hub.core.task.TASK_EDGES``."""

    BLOCKED = "blocked"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEAD = "dead"


FINAL_STATES: Final = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.DEAD})


class AttemptState(StrEnum):
    """Where one assignment of a task stands; it only moves forward."""

    ASSIGNED = "assigned"
    ACCEPTED = "accepted"
    RUNNING = "running"
    VERIFYING = "verifying"
    PASSED = "passed"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"


class AgentState(StrEnum):
    """Where an agent stands; the allowed changes are ``hub.core.agent.AGENT_EDGES``."""

    OFFLINE = "offline"
    IDLE = "idle"
    ASSIGNED = "assigned"
    WORKING = "working"
    BLOCKED = "blocked"
    DRAINING = "draining"


class Role(StrEnum):
    """What a token may do; the permissions are ``hub.core.access.PERMISSIONS``."""

    ADMIN = "admin"
    OPERATOR = "operator"
    SUBMITTER = "submitter"
    VIEWER = "viewer"
    AGENT = "agent"


class FailureClass(StrEnum):
    """Why an attempt did not pass; each class has its own ceiling in ``hub.core.policy``."""

    INFRA = "infra"  # the machinery: a dead sidecar, a broken link; costs no retry
    AGENT = "agent"  # the work itself: a command that exits non-zero, a model that gave up
    VERIFY = "verify"  # the checks still fail and the fix budget is spent
    QUOTA = "quota"  # an endpoint that is down, overloaded or out of quota
    INPUT = "input"  # the task cannot work anywhere: a repository that does not exist; never retried
    BUDGET = "budget"  # tokens, money or seconds are spent; never retried
    DEADLINE = "deadline"  # `complete_by` or `ttl_s` has passed; never retried
    DEPENDENCY = "dependency"  # a task it depends on did not complete; never retried
    CANCELLED = "cancelled"


# --- what people submit -----------------------------------------------------------------------------------------------


class Context(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where the work happens and what to look at."""

    repo: Word = ""
    branch: Word = ""
    files: Many[Word] = ()
    notes: Script = ""


class Budget(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What one attempt may use; ``None`` is no limit of its own."""

    tokens: Whole | None = 200_000
    usd: Measure | None = None
    seconds: Measure = 900.0
    fix_attempts: Whole = 2


class TaskSpec(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a submitter wants done; never changes after submission. One of title, prompt and command is required."""

    title: Script = ""
    prompt: Script = ""
    command: Script = ""
    executor: Script = "auto"
    priority: Priority = Priority.NORMAL
    complexity: Tier | None = None
    model: Script = ""
    context: Context = Context()
    success_criteria: Many[Script] = ()
    verification: Few[Check] = ()
    needs: Few[Word] = ()
    budget: Budget = Budget()
    max_retries: Whole = 3
    complete_by: datetime | None = None
    run_after: datetime | None = None
    ttl_s: Measure | None = None
    depends_on: Few[Word] = ()
    parent: Word | None = None
    labels: Words = field(default_factory=dict)
    escalation: Escalation | None = None
    """How far it may climb while its checks keep failing; left out: as far as the hub allows."""
    learning: bool = True
    """Whether what was learnt from other tasks may choose its model."""
    save_as: Word = ""
    """Where a ``chat`` task writes its answer, relative to the workspace; empty: the answer is only the output."""
    artifacts: Many[Word] = ()
    """Files to keep when the work is done: paths in the workspace; ``*``, ``?`` and ``**`` stand for any names."""
    project: Word = ""
    """The project it belongs to; when it is submitted it gets what it does not say itself from there."""
    clean_room: CleanRoom | None = None
    """Whether its checks have to pass on another machine too; left out: as the hub's settings say."""
    secrets: Few[SecretUse] = ()
    """Of the hub's keystore, by name: its programs find them in their environment, for as long as they run."""
    traceparent: Word = ""
    """Where it stands in a trace (W3C Trace Context); the header of that name of its submission counts, too."""


# --- what comes back --------------------------------------------------------------------------------------------------


class Finding(Struct, frozen=True, kw_only=True):
    """Outcome of one check in one iteration."""

    name: Sentence
    type: Word
    passed: bool
    detail: Text = ""
    output: Text = ""
    exit_code: Whole | None = None
    seconds: Measure = 0.0
    doubtful: bool = False
    """It did not pass, and only what the work has changed of its own proof is against it: a person has to judge."""


class Timing(Struct, frozen=True, kw_only=True):
    """Seconds spent with models: all of them, and what the server tells of its parts (else 0).

    ``queue_s`` is what requests waited for a turn at the server; ``None``: nobody knows.
    """

    model_s: Measure
    load_s: Measure = 0.0
    prefill_s: Measure = 0.0
    decode_s: Measure = 0.0
    queue_s: Measure | None = None

    def plus(self, other: "Timing | None") -> "Timing":
        """Both together."""
        if other is None:
            return self
        return Timing(
            model_s=self.model_s + other.model_s,
            load_s=self.load_s + other.load_s,
            prefill_s=self.prefill_s + other.prefill_s,
            decode_s=self.decode_s + other.decode_s,
            queue_s=None if self.queue_s is None or other.queue_s is None else self.queue_s + other.queue_s,
        )


class Usage(Struct, frozen=True, kw_only=True):
    """What work cost. ``model`` is ``none`` for work without one; ``cost_usd`` is ``None`` where no price is known."""

    model: Word = "none"
    endpoint: Word = ""
    input_tokens: Count = 0
    output_tokens: Count = 0
    cached_input_tokens: Count = 0
    cost_usd: Amount | None = 0.0
    seconds: Amount = 0.0
    timing: Timing | None = None
    """Where the time with models went; ``None`` for work without one."""
    bill: Bill | None = None
    """How the cost came about; ``None`` for work without a model."""

    def plus(self, other: "Usage") -> "Usage":
        """Both together; the cost is unknown if either is. The later model and endpoint stand, if there was one."""
        known = self.cost_usd is not None and other.cost_usd is not None
        later = other if other.model != "none" else self
        return Usage(
            model=later.model,
            endpoint=later.endpoint,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            cost_usd=(self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
            seconds=self.seconds + other.seconds,
            timing=other.timing if self.timing is None else self.timing.plus(other.timing),
            bill=other.bill if self.bill is None else self.bill.plus(other.bill),
        )


class Iteration(Struct, frozen=True, kw_only=True):
    """One execute-then-verify round: what was done, what the checks found, what it cost."""

    number: Count
    execution_ok: bool
    passed: bool | None
    """All checks passed; ``None`` if the task has none."""
    summary: Sentence = ""
    findings: Many[Finding] = ()
    usage: Usage = Usage()


class Artifact(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that the work produced."""

    path: Word
    size_bytes: Count
    sha256: Word
    id: Word = ""
    """What the hub calls it; empty: it was not uploaded."""


SIDECAR_DIED: Final = "sidecar_restarted"
"""``error_code`` of an attempt that is reported as lost because its sidecar died during the work."""


class TaskResult(Struct, frozen=True, kw_only=True):
    """What an attempt delivers. ``verified`` is set by checks alone: ``None`` without any."""

    execution_ok: bool
    verified: bool | None
    output: Text = ""
    report: Many[Finding] = ()
    """Findings of the last iteration."""
    iterations: Many[Iteration] = ()
    usage: Usage = Usage()
    branch: Word = ""
    commit: Word = ""
    pushed: bool = False
    artifacts: Many[Artifact] = ()
    exit_code: Whole | None = None
    error_code: Word = ""
    error: Text = ""
    """What went wrong in one sentence, with the way out; empty if nothing did."""
    checks: Word = ""
    """Which checks the report is about (:func:`protocol.checks.digest_of`); empty: none ran, or nobody says."""
    diff: Text = ""
    """What ``commit`` changes of what the work began with: a unified diff, its beginning if it is long."""


# --- routing ----------------------------------------------------------------------------------------------------------


class TierDecision(Struct, frozen=True, kw_only=True):
    """How hard the task is said to be (explicit), looks (inferred), and counts as (effective).

    ``confidence`` is that of the effective tier, 1.0 if somebody has named it; ``inferred_confidence`` is the
    heuristic's own, from 0.5, whoever decides (0.0: from before this was kept).
    """

    explicit: Tier | None
    inferred: Tier
    effective: Tier
    confidence: Measure
    signals: Few[Sentence]
    inferred_confidence: Measure = 0.0

    @property
    def disagrees(self) -> bool:
        """Whether the submitter has named another tier than the task looks like."""
        return self.explicit is not None and self.explicit is not self.inferred


class Candidate(Struct, frozen=True, kw_only=True):
    """One way to do the task that was looked at, and why it was taken or not."""

    strategy: Strategy
    agent: Word = ""
    endpoint: Word = ""
    model: Word = ""
    feasible: bool = False
    reasons: Many[Sentence] = ()
    cost: Costs = field(default_factory=dict)
    """What it was expected to cost, term by term, in seconds; empty where nothing was weighed."""


class Routing(Struct, frozen=True, kw_only=True):
    """The routing decision of an attempt, as stored and shown."""

    tier: TierDecision
    strategy: Strategy | None = None
    executor: Word = ""
    model: Word = ""
    endpoint: Word = ""
    agent: Word = ""
    reason: Sentence = ""
    candidates: Many[Candidate] = ()
    at: datetime | None = None
    rung: Rung | None = None
    """``None``: the first one, where every task begins."""
    learnt: Choice | None = None
    load: LoadPlan | None = None
    price: Price | None = None
    """What its model is priced by, where the hub's settings say so."""


# --- identity ---------------------------------------------------------------------------------------------------------


class AttemptId(Struct, frozen=True, array_like=True):
    """Who does what for the how-manieth time: ``[sidecar, boot epoch, task, attempt epoch]`` on the wire.

    The boot epoch tells two starts of one sidecar apart, the attempt epoch is the fencing token of the task: a message
    whose epoch is not the task's current one changes nothing.
    """

    sidecar: Word
    boot: Count
    task: Word
    epoch: Count
