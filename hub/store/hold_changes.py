"""What is asked of the store about tasks that people hold up: pause one, go on with it. See ``hold_verbs.py``."""

from msgspec import Struct

from protocol.errors import Conflict
from protocol.model import TaskState
from protocol.progress import HoldKind


class HoldRow(Struct, frozen=True, kw_only=True):
    """Why a task is held up, or was: ``ended_ms`` is when it was let go, at its attempt ``epoch``, with a ``note``."""

    task: str
    kind: HoldKind
    by: str
    reason: str
    at_ms: int
    note: str = ""
    ended_ms: int | None = None
    epoch: int = 0


class PutHold(Struct, frozen=True, kw_only=True):
    """Hold a task up: at once while it is queued, else as soon as its attempt stops. Outcome: :class:`HeldUp`.

    Or NotFound, IllegalTransition (it is blocked, or has ended), NoTurns, or Conflict.
    """

    at_ms: int
    task: str
    kind: HoldKind
    by: str
    reason: str


class HeldUp(Struct, frozen=True, kw_only=True):
    """Where the task stood: ``was`` queued: it waits now."""

    was: TaskState
    class_text: str


class EndHold(Struct, frozen=True, kw_only=True):
    """Let a task go on, with a word for whoever does. Outcome: :class:`LetGo`, or NotFound, IllegalTransition."""

    at_ms: int
    task: str
    by: str
    note: str = ""


class LetGo(Struct, frozen=True, kw_only=True):
    """Where the task stood; ``is_ready``: it waits for nothing but an agent now, else until ``ready_ms``.

    ``is_news``: somebody held it up. ``epoch``: of the attempt that need not stop after all, if it is in hand.
    """

    was: TaskState
    class_text: str
    priority: int
    epoch: int
    is_news: bool
    is_ready: bool = False
    ready_ms: int | None = None


class NoTurns(Conflict):
    """The work has begun and knows no turns: it cannot stop and go on later."""

    code = "cannot_pause"

    def __init__(self, task: str, executor: str) -> None:
        self.task, self.executor = task, executor
        super().__init__(task, executor)

    def __str__(self) -> str:
        return (
            f"task {self.task} has begun, and work of {self.executor!r} cannot stop and go on later; only models "
            f"can: wait for its end, or cancel it: agentcom tasks cancel {self.task}"
        )
