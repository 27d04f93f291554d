"""The one error tree of AgentCom, shared by hub, sidecar and client.

::

    AgentComError
    ├── BadInput            the caller sent something wrong; every problem is listed
    │   ├── FrameTooLarge
    │   ├── MalformedFrame
    │   └── ArtifactTooLarge
    ├── Refused             the caller may not do this
    │   ├── Unauthenticated
    │   ├── Forbidden
    │   ├── OutOfScope      the token is bound to projects or names, and this is beyond them
    │   └── NotYours        the role may do this to what the same token has made only
    ├── NotFound
    ├── Conflict            the thing is not in a state that allows this
    │   ├── StaleTask
    │   ├── StaleAttempt
    │   ├── IllegalTransition
    │   └── IdempotencyConflict
    ├── Unavailable         try again later
    │   ├── HubUnreachable
    │   ├── StoreFailed     the store cannot promise durability any more: the process must end
    │   │   └── StoreDamaged     its bytes are not those that were written
    │   ├── ReadOnly        this hub only shows what its damaged store still holds
    │   ├── Overloaded
    │   ├── Throttled       this one caller has more waiting than its share
    │   └── StorageFull     the disk has room for results of running work only
    ├── VersionMismatch     the two ends share no protocol version
    ├── ProtocolViolation   the peer broke the order of the session
    └── WorkFailed          an attempt could not do its work
        ├── EndpointDown
        │   ├── EndpointBusy     overloaded or out of quota; says when to come back
        │   └── EndpointRefused  it is there and wants none of us: a wrong key, an unknown endpoint
        ├── ModelFailed          the model's answer cannot be used
        │   ├── ModelMissing
        │   ├── PromptTooLong
        │   └── ToolsUnsupported
        ├── WorkspaceFailed
        ├── Unpriced             a budget in dollars, and nobody knows what the model costs
        └── BudgetSpent

Every class has a ``code`` (stable: on the wire, in HTTP problems, in the command line's output), says whether trying
the same again can help (``retryable``), keeps its facts as fields and builds its text from them.
"""

from collections.abc import Sequence

from protocol.error_base import AgentComError, Problem
from protocol.work_errors import (
    BudgetSpent,
    EndpointBusy,
    EndpointDown,
    EndpointRefused,
    ModelFailed,
    ModelMissing,
    PromptTooLong,
    ToolsUnsupported,
    Unpriced,
    WorkFailed,
    WorkspaceFailed,
)

__all__ = [
    "AgentComError",
    "BudgetSpent",
    "EndpointBusy",
    "EndpointDown",
    "EndpointRefused",
    "ModelFailed",
    "ModelMissing",
    "Problem",
    "PromptTooLong",
    "ToolsUnsupported",
    "Unpriced",
    "WorkFailed",
    "WorkspaceFailed",
]
"""What is made elsewhere and is a part of the tree."""


class BadInput(AgentComError):
    """The caller sent something that cannot be accepted; ``problems`` names everything that is wrong with it."""

    code = "bad_input"

    def __init__(self, problems: list[Problem], what: str = "input") -> None:
        self.problems, self.what = problems, what
        super().__init__(problems, what)

    def __str__(self) -> str:
        listed = "; ".join(f"{p.path}: {p.problem}" if p.path else p.problem for p in self.problems)
        count = len(self.problems)
        return f"{self.what} has {count} problem{'' if count == 1 else 's'}: {listed}"


class FrameTooLarge(BadInput):
    """A frame is larger than the link allows."""

    code = "frame_too_large"

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        self.size_bytes, self.limit_bytes = size_bytes, limit_bytes
        super().__init__([Problem("", f"{size_bytes} bytes, at most {limit_bytes}")], "frame")


class MalformedFrame(BadInput):
    """A frame is not a MessagePack message of this protocol; ``frame`` is it, where that helps to say why."""

    code = "malformed_frame"

    def __init__(self, problem: str, frame: bytes = b"", problems: Sequence[Problem] = ()) -> None:
        self.problem, self.frame = problem, frame
        super().__init__([*problems] or [Problem("", problem)], "frame")


class ArtifactTooLarge(BadInput):
    """A file is larger than a hub keeps, or there are too many of them."""

    code = "artifact_too_large"

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        super().__init__([Problem("path", f"{path[:100]!r}: {problem}")], "artifact")


class Refused(AgentComError):
    """The caller may not do this."""

    code = "refused"


class Unauthenticated(Refused):
    """No token, or one that the hub does not know, or one that has expired."""

    code = "unauthenticated"

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return f"{self.why}; send a valid token as 'Authorization: Bearer acm_...'"


class Forbidden(Refused):
    """The token is good, its role does not allow this."""

    code = "forbidden"

    def __init__(self, role: str, permission: str, allowed: tuple[str, ...] = ()) -> None:
        self.role, self.permission, self.allowed = role, permission, allowed
        super().__init__(role, permission, allowed)

    def __str__(self) -> str:
        who = f"; roles that may: {', '.join(self.allowed)}" if self.allowed else ""
        return f"role {self.role!r} may not {self.permission}{who}"


class OutOfScope(Refused):
    """The token is bound to projects, or to names of sidecars; what it asks for lies beyond them."""

    code = "out_of_scope"

    def __init__(self, bound_to: str, names: tuple[str, ...], what: str) -> None:
        self.bound_to, self.names, self.what = bound_to, names, what
        super().__init__(bound_to, names, what)

    def __str__(self) -> str:
        return f"this token is bound to {self.bound_to} {', '.join(self.names)}: it is not good for {self.what}"


