"""What is asked of the store about secrets: it keeps them sealed, and knows no key. Verbs: ``secret_verbs.py``."""

from typing import Protocol

from msgspec import Struct

from hub.core.envelope import from_text, id_in
from hub.store.alert_changes import AlertStore
from protocol.errors import Conflict


class SecretChanged(Conflict):
    """Somebody else has set or removed the secret at the same time."""

    code, retryable = "secret_changed", True

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        return f"secret {self.name} was changed by somebody else just now; do it again"


class KeyOfAnother(Conflict):
    """Another hub of this store has made the first key; what was sealed with one of ours nobody else could open."""

    code = "key_of_another"

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)

    def __str__(self) -> str:
        return (
            f"another hub of this store seals with the key {self.key}, which this hub does not have: give all of them "
            "the same key file (key_file), and start this one again"
        )


class SecretRow(Struct, frozen=True, kw_only=True):
    """A secret as stored. ``version`` counts its values, from 1; ``key`` is the id of the key that has sealed it."""

    name: str
    version: int
    key: str
    sealed: bytes
    projects: tuple[str, ...]
    created_ms: int
    changed_ms: int
    changed_by: str


class PutSecret(Struct, frozen=True):
    """Keep a secret, new (version 1) or with its next value. Outcome: ``None``, SecretChanged or KeyOfAnother.

    ``known``: ids of the keys of a hub that may share its store; ``None``: it does not.
    """

    row: SecretRow
    known: frozenset[str] | None = None


class RemoveSecret(Struct, frozen=True):
    """Keep a secret no more. Outcome: ``None``, or NotFound."""

    name: str


class ResealSecret(Struct, frozen=True):
    """The same value sealed with another key, unless it has a new value meanwhile. Outcome: whether it was kept."""

    name: str
    version: int
    key: str
    sealed: bytes


class ResealNotifier(Struct, frozen=True):
    """Keep where somebody is told as ``sealed``, if that stands as ``was``. Outcome: whether it was kept."""

    id: str
    was: str
    sealed: str


SecretChange = PutSecret | RemoveSecret | ResealSecret | ResealNotifier


class SecretReads(AlertStore, Protocol):
    """What a store tells about secrets, and about the rest that it keeps sealed; a part of ``hub/store/store.py``."""

    async def secrets(self) -> list[SecretRow]:
        """All secrets, by name."""
        ...

    async def secret(self, name: str) -> SecretRow | None:
        """One secret, or ``None``."""
        ...


async def keys_needed(store: SecretReads) -> frozenset[str]:
    """Ids of the keys that something in the store is sealed with."""
    urls = [from_text(row.url) for row in await store.notifiers()]
    return frozenset({row.key for row in await store.secrets()} | {id_in(sealed) for sealed in urls if sealed})
