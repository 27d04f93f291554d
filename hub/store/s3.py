"""Kept files in a bucket of an S3-compatible server, which several hubs may share.

An object is named after the attempt that brought the file and its digest: ``PREFIX task/epoch/sha256``. An attempt is
in one hub's hands at a time, so no hub removes what another one is bringing, and two attempts share nothing. What goes
out is signed with its digest, so the server takes no byte that differs; a file of more than :data:`PART_BYTES` goes in
parts and is there only when all of them are. Parts of an upload that failed are removed at once, those that a killed
hub has left a day later.

Nothing is held in memory but a piece of a file. Requests are made and signed by aiohttp-s3-client (decision 0019).
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from xml.etree import ElementTree as ET

from msgspec import Struct

from hub.store.blobs import Blob, BlobsAway, Draft, Place
from protocol.ids import TASK_ID

if TYPE_CHECKING:
    import aiohttp
    from aiohttp_s3_client.client import S3Client

PART_BYTES: Final = 64 << 20
PIECE_BYTES: Final = 256 << 10
LEFT_MS: Final = 86_400_000
"""Parts of an upload that is older than a day belong to nobody: no file may take that long."""
TRIES: Final = 3
CONNECT_S: Final = 10.0
STALL_S: Final = 60.0
_DIGEST_CHARS: Final = 64
_AT_ONCE: Final = 32


class Bucket(Struct, frozen=True, kw_only=True):
    """Where the files lie, and the keys that open it.

    ``url`` is the address of the bucket itself; ``prefix`` is empty or ends in a slash.
    """

    url: str
    prefix: str
    region: str
    access_key: str
    secret_key: str
    session_token: str = ""

    def __repr__(self) -> str:
        return f"Bucket({self.url!r}, {self.prefix!r})"


class S3Blobs:
    """Kept files in a bucket. Connections are made with the first request; files go in parts of ``part_bytes``."""

    def __init__(self, bucket: Bucket, part_bytes: int = PART_BYTES) -> None:
        self._bucket, self._part_bytes = bucket, part_bytes
        self._session: aiohttp.ClientSession | None = None

    async def keep(self, draft: Draft, place: Place) -> None:
        """See :class:`hub.store.blobs.Blobs`."""
        from aiohttp_s3_client.client import MultipartUploader

        client, key = self._client(), self._key(place)
        with _told("take a file in"):
            if draft.size_bytes <= self._part_bytes:
                whole = _Stretch(draft.path, 0, draft.size_bytes)
                asked: dict[str, Any] = {"data_length": draft.size_bytes, "content_sha256": draft.sha256}
                async with client.put(key, data=whole, allow_redirects=False, **asked) as answer:
                    await _expect(answer, HTTPStatus.OK)
                return
            async with MultipartUploader(client, key, max_retries=TRIES) as upload:
                for start in range(0, draft.size_bytes, self._part_bytes):
                    part = _Stretch(draft.path, start, min(start + self._part_bytes, draft.size_bytes))
                    digest = await asyncio.to_thread(part.digest)
                    await upload.put_part(part, digest, data_length=part.size_bytes, allow_redirects=False)

    async def read(self, place: Place, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """See :class:`hub.store.blobs.Blobs`."""
        if start >= stop:
            return
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        with _told("give a file out"):
            async with self._client().get(self._key(place), headers=headers, allow_redirects=False) as answer:
                if answer.status == HTTPStatus.NOT_FOUND:
                    raise FileNotFoundError(self._key(place))
                await _expect(answer, HTTPStatus.PARTIAL_CONTENT)
                async for piece in answer.content.iter_chunked(PIECE_BYTES):
                    start += len(piece)
                    yield piece
        if start != stop:
            message = f"{place.sha256} ends at {start} bytes"
            raise OSError(message)

    async def list(self) -> AsyncGenerator[Blob, None]:
        """See :class:`hub.store.blobs.Blobs`; what others keep in the bucket is none of it."""
        prefix = self._bucket.prefix
        with _told("say what it keeps"):
            async for found, _ in self._client().list_objects_v2("/", prefix=prefix):
                for each in found:
                    if place := _place(each.key.removeprefix(prefix)):
                        at_ms = int(each.last_modified.timestamp() * 1000)
                        yield Blob(place.sha256, each.size, at_ms, place.task, place.epoch)

    async def remove(self, blob: Blob) -> None:
        """See :class:`hub.store.blobs.Blobs`."""
        key = self._key(Place(blob.task, blob.epoch, blob.sha256))
        with _told("remove a file"):
            async with self._client().delete(key, allow_redirects=False) as answer:
                await _expect(answer, HTTPStatus.NO_CONTENT, HTTPStatus.OK, HTTPStatus.NOT_FOUND)

    async def tidy(self, now_ms: int) -> int:
        """See :class:`hub.store.blobs.Blobs`: parts of uploads that a killed hub has left."""
        removed, client = 0, self._client()
        with _told("say what is on its way"):
            asked = {"uploads": "", "prefix": self._bucket.prefix}
            async with client.get("/", params=asked, allow_redirects=False) as answer:
                await _expect(answer, HTTPStatus.OK)
                found = list(_uploads(await answer.read()))
            for key, upload, begun_ms in found:
                if _place(key.removeprefix(self._bucket.prefix)) and begun_ms < now_ms - LEFT_MS:
                    async with client.delete(key, params={"uploadId": upload}, allow_redirects=False) as answer:
                        await _expect(answer, HTTPStatus.NO_CONTENT, HTTPStatus.OK, HTTPStatus.NOT_FOUND)
                    removed += 1
        return removed

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _client(self) -> "S3Client":
        import aiohttp
        from aiohttp_s3_client.client import S3Client
        from aiohttp_s3_client.credentials import StaticCredentials

        bucket = self._bucket
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=STALL_S),
                connector=aiohttp.TCPConnector(limit=2 * _AT_ONCE),
                auto_decompress=False,
                trust_env=False,
            )
        keys = StaticCredentials(
            access_key_id=bucket.access_key,
            secret_access_key=bucket.secret_key,
            session_token=bucket.session_token or None,
            region=bucket.region,
        )
        return S3Client(self._session, bucket.url, credentials=keys)

    def _key(self, place: Place) -> str:
        return f"{self._bucket.prefix}{place.task}/{place.epoch}/{place.sha256}"


class _Stretch:
    """Part of a file, which can be read again from its beginning: what is sent twice is read twice."""

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self._path, self._start, self.size_bytes = path, start, stop - start

    def digest(self) -> str:
        found = hashlib.sha256()
        for piece in self._pieces():
            found.update(piece)
        return found.hexdigest()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = self._pieces()
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece

    def _pieces(self) -> Iterator[bytes]:
        left = self.size_bytes
        with self._path.open("rb", 0) as file:
            file.seek(self._start)
            while left:
                if not (piece := file.read(min(PIECE_BYTES, left))):
                    message = f"{left:,} bytes of a file that had come are gone"
                    raise OSError(message)
                left -= len(piece)
                yield piece


class _Upload(NamedTuple):
    key: str
    id: str
    begun_ms: int


def _uploads(answer: bytes) -> Iterator[_Upload]:
    for found in ET.fromstring(answer).iter():  # noqa: S314 - the server that keeps all our files says it
        if found.tag.rpartition("}")[2] == "Upload":
            told = {part.tag.rpartition("}")[2]: part.text or "" for part in found}
            begun = datetime.fromisoformat(told["Initiated"])
            yield _Upload(told["Key"], told["UploadId"], int(begun.timestamp() * 1000))


def _place(path: str) -> Place | None:
    """What the name of an object says of it; ``None``: it is none of ours."""
    task, _, rest = path.partition("/")
    epoch, _, digest = rest.partition("/")
    is_ours = TASK_ID.fullmatch(task) and epoch.isdecimal() and len(digest) == _DIGEST_CHARS and digest.isalnum()
    return Place(task, int(epoch), digest) if is_ours else None


async def _expect(answer: "aiohttp.ClientResponse", *statuses: HTTPStatus) -> None:
    if answer.status in statuses:
        return
    body = await answer.content.read(4_096)
    code = body.decode("utf-8", "replace").partition("<Code>")[2].partition("</Code>")[0]
    raise BlobsAway(f"it answers {answer.status} {code}".rstrip())


@contextmanager
def _told(act: str) -> Iterator[None]:
    """What goes wrong in here is said of the S3 store, and not of whoever asked for it."""
    import aiohttp

    try:
        yield
    except (BlobsAway, FileNotFoundError):
        raise
    except (aiohttp.ClientError, TimeoutError, ET.ParseError, KeyError, ValueError) as exc:
        raise BlobsAway(f"the S3 store does not {act}: {str(exc)[:300] or type(exc).__name__}") from exc
