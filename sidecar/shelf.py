"""Where work in progress lies: at the hub, beside the files that tasks want kept, and read by whoever goes on with it.

Bringing it never holds the work up: what cannot be kept now is left, as the next turn brings more. What was left is
asked for again when the hub is away, or cannot read it: without it all that was done would be done, and paid for,
twice. The caller is ``sidecar/progress.py``.
"""

import asyncio
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec
import structlog

from protocol.api import PREFIX
from protocol.errors import BadInput
from protocol.model import AttemptId
from protocol.progress import MAX_DOCUMENT_BYTES, Left
from protocol.tree import Tree
from sidecar.depot import PAUSE_S, PIECE_BYTES, STALL_S, HubDepot
from sidecar.errors import LeaseOver, ProgressUnheard, UploadFailed

if TYPE_CHECKING:
    import aiohttp

log = structlog.get_logger(__name__)
T = TypeVar("T")
ASK_S: Final = 10.0
"""How long one answer about what was left may take."""
PATIENCE_S: Final = 60.0
"""How long it is asked for again."""
MAX_BUNDLE_BYTES: Final = 1 << 30
_TOO_LARGE: Final = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
"""We say so ourselves, of what is larger than we take."""
_NOT_THERE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, _TOO_LARGE})


class Shelf(Protocol):
    """Where work in progress is kept (:class:`HubShelf`)."""

    def clean(self, value: T) -> T:
        """What is to be put, or any part of it, without secrets."""
        ...

    async def put(self, attempt: AttemptId, tree: Tree, path: str) -> bool:
        """Keep a file of the attempt; whether that was done.

        Raises:
            LeaseOver: the attempt does not count any more.
        """
        ...

    async def left(self, attempt: AttemptId) -> Left:
        """What earlier attempts have left.

        Raises:
            LeaseOver: the attempt does not count any more.
            ProgressUnheard: the hub does not say.
        """
        ...

    async def fetch(self, attempt: AttemptId, path: str, file: Path) -> bool:
        """Write the file ``path`` of what was left to ``file``; whether it could be had.

        Raises:
            LeaseOver: the attempt does not count any more.
        """
        ...


class HubShelf(HubDepot):
    """The shelf at the hub.

    Attributes:
        ask_again_s: how long what was left is asked for again.
    """

    ask_again_s = PATIENCE_S

    def clean(self, value: T) -> T:
        """See :class:`Shelf`."""
        return self._redactor.value(value)

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

        async def take(response: "aiohttp.ClientResponse") -> bool:
            body.clear()
            async for piece in response.content.iter_chunked(PIECE_BYTES):
                body.extend(piece)
                if len(body) > 2 * MAX_DOCUMENT_BYTES:
                    return False
            return True

        if not await self._get(attempt, "progress", {}, take):
            return Left()
        try:
            return msgspec.json.decode(bytes(body), type=Left)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            log.warning("progress_unreadable", task=attempt.task, epoch=attempt.epoch, why=str(exc))
            return Left()

    async def fetch(self, attempt: AttemptId, path: str, file: Path) -> bool:
        """See :class:`Shelf`."""

        async def take(response: "aiohttp.ClientResponse") -> bool:
            size_bytes = 0
            with file.open("wb") as out:
                async for piece in response.content.iter_chunked(PIECE_BYTES):
                    size_bytes += len(piece)
                    if size_bytes > MAX_BUNDLE_BYTES:
                        return False
                    await asyncio.to_thread(out.write, piece)
            return True

        try:
            return await self._get(attempt, "progress/bundle", {"path": path}, take)
        except ProgressUnheard as exc:  # the document is here, so what was used counts, and only the files are missing
            log.warning("bundle_unheard", task=attempt.task, epoch=attempt.epoch, why=exc.why)
            return False

    async def _get(self, attempt: AttemptId, what: str, more: dict[str, str], take: Any) -> bool:  # noqa: ANN401 - a coroutine function of the response, whose type is imported late
        """Whether the hub has it, and ``take`` has read all of it.

        Raises:
            LeaseOver: the attempt does not count any more.
            ProgressUnheard: the hub does not say.
        """
        ends_at = monotonic() + self.ask_again_s
        while True:
            self._check(attempt)
            connection = self._line().connection
            status, why = await self._ask(attempt, what, more, take)
            if status == HTTPStatus.OK:
                return True
            if status in _NOT_THERE:
                log.info("progress_not_there", task=attempt.task, epoch=attempt.epoch, status=status)
                return False
            if status == HTTPStatus.CONFLICT and connection and connection == self._line().connection:
                raise LeaseOver(attempt)  # see HubDepot.bring
            log.warning("progress_unheard", task=attempt.task, epoch=attempt.epoch, status=status, why=why)
            if monotonic() + PAUSE_S > ends_at:
                raise ProgressUnheard(attempt.task, why)
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, attempt: AttemptId, what: str, more: dict[str, str], take: Any) -> tuple[int, str]:  # noqa: ANN401 - as above
        """The status of one answer (0: there is none), and why it is no good."""
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
                    return response.status, f"it answers {response.status}"
                fits = await take(response)
                return (HTTPStatus.OK if fits else _TOO_LARGE), ""
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            return 0, str(exc) or type(exc).__name__