class NotYours(Refused):
    """The role may do this to what the same token has made, and another one has made it."""

    code = "not_yours"

    def __init__(self, role: str, what: str, permission: str) -> None:
        self.role, self.what, self.permission = role, what, permission
        super().__init__(role, what, permission)

    def __str__(self) -> str:
        mine = f"role {self.role!r} has {self.permission} for its own only"
        return f"{self.what} was submitted with another token, and {mine}"


class NotFound(AgentComError):
    """There is no such thing."""

    code = "not_found"

    def __init__(self, what: str, name: str) -> None:
        self.what, self.name = what, name
        super().__init__(what, name)

    def __str__(self) -> str:
        return f"no {self.what} {self.name!r}"


class Conflict(AgentComError):
    """The thing is not in a state that allows this."""

    code = "conflict"


class StaleTask(Conflict):
    """The task changed after the caller read it; read it again and retry."""

    code, retryable = "stale_task", True

    def __init__(self, task: str, expected: str, found: str | None) -> None:
        self.task, self.expected, self.found = task, expected, found
        super().__init__(task, expected, found)

    def __str__(self) -> str:
        found = "it is gone" if self.found is None else f"found {self.found}"
        return f"task {self.task}: expected {self.expected}, {found}"


class StaleAttempt(Conflict):
    """A message of an attempt that no longer counts: the task has moved on to a later epoch, or has ended."""

    code = "stale"

    def __init__(self, task: str, epoch: int, current: int | None, state: str | None) -> None:
        self.task, self.epoch, self.current, self.state = task, epoch, current, state
        super().__init__(task, epoch, current, state)

    def __str__(self) -> str:
        if self.current is None:
            return f"task {self.task}: attempt {self.epoch} does not count, the task is unknown here"
        return (
            f"task {self.task}: attempt {self.epoch} does not count, the task is {self.state} at attempt {self.current}"
        )


class IllegalTransition(Conflict):
    """A state machine has no edge for this event; ``allowed`` are the events it has one for."""

    code = "illegal_transition"

    def __init__(self, machine: str, state: str, event: str, allowed: tuple[str, ...]) -> None:
        self.machine, self.state, self.event, self.allowed = machine, state, event, allowed
        super().__init__(machine, state, event, allowed)

    def __str__(self) -> str:
        allowed = ", ".join(self.allowed) if self.allowed else "none, it is final"
        return f"{self.machine}: {self.event!r} is not allowed in state {self.state}; allowed: {allowed}"


class IdempotencyConflict(Conflict):
    """The idempotency key was used before with another body."""

    code = "idempotency_conflict"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)

    def __str__(self) -> str:
        return f"Idempotency-Key {self.key!r} was used before with another body; use a new key for a new request"


class Unavailable(AgentComError):
    """Not now; the same call may succeed later."""

    code, retryable = "unavailable", True

    def __init__(self, why: str, retry_after_s: float | None = None) -> None:
        self.why, self.retry_after_s = why, retry_after_s
        super().__init__(why, retry_after_s)

    def __str__(self) -> str:
        return self.why if self.retry_after_s is None else f"{self.why}; try again in {self.retry_after_s:g} s"


class HubUnreachable(Unavailable):
    """The hub does not answer."""

    code = "hub_unreachable"

    def __init__(self, url: str, why: str) -> None:
        self.url = url
        super().__init__(f"cannot reach the hub at {url}: {why}")


class StoreFailed(Unavailable):
    """The store could not make a commit durable; nothing after it may be believed, so the hub ends."""

    code = "store_failed"


class StoreDamaged(StoreFailed):
    """Bytes of the store are not those that were written, or commits are missing; nothing is served from it.

    ``steps`` are the commands that bring a good store back, one a line.
    """

    code = "store_damaged"
    retryable = False

    def __init__(self, path: str, damage: str, steps: tuple[str, ...] = ()) -> None:
        self.path, self.damage, self.steps = path, damage, steps
        super().__init__(f"the store {path} is damaged: {damage}")


class ReadOnly(Unavailable):
    """This hub only shows what its damaged store still holds; it takes nothing in."""

    code = "read_only"
    retryable = False

    def __init__(self, steps: tuple[str, ...] = ()) -> None:
        self.steps = steps
        way = steps[0] if steps else "start it without --read-only"
        super().__init__(f"this hub is read-only, its store is looked at, not used: {way}")


class Overloaded(Unavailable):
    """The hub holds as much waiting work as it can promise to keep."""

    code = "overloaded"


class Throttled(Unavailable):
    """This caller has more waiting than its share; others are still served."""

    code = "throttled"


class StorageFull(Unavailable):
    """The disk is nearly full: what is left of it is kept for the results of running work."""

    code = "storage_full"


class VersionMismatch(AgentComError):
    """The two ends share no protocol version."""

    code = "version_mismatch"

    def __init__(self, ours: tuple[int, int], theirs: tuple[int, int]) -> None:
        self.ours, self.theirs = ours, theirs
        super().__init__(ours, theirs)

    def __str__(self) -> str:
        (a, b), (c, d) = self.ours, self.theirs
        older = "this side" if b < c else "the peer"
        return f"no common protocol version: we speak {a} to {b}, the peer speaks {c} to {d}; upgrade {older}"


class ProtocolViolation(AgentComError):
    """The peer sent something that the session does not allow at this point."""

    code = "protocol_violation"

    def __init__(self, expected: str, found: str) -> None:
        self.expected, self.found = expected, found
        super().__init__(expected, found)

    def __str__(self) -> str:
        return f"expected {self.expected}, found {self.found}"
