"""Verbs that forget what is long past, and the one that begins from a copy; what they do is ``keeping.py``.

``at_ms`` is the hub's wall clock, Unix time in milliseconds.
"""

from msgspec import Struct

from protocol.events import Event
from protocol.model import TaskState


class ForgetTasks(Struct, frozen=True, kw_only=True):
    """Forget these tasks with all that hangs on them, if they have ended so. Outcome: how many.

    One that a live task was submitted to run after stays.
    """

    at_ms: int
    tasks: tuple[str, ...]
    states: frozenset[TaskState]
    ended_before_ms: int


class ForgetLogs(Struct, frozen=True, kw_only=True):
    """Forget output behind the number ``after`` up to ``through``, if it is so old and its task has ended.

    Outcome: how many pieces.
    """

    at_ms: int
    after: int
    through: int
    written_before_ms: int


class ForgetEvents(Struct, frozen=True, kw_only=True):
    """Forget all events up to the number ``through``. Outcome: how many."""

    at_ms: int
    through: int


class ForgetKeys(Struct, frozen=True, kw_only=True):
    """Forget these idempotency keys, if they are so old. Outcome: how many."""

    at_ms: int
    keys: tuple[str, ...]
    used_before_ms: int


class KeepSample(Struct, frozen=True, kw_only=True):
    """Keep the hub's figures of one step, which ended at ``at_s`` (Unix seconds), and forget those before ``before_s``.

    Outcome: ``None``.
    """

    step_s: int
    at_s: int
    body: bytes
    before_s: int


class RemoveAgent(Struct, frozen=True, kw_only=True):
    """Forget an agent. Outcome: ``None``, or NotFound, or Conflict (connected, in quarantine, or with work in hand)."""

    at_ms: int
    name: str
    event: Event


class Restore(Struct, frozen=True, kw_only=True):
    """This store is a copy that takes the place of one that is lost: go on far behind whatever that one gave out.

    Attempts that were open are lost, epochs, boots and event numbers jump ahead. ``copied_ms``: when the copy was made.
    Outcome: :class:`Restored`.
    """

    at_ms: int
    copied_ms: int


class Restored(Struct, frozen=True, kw_only=True):
    """``last_event`` is the last one before the jump; ``requeued`` tasks were in hand in the copy, and run again."""

    last_event: int
    requeued: int
