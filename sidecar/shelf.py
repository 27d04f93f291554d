"""Where work in progress lies: at the hub, beside the files that tasks want kept, and read by whoever goes on with it.

Bringing it never holds the work up: what cannot be kept now is left, as the next turn brings more. The caller is
``sidecar/progress.py``.
"""

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import structlog

from protocol.api import PREFIX
from protocol.errors import BadInput
from protocol.model import AttemptId
from protocol.progress import MAX_DOCUMENT_BYTES, Left
from protocol.tree import Tree
from sidecar.depot import PIECE_BYTES, STALL_S, HubDepot
from sidecar.errors import UploadFailed

if TYPE_CHECKING:
    import aiohttp

log = structlog.get_logger(__name__)
ASK_S: Final = 10.0
"""How long what was left is asked for; without an answer the work begins anew."""
MAX_BUNDLE_BYTES: Final = 1 << 30


class Shelf(Protocol):
    """Where work in progress is kept (:class:`HubShelf`)."""

    async def put(self, attempt: AttemptId, tree: Tree, path: str) -> bool:
        """Keep a file of the attempt; whether that was done.

        Raises:
            LeaseOver: the attempt does not count any more.
        """
        ...

    async def left(self, attempt: AttemptId) -> Left:
        """What earlier attempts have left."""
        ...

    async def fetch(self, attempt: AttemptId, path: str, file: Path) -> bool:
        """Write the file ``path`` of what was left to ``file``; whether it could be had."""
        ...


class HubShelf(HubDepot):
    """The shelf at the hub."""

    async def put(self, attempt: AttemptId, tree: Tree, path: str) -> bool:
        """See :class:`Shelf`."""
        try:
            return await self.bring(attempt, tree, path) is not None
        except (UploadFailed, BadInput) as exc:
            log.info("progress_not_kept", task=attempt.task, epoch=attempt.epoch, path=path, why=str(exc))
            return False

    async def left(self, attempt: AttemptId) -> Left:
        """See :class:`Shelf`."""
        body = bytearray()

        async def take(response: "aiohttp.ClientResponse") -> None:
            async for piece in response.content.iter_chunked(PIECE_BYTES):
                body.extend(piece)
                if len(body) > 2 * MAX_DOCUMENT_BYTES:
                    message = "what was left is too large"
                    raise ValueError(message)

        if not await self._get(attempt, "progress", {}, take):
            return Left()
        try:
            return msgspec.json.decode(bytes(body), type=Left)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            log.warning("progress_unreadable", task=attempt.task, epoch=attempt.epoch, why=str(exc))
            return Left()

    async def fetch(self, attempt: AttemptId, path: str, file: Path) -> bool:
        """See :class:`Shelf`."""

        async def take(response: "aiohttp.ClientResponse") -> None:
            size_bytes = 0
            with file.open("wb") as out:
                async for piece in response.content.iter_chunked(PIECE_BYTES):
                    size_bytes += len(piece)
                    if size_bytes > MAX_BUNDLE_BYTES:
                        message = "the bundle is too large"
                        raise ValueError(message)
                    await asyncio.to_thread(out.write, piece)

        return await self._get(attempt, "progress/bundle", {"path": path}, take)

    async def _get(self, attempt: AttemptId, what: str, more: dict[str, str], take: Any) -> bool:  # noqa: ANN401 - a coroutine function of the response, whose type is imported late
        import aiohttp

        session = self._opened()
        params = {"sidecar": attempt.sidecar, "boot": str(attempt.boot), "epoch": str(attempt.epoch), **more}
        headers = {"Authorization": f"Bearer {await asyncio.to_thread(self._token)}"}
        url = f"{self._line().hub}{PREFIX}/tasks/{attempt.task}/{what}"
        try:
            async with (
                asyncio.timeout(ASK_S if not more else STALL_S * 10),
                session.get(url, params=params, headers=headers, allow_redirects=False) as response,
            ):
                if response.status != HTTPStatus.OK:
                    log.info("progress_not_there", task=attempt.task, epoch=attempt.epoch, status=response.status)
                    return False
                await take(response)
                return True
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            why = str(exc) or type(exc).__name__
            log.warning("progress_unheard", task=attempt.task, epoch=attempt.epoch, why=why)
            return False
