"""What is summed up of the rows, for people who look back. Mixed into ``backend.py``."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from hub.core.usage import Used
from hub.store import records
from hub.store.records import Row


class Summing(ABC):
    """Reads sums."""

    @abstractmethod
    async def _rows(self, name: str, *values: Any) -> Sequence[Row]: ...

    async def usage(self, since_ms: int, until_ms: int, step_ms: int) -> list[Used]:
        """What attempts have used of models, in steps of time."""
        return [records.used(row) for row in await self._rows("usage", since_ms, until_ms, step_ms)]
