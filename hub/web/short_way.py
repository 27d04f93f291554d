"""The short way of submissions that come one after the other over a connection.

Whoever submits many tasks, one by one or by the hundred, sends the same head again and again; only the idempotency key
and the length differ (``alike.py``). What the long way (the HTTP library, ``guard.py``, ``tasks.py``) has found out
about the first such request is true of the next one, as long as it says the same, byte for byte: which route it is for,
who sends it, that no browser does. What may have changed is looked at again: whether the token counts, how often it
asks, whether there is room.

Everything else goes the long way, and before anything was done: another head, a task that names secrets, a body that is
long or slow. The long way is taken now and then in any case, because the library closes connections that it hears
nothing of.

Nothing waits here, and no task of the event loop is made: what comes in one turn of it is read and posted together, by
the :class:`Desk`, and answered when the store tells of it. Requests of one connection are answered in their order: the
long way is not in use while this one is (``porch.py``), and what comes before an answer has left waits.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from http import HTTPStatus
from operator import attrgetter
from typing import Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.helpers import rfc822_formatted_time

from hub.services.intake import Intake, Outcome, Submission
from hub.services.projects import Projects
from hub.web import forwarded, guard, problems, replies, requests
from hub.web.alike import Found, Head
from hub.web.porch import Visitor, visitor_of
from hub.web.routing import JSON
from hub.web.services import LIVE, PRINCIPAL, SERVICES, Services
from protocol.api import PREFIX, Submitted, TaskSummary
from protocol.errors import AgentComError, BadInput
from protocol.logs import about
from protocol.rate_limits import Action

PATH: Final = f"{PREFIX}/tasks"
LONG_WAY_S: Final = 20.0
"""After so long a request goes the long way; much shorter than the library keeps a silent connection."""
MAX_SHORT_BYTES: Final = 64 << 10
"""A body that is longer goes the long way; a turn of the event loop serves as much, and one request more at most."""
PATIENCE_S: Final = 1.0
"""So long the rest of a body is waited for here; the long way knows how long a body may take as a whole."""
ACTION: Final = Action.WRITE
"""The class of requests that a submission is one of."""
_FIRST: Final = f"POST {PATH} HTTP/1.1".encode()
_HEADERS: Final = frozenset(
    {b"host", b"authorization", b"content-type", b"accept", b"accept-encoding", b"user-agent", b"connection"}
)
"""What a head may hold beside key and length. None of it asks for an answer of another form."""
_MUST_BE: Final = {b"content-type": JSON.encode(), b"connection": b"keep-alive"}
_secrets: Final = attrgetter("secrets")
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


def offer(request: web.Request) -> None:
    """Tasks were submitted the long way: let the next ones of this connection go the short one, if they can."""
    visitor, services = visitor_of(request.transport), request.app[SERVICES]
    if visitor is None or not visitor.is_guest or not visitor.last:
        return
    if services.tracing is not None or request[PRINCIPAL].scope.projects or guard.is_told():
        return
    head = Head.of(visitor.last)
    found = None if head is None else head.read(visitor.last)
    if head is None or found is None or not _is_usual(head.lines):
        return
    if len(visitor.last) - len(found.rest) + found.size != visitor.came_bytes:
        return  # another request came with it
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


class _Begun(msgspec.Struct, gc=False):
    """A request whose body is not whole yet: what has come, how long it will be, and when nobody waits any more."""

    data: bytearray
    whole_bytes: int
    body_bytes: int
    timer: asyncio.TimerHandle


class Desk:
    """Where the requests of the short way are served: those of one turn of the event loop together."""

    def __init__(self, app: web.Application) -> None:
        self.app = app
        self._asked: list[tuple[ShortWay, Found]] = []
        self._asked_bytes = 0
        self._open, self._is_silent = 0, asyncio.Event()

    def take(self, way: "ShortWay", found: Found) -> None:
        """Serve this request soon."""
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._serve)
        self._asked.append((way, found))
        self._asked_bytes += found.size
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

    def _next(self) -> list[tuple["ShortWay", Found]]:
        """What to serve in this turn: all, if it is not so much that others would wait for long."""
        asked, self._asked = self._asked, []
        if self._asked_bytes > MAX_SHORT_BYTES:
            size, count = 0, 0
            while count < len(asked) and size < MAX_SHORT_BYTES:
                size, count = size + asked[count][1].size, count + 1
            asked, self._asked = asked[:count], asked[count:]
        if self._asked:
            asyncio.get_running_loop().call_soon(self._serve)
        self._asked_bytes = sum([found.size for _, found in self._asked]) if self._asked else 0
        return asked

    def _serve(self) -> None:
        services = self.app[SERVICES]
        who, counts = None, False
        wanted: dict[str, list[tuple[ShortWay, Found]]] = {}
        for way, found in self._next():
            if way.who is not who:  # most come from one
                who, counts = way.who, services.access.counts(way.who)
            if counts:
                wanted.setdefault(way.who.token, []).append((way, found))
            else:
                way.give_up()  # the long way says why
        for by, asked in wanted.items():
            self._take_in(services, by, asked)

    def _take_in(self, services: Services, by: str, asked: list[tuple["ShortWay", Found]]) -> None:
        """What one caller submits; each is counted before it is read, so that who asks too often costs little."""
        if not services.rate_limits.ask_all(by, ACTION, len(asked)):
            asked = [(way, found) for way, found in asked if self._may_pass(way)]
        refusal = _no_room(services.intake, by)
        submissions: list[Submission] = []
        for way, found in asked:
            try:
                read = refusal or _read(way, found, services.projects)
            except Exception as exc:  # noqa: BLE001 - the door, as in problems.py: told there, and the others are served
                way.done(exc)
                continue
            if read is None:
                services.rate_limits.give_back(by, ACTION)  # the long way counts it itself
                way.give_up()  # it names secrets, or the long way has to say what is wrong
                continue
            way.was_read()
            if isinstance(read, Submission):
                submissions.append(read)
            else:
                way.done(read)
        services.intake.post(submissions, is_checked=True)

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
        self._live = request.app[LIVE]
        self._until = self._loop.time() + LONG_WAY_S
        headers = {**guard.SECURITY_HEADERS, **guard.said_of_hub(is_secure=forwarded.is_secure(request))}
        self._said = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._created = f"HTTP/1.1 201 Created\r\n{hdrs.CONTENT_TYPE}: {JSON}\r\n"
        # Of the request in hand:
        self.request_id, self.is_many = "", False
        self._is_busy = False
        self._in_hand = self._later = b""  # it, until it was read; what has come after it
        self._begun: _Begun | None = None

    def take(self, data: bytes) -> bytes:
        """Take what has come over the connection; what has to go the long way is given back."""
        if self._is_busy:
            self._later += data
            self._visitor.hold()
            return b""
        if self._begun is not None:
            self._begun.data += data
            if len(self._begun.data) < self._begun.whole_bytes:
                return b""
            data = self._end_begun()
        if self._visitor.is_stuck or guard.is_told() or self._loop.time() > self._until:
            return data  # who is stuck asks and never reads: the long way waits before it answers more
        found = self._head.read(data)
        if found is None or found.size > MAX_SHORT_BYTES:
            return data
        more = len(found.rest) - found.size
        if more < 0:
            return b"" if self._begin(data, found.size, -more) else data
        self._is_busy, self._in_hand = True, data
        if more:
            self._later = found.rest[found.size :]
            self._in_hand = data[:-more]
            self._visitor.hold()
        self.request_id = guard.next_id()
        self._desk.take(self, found)
        return b""

    def _begin(self, data: bytes, body_bytes: int, lacks_bytes: int) -> bool:
        """Wait for the rest of a body, if there is room for it: it counts as on the long way."""
        if self._live.body_bytes + body_bytes > requests.MAX_BODIES_BYTES:
            return False
        self._live.body_bytes += body_bytes
        timer = self._loop.call_later(PATIENCE_S, self._lose_patience)
        self._begun = _Begun(bytearray(data), len(data) + lacks_bytes, body_bytes, timer)
        return True

    def _end_begun(self) -> bytes:
        begun, self._begun = self._begun, None
        assert begun is not None, "a request has begun"
        begun.timer.cancel()
        self._live.body_bytes -= begun.body_bytes
        return bytes(begun.data)

    def _lose_patience(self) -> None:
        self._visitor.go_long(self._end_begun())

    def leave(self) -> None:
        """Its connection is gone."""
        if self._begun is not None:
            self._end_begun()

    def was_read(self) -> None:
        """The request in hand need not go the long way any more: what waits for the disk waits in its stored form."""
        self._in_hand = b""

    def give_up(self) -> None:
        """Let the request in hand go the long way, and what came behind it."""
        data, self._in_hand, self._later = self._in_hand + self._later, b"", b""
        self._is_busy = False
        self._desk.answered()
        self._visitor.go_long(data)

    def done(self, outcome: Outcome) -> None:
        """Answer the request in hand: ``outcome`` is what came of it."""
        if isinstance(outcome, Submitted) and not outcome.replayed and self.is_many:
            answer = self._whole(self._created, replies.encode(outcome))
        elif isinstance(outcome, Submitted) and not outcome.replayed:
            task = outcome.tasks[0]
            answer = self._whole(f"{self._created}{hdrs.LOCATION}: {PATH}/{task.id}\r\n", replies.encode(task))
        elif isinstance(outcome, Submitted):
            view, status, more = answer_to(outcome, is_many=self.is_many)
            answer = self._bytes(status, {hdrs.CONTENT_TYPE: JSON, **more}, replies.encode(view))
        else:
            answer = self._problem(outcome)
        self._visitor.answer(answer)
        self._is_busy, self._in_hand = False, b""
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


def _no_room(intake: Intake, by: str) -> AgentComError | None:
    """Why nothing of a caller comes in now: a hub that has no room does no work for what it refuses."""
    try:
        intake.check(1, by)
    except AgentComError as exc:
        return exc
    return None


def _read(way: ShortWay, found: Found, projects: Projects) -> Submission | BadInput | None:
    """The request as a submission, or what is wrong with it, if it can be answered here."""
    body = found.rest if len(found.rest) == found.size else found.rest[: found.size]
    try:
        key = None if found.key is None else found.key.decode("ascii")
        value = requests.parsed(body, JSON)
        way.is_many = requests.is_batch(value)
        digest = b"" if key is None else requests.digest_of(value)
        try:
            specs = requests.read_specs(projects.inherit(value))
        except BadInput:
            requests.digest_of(value)  # the long way stumbles over what has none before it says what is wrong
            raise
        if any(map(_secrets, specs)):
            return None
        key = None if key is None else requests.checked_key(key)
    except BadInput as exc:
        return exc
    except (UnicodeError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None
    return Submission(specs, key, digest, way.who.token, way.done)
