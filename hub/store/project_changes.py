"""What is asked of the store about projects: keep one, forget one. What the verbs do is ``project_verbs.py``."""

from msgspec import Struct

from protocol.errors import Conflict
from protocol.events import Event


class StaleProject(Conflict):
    """The project was changed, made or removed after the caller read it; ``found`` is its version, ``None``: gone."""

    code, retryable = "stale_project", True

    def __init__(self, project: str, expected: int, found: int | None) -> None:
        self.project, self.expected, self.found = project, expected, found
        super().__init__(project, expected, found)

    def __str__(self) -> str:
        found = "it is gone" if self.found is None else f"found {self.found}"
        return f"project {self.project}: expected version {self.expected}, {found}"


class ProjectRow(Struct, frozen=True, kw_only=True):
    """A project as it is kept: ``body`` is what was registered (:class:`hub.core.projects.Project`) as JSON.

    ``version`` counts its changes, from 1; 0: it is not kept yet.
    """

    name: str
    is_default: bool
    body: bytes
    created_ms: int
    changed_ms: int
    version: int = 0


class PutProject(Struct, frozen=True):
    """Keep a project: a new one (``version`` 0), or the next version of the one that was read.

    If it is the default, no other one is from now on. Outcome: its version, or StaleProject: it was changed meanwhile,
    or there is one of this name.
    """

    project: ProjectRow
    event: Event


class RemoveProject(Struct, frozen=True):
    """Forget a project. Outcome: ``None``, or StaleProject: it was changed since this version, or is gone."""

    name: str
    version: int
    event: Event
