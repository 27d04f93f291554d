"""Let confined work ask LLM endpoints without ever seeing a key.

A program finds an address of its own network and a token in its environment. Whoever asks there with that token is
passed on to the endpoint with the key of this sidecar; the token is the attempt's and worth nothing after it. Answers
come back as they are made, without any key that an endpoint may repeat. Which calls are passed on:
``sidecar/core/model_calls.py``. Redirects are not followed: they would take the key elsewhere. Caller:
``sidecar/rounds.py`` for work that needs ``llm``.
"""

import asyncio
import hmac
import importlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

import structlog

from protocol.errors import WorkFailed
from protocol.listing import headers
from protocol.model import AttemptId
from protocol.redaction import Redactor
from sidecar.core.metering import Meter
from sidecar.core.model_calls import (
    KINDS,
    PORT,
    Asked,
    asked,
    may_ask,
    passed_back,
    passed_on,
    token_in,
    uses_tokens,
    variables,
)
from sidecar.errors import LeaseOver
from sidecar.llm.account import Account
from sidecar.llm.config import EndpointSettings
from sidecar.sandbox.door import served

if TYPE_CHECKING:
    import aiohttp
    from aiohttp import ClientSession, web  # only its names: it is imported when work asks for the first time

log = structlog.get_logger(__name__)

NEED: Final = "llm"
"""What a task needs for this, and the capability of an agent that offers it."""
MAX_BODY_BYTES: Final = 32 << 20
_MOST: Final = 16
"""Requests of one attempt at a time."""
_CONNECT_S: Final = 15.0
_SILENCE_S: Final = 600.0
_CHUNK_BYTES: Final = 64 << 10


class Passages:
    """The endpoints that the owner of this host lets work ask.

    Args:
        endpoints: those of this sidecar.
        opened: the ids that the owner has listed.
        check: raises :class:`LeaseOver` if nothing may happen for an attempt any more.
    """

    def __init__(
        self,
        endpoints: Sequence[EndpointSettings] = (),
        opened: Sequence[str] = (),
        check: Callable[[AttemptId], None] = lambda _attempt: None,
    ) -> None:
        known = {entry.id: entry for entry in endpoints if entry.kind in KINDS}
        self._opened = {name: known[name] for name in opened if name in known}
        self._check = check
        self._passages: dict[AttemptId, Passage] = {}

    @property
    def are_open(self) -> bool:
        """Whether there is an endpoint that work may ask."""
        return bool(self._opened)

    def open(self, attempt: AttemptId, needs: Sequence[str], account: Account | None = None) -> "tuple[Passage, ...]":
        """The passage of an attempt, to be closed at its end; none for a task that does not need one.

        Args:
            attempt, needs: whose it is, and what its task needs.
            account: where it is written down what is asked.
        """
        if NEED not in needs or not self._opened:
            return ()
        account = account or Account()
        account.is_open = True
        self._passages[attempt] = Passage(attempt, self._opened, lambda: self._check(attempt), account)
        return (self._passages[attempt],)

    async def close(self, attempt: AttemptId) -> None:
        """The attempt is over: its token is worth nothing from now on."""
        if (passage := self._passages.pop(attempt, None)) is not None:
            await passage.close()


