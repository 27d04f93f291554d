"""Which key a sidecar has to sign with before it comes in: that of the machine that has its name, or its token.

A machine that has joined is its key. It is *bound* as soon as it is known that its sidecar signs: when it joins with a
release that does, or with its first signed connection. From then on nobody comes in with its token, or under its name,
who does not hold the key, and there is no way back. A sidecar with a plain token of role agent has no key, and needs
none. Decision 0035 says why. The caller is ``hub/gateway/identity.py``.
"""

from msgspec import Struct

from hub.store.join_changes import BindMachine, MachineRow
from hub.store.store import Store
from protocol.clock import Clock
from protocol.keys import KEY_BYTES, SIGNATURE_BYTES, WrongKey, decoded, is_signed


class Known(Struct, frozen=True):
    """The machine that a sidecar says it is on."""

    name: str
    key: str
    is_bound: bool


class Identities:
    """Knows the machines by their keys."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    async def of(self, token: str, sidecar: str, key: str) -> Known | None:
        """The machine that has to sign, if there is one.

        Args:
            token: id of the token that was shown.
            sidecar, key: what the hello says; the key may be empty.
        Raises:
            WrongKey: it has to, and the hello names another key, or none.
        """
        rows = await self._store.machines_at_door(token, sidecar)
        for row in rows:
            if row.bound_ms is not None and row.key != key:
                why = "this connection shows another key" if key else "this connection shows none"
                raise WrongKey(sidecar, why)
        return next((_known(row) for row in rows if row.key == key), None)

    async def signed(self, known: Known, said: bytes, signature: str) -> None:
        """Pass if the machine has signed this, and bind it.

        Raises:
            WrongKey: it has not.
        """
        key, raw = decoded(known.key, KEY_BYTES), decoded(signature, SIGNATURE_BYTES)
        if key is None or raw is None or not is_signed(key, said, raw):
            raise WrongKey(known.name, "its signature does not fit this connection")
        if not known.is_bound:
            await self._store.commit(BindMachine(known.key, self._clock.now_ms()))


def _known(row: MachineRow) -> Known:
    return Known(row.name, row.key, row.bound_ms is not None)
