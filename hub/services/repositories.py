"""The repositories of projects over the API: clone, branch, checkout, add, commit, push to where they come from.

Each works on this hub's own clone, one at a time. Nobody but the hub writes where its git looks (:mod:`hub.checkout`),
so nothing that people or agents put into a project makes the hub run anything.
"""

from collections.abc import Callable

import structlog

from hub.checkout import Checkouts, NotCloned
from hub.core.projects import Project, check_branch, check_commit
from hub.store.changes import Record
from hub.store.store import Store
from protocol.clock import Clock
from protocol.errors import Conflict
from protocol.events import Event, EventKind
from protocol.projects import CommitBody, CommitView, PushView, RepositoryView
from protocol.tree import names_of

log = structlog.get_logger(__name__)


class Repositories:
    """The use cases of git.

    Args:
        find: a project by its name; raises NotFound.
        checkouts: what lies on the disk.
        room: raises when the disk has none.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        find: Callable[[str], Project],
        checkouts: Checkouts,
        room: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._clock, self._find, self._checkouts, self._room = store, clock, find, checkouts, room

    async def clone(self, name: str) -> RepositoryView:
        """Bring the clone up to date, or make it; what is checked out stays.

        Raises:
            NotFound: there is no such project, or its repository has no such branch.
            Conflict: it is a directory, or a path that the hub's owner has not opened.
            RemoteFailed: the repository cannot be talked to.
            StorageFull, Overloaded: not now.
        """
        self._room()
        project = self._repository(name)
        address = await self._checkouts.source(project.repository)
        async with self._checkouts.lock(name):
            checkout = self._checkouts.of(name)
            await checkout.clone(address, project.branch)
            return await checkout.view(project.repository)

    async def status(self, name: str) -> RepositoryView:
        """How the repository of a project stands.

        Raises:
            NotFound: there is no such project.
            Conflict: it is a directory, or not cloned yet.
        """
        project = self._repository(name)
        async with self._checkouts.lock(name):
            return await self._checkouts.of(name).view(project.repository)

    async def branch(self, name: str, branch: str, start: str) -> RepositoryView:
        """Make a branch.

        Raises:
            BadInput: it is no branch name.
            NotFound, Conflict: as :meth:`hub.checkout.Checkout.branch`.
        """
        project = self._repository(name)
        check_branch("name", branch)
        if start:
            check_branch("start", start)
        async with self._checkouts.lock(name):
            checkout = self._checkouts.of(name)
            await checkout.branch(branch, start)
            return await checkout.view(project.repository)

    async def check_out(self, name: str, branch: str) -> RepositoryView:
        """Check a branch out.

        Raises:
            BadInput: it is no branch name.
            NotFound, Conflict: as :meth:`hub.checkout.Checkout.checkout`.
        """
        project = self._repository(name)
        check_branch("branch", branch)
        async with self._checkouts.lock(name):
            checkout = self._checkouts.of(name)
            await checkout.checkout(branch)
            return await checkout.view(project.repository)

    async def add_files(self, name: str, paths: tuple[str, ...]) -> RepositoryView:
        """Put changes of files into the next commit.

        Raises:
            BadInput: a path leads out of the project.
            Conflict: git knows no such file.
        """
        project = self._repository(name)
        clean = tuple("/".join(names_of(path)) or "." for path in paths)
        async with self._checkouts.lock(name):
            checkout = self._checkouts.of(name)
            await checkout.add(clean)
            return await checkout.view(project.repository)

    async def commit(self, name: str, body: CommitBody, by: str) -> CommitView:
        """Commit what was added; the message says by whom.

        Raises:
            BadInput: the message is empty, or the author is none.
            Conflict: nothing was added.
        """
        self._repository(name)
        check_commit(body)
        message = f"{body.message.strip()}\n\nAgentCom-Project: {name}\nAgentCom-Token: {by}\n"
        async with self._checkouts.lock(name):
            return await self._checkouts.of(name).commit(message, body.author)

    async def push(self, name: str, branch: str, by: str) -> PushView:
        """Push a branch to where the project comes from.

        Raises:
            BadInput: it is no branch name.
            NotFound, Conflict, RemoteFailed: as :meth:`hub.checkout.Checkout.push`.
        """
        project = self._repository(name)
        if branch:
            check_branch("branch", branch)
        address = await self._checkouts.source(project.repository)
        async with self._checkouts.lock(name):
            checkout = self._checkouts.of(name)
            if not checkout.is_cloned:
                raise NotCloned(name)
            pushed = await checkout.push(address, branch)
        log.info("project_pushed", project=name, branch=pushed.branch, by=by)
        facts = {
            "project": name,
            "where": pushed.repository,
            "branch": pushed.branch,
            "commit": pushed.commit,
            "by": by,
        }
        event = Event(kind=EventKind.PROJECT_PUSHED, at_ms=self._clock.now_ms(), facts=facts)
        await self._store.commit(Record(event))
        return pushed

    def _repository(self, name: str) -> Project:
        project = self._find(name)
        if not project.repository:
            raise Conflict(f"project {name} is a directory; register its repository as a project to use git")
        return project
