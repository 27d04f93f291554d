"""Projects: what is registered, what its tasks inherit, and its files on this hub's disk.

What is registered is in the store, the same for all hubs. Files are on the disk of the hub that is asked: a directory
of its machine, or its own clone of the repository. No path leads out of a project (:mod:`protocol.tree`). Credentials
go in and never come out. Git is the business of ``repositories.py``.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import IO, Any, Final

import msgspec
import structlog
from msgspec.structs import asdict, replace

from hub.checkout import Checkouts, NotCloned
from hub.core.projects import Project, fill, parted
from hub.store.project_changes import ProjectRow, PutProject, RemoveProject, StaleProject
from hub.store.rows import moment
from hub.store.store import Store
from protocol.clock import Clock
from protocol.errors import BadInput, Conflict, NotFound, Problem
from protocol.events import Event, EventKind
from protocol.git import masked
from protocol.projects import (
    MAX_LISTED,
    MAX_PROJECTS,
    FileEntry,
    FileList,
    FileView,
    FileWritten,
    ProjectBody,
    ProjectList,
    ProjectPatch,
    ProjectView,
)
from protocol.tree import Entry, Tree, names_of

log = structlog.get_logger(__name__)
MAX_VIEW_BYTES: Final = 8 << 20
"""Longest file that is answered as JSON; as bytes there is no limit."""


class ProjectExists(Conflict):
    """The name is taken."""

    code = "project_exists"

    def __init__(self, project: str) -> None:
        self.project = project
        super().__init__(project)

    def __str__(self) -> str:
        return f"there is a project {self.project!r} already; change it, or give another name"


class ChangedSince(Conflict):
    """The caller has asked to change a version of the project that is not the one that counts."""

    code = "changed_since"

    def __init__(self, project: str, found: int) -> None:
        self.project, self.found = project, found
        super().__init__(project, found)

    def __str__(self) -> str:
        return f"project {self.project} was changed since you read it, it is at version {self.found}; read it again"


class Projects:
    """The use cases of projects.

    Args:
        checkouts: what lies on the disk.
        room: raises when the disk has none.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        checkouts: Checkouts,
        room: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._clock, self._room, self.checkouts = store, clock, room, checkouts
        self._projects: dict[str, Project] = {}
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read all projects, at the start, and sort what an older version has kept for them."""
        await self._read_again()
        sources = {project.name: (project.repository, project.changed_ms) for project in self._projects.values()}
        for name in await asyncio.to_thread(self.checkouts.sort_logins, sources):
            what = "user and password were kept by an older version, perhaps for another address"
            log.warning("login_dropped", project=name, why=what, next="change its repository, with them")

    async def reload(self) -> None:
        """Another hub has changed some: read them all, and forget user and password for where none comes from now."""
        async with self._changing:
            await self._read_again()
            sources = {project.name: project.repository for project in self._projects.values()}
            await asyncio.to_thread(self.checkouts.forget_logins, sources)

    async def _read_again(self) -> None:
        self._projects = {row.name: _project(row) for row in await self._store.projects()}

    # --- tasks --------------------------------------------------------------------------------------------------------

    def inherit(self, body: Any) -> Any:  # noqa: ANN401 - a JSON value that nobody has checked yet
        """A submitted body whose tasks have what they inherit from their projects.

        Raises:
            BadInput: a task names a project that does not exist.
        """
        if not self._projects and type(body) is dict and "project" not in body and "tasks" not in body:
            return body  # most hubs have no projects, and most submissions one task
        many = body.get("tasks") if isinstance(body, Mapping) else None
        if isinstance(many, list) and all(type(task) is dict and not task.get("project") for task in many):
            default = self._default()
            return body if default is None else {**body, "tasks": [fill(task, default) for task in many]}
        if isinstance(many, list):
            unknown: list[Problem] = []
            filled = [self._filled(task, f"tasks[{number}].", unknown) for number, task in enumerate(many)]
            whole: Any = {**body, "tasks": filled}
        else:
            unknown = []
            whole = self._filled(body, "", unknown)
        if unknown:
            raise BadInput(unknown, "task")
        return whole

    def _default(self) -> Project | None:
        """The project of tasks that name none."""
        return next((project for project in self._projects.values() if project.default), None)

    def _filled(self, task: Any, path: str, unknown: list[Problem]) -> Any:  # noqa: ANN401 - as above
        if not isinstance(task, Mapping):
            return task
        name = task.get("project", "")
        if not name:
            default = self._default()
            return task if default is None else fill(task, default)
        if not isinstance(name, str):
            return task  # said by whoever reads the spec
        if name not in self._projects:
            unknown.append(Problem(f"{path}project", f"no project {name[:60]!r}; agentcom projects ls shows them"))
            return task
        return fill(task, self._projects[name])

    # --- registered ---------------------------------------------------------------------------------------------------

    def list(self) -> ProjectList:
        """All projects, by name."""
        return ProjectList(projects=tuple(self._view(self._projects[name]) for name in sorted(self._projects)))

    def show(self, name: str) -> ProjectView:
        """One project.

        Raises:
            NotFound: there is no such project.
        """
        return self._view(self.find(name))

    async def add(self, body: ProjectBody, by: str) -> ProjectView:
        """Register a project. Nothing is cloned yet.

        Raises:
            BadInput: something about it cannot be.
            ProjectExists: the name is taken.
            NotOpen: the directory is not beneath a project root.
        """
        body, user, password = parted(body)
        if body.name in self._projects:
            raise ProjectExists(body.name)
        if len(self._projects) >= MAX_PROJECTS:
            raise Conflict(f"there are {MAX_PROJECTS:,} projects, which is the most a hub keeps")
        if body.directory:
            await asyncio.to_thread(self.checkouts.opened, body.directory)
        now_ms = self._clock.now_ms()
        fields = {field: getattr(body, field) for field in body.__struct_fields__}
        project = Project(**fields, created_ms=now_ms, changed_ms=now_ms)
        async with self._changing:
            try:
                return await self._keep(project, EventKind.PROJECT_ADDED, by, (user, password))
            except StaleProject as exc:
                raise ProjectExists(body.name) from exc  # somebody was quicker, perhaps at another hub

    async def change(self, name: str, patch: ProjectPatch, by: str, version: int | None = None) -> ProjectView:
        """Change a project. A new address replaces user and password, too.

        Args:
            name, patch, by: what, how and who.
            version: the one that was read; ``None``: whichever there is, and what the patch leaves out stays.
        Raises:
            NotFound: there is no such project.
            BadInput: something about it cannot be.
            ChangedSince: the version is not the one that counts.
        """
        wanted = {field: value for field, value in asdict(patch).items() if value is not None}
        async with self._changing:
            while True:
                old = self._as_read(name, version)
                known = {field: getattr(old, field) for field in ProjectBody.__struct_fields__}
                body, user, password = parted(ProjectBody(**known | wanted))
                fields = {field: getattr(body, field) for field in body.__struct_fields__}
                project = replace(old, **fields, changed_ms=self._clock.now_ms())
                login = (user, password) if "repository" in wanted else None
                try:
                    return await self._keep(project, EventKind.PROJECT_CHANGED, by, login)
                except StaleProject:
                    await self._read_again()  # another hub was quicker: this change goes on top of that one

    def _as_read(self, name: str, version: int | None) -> Project:
        project = self.find(name)
        if version not in {None, project.version}:
            raise ChangedSince(name, project.version)
        return project

    async def _keep(self, project: Project, kind: EventKind, by: str, login: tuple[str, str] | None) -> ProjectView:
        """Keep a project, and user and password if they have changed: none are kept that belong to another address."""
        checkout = self.checkouts.of(project.name)
        if login is not None and any(login):
            await asyncio.to_thread(checkout.keep_login, project.repository, *login)
        row = ProjectRow(
            name=project.name,
            is_default=project.default,
            body=msgspec.json.encode(project),
            created_ms=project.created_ms,
            changed_ms=project.changed_ms,
            version=project.version,
        )
        version = await self._store.commit(PutProject(row, self._event(kind, project, by)))
        if project.default:
            await self._read_again()  # another one may have been it, and has a new version now
        self._projects[project.name] = project = replace(project, version=version)
        if login is not None:
            await asyncio.to_thread(checkout.forget_logins, project.repository if any(login) else "")
        return self._view(project)

    async def remove(self, name: str, by: str, *, force: bool, version: int | None = None) -> None:
        """Forget a project and remove its clone; a directory is left as it is.

        Args:
            name, by: what and who.
            force: also if the clone holds work that is nowhere else.
            version: the one that was read; ``None``: whichever there is.
        Raises:
            NotFound: there is no such project.
            Conflict: its clone holds work that is nowhere else.
            ChangedSince: the version is not the one that counts.
        """
        self._as_read(name, version)
        async with self.checkouts.lock(name), self._changing:
            project, checkout = self._as_read(name, version), self.checkouts.of(name)
            if not project.directory and not force and (lost := await checkout.holds_alone()):
                raise Conflict(f"project {name}: {lost}; push them first, or remove it with force=true")
            event = self._event(EventKind.PROJECT_REMOVED, project, by)
            try:
                await self._store.commit(RemoveProject(name, project.version, event))
            except StaleProject as exc:
                await self._read_again()
                raise ChangedSince(name, exc.found) if exc.found else NotFound("project", name) from exc
            self._projects.pop(name, None)
            await asyncio.to_thread(checkout.remove)
        self.checkouts.forget(name)

    # --- files --------------------------------------------------------------------------------------------------------

    async def files(self, name: str, path: str, after: str, limit: int) -> FileList:
        """A page of what a directory of the project holds, by name; ``after`` is the last name of the page before.

        Raises:
            NotFound: there is no such project.
            NotCloned: its files are not here yet.
            BadInput: the path leads out of it, or to no directory.
        """
        tree = await self._tree(name)
        found = [entry for entry in await asyncio.to_thread(tree.listing, path) if entry.name > after]
        page = found[: min(limit, MAX_LISTED)]
        above = "/".join(names_of(path))
        return FileList(
            files=tuple(_entry(above, entry) for entry in page),
            next_cursor=page[-1].name if len(page) < len(found) else None,
        )

    async def opened(self, name: str, path: str) -> tuple[IO[bytes], int]:
        """A file of the project, open for reading (the caller closes it), and its length.

        Raises:
            NotFound: there is no such project or file.
            NotCloned, BadInput: as :meth:`files`.
        """
        tree = await self._tree(name)
        return await asyncio.to_thread(tree.open, path)

    async def read(self, name: str, path: str) -> FileView:
        """A file of the project as one answer.

        Raises:
            BadInput: it is longer than ``MAX_VIEW_BYTES``, or as :meth:`opened`.
        """
        file, size = await self.opened(name, path)
        with file:
            if size > MAX_VIEW_BYTES:
                why = f"{size:,} bytes; as JSON at most {MAX_VIEW_BYTES:,}: ask with Accept: application/octet-stream"
                raise BadInput([Problem("path", why)], "path")
            content = await asyncio.to_thread(file.read, MAX_VIEW_BYTES)
        sha256 = hashlib.sha256(content).hexdigest()
        return FileView(path="/".join(names_of(path)), size_bytes=len(content), sha256=sha256, content=content)

    async def write(self, name: str, path: str, content: bytes) -> FileWritten:
        """Write a file, whole; directories on the way are made.

        Raises:
            StorageFull, Overloaded: not now.
            NotFound, NotCloned, BadInput: as :meth:`files`.
        """
        self._room()
        tree = await self._tree(name)
        async with self.checkouts.lock(name):
            was_there = await asyncio.to_thread(tree.exists, path)
            await asyncio.to_thread(partial(tree.write_bytes, path, content, lasting=True))
        sha256 = hashlib.sha256(content).hexdigest()
        clean = "/".join(names_of(path))
        return FileWritten(path=clean, size_bytes=len(content), sha256=sha256, created=not was_there)

    async def delete(self, name: str, path: str) -> None:
        """Remove a file, a link (not what it points to), or an empty directory.

        Raises:
            NotFound, NotCloned, BadInput: as :meth:`files`.
        """
        tree = await self._tree(name)
        async with self.checkouts.lock(name):
            await asyncio.to_thread(tree.remove, path)

    async def _tree(self, name: str) -> Tree:
        project = self.find(name)
        if project.directory:
            return Tree(await asyncio.to_thread(self.checkouts.opened, project.directory))
        checkout = self.checkouts.of(name)
        if not checkout.is_cloned:
            raise NotCloned(name)
        return Tree(checkout.tree)

    # --- parts --------------------------------------------------------------------------------------------------------

    def knows(self, name: str) -> bool:
        """Whether there is such a project."""
        return name in self._projects

    def find(self, name: str) -> Project:
        """A project.

        Raises:
            NotFound: there is no such project.
        """
        if name not in self._projects:
            raise NotFound("project", name[:100])
        return self._projects[name]

    def _view(self, project: Project) -> ProjectView:
        checkout = self.checkouts.of(project.name)
        known = {field: getattr(project, field) for field in ProjectBody.__struct_fields__}
        return ProjectView(
            **known,
            version=project.version,
            has_credential=checkout.login(project.repository) is not None,
            is_cloned=bool(project.directory) or checkout.is_cloned,
            created_at=moment(project.created_ms),
            changed_at=moment(project.changed_ms),
        )

    def _event(self, kind: EventKind, project: Project, by: str) -> Event:
        log.info(kind.value, project=project.name, by=by)
        where = masked(project.repository) or project.directory
        return Event(kind=kind, at_ms=self._clock.now_ms(), facts={"project": project.name, "where": where, "by": by})


def _project(row: ProjectRow) -> Project:
    """As it is kept; who is the default is a matter of the row, of which there is one at most."""
    project = msgspec.json.decode(row.body, type=Project)
    kept = {"created_ms": row.created_ms, "changed_ms": row.changed_ms, "version": row.version}
    return replace(project, default=row.is_default, **kept)


def _entry(above: str, entry: Entry) -> FileEntry:
    return FileEntry(
        path=f"{above}/{entry.name}" if above else entry.name,
        kind=entry.kind,
        size_bytes=entry.size_bytes,
        changed_at=datetime.fromtimestamp(entry.changed_ns / 1e9, UTC),
    )
