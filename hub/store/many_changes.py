"""Changes that come by the hundred: many in one, and the plain good end in a form that costs little to make.

A frame of a sidecar ends many attempts, a plan claims many tasks, and many callers submit at the same moment. What
waits for the disk is then one change, with one outcome and one call for whoever wants to know it; each member still
succeeds or fails by itself.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from msgspec import Struct

from protocol.model import AttemptState, FailureClass, TaskState


class Many(Struct, frozen=True, gc=False):
    """Changes to apply one after the other, none of them a Many. Outcome: theirs, as a list in their order."""

    changes: Sequence[Any]


class Submissions(Many, frozen=True, gc=False):
    """What one caller, ``by``, has submitted in one moment (:class:`hub.store.changes.AddTasks`): ``tasks`` in all."""

    by: str
    tasks: int


class End(Struct, frozen=True, gc=False):
    """A :class:`hub.store.changes.Finish` of work that went well, without a model, a check or a reservation.

    Its words that are the same for all of these stand on the class. Outcome: as that of a Finish.
    """

    at_ms: int
    task: str
    epoch: int
    hub: int
    retries: int
    infra_failures: int
    result: bytes
    facts: dict[str, Any]
    accepts: bool = False
    offers: bool = False

    attempt: ClassVar[AttemptState] = AttemptState.PASSED
    next: ClassVar[TaskState] = TaskState.COMPLETED
    failure: ClassVar[FailureClass | None] = None
    reason: ClassVar[str] = ""
    execution_ok: ClassVar[bool | None] = True
    verified: ClassVar[bool | None] = None
    ready_ms: ClassVar[int | None] = None
    avoid: ClassVar[str] = ""
    orderly: ClassVar[bool] = True
    is_refused: ClassVar[bool] = False
    is_proof: ClassVar[bool] = False


def singly(changes: Iterable[Any]) -> list[Any]:
    """The changes in order, those of a :class:`Many` one by one."""
    found: list[Any] = []
    for change in changes:
        if isinstance(change, Many):
            found += change.changes
        else:
            found.append(change)
    return found


def together(changes: Iterable[Any], outcomes: Sequence[Any]) -> list[Any]:
    """An outcome for each change, of those of its members (:func:`singly`)."""
    found: list[Any] = []
    at = 0
    for change in changes:
        if isinstance(change, Many):
            found.append(list(outcomes[at : at + len(change.changes)]))
            at += len(change.changes)
        else:
            found.append(outcomes[at])
            at += 1
    return found
