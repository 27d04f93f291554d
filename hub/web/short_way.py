"""The short way of single submissions that come one after the other over a connection.

Whoever submits many tasks one by one sends the same head again and again; only the idempotency key and the length
differ (``alike.py``). What the long way (the HTTP library, ``guard.py``, ``tasks.py``) has found out about the first
such request is true of the next one, as long as it says the same, byte for byte: which route it is for, who sends it,
that no browser does. What may have changed is looked at again: whether the token counts, how often it asks, whether
there is room.

Everything else goes the long way, and before anything was done: another head, a task that names secrets, anything that
is wrong. The long way is taken now and then in any case, because the library closes connections that it hears nothing
of.

Nothing waits here, and no task of the event loop is made: what comes in one turn of it is read and posted together, by
the :class:`Desk`, and answered when the store tells of it. Requests of one connection are answered in their order: the
long way is not in use while this one is (``porch.py``), and what comes before an answer has left waits.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.helpers import rfc822_formatted_time

from hub.core.access import Principal
from hub.services.intake import Outcome, Submission
from hub.services.projects import Projects
from hub.web import forwarded, guard, problems, replies, requests
from hub.web.alike import Found, Head
from hub.web.porch import MAX_SHORT_BYTES, Visitor, visitor_of
from hub.web.routing import JSON
from hub.web.services import PRINCIPAL, SERVICES
from protocol import schema
from protocol.api import PREFIX, Submitted, TaskSummary
from protocol.errors import AgentComError, BadInput, Unauthenticated
from protocol.logs import about
from protocol.rate_limits import Action

PATH: Final = f"{PREFIX}/tasks"
LONG_WAY_S: Final = 20.0
"""After so long a request goes the long way; much shorter than the library keeps a silent connection."""
ACTION: Final = Action.WRITE
"""The class of requests that a submission is one of."""
_FIRST: Final = f"POST {PATH} HTTP/1.1".encode()
_HEADERS: Final = frozenset(
    {b"host", b"authorization", b"content-type", b"accept", b"accept-encoding", b"user-agent", b"connection"}
)
"""What a head may hold beside key and length. None of it asks for an answer of another form."""
_MUST_BE: Final = {b"content-type": JSON.encode(), b"connection": b"keep-alive"}
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


def offer(request: web.Request) -> None:
    """A single task was submitted the long way: let the next ones of this connection go the short one, if they can."""
    visitor, services = visitor_of(request.transport), request.app[SERVICES]
    if visitor is None or not visitor.is_guest or not visitor.last:
        return
    if services.tracing is not None or request[PRINCIPAL].scope.projects or guard.is_told():
        return
    head = Head.of(visitor.last)
    found = None if head is None else head.read(visitor.last)
    if head is None or found is None or not found.is_whole or not _is_usual(head.lines):
        return
    # Beside the first line: those of the head, the length, and the key if there is one.
    if len(request.raw_headers) == len(head.lines) + (found.key is not None):
        visitor.short_way = ShortWay(request, visitor, head)
        visitor.is_settled = True


def answer_to(done: Submitted, *, is_many: bool) -> tuple[TaskSummary | Submitted, int, dict[str, str]]:
    """What answers a submission: body, status, headers."""
    headers = {"Idempotency-Replayed": "true"} if done.replayed else {}
    if is_many:
        return done, HTTPStatus.CREATED, headers
    task = done.tasks[0]
    return task, HTTPStatus.CREATED, {**headers, hdrs.LOCATION: f"{PATH}/{task.id}"}


def _is_usual(lines: list[bytes]) -> bool:
    """Whether a head without key and length is one of which everything is known that matters."""
    return lines[0] == _FIRST and all(map(_is_usual_line, lines[1:]))


def _is_usual_line(line: bytes) -> bool:
    name, _, value = line.partition(b":")
    name, value = name.lower(), value.strip(b" \t")
    return name in _HEADERS and _MUST_BE.get(name, value) == value


class Desk:
    """Where the requests of the short way are served: those of one turn of the event loop together."""

    def __init__(self, app: web.Application) -> None:
        self.app = app
        self._asked: list[tuple[ShortWay, Found]] = []
        self._open, self._is_silent = 0, asyncio.Event()

    def take(self, way: "ShortWay", found: Found) -> None:
        """Serve this request soon."""
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._serve)
        self._asked.append((way, found))
        self._open += 1

    def answered(self) -> None:
        """One of them was."""
        self._open -= 1
        if not self._open:
            self._is_silent.set()

    async def silent(self, seconds: float) -> None:
        """Wait until all of them were answered, at most so long."""
        if self._open:
            self._is_silent.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_silent.wait(), seconds)

    def _serve(self) -> None:
        asked, self._asked = self._asked, []
        services, who, counts, refusal = self.app[SERVICES], None, False, None
        wanted: dict[str, list[tuple[ShortWay, Submission | AgentComError]]] = {}
        for way, found in asked:
            if way.who is not who:  # most come from one
                who, counts = way.who, self._counts(way.who)
                refusal = self._no_room(who) if counts else None
            try:
                read = refusal or (_read(way, found, services.projects) if counts else None)
            except Exception as exc:  # noqa: BLE001 - the door, as in problems.py: told there, and the others are served
                way.done(exc)
                continue
            if read is None:
                way.give_up()  # the long way says what is wrong
            else:
                wanted.setdefault(way.who.token, []).append((way, read))
        for by, reads in wanted.items():
            is_all = services.rate_limits.ask_all(by, ACTION, len(reads))
            passed = reads if is_all else [(way, read) for way, read in reads if self._may_pass(way)]
            for way, read in passed:
                if isinstance(read, AgentComError):
                    way.done(read)
            services.intake.post([read for _, read in passed if isinstance(read, Submission)])

    def _no_room(self, who: Principal) -> AgentComError | None:
        """Why nothing of a caller comes in now: a hub that has no room does no work for what it refuses."""
        try:
            self.app[SERVICES].intake.check(1, who.token)
        except AgentComError as exc:
            return exc
        return None

    def _counts(self, who: Principal) -> bool:
        """Whether a token counts as it did."""
        try:
            return self.app[SERVICES].access.principal(who.token) is who
        except Unauthenticated:
            return False

    def _may_pass(self, way: "ShortWay") -> bool:
        try:
            with about(request_id=way.request_id):
                self.app[SERVICES].rate_limits.ask(way.who.token, ACTION)
        except AgentComError as exc:
            way.done(exc)
            return False
        return True


DESK: Final = web.AppKey("desk", Desk)


class ShortWay:
    """That of one connection; ``request`` has gone the long way and has this head."""

    def __init__(self, request: web.Request, visitor: Visitor, head: Head) -> None:
        self._desk, self._visitor, self._head, self.who = request.app[DESK], visitor, head, request[PRINCIPAL]
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + LONG_WAY_S
        headers = {**guard.SECURITY_HEADERS, **guard.said_of_hub(is_secure=forwarded.is_secure(request))}
        self._said = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._created = f"HTTP/1.1 201 Created\r\n{hdrs.CONTENT_TYPE}: {JSON}\r\n{hdrs.LOCATION}: {PATH}/"
        self.request_id = ""  # of the request in hand
        # A request whose body is not here yet; the one that is being answered; what has come after that.
        self._begun = self._in_hand = self._later = b""

    def take(self, data: bytes) -> bytes:
        """Take what has come over the connection; what has to go the long way is given back."""
        if self._in_hand:
            self._later += data
            self._visitor.hold()
            return b""
        if self._begun:
            data, self._begun = self._begun + data, b""
        if self._visitor.is_stuck or guard.is_told() or self._loop.time() > self._until:
            return data  # who is stuck asks and never reads: the long way waits before it answers more
        found = self._head.read(data)
        if found is None:
            return data
        more = len(found.rest) - found.size
        if more < 0:
            if len(data) > MAX_SHORT_BYTES:
                return data
            self._begun = data
            return b""
        self._in_hand = data
        if more:
            self._later = found.rest[found.size :]
            self._in_hand = data[:-more]
            self._visitor.hold()
        self.request_id = guard.next_id()
        self._desk.take(self, found)
        return b""

    def give_up(self) -> None:
        """Let the request in hand go the long way, and what came behind it."""
        data, self._in_hand, self._later = self._in_hand + self._later, b"", b""
        self._desk.answered()
        self._visitor.go_long(data)

    def done(self, outcome: Outcome) -> None:
        """Answer the request in hand: ``outcome`` is what came of it."""
        if isinstance(outcome, Submitted) and not outcome.replayed:
            task = outcome.tasks[0]
            answer = self._whole(f"{self._created}{task.id}\r\n", replies.encode(task))
        elif isinstance(outcome, Submitted):
            view, status, more = answer_to(outcome, is_many=False)
            answer = self._bytes(status, {hdrs.CONTENT_TYPE: JSON, **more}, replies.encode(view))
        else:
            answer = self._problem(outcome)
        self._visitor.answer(answer)
        self._in_hand = b""
        self._desk.answered()
        if self._later:
            later, self._later = self._later, b""
            self._visitor.hear(later)

    def _problem(self, error: Exception) -> bytes:
        if isinstance(error, AgentComError):
            problems.count(self._desk.app, error)
            response = problems.reply_to(error, self.request_id)
        else:
            with about(request_id=self.request_id):
                response = problems.unforeseen("POST", PATH, error, self.request_id)
        assert isinstance(response.body, bytes), "a problem document"
        headers = {name: value for name, value in response.headers.items() if name != hdrs.CONTENT_LENGTH}
        return self._bytes(response.status, headers, response.body)

    def _bytes(self, status: int, headers: Mapping[str, str], body: bytes) -> bytes:
        own = ""
        for name, value in headers.items():
            own += f"{name}: {value}\r\n"
        return self._whole(f"HTTP/1.1 {status} {_PHRASES[status]}\r\n{own}", body)

    def _whole(self, begin: str, body: bytes) -> bytes:
        return (
            f"{begin}{self._said}X-Request-Id: {self.request_id}\r\n"
            f"Content-Length: {len(body)}\r\nDate: {rfc822_formatted_time()}\r\n\r\n"
        ).encode() + body


def _read(way: ShortWay, found: Found, projects: Projects) -> Submission | None:
    """The request as a submission, if it can be answered here."""
    body = found.rest if len(found.rest) == found.size else found.rest[: found.size]
    try:
        key = None if found.key is None else requests.checked_key(found.key.decode("ascii"))
        value = msgspec.json.decode(body)
        if not isinstance(value, dict) or "tasks" in value:
            return None
        whole = projects.inherit(value)
        specs = schema.read_plain([whole])
        if specs is None:
            spec, _ = schema.read_spec(whole)
            specs = None if spec is None or spec.secrets else [spec]
        digest = b"" if key is None else requests.digest_of(value)
    except (BadInput, UnicodeError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None
    return None if specs is None else Submission(specs, key, digest, way.who.token, way.done)
