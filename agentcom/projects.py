"""What the client asks about projects: a part of :class:`agentcom.aio.AsyncClient`."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from agentcom.calls import Calls
from protocol.api import PREFIX
from protocol.projects import (
    AddBody,
    BranchBody,
    CheckoutBody,
    CommitBody,
    CommitView,
    FileList,
    FileView,
    FileWritten,
    ProjectBody,
    ProjectList,
    ProjectPatch,
    ProjectView,
    PushBody,
    PushView,
    RepositoryView,
)

S = TypeVar("S")


class ProjectCalls:
    """Projects, their files and their repositories."""

    _transport: Calls

    async def projects(self) -> ProjectList:
        """All projects."""
        return await self._ask("GET", "", ProjectList)

    async def project(self, name: str) -> ProjectView:
        """One project."""
        return await self._ask("GET", _one(name), ProjectView)

    async def add_project(self, project: ProjectBody | Mapping[str, Any]) -> ProjectView:
        """Register a repository or a directory; nothing is cloned yet."""
        from protocol import schema  # a command that starts does without it

        body = project if isinstance(project, ProjectBody) else schema.read(project, ProjectBody, "project")
        return await self._transport.call("POST", f"{PREFIX}/projects", ProjectView, body=body)

    async def change_project(self, name: str, patch: ProjectPatch) -> ProjectView:
        """Change a project; what is ``None`` stays."""
        kept = {field: value for field, value in msgspec.to_builtins(patch).items() if value is not None}
        return await self._ask("PATCH", _one(name), ProjectView, kept)

    async def remove_project(self, name: str, *, force: bool = False) -> None:
        """Forget a project and remove the hub's clone; ``force``: also with work in it that is nowhere else."""
        path = f"{PREFIX}/projects{_one(name)}"
        await self._transport.call("DELETE", path, type(None), query={"force": "true"} if force else None)

    # --- files ----------------------------------------------------------------------------------------------------

    async def files(self, project: str, path: str = "", *, limit: int = 1_000, cursor: str = "") -> FileList:
        """A page of what a directory of a project holds."""
        query = {"limit": str(limit)} | ({"path": path} if path else {}) | ({"cursor": cursor} if cursor else {})
        place = f"{PREFIX}/projects{_one(project)}/files"
        return await self._transport.call("GET", place, FileList, query=query, is_repeatable=True)

    async def read_file(self, project: str, path: str) -> FileView:
        """A file of a project, of at most 8 MiB."""
        return await self._ask("GET", _file(project, path), FileView)

    async def write_file(self, project: str, path: str, content: bytes) -> FileWritten:
        """Write a file of a project, whole."""
        return await self._ask("PUT", _file(project, path), FileWritten, content)

    async def delete_file(self, project: str, path: str) -> None:
        """Remove a file or an empty directory of a project."""
        await self._transport.call("DELETE", f"{PREFIX}/projects{_file(project, path)}", type(None))

    # --- git ------------------------------------------------------------------------------------------------------

    async def clone(self, project: str) -> RepositoryView:
        """Make the hub's clone, or fetch what is new; what is checked out stays."""
        return await self._ask("POST", f"{_one(project)}/git/clone", RepositoryView, call_s=600.0)

    async def repository(self, project: str) -> RepositoryView:
        """How the repository of a project stands."""
        return await self._ask("GET", f"{_one(project)}/git", RepositoryView)

    async def branch(self, project: str, name: str, start: str = "") -> RepositoryView:
        """Make a branch."""
        path = f"{PREFIX}/projects{_one(project)}/git/branch"
        return await self._transport.call("POST", path, RepositoryView, body=BranchBody(name=name, start=start))

    async def checkout(self, project: str, branch: str) -> RepositoryView:
        """Check a branch out."""
        return await self._ask("POST", f"{_one(project)}/git/checkout", RepositoryView, CheckoutBody(branch=branch))

    async def add_files(self, project: str, paths: Sequence[str] = ()) -> RepositoryView:
        """Put the changes of these files (none: of all) into the next commit."""
        return await self._ask("POST", f"{_one(project)}/git/add", RepositoryView, AddBody(paths=tuple(paths)))

    async def commit(self, project: str, message: str, author: str = "") -> CommitView:
        """Commit what was added."""
        path = f"{PREFIX}/projects{_one(project)}/git/commit"
        body = CommitBody(message=message, author=author)
        return await self._transport.call("POST", path, CommitView, body=body)

    async def push(self, project: str, branch: str = "") -> PushView:
        """Push a branch (empty: what is checked out) to where the project comes from."""
        path = f"{_one(project)}/git/push"
        return await self._ask("POST", path, PushView, PushBody(branch=branch), call_s=600.0)

    async def _ask(self, method: str, path: str, shape: type[S], body: object = None, *, call_s: float = 60.0) -> S:
        """A call that is the same if it is made twice."""
        place = f"{PREFIX}/projects{path}"
        return await self._transport.call(method, place, shape, body=body, is_repeatable=True, call_s=call_s)


def _one(project: str) -> str:
    return f"/{quote(project, safe='')}"


def _file(project: str, path: str) -> str:
    return f"{_one(project)}/files/{quote(path)}"
