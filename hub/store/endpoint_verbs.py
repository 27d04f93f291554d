"""What the verbs of LLM endpoints do to the rows; ``hub_verbs.py`` builds on this."""

import msgspec

from hub.store import endpoint_changes as e
from hub.store.batches import Batches, Statements
from protocol.errors import NotFound


class EndpointVerbs(Batches):
    """The verbs of LLM endpoints."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs |= {
            e.PutEndpoint: self._put_endpoint,
            e.RemoveEndpoint: self._remove_endpoint,
            e.PutHealth: self._put_health,
            e.ForgetHealth: self._forget_health,
        }

    async def _put_endpoint(self, change: e.PutEndpoint) -> None:
        row = change.endpoint
        if not change.is_new and row.id not in {found[0] for found in await self._rows("endpoints")}:
            raise NotFound("endpoint", row.id)
        await self._run("put_endpoint", row.id, row.kind, row.url, row.local, row.default_model, row.rpm, row.tpm)
        self._note(change.event)

    async def _remove_endpoint(self, change: e.RemoveEndpoint) -> None:
        if not await self._changed("remove_endpoint", change.id):
            raise NotFound("endpoint", change.id)
        await self._run("forget_health", "", change.id)
        self._note(change.event)

    async def _put_health(self, change: e.PutHealth) -> None:
        row = change.row
        seen, health = msgspec.json.encode(row.seen), msgspec.json.encode(row.health)
        await self._run("put_health", row.host, row.seen.id, seen, health)
        if change.event is not None:
            self._note(change.event)

    async def _forget_health(self, change: e.ForgetHealth) -> None:
        await self._run("forget_health", change.host, change.id)
