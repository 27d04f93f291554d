"""Secrets that people keep at the hub: set, list, remove, exchange their keys, and give them to attempts.

A value goes in by :meth:`Keystore.put` and comes out by :meth:`Keystore.ask` alone: over the line of the sidecar that
holds an attempt whose task names the secret, for as long as its lease lasts. In the store it is sealed; keys and their
file are a :class:`Keys` (``hub/vault.py``).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog

from hub.core.access import Principal
from hub.core.envelope import NOTIFIER, SECRET, About, Unsealable, as_text, from_text, id_in, way_text
from hub.core.fleet import Fleet
from hub.store.alert_changes import NotifierRow
from hub.store.secret_changes import PutSecret, RemoveSecret, ResealNotifier, ResealSecret, SecretRow, keys_needed
from hub.store.store import Store
from protocol import codec
from protocol.clock import Clock
from protocol.errors import AgentComError, BadInput, Conflict, NotFound, Problem, StaleAttempt
from protocol.keystore import Rotated, SecretBody, SecretList, SecretUse, SecretView, body_problems
from protocol.messages import AskSecrets, Message, Secrets
from protocol.model import AttemptId, TaskSpec

log = structlog.get_logger(__name__)
MOST_SECRETS: Final = 1_000
MOST_ASKED: Final = 1_000
"""Attempts that are being given secrets at a time; who comes then asks again."""


class Keys(Protocol):
    """Seals and opens (``hub/vault.py``)."""

    @property
    def current(self) -> str:
        """Id of the key that seals; empty: there is none yet."""
        ...

    @property
    def known(self) -> tuple[str, ...]:
        """Ids of all keys."""
        ...

    @property
    def is_given(self) -> bool:
        """Whether somebody else looks after them."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether other hubs may need the same keys."""
        ...

    @property
    def shared(self) -> frozenset[str] | None:
        """Ids of the keys, if other hubs of the store may have keys of their own; ``None``: there are none."""
        ...

    @property
    def changing(self) -> asyncio.Lock:
        """Held from sealing to the commit, and while keys are exchanged."""
        ...

    async def ready(self, needed: Callable[[], Awaitable[frozenset[str]]]) -> None:
        """Have a key to seal with; raises KeyLost if none is here and the store needs some."""
        ...

    async def renew(self) -> str:
        """A new key before the others."""
        ...

    async def drop_others(self) -> tuple[str, ...]:
        """Forget all but the key that seals."""
        ...

    def seal(self, about: About, text: str) -> bytes:
        """Seal a text."""
        ...

    async def unseal(self, about: About, sealed: bytes) -> str:
        """Open it again; raises Unsealable."""
        ...


class SecretMissing(NotFound):
    """A task names a secret that is not kept, or not for its project."""

    code = "secret_missing"

    def __init__(self, name: str, why: str) -> None:
        self.name, self.why = name, why
        super().__init__("secret", name)

    def __str__(self) -> str:
        return f"secret {self.name} {self.why}"


