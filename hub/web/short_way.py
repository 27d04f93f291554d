"""The short way of single submissions that come one after the other over a connection.

Whoever submits many tasks one by one sends the same head again and again; only the idempotency key and the length
differ. What the long way (the HTTP library, ``guard.py``, ``tasks.py``) has found out about the first such request is
true of the next one, as long as it says the same, byte for byte: which route it is for, who sends it, that no browser
does. What may have changed is looked at again: whether the token counts, how often it asks, whether there is room.

Everything else goes the long way, and before anything was done: another head, a body that is not there at once, a task
that is not plain, anything that is wrong. So nothing here understands more of HTTP than two headers. The long way is
taken now and then in any case, because the library closes connections that it hears nothing of.

Requests are answered in the order in which they come: the long way is not in use while this one is (``porch.py``), and
what comes before an answer has left waits.
"""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.helpers import rfc822_formatted_time

from hub.core.access import Principal
from hub.web import forwarded, guard, problems, replies, requests
from hub.web.porch import Visitor, visitor_of
from hub.web.routing import JSON
from hub.web.services import PRINCIPAL, ROUTE, SERVICES
from protocol import schema
from protocol.api import PREFIX, Submitted, TaskSummary
from protocol.errors import AgentComError, BadInput, Unauthenticated
from protocol.logs import ABOUT
from protocol.model import TaskSpec

PATH: Final = f"{PREFIX}/tasks"
LONG_WAY_S: Final = 20.0
"""After so long a request goes the long way; much shorter than the library keeps a silent connection."""
_FIRST: Final = f"POST {PATH} HTTP/1.1".encode()
_HEADERS: Final = frozenset(
    {b"host", b"authorization", b"content-type", b"accept", b"accept-encoding", b"user-agent", b"connection"}
)
"""What a head may hold beside key and length. None of it asks for an answer of another form."""
_KEY: Final = b"idempotency-key"
_LENGTH: Final = b"content-length"
_MUST_BE: Final = {b"content-type": JSON.encode(), b"connection": b"keep-alive"}
_LONGEST_LENGTH: Final = 7
Parts = tuple[list[bytes], bytes, bytes, bytes]
"""Lines of a head without key and length, then these two lines, then the body."""


def offer(request: web.Request) -> None:
    """A single task was submitted the long way: let the next ones of this connection go the short one, if they can."""
    visitor, services = visitor_of(request.transport), request.app[SERVICES]
    if visitor is None or not visitor.is_guest or not visitor.last:
        return
    if services.tracing is not None or request[PRINCIPAL].scope.projects or guard.is_told():
        return
    if (parts := _parts(visitor.last)) is not None and all(map(_is_usual, parts[0][1:])):
        visitor.short_way = ShortWay(request, visitor, parts)
        visitor.is_settled = True


def answer_to(done: Submitted, *, is_many: bool) -> tuple[TaskSummary | Submitted, int, dict[str, str]]:
    """What answers a submission: body, status, headers."""
    headers = {"Idempotency-Replayed": "true"} if done.replayed else {}
    if is_many:
        return done, HTTPStatus.CREATED, headers
    task = done.tasks[0]
    return task, HTTPStatus.CREATED, {**headers, hdrs.LOCATION: f"{PATH}/{task.id}"}


def _is_usual(line: bytes) -> bool:
    name, value = line.partition(b":")[0].lower(), _value(line)
    return name in _HEADERS and _MUST_BE.get(name, value) == value


def _value(line: bytes) -> bytes:
    return line.partition(b":")[2].strip(b" \t")


def _parts(data: bytes) -> Parts | None:
    """A request for one submission that is whole; ``None``: it is something else, or more."""
    head, end, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    if not end or lines[0] != _FIRST:
        return None
    kept, found = [_FIRST], {_KEY: b"", _LENGTH: b""}
    for line in lines[1:]:
        name = line.partition(b":")[0].lower()
        if name not in found:
            kept.append(line)
        elif found[name]:
            return None  # twice
        else:
            found[name] = line
    length = _value(found[_LENGTH])
    if not length.isdigit() or len(length) > _LONGEST_LENGTH or int(length) != len(body):
        return None
    return kept, found[_KEY], found[_LENGTH], body


