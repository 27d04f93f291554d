"""The verbs of secrets; the rules of verbs are those of ``verbs.py``."""

import msgspec

from hub.store import secret_changes as c
from hub.store.batches import Statements
from hub.store.key_verbs import KeyVerbs
from protocol.errors import NotFound


class SecretVerbs(KeyVerbs):
    """The verbs of secrets, by the changes that ask for them."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs |= {
            c.PutSecret: self._put_secret,
            c.RemoveSecret: self._remove_secret,
            c.ResealSecret: self._reseal_secret,
            c.ResealNotifier: self._reseal_notifier,
        }

    async def _put_secret(self, change: c.PutSecret) -> None:
        row = change.row
        known = await self._row("secret_version", row.name)
        if row.version != 1 + (known[0] if known is not None else 0):
            raise c.SecretChanged(row.name)
        if change.known is not None:
            await self._check_keys(change.known)
        projects = msgspec.json.encode(row.projects).decode()
        values = (row.version, row.key, row.sealed, projects, row.created_ms, row.changed_ms, row.changed_by)
        await self._run("put_secret", row.name, *values)

    async def _remove_secret(self, change: c.RemoveSecret) -> None:
        if not await self._changed("remove_secret", change.name):
            raise NotFound("secret", change.name)

    async def _reseal_secret(self, change: c.ResealSecret) -> bool:
        return bool(await self._changed("reseal_secret", change.name, change.version, change.key, change.sealed))

    async def _reseal_notifier(self, change: c.ResealNotifier) -> bool:
        return bool(await self._changed("reseal_notifier", change.id, change.was, change.sealed))
