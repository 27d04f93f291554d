"""Bring files to the hub over HTTP, piece by piece, and again if the line breaks.

A file is read twice, to know its digest and to send it, and never held in memory; one that is larger than the hub keeps
is not read at all. The hub keeps it only for an attempt that counts and says so when it is kept for good. A hub that is
away, or has no room, is waited for; the heart of the line to it beats on beside. The caller is ``sidecar/keep.py``.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from http import HTTPStatus
from time import monotonic
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

import msgspec
import structlog

from protocol.api import PREFIX, ArtifactView, ProblemDocument
from protocol.limits import ARTIFACT_BYTES, ARTIFACTS_BYTES, UPLOAD_BYTES_S
from protocol.model import Artifact, AttemptId, FailureClass
from protocol.pinning import Trust
from protocol.redaction import Redactor
from protocol.tree import Tree
from sidecar.errors import LeaseOver, UploadFailed

if TYPE_CHECKING:
    import aiohttp

log = structlog.get_logger(__name__)
PIECE_BYTES: Final = 256 << 10
PATIENCE_S: Final = 120.0
"""How long a hub that is away, or has no room, is waited for."""
PAUSE_S: Final = 1.0
CONNECT_S: Final = 10.0
STALL_S: Final = 60.0
STORE_BYTES_S: Final = 8 << 20
"""A hub that brings files on to a bucket more slowly than this is not waited for."""
_LATER: Final = frozenset({408, 429, 500, 502, 503, 504, 507})
_CHANGED: Final = 422
_LOOKED_AT_BYTES: Final = 8 << 10
_MAX_PROBLEM_BYTES: Final = 64 << 10


class Line(Protocol):
    """What is to be known of the line to the hub (``sidecar/link.py``)."""

    @property
    def hub(self) -> str:
        """The address of the hub that is dialled now."""
        ...

    connection: int
    """The number of the connection on which a hub has welcomed us and still listens; 0: there is none now."""
    artifact_bytes: int
    """The largest file that the hub keeps; 0: it does not say."""
    artifacts_bytes: int
    """All files of one attempt; 0: it does not say."""


class HubDepot:
    """The files that a hub keeps.

    Args:
        line: tells of the line to the hub.
        token: the token that it joins with.
        check: raises if nothing may happen for an attempt any more.
        redactor: knows the secrets of this machine, which no file takes along.
        trust: whom to take for the hub.
    """

    def __init__(
        self,
        line: Callable[[], Line],
        token: Callable[[], str],
        check: Callable[[AttemptId], None] = lambda _attempt: None,
        patience_s: float = PATIENCE_S,
        redactor: Redactor | None = None,
        trust: Trust | None = None,
    ) -> None:
        self._trust = trust or Trust()
        self._redactor = redactor or Redactor()
        self._line, self._token, self._check, self._patience_s = line, token, check, patience_s
        self._session: aiohttp.ClientSession | None = None

    @property
    def attempt_bytes(self) -> int:
        """See :class:`sidecar.keep.Depot`."""
        return self._line().artifacts_bytes or ARTIFACTS_BYTES

    async def bring(self, attempt: AttemptId, tree: Tree, path: str) -> Artifact | None:
        """See :class:`sidecar.keep.Depot`."""
        ends_at = monotonic() + self._patience_s
        while True:
            self._check(attempt)
            with tree.opened(path) as file:
                size_bytes, sha256 = await self._measure(path, file)
                connection = self._line().connection
                file.seek(0)
                answer = await self._send(attempt, path, content(file, self._redactor), size_bytes, sha256)
            if isinstance(answer, ArtifactView):
                return Artifact(path=path, size_bytes=size_bytes, sha256=sha256, id=answer.id)
            status, why, after_s = answer
            if status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
                return None
            # A hub that has just begun, or that another one has just given way to, does not know yet what we hold: only
            # one that had welcomed us before, and has not lost us since, can say that the attempt does not count.
            if status == HTTPStatus.CONFLICT and connection and connection == self._line().connection:
                raise LeaseOver(attempt)
            pause_s = max(PAUSE_S, after_s)
            if status not in {0, HTTPStatus.CONFLICT, _CHANGED, *_LATER}:
                raise UploadFailed(path, why, _failure(status))
            if monotonic() + pause_s > ends_at:
                raise UploadFailed(path, why, FailureClass.QUOTA if status == 507 else FailureClass.INFRA)  # noqa: PLR2004 - RFC 4918
            log.warning("artifact_delayed", task=attempt.task, epoch=attempt.epoch, status=status, why=why)
            await asyncio.sleep(pause_s)

    async def _measure(self, path: str, file: IO[bytes]) -> tuple[int, str]:
        most = self._line().artifact_bytes or ARTIFACT_BYTES
        measured = (os.fstat(file.fileno()).st_size, "")
        if measured[0] <= most:
            measured = await asyncio.to_thread(_measure, content(file, self._redactor), most)
        if measured[0] > most:
            why = f"{measured[0]:,} bytes or more; a file that is kept has at most {most:,} (artifact_max_mb)"
            raise UploadFailed(path, why, FailureClass.INPUT)
        return measured

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> "aiohttp.ClientSession":
        import aiohttp  # only a sidecar that has something to bring pays for it

        if self._session is None:
            self._session = aiohttp.ClientSession(
                # The line to the hub stands, or nobody would ask: by now its authority is known.
                connector=aiohttp.TCPConnector(ssl=self._trust.known or True),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=STALL_S),
                trust_env=False,
            )
        return self._session

    async def _send(
        self, attempt: AttemptId, path: str, pieces: Iterator[bytes], size_bytes: int, sha256: str
    ) -> "ArtifactView | tuple[int, str, float]":
        """What the hub keeps it as; else its status (0: it did not answer), why, and when to come back, in seconds."""
        import aiohttp

        session = self._opened()
        asked: dict[str, Any] = {
            "params": {
                "sidecar": attempt.sidecar,
                "boot": str(attempt.boot),
                "epoch": str(attempt.epoch),
                "path": path,
                "sha256": sha256,
            },
            "headers": {
                "Authorization": f"Bearer {await asyncio.to_thread(self._token)}",
                "Content-Type": "application/octet-stream",
                "Content-Length": str(size_bytes),
            },
        }
        url = f"{self._line().hub}{PREFIX}/tasks/{attempt.task}/artifacts"
        try:
            async with (
                asyncio.timeout(2 * STALL_S + size_bytes / UPLOAD_BYTES_S),
                session.post(
                    url, data=_pieces(pieces), allow_redirects=False, timeout=_patience(size_bytes), **asked
                ) as response,
            ):
                body = await response.content.read(_MAX_PROBLEM_BYTES)
                return _understood(response.status, body, response.headers.get("Retry-After", ""))
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            return 0, f"the hub does not answer ({str(exc) or type(exc).__name__})", 0.0


def _patience(size_bytes: int) -> "aiohttp.ClientTimeout":
    """How long the hub may be silent: when all has come, it may have to bring it to a store of its own."""
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=STALL_S + size_bytes / STORE_BYTES_S)


def content(file: IO[bytes], redactor: Redactor) -> Iterator[bytes]:
    """What a file holds, piece by piece, with the known secrets masked: in text by a word, else by as many signs.

    Only values are looked for here, not shapes: an example of a token is no secret, and a file should stay what it is.
    Bytes that are no text (they hold a NUL) keep their length and their places. What is packed is not looked into.
    """
    piece = file.read(PIECE_BYTES)
    is_text = b"\0" not in piece[:_LOOKED_AT_BYTES]
    stream = redactor.stream(shapes=False, in_place=not is_text)  # of Latin-1, in which every byte is a character
    while piece:
        if clean := stream.feed(piece.decode("latin-1")):
            yield clean.encode("latin-1")
        piece = file.read(PIECE_BYTES)
    if clean := stream.flush():
        yield clean.encode("latin-1")


def _measure(pieces: Iterator[bytes], most: int) -> tuple[int, str]:
    """How much it is, and its digest; no further than a little beyond ``most``, for a file may still grow."""
    digest, size_bytes = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size_bytes += len(piece)
        if size_bytes > most:
            break
    return size_bytes, digest.hexdigest()


async def _pieces(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece


def _understood(status: int, body: bytes, after: str) -> ArtifactView | tuple[int, str, float]:
    after_s = float(after) if after.isascii() and after.isdecimal() else 0.0
    try:
        if status == HTTPStatus.CREATED:
            return msgspec.json.decode(body, type=ArtifactView)
        return status, msgspec.json.decode(body, type=ProblemDocument).detail, after_s
    except (msgspec.DecodeError, UnicodeDecodeError):
        return status, f"it answers {status} at {PREFIX}/tasks; is that address a hub?", after_s


def _failure(status: int) -> FailureClass:
    """Whether to try again: what is too large stays too large; a token may be mended."""
    return FailureClass.INPUT if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else FailureClass.INFRA
