"""Shapes of what people do to a task that waits, and to many tasks at once."""

from enum import StrEnum

from msgspec import Struct

from protocol.bounds import Count, Few, Sentence, Word
from protocol.model import Priority, TaskState, Tier


class TaskPatch(Struct, kw_only=True, forbid_unknown_fields=True):
    """``PATCH /tasks/{id}``: what may change of a task that has not ended."""

    priority: Priority


class BulkVerb(StrEnum):
    """What is done to every task that matches."""

    CANCEL = "cancel"
    RETRY = "retry"
    PRIORITISE = "prioritise"


class BulkBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /tasks/bulk``: what to do, and to which tasks: the same filters as those of the list.

    Only tasks count that the verb is for (live ones are cancelled and prioritised, dead ones retried). ``expect``: how
    many the caller was told; if more match by now, nothing is done. It has to be said where nothing is filtered.
    """

    verb: BulkVerb
    state: Few[TaskState] = ()
    agent: Word = ""
    label: Word = ""
    q: Sentence = ""
    priorities: Few[Priority] = ()
    tier: Few[Tier] = ()
    model: Word = ""
    priority: Priority | None = None
    """What to make of it, for the verb ``prioritise``; which tasks by their priority say ``priorities``."""
    reason: Sentence = ""
    preview: bool = False
    """Only count."""
    expect: Count | None = None


class BulkRefusal(Struct, kw_only=True):
    """A task that the verb was not done to: it has moved on meanwhile."""

    task: str
    why: str


class BulkDone(Struct, kw_only=True):
    """What has become of it. ``more``: so many match that the rest has to be asked for again."""

    matched: int
    done: int
    refused: tuple[BulkRefusal, ...] = ()
    more: bool = False
