"""What is asked of the store about pull requests, and how one is kept. What the verbs do is ``pull_verbs.py``.

The row is the outbox: it is written in the commit that ends the attempt whose work was pushed, and stays until the
request is merged or closed. So nothing is lost with a hub that dies, or while the forge does not answer.
"""

from msgspec import Struct

from hub.core.pulls import Record
from protocol.errors import Conflict
from protocol.events import Event
from protocol.pulls import PullState


class StalePull(Conflict):
    """The request was changed after the caller read it; ``found`` is its version, ``None``: it is gone."""

    code, retryable = "stale_pull", True

    def __init__(self, task: str, expected: int, found: int | None) -> None:
        self.task, self.expected, self.found = task, expected, found
        super().__init__(task, expected, found)

    def __str__(self) -> str:
        found = "it is gone" if self.found is None else f"found {self.found}"
        return f"the pull request of task {self.task}: expected version {self.expected}, {found}"


class PullRow(Struct, frozen=True, kw_only=True):
    """A request as it is kept.

    ``project`` is empty until somebody has looked at the task; ``next_ms``: when to look at it next, ``None``: it is
    over, or waits for a person. ``version`` counts its changes, from 1.
    """

    task: str
    epoch: int
    project: str
    state: PullState
    record: Record
    next_ms: int | None
    changed_ms: int
    version: int = 0


class PutPull(Struct, frozen=True):
    """Keep the next version of the request that was read. Outcome: its version, or StalePull."""

    pull: PullRow
    event: Event | None = None


class DropPull(Struct, frozen=True):
    """Forget a request that nobody wants. Outcome: ``None``, also if it was changed since this version."""

    task: str
    version: int
