"""Whether what is about to be kept is sealed with a key of this store: asked in the transaction that keeps it."""

from collections.abc import Collection

from hub.core.envelope import from_text, id_in
from hub.store.batches import Batches
from hub.store.secret_changes import KeyOfAnother


class KeyVerbs(Batches):
    """What the verbs of secrets and of notifiers have in common."""

    async def _check_keys(self, known: Collection[str]) -> None:
        """Pass if this hub has one of the keys that the store needs, or it needs none yet.

        Two hubs that start at once each find that nothing is sealed, and each make a first key. The lock lets one of
        them keep something first, and the other one sees it.

        Raises:
            KeyOfAnother: all that is sealed was sealed with keys that this hub does not have.
        """
        await self._row("lock_keys")
        urls = [from_text(url) for (url,) in await self._rows("sealed_urls")]
        used = {key for (key,) in await self._rows("keys_used")} | {id_in(sealed) for sealed in urls if sealed}
        if used and used.isdisjoint(known):
            raise KeyOfAnother(min(used))
