"""How the parts of :class:`agentcom.aio.AsyncClient` ask: by path under the prefix, for a shape."""

from collections.abc import Mapping
from typing import Any, Self, TypeVar

from agentcom.calls import Calls
from protocol.api import PREFIX

S = TypeVar("S")


class Asking:
    """A part of a client: it has a way to the hub."""

    _transport: Calls

    @classmethod
    def over(cls, way: Calls) -> Self:
        """What asks by a way to its hub that is there already, and closes it in the end."""
        asking = cls.__new__(cls)
        asking._transport = way  # noqa: SLF001 - its own class
        return asking

    @property
    def url(self) -> str:
        """Address of the hub that is asked now."""
        return self._transport.url

    async def close(self) -> None:
        """End all connections."""
        await self._transport.close()

    async def _get(
        self, path: str, shape: type[S], query: Mapping[str, Any] | None = None, *, patience_s: float | None = None
    ) -> S:
        asked = {name: str(value) for name, value in (query or {}).items() if value not in (None, "")}
        return await self._transport.call(
            "GET", PREFIX + path, shape, query=asked, is_repeatable=True, patience_s=patience_s
        )

    async def _post(self, path: str, shape: type[S], body: object = None, *, is_repeatable: bool = False) -> S:
        return await self._transport.call("POST", PREFIX + path, shape, body=body, is_repeatable=is_repeatable)