class Passage:
    """What the programs of one attempt ask through; a :class:`sidecar.sandbox.door.Door`."""

    port: Final = PORT

    def __init__(
        self, attempt: AttemptId, opened: dict[str, EndpointSettings], check: Callable[[], None], account: Account
    ) -> None:
        self._attempt, self._opened, self._check, self._account = attempt, opened, check, account
        self._token = secrets.token_urlsafe(32)
        self._keys = Redactor(entry.api_key for entry in opened.values() if entry.api_key)
        self._turns = asyncio.Semaphore(_MOST)
        self._clients: dict[bool, ClientSession] = {}
        self._is_closed = False
        self.variables = variables([(name, entry.kind) for name, entry in opened.items()], self._token)

    def line(self) -> AbstractAsyncContextManager[int]:
        """See :class:`sidecar.sandbox.door.Door`."""
        return served(self._serve)

    async def close(self) -> None:
        """Refuse everything from now on, and hang up."""
        self._is_closed = True
        while self._clients:
            await self._clients.popitem()[1].close()

    async def _serve(self, door: socket.socket) -> None:
        # In a thread, as a client library takes a while to import.
        porch = await asyncio.to_thread(importlib.import_module, "sidecar.llm.porch")
        server = porch.Porch(self._answer)
        # No more are let in at once than may stay.
        listening = await asyncio.get_running_loop().create_server(server, sock=door, backlog=porch.MOST)
        try:
            await asyncio.Event().wait()
        finally:
            listening.close()
            await server.shutdown(0.0)

    async def _answer(self, request: "web.BaseRequest") -> "web.StreamResponse":
        wanted = asked(request.path_qs)
        fields = {name.lower(): value for name, value in request.headers.items()}
        facts = wanted, request.method, fields, request.content_length
        status, why = self._refusal(*facts)
        if not status:
            async with self._turns:
                await self._account.booked()  # what was used before counts before the next is asked
                # Its turn may come after the end of the attempt, or of its money.
                status, why = self._refusal(*facts)
                if not status and uses_tokens(request.method, wanted.rest):
                    status, why = self._spent()
                if not status:
                    entry = self._opened[wanted.endpoint]
                    with self._account.asking():
                        status, why, answer = await self._pass_on(request, entry, wanted.rest, fields)
                    if answer is not None:
                        return answer
        log.info("llm_refused", task=self._attempt.task, endpoint=wanted.endpoint[:64], status=status, why=why)
        return _problem(status, why)

    def _refusal(self, wanted: Asked, method: str, fields: dict[str, str], size: int | None) -> tuple[int, str]:
        """The status and the reason with which a request is refused; 0 if it is not."""
        try:
            self._check()
        except LeaseOver as exc:
            return 403, str(exc)
        if self._is_closed or not hmac.compare_digest(_raw(token_in(fields)), _raw(self._token)):
            return 401, "this token is not, or no longer, that of the attempt"
        entry = self._opened.get(wanted.endpoint)
        if entry is None:
            return 404, f"the owner of this machine lets work ask {', '.join(self._opened)}"
        if not may_ask(entry.kind, method, wanted.rest):
            return 403, "this call is not passed on"
        if method == "POST" and size is None:
            return 411, "a request needs its length"
        return (413, f"at most {MAX_BODY_BYTES} bytes") if (size or 0) > MAX_BODY_BYTES else (0, "")

    def _spent(self) -> tuple[int, str]:
        try:
            self._account.refuse_if_spent()
        except WorkFailed as exc:
            return 402, str(exc)  # no library asks again after this one
        return 0, ""

    async def _pass_on(
        self, request: "web.BaseRequest", entry: EndpointSettings, rest: str, fields: dict[str, str]
    ) -> "tuple[int, str, web.StreamResponse | None]":
        import aiohttp
        from yarl import URL

        told = headers(entry.kind, entry.api_key) | passed_on(fields) | {"accept-encoding": "identity"}
        if request.content_length:
            told["content-length"] = str(request.content_length)
        body = request.content.iter_chunked(_CHUNK_BYTES) if request.content_length else None
        url = URL(entry.url.rstrip("/") + rest, encoded=True)
        try:
            async with self._client(entry).request(
                request.method, url, headers=told, data=body, allow_redirects=False
            ) as answer:
                is_metered = uses_tokens(request.method, rest) and answer.ok
                return 0, "", await self._pass_back(request, answer, entry if is_metered else None)
        except (aiohttp.ClientError, OSError) as exc:  # TimeoutError is an OSError
            why = self._keys.text(str(exc) or type(exc).__name__)
            return 502, f"{entry.id} does not answer: {why}", None

    async def _pass_back(
        self, request: "web.BaseRequest", answer: "aiohttp.ClientResponse", metered: EndpointSettings | None
    ) -> "web.StreamResponse":
        import aiohttp
        from aiohttp import web

        fields = passed_back({name.lower(): value for name, value in answer.headers.items()})
        clean = {name: self._keys.text(value, shapes=False) for name, value in fields.items()}
        response = web.StreamResponse(status=answer.status, headers=clean)
        response.enable_chunked_encoding()
        meter = Meter(request.content_length or 0)
        try:
            await response.prepare(request)
            async for piece in self._without_keys(answer.content.iter_any(), meter):
                await response.write(piece)
            await response.write_eof()
        except (aiohttp.ClientError, OSError) as exc:
            log.info("llm_broke_off", task=self._attempt.task, why=self._keys.text(str(exc) or type(exc).__name__))
            if request.transport is not None:
                request.transport.abort()  # half an answer must not look like a whole one
        else:
            log.info("llm_passed_on", task=self._attempt.task, status=answer.status)
        finally:
            if metered is not None:  # also if nobody listens any more: it was made, and will be billed
                self._account.book(metered, meter.read())
        return response

    async def _without_keys(self, pieces: AsyncIterator[bytes], meter: Meter) -> AsyncIterator[bytes]:
        stream = self._keys.stream(shapes=False)
        async for piece in pieces:  # a byte is a character here, so nothing but keys is changed
            meter.feed(piece)
            if clean := stream.feed(piece.decode("latin-1")):
                yield clean.encode("latin-1")
        if rest := stream.flush():
            yield rest.encode("latin-1")

    def _client(self, entry: EndpointSettings) -> "ClientSession":
        import aiohttp

        if entry.is_local not in self._clients:
            timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_S, sock_read=_SILENCE_S)
            # A proxy from the environment has no business between us and our own machine.
            self._clients[entry.is_local] = aiohttp.ClientSession(
                trust_env=not entry.is_local,
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._clients[entry.is_local]


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _problem(status: int, why: str) -> "web.Response":
    """In the words of both kinds, so that their tools show it."""
    from aiohttp import web

    error = {"type": "error", "error": {"type": "refused_by_sidecar", "message": why}}
    return web.json_response(error, status=status)
