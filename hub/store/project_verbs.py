"""The verbs of projects: keep one, forget one. At most one of them is the default."""

from hub.store.batches import Batches, Statements
from hub.store.project_changes import PutProject, RemoveProject
from protocol.errors import NotFound


class ProjectVerbs(Batches):
    """The verbs of projects, by the changes that ask for them."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs |= {PutProject: self._put_project, RemoveProject: self._remove_project}

    async def _put_project(self, change: PutProject) -> None:
        p = change.project
        if p.is_default:
            await self._run("no_default_project", p.name)
        await self._run("put_project", p.name, p.is_default, p.body, p.created_ms, p.changed_ms)
        self._note(change.event)

    async def _remove_project(self, change: RemoveProject) -> None:
        if not await self._changed("remove_project", change.name):
            raise NotFound("project", change.name)
        self._note(change.event)
