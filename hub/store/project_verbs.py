"""The verbs of projects: keep one, forget one. At most one of them is the default."""

from hub.store.batches import Batches, Statements
from hub.store.project_changes import PutProject, RemoveProject, StaleProject


class ProjectVerbs(Batches):
    """The verbs of projects, by the changes that ask for them."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs |= {PutProject: self._put_project, RemoveProject: self._remove_project}

    async def _put_project(self, change: PutProject) -> int:
        p = change.project
        if p.version:
            is_kept = await self._changed("change_project", p.name, p.version, p.body, p.changed_ms)
        else:
            is_kept = await self._changed("add_project", p.name, p.body, p.created_ms, p.changed_ms)
        if not is_kept:
            raise await self._stale(p.name, p.version)
        if p.is_default:  # only now: who is too late takes it from nobody
            await self._run("no_default_project", p.name)
            await self._run("default_project", p.name)
        self._note(change.event)
        return p.version + 1

    async def _remove_project(self, change: RemoveProject) -> None:
        if not await self._changed("remove_project", change.name, change.version):
            raise await self._stale(change.name, change.version)
        self._note(change.event)

    async def _stale(self, name: str, expected: int) -> StaleProject:
        found = await self._row("project_version", name)
        return StaleProject(name, expected, None if found is None else found[0])
