"""What is asked of the store about projects: keep one, forget one. What the verbs do is ``project_verbs.py``."""

from msgspec import Struct

from protocol.events import Event


class ProjectRow(Struct, frozen=True, kw_only=True):
    """A project as it is kept: ``body`` is what was registered (:class:`hub.core.projects.Project`) as JSON."""

    name: str
    is_default: bool
    body: bytes
    created_ms: int
    changed_ms: int


class PutProject(Struct, frozen=True):
    """Keep a project, new or changed; if it is the default, no other one is from now on. Outcome: ``None``."""

    project: ProjectRow
    event: Event


class RemoveProject(Struct, frozen=True):
    """Forget a project. Outcome: ``None``, or NotFound."""

    name: str
    event: Event