class Keystore:
    """The use cases of secrets.

    Attributes:
        on_released: hears which attempt was given which secrets.
    """

    def __init__(self, store: Store, fleet: Fleet, clock: Clock, keys: Keys) -> None:
        self._store, self._fleet, self._clock, self._keys = store, fleet, clock, keys
        self.on_released: Callable[[AttemptId, Sequence[str]], None] = lambda _attempt, _names: None
        self._asked: dict[AttemptId, asyncio.Task[None]] = {}

    # --- people -------------------------------------------------------------------------------------------------------

    async def list(self) -> SecretList:
        """All secrets, without their values."""
        rows = await self._store.secrets()
        return SecretList(secrets=tuple(self._view(row) for row in rows), key=self._keys.current)

    async def find(self, name: str) -> SecretView:
        """One of them.

        Raises:
            NotFound: there is none.
        """
        if (row := await self._store.secret(name)) is None:
            raise NotFound("secret", name[:64])
        return self._view(row)

    async def put(self, name: str, body: SecretBody, by: str) -> SecretView:
        """Keep a value, or the next one in its place.

        Raises:
            BadInput: it cannot be a secret.
            SecretChanged: somebody else has set it at the same time.
            KeyOfAnother: another hub of this store has made the first key.
            Conflict: there is no key to seal it with.
        """
        if problems := list(body_problems(name, body)):
            raise BadInput(problems, "secret")
        was = await self._store.secret(name)
        if was is None and len(await self._store.secrets()) >= MOST_SECRETS:
            raise BadInput([Problem("name", f"{MOST_SECRETS:,} secrets are kept already; remove one first")], "secret")
        async with self._keys.changing:
            await self._keys.ready(self._needed)
            now_ms, version = self._clock.now_ms(), 1 + (was.version if was else 0)
            row = SecretRow(
                name=name,
                version=version,
                key=self._keys.current,
                sealed=self._keys.seal(_about(name, version), body.value),
                projects=body.projects if body.projects is not None else was.projects if was else (),
                created_ms=was.created_ms if was else now_ms,
                changed_ms=now_ms,
                changed_by=by,
            )
            await self._store.commit(PutSecret(row, self._keys.shared))
        log.info("secret_set", name=name, version=version, key=row.key)
        return self._view(row)

    async def remove(self, name: str) -> None:
        """Keep a secret no more; attempts that were given it go on.

        Raises:
            NotFound: there is none.
        """
        await self._store.commit(RemoveSecret(name))
        log.info("secret_removed", name=name)

    # --- keys ---------------------------------------------------------------------------------------------------------

    async def rotate(self) -> Rotated:
        """Make a new key, seal everything with it, and forget the old ones.

        One that was interrupted is ended by the next start, or by doing it again: keys go when nothing needs them. Of
        keys that somebody else looks after the first one is taken, if something is not sealed with it yet.

        Raises:
            Conflict: there is no new key to take, or something does not open, so that its key stays.
        """
        async with self._keys.changing:
            await self._keys.ready(self._needed)
            if not self._keys.is_given or await self._needed() <= {self._keys.current}:
                await self._keys.renew()
            return await self._settle()

    async def settle(self) -> None:
        """At the start: seal what an older hub has kept in clear, and end an exchange of keys that was interrupted."""
        is_clear = any(from_text(row.url) is None for row in await self._store.notifiers())
        if not is_clear and (self._keys.is_given or len(self._keys.known) < 2):  # noqa: PLR2004 - an old one, a new one
            return
        if self._keys.is_shared and not self._keys.known:  # a key made here, unasked, would shut the other hubs out
            log.warning("keystore_not_settled", why="addresses of notifiers lie in clear", next="set key_file")
            return
        try:
            async with self._keys.changing:
                await self._keys.ready(self._needed)
                await self._settle()
        except (Conflict, BadInput) as exc:
            log.warning("keystore_not_settled", code=exc.code, why=str(exc), next="the next start tries again")

    async def _settle(self) -> Rotated:
        sealed, unread = 0, list[str]()
        rows: list[SecretRow | NotifierRow] = [*await self._store.secrets(), *await self._store.notifiers()]
        for row in rows:
            try:
                sealed += await (self._again(row) if isinstance(row, SecretRow) else self._told(row))
            except Unsealable as exc:
                unread.append(str(exc))
        if unread or not await self._needed() <= {self._keys.current}:
            others = unread[0] if unread else "something was sealed with an old one meanwhile; do it again"
            raise Conflict(f"{sealed} values have the new key {self._keys.current}; old keys stay: {others}")
        dropped = await self._keys.drop_others()
        log.info("keystore_rotated", key=self._keys.current, sealed=sealed, dropped=dropped)
        return Rotated(key=self._keys.current, sealed=sealed, dropped=dropped)

    async def _again(self, row: SecretRow) -> bool:
        """Seal a secret with the current key; one that was set meanwhile has it already."""
        if row.key == self._keys.current:
            return False
        about = _about(row.name, row.version)
        sealed = self._keys.seal(about, await self._keys.unseal(about, row.sealed))
        return bool(await self._store.commit(ResealSecret(row.name, row.version, self._keys.current, sealed)))

    async def _told(self, row: NotifierRow) -> bool:
        """Seal where somebody is told with the current key."""
        sealed, about = from_text(row.url), About(NOTIFIER, row.id)
        if sealed is not None and id_in(sealed) == self._keys.current:
            return False
        plain = way_text(row.url, row.secret) if sealed is None else await self._keys.unseal(about, sealed)
        change = ResealNotifier(row.id, row.url, as_text(self._keys.seal(about, plain)))
        return bool(await self._store.commit(change))

    async def _needed(self) -> frozenset[str]:
        return await keys_needed(self._store)

    # --- tasks --------------------------------------------------------------------------------------------------------

    async def check(self, specs: Sequence[TaskSpec], who: Principal) -> None:
        """Pass if these tasks may have the secrets that they name.

        Raises:
            BadInput: one is not kept, or not for the task's project, or for a token that is bound to a project it was
                not set for. Every problem is listed.
        """
        if not any(spec.secrets for spec in specs):
            return
        kept = {row.name: row for row in await self._store.secrets()}
        problems = []
        for number, spec in enumerate(specs):
            where = f"tasks[{number}]." if len(specs) > 1 else ""
            for place, use in enumerate(spec.secrets):
                if why := _refusal(kept.get(use.name), spec.project, is_bound=bool(who.scope.projects)):
                    problems.append(Problem(f"{where}secrets[{place}].name", f"secret {use.name} {why}"))
        if problems:
            raise BadInput(problems, "task" if len(specs) == 1 else "batch")

    def ask(self, agent: str, message: AskSecrets, answer: Callable[[Message], None]) -> None:
        """Answer a sidecar that asks for the secrets of an attempt; asked again meanwhile, it is answered once."""
        attempt = message.attempt
        if attempt in self._asked or len(self._asked) >= MOST_ASKED:
            return
        self._asked[attempt] = task = asyncio.create_task(self._answer(agent, attempt, answer))
        task.add_done_callback(lambda _task: self._asked.pop(attempt, None))

    async def _answer(self, agent: str, attempt: AttemptId, answer: Callable[[Message], None]) -> None:
        try:
            values = await self.release(agent, attempt)
        except AgentComError as exc:
            log.warning("secrets_refused", agent=agent, task=attempt.task, epoch=attempt.epoch, code=exc.code)
            answer(Secrets(attempt=attempt, code=exc.code, detail=str(exc)))
        else:
            answer(Secrets(attempt=attempt, values=values))

    async def release(self, agent: str, attempt: AttemptId) -> dict[str, str]:
        """The secrets that the task of an attempt names, by name.

        Raises:
            StaleAttempt: it is not the agent's, it does not count, or its lease is over.
            SecretMissing: one is not kept any more, or not for the task's project.
            Unsealable: one cannot be opened.
        """
        self._check(agent, attempt)
        stored = await self._store.spec(attempt.task)
        spec = codec.decode_spec(stored[0]) if stored is not None else TaskSpec()
        values = {use.name: await self._value(use, spec.project) for use in spec.secrets}
        self._check(agent, attempt)  # reading has taken time
        if values:
            self.on_released(attempt, tuple(values))
            log.info("secrets_released", agent=agent, task=attempt.task, epoch=attempt.epoch, names=sorted(values))
        return values

    def _check(self, agent: str, attempt: AttemptId) -> None:
        if attempt.sidecar != agent:
            raise StaleAttempt(attempt.task, attempt.epoch, None, None)
        self._fleet.check_counts(attempt, self._clock.monotonic())

    async def _value(self, use: SecretUse, project: str) -> str:
        row = await self._store.secret(use.name)
        why = _refusal(row, project, is_bound=False)
        if row is None or why:
            raise SecretMissing(use.name, why)
        return await self._keys.unseal(_about(row.name, row.version), row.sealed)

    def _view(self, row: SecretRow) -> SecretView:
        return SecretView(
            name=row.name,
            version=row.version,
            projects=row.projects,
            created_at=_at(row.created_ms),
            changed_at=_at(row.changed_ms),
            changed_by=row.changed_by,
            key=row.key,
            is_readable=row.key in self._keys.known,
        )


def _refusal(row: SecretRow | None, project: str, *, is_bound: bool) -> str:
    """Why a task of ``project`` does not get the secret; empty: it does.

    ``is_bound``: it was submitted with a token that is bound to projects, which needs to be named.
    """
    if row is None:
        return "is not kept at this hub; set it first: agentcom secret set NAME"
    if project in row.projects or not (row.projects or is_bound):
        return ""
    whose = f"project {project}" if project else "tasks without a project"
    return f"is not for {whose}; whoever manages secrets can allow it: agentcom secret set NAME --project PROJECT"


def _about(name: str, version: int) -> About:
    return About(SECRET, name, version)


def _at(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)