class ShortWay:
    """That of one connection; ``request`` has gone the long way and has the head of ``parts``."""

    def __init__(self, request: web.Request, visitor: Visitor, parts: Parts) -> None:
        self._app, self._visitor, self._lines = request.app, visitor, parts[0]
        self._services, self._who, self._action = request.app[SERVICES], request[PRINCIPAL], request[ROUTE].action
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + LONG_WAY_S
        is_secure = forwarded.is_secure(request)
        headers = {**guard.SECURITY_HEADERS, **guard.said_of_hub(is_secure=is_secure)}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._later = b""
        self._is_busy = False

    def take(self, data: bytes) -> bool:
        """Take what has come over the connection; ``False``: it has to go the long way."""
        if self._is_busy:
            self._later += data
            self._visitor.hold()
            return True
        if self._visitor.is_stuck or guard.is_told() or self._loop.time() > self._until:
            return False  # who is stuck asks and never reads: the long way waits before it answers more
        if (asked := self._asked(data)) is None:
            return False
        self._is_busy = True
        self._visitor.answer(self._answer(*asked))
        return True

    def _asked(self, data: bytes) -> tuple[list[TaskSpec], str | None, bytes, str] | None:
        """Tasks, key, digest and token of a request that can be answered here."""
        parts = _parts(data)
        if parts is None or parts[0] != self._lines or (who := self._counts()) is None:
            return None
        _, key, _, body = parts
        try:
            named = requests.read_key({requests.KEY_HEADER: _value(key).decode("ascii")}) if key else None
            value = msgspec.json.decode(body)
            specs, digest = self._plain(value), requests.digest_of(value)
        except (BadInput, UnicodeError, OverflowError, RecursionError, msgspec.MsgspecError):
            return None  # the long way says what is wrong
        return None if specs is None else (specs, named, digest, who.token)

    def _counts(self) -> Principal | None:
        """Who sends it, if the token still counts as it did."""
        try:
            who = self._services.access.principal(self._who.token)
        except Unauthenticated:
            return None
        return who if who is self._who else None

    def _plain(self, value: object) -> list[TaskSpec] | None:
        if not isinstance(value, Mapping) or "tasks" in value:
            return None
        return schema.read_plain([self._services.projects.inherit(value)])

    async def _answer(self, specs: list[TaskSpec], key: str | None, digest: bytes, by: str) -> None:
        request_id = guard.next_id()
        ABOUT.set({"request_id": request_id})  # in the context of this answer alone
        try:
            done = await self._submit(specs, key, digest, by)
            view, status, more = answer_to(done, is_many=False)
            answer = self._bytes(status, {hdrs.CONTENT_TYPE: JSON, **more}, replies.encode(view), request_id)
        except AgentComError as exc:
            problems.count(self._app, exc)
            answer = self._problem(problems.reply_to(exc, request_id), request_id)
        except Exception as exc:  # noqa: BLE001 - the door, as in problems.py: logged there, never hidden
            answer = self._problem(problems.unforeseen("POST", PATH, exc, request_id), request_id)
        self._visitor.write(answer)
        self._is_busy = False
        if self._later:
            later, self._later = self._later, b""
            self._visitor.hear(later)

    async def _submit(self, specs: list[TaskSpec], key: str | None, digest: bytes, by: str) -> Submitted:
        services = self._services
        services.rate_limits.ask(by, self._action)
        services.intake.check(1, by)
        return await services.intake.submit(specs, key=key, digest=digest, by=by)

    def _problem(self, response: web.Response, request_id: str) -> bytes:
        assert isinstance(response.body, bytes), "a problem document"
        headers = {name: value for name, value in response.headers.items() if name != hdrs.CONTENT_LENGTH}
        return self._bytes(response.status, headers, response.body, request_id)

    def _bytes(self, status: int, headers: Mapping[str, str], body: bytes, request_id: str) -> bytes:
        own = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        return (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{own}{self._head}X-Request-Id: {request_id}\r\n"
            f"Content-Length: {len(body)}\r\nDate: {rfc822_formatted_time()}\r\n\r\n"
        ).encode() + body
