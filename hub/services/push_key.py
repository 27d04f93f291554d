"""The key that browsers know this mesh by (VAPID, RFC 8292): made once, sealed in the store, the same for all its hubs.

Browsers subscribe with its public half, and take messages that are signed with it alone. It lies among the secrets,
under a name that no task can write; whoever removes it there ends all subscriptions, and the next browser gets a new
one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from hub.core import webpush
from hub.core.envelope import SECRET, About
from hub.store.secret_changes import PutSecret, SecretChanged, SecretRow, keys_needed
from hub.store.store import Store
from protocol.alerts import BrowserKey
from protocol.clock import Clock

log = structlog.get_logger(__name__)
NAME: Final = "hub:browser-push"
"""No name that people may give a secret: those have no colon."""


class Keys(Protocol):
    """Seals and opens (``hub/vault.py``)."""

    @property
    def current(self) -> str:
        """Id of the key that seals."""
        ...

    @property
    def changing(self) -> asyncio.Lock:
        """Held from sealing to the commit."""
        ...

    async def ready(self, needed: Callable[[], Awaitable[frozenset[str]]]) -> None:
        """Have a key to seal with."""
        ...

    def seal(self, about: About, text: str) -> bytes:
        """Seal a text."""
        ...

    async def unseal(self, about: About, sealed: bytes) -> str:
        """Open it again; raises Unsealable."""
        ...


class PushKey:
    """The key, read from the store each time: another hub may have made it, or somebody removed it."""

    def __init__(self, store: Store, clock: Clock, keys: Keys) -> None:
        self._store, self._clock, self._keys = store, clock, keys

    async def told(self) -> BrowserKey:
        """What browsers subscribe with.

        Raises:
            Conflict: it is sealed with a key that is not here, or there is none to seal it with.
        """
        return BrowserKey(key=webpush.b64(webpush.public(await self.key())))

    async def key(self) -> ec.EllipticCurvePrivateKey:
        """The key; made by whoever asks first.

        Raises:
            Conflict: as for :meth:`told`.
        """
        row = await self._store.secret(NAME)
        if row is None:
            try:
                return await self._made()
            except SecretChanged:  # another hub was faster
                row = await self._store.secret(NAME)
        assert row is not None, "a secret that was there before is there"
        return webpush.key_of(await self._keys.unseal(_about(row.version), row.sealed))

    async def _made(self) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        async with self._keys.changing:
            await self._keys.ready(partial(keys_needed, self._store))
            now_ms = self._clock.now_ms()
            row = SecretRow(
                name=NAME,
                version=1,
                key=self._keys.current,
                sealed=self._keys.seal(_about(1), webpush.key_text(key)),
                projects=(),
                created_ms=now_ms,
                changed_ms=now_ms,
                changed_by="",
            )
            await self._store.commit(PutSecret(row))
        log.info("push_key_made")
        return key


def _about(version: int) -> About:
    return About(SECRET, NAME, version)
