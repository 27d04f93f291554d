"""Git for attempts, to the repository of their project, without its user and password: those stay at the hub.

A sidecar asks for a credential of one attempt. With it git fetches, and pushes the attempt's own branch, through this
hub, for as long as the attempt counts and its lease lasts: it is looked at with every piece that passes. It is kept in
memory only; after a restart of the hub the sidecar asks again.
"""

import hmac
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

import structlog

from hub.core.fleet import Fleet
from hub.core.projects import Project
from hub.core.receiving import MAX_HEAD_BYTES, PushForbidden, check_own, wishes_of
from hub.store.store import Store
from protocol import codec
from protocol.api import PREFIX
from protocol.clock import Clock
from protocol.errors import NotFound, Overloaded, Refused
from protocol.model import AttemptId
from protocol.projects import GitAccess

log = structlog.get_logger(__name__)
MAX_AT_ONCE: Final = 32
RETRY_AFTER_S: Final = 2.0
RECEIVE: Final = "git-receive-pack"
UPLOAD: Final = "git-upload-pack"
_KEPT: Final = 4
"""Credentials of one attempt that are good at a time: it asks for one before a fetch, and before a push."""

UserPassword = tuple[str, str]


class NotAdmitted(Refused):
    """The credential is none of a living attempt."""

    code = "not_admitted"

    def __str__(self) -> str:
        return "this is no credential of an attempt that is in work; it ends with the attempt's lease"


class Reply(NamedTuple):
    """What the repository's server answers: ``pieces`` are its body."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


class Remote(Protocol):
    """Speaks with servers of repositories (``hub/remote.py``)."""

    def ask(
        self,
        address: str,
        path: str,
        login: UserPassword,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | None,
    ) -> AbstractAsyncContextManager[Reply]:
        """Ask the server of the repository at ``address``; without a body it is a GET.

        Raises:
            RemoteFailed: it cannot be talked to.
        """
        ...


class Asked(NamedTuple):
    """A request of git: which ``service``, its ``body`` (``None``: what is there), and headers to pass on."""

    service: str
    headers: Mapping[str, str]
    body: AsyncIterator[bytes] | None


class Admitted(NamedTuple):
    """An attempt that was given a credential, and for what."""

    attempt: AttemptId
    project: str
    address: str
    digest: bytes


class Gate:
    """The use cases.

    Args:
        find: a project by its name; raises NotFound.
        login: user and password that are kept for a project's repository, ``None`` if none are.
        remote: speaks with the servers.
        random_bits: as many random bits, as an integer.
    """

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        clock: Clock,
        find: Callable[[str], Project],
        login: Callable[[Project], UserPassword | None],
        remote: Remote,
        *,
        random_bits: Callable[[int], int],
    ) -> None:
        self._store, self._fleet, self._clock = store, fleet, clock
        self._find, self._login, self._remote, self._random_bits = find, login, remote, random_bits
        self._admitted: dict[AttemptId, list[Admitted]] = {}
        self._passing = 0

    async def admit(self, attempt: AttemptId) -> GitAccess:
        """A credential for the repository that the attempt works in.

        Raises:
            StaleAttempt: the attempt does not count.
            NotFound: it works in no project's repository, or this hub keeps no user and password for that.
        """
        self._fleet.check_counts(attempt, self._clock.monotonic())
        kept = await self._store.spec(attempt.task)
        spec = codec.decode_spec(kept[0]) if kept is not None else None
        if spec is None or not spec.project:
            raise NotFound("project of task", attempt.task)
        project = self._find(spec.project)
        if spec.context.repo != project.repository or self._login(project) is None:
            raise NotFound("credential for the repository of task", attempt.task)
        self._forget()
        token = f"{self._random_bits(256):064x}"
        admitted = Admitted(attempt, project.name, project.repository, _digest(token))
        self._admitted[attempt] = [*self._admitted.get(attempt, ()), admitted][-_KEPT:]
        log.info("git_admitted", task=attempt.task, epoch=attempt.epoch, project=project.name)
        return GitAccess(path=f"{PREFIX}/tasks/{attempt.task}/repository.git", token=token)

    def _forget(self) -> None:
        for attempt in [each for each in self._admitted if not self._counts(each)]:
            del self._admitted[attempt]

    def _counts(self, attempt: AttemptId) -> bool:
        return self._fleet.counts(attempt, self._clock.monotonic())

    def enter(self, task: str, token: str) -> Admitted:
        """Whose credential this is.

        Raises:
            NotAdmitted: it is none of this task, or its attempt does not count any more.
        """
        digest = _digest(token)
        for attempt, all_of_it in self._admitted.items():
            for admitted in all_of_it:
                if attempt.task == task and hmac.compare_digest(admitted.digest, digest) and self._counts(attempt):
                    return admitted
        raise NotAdmitted

    @asynccontextmanager
    async def exchange(self, admitted: Admitted, asked: Asked) -> AsyncGenerator[Reply, None]:
        """Pass a request of git on, and its answer.

        Raises:
            NotAdmitted: the attempt does not count any more, or its project has changed.
            PushForbidden: it wants to push something else than the attempt's own branch.
            RemoteFailed: the repository cannot be talked to.
            Overloaded: too many do this at once.
        """
        project = self._find(admitted.project)
        login = self._login(project) if project.repository == admitted.address else None
        if login is None:
            raise NotAdmitted
        if self._passing >= MAX_AT_ONCE:
            raise Overloaded(f"{MAX_AT_ONCE} others use git through this hub", RETRY_AFTER_S)
        self._passing += 1
        try:
            body = asked.body
            if body is not None:
                head = await _own_head(admitted.attempt, body) if asked.service == RECEIVE else b""
                body = self._watched(admitted, _joined(head, body))
            path = f"info/refs?service={asked.service}" if body is None else asked.service
            async with self._remote.ask(admitted.address, path, login, asked.headers, body) as reply:
                if body is not None:
                    facts = {"project": project.name, "service": asked.service, "status": reply.status}
                    log.info("git_passed", task=admitted.attempt.task, epoch=admitted.attempt.epoch, **facts)
                yield Reply(reply.status, reply.headers, self._watched(admitted, reply.pieces))
        finally:
            self._passing -= 1

    async def _watched(self, admitted: Admitted, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The pieces, as long as the attempt counts."""
        async for piece in pieces:
            if not self._counts(admitted.attempt):
                raise NotAdmitted
            yield piece


async def _own_head(attempt: AttemptId, pieces: AsyncIterator[bytes]) -> bytes:
    """The beginning of a push, of which nothing leaves before it is known to be of the attempt's own branch."""
    head = b""
    async for piece in pieces:
        head += piece
        if (wishes := wishes_of(head)) is not None:
            check_own(wishes, attempt.task, attempt.epoch)
            return head
        if len(head) > MAX_HEAD_BYTES:
            raise PushForbidden("so many branches")
    raise PushForbidden("what ends before its list of branches")


async def _joined(head: bytes, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    if head:
        yield head
    async for piece in pieces:
        yield piece


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogatepass")).digest()
