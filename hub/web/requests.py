"""What callers send, read strictly: bodies, query parameters, headers.

Every problem of a request is found before it is refused; what is not understood is an error that names what would be.
"""

import asyncio
import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import hdrs, web
from msgspec import Struct
from multidict import MultiMapping

from hub.web.problems import BodyTooLarge, InvalidJson, WrongMediaType
from hub.web.routing import JSON, MOST_CHOICES, Param
from hub.web.services import LIVE, ROUTE
from protocol import schema
from protocol.errors import BadInput, NotFound, Overloaded, Problem
from protocol.ids import TASK_ID
from protocol.limits import MAX_BATCH_TASKS, MAX_BODY_BYTES, MAX_IDEMPOTENCY_KEY_CHARS
from protocol.model import TaskSpec

T = TypeVar("T", bound=Struct)
KEY_HEADER: Final = "Idempotency-Key"
BODY_S: Final = 60.0
"""How long a body may take to come."""
MAX_BODIES_BYTES: Final = 256 << 20
"""All bodies that are being read; one of unknown length counts as large as any may be."""
_BUSY_S: Final = 2.0
# What `curl -d` and plain HTTP libraries say when nobody told them better. If it parses as JSON, it was meant as JSON.
_LENIENT: Final = frozenset(
    {"", "text/plain", "text/json", "application/x-www-form-urlencoded", "application/octet-stream"}
)
_ordered: Final = msgspec.json.Encoder(order="deterministic").encode
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})
_BYTE: Final = re.compile(r"\(byte (\d+)\)")
_SHOWN_PROBLEMS: Final = 1_000
_COUNT: Final = re.compile(r"-?[0-9]{1,19}")


async def raw_body(request: web.Request, most_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The body.

    Raises:
        BodyTooLarge: it is over the limit; no more of it than that was read.
        Overloaded: the bodies that are being read already fill the memory that is meant for them.
        HTTPRequestTimeout: it did not come.
    """
    size_bytes = request.content_length
    if size_bytes is not None and size_bytes > most_bytes:
        raise BodyTooLarge(most_bytes)
    if size_bytes is None or hdrs.CONTENT_ENCODING in request.headers:
        size_bytes = MAX_BODY_BYTES  # nobody knows before it is here
    if request.content.is_eof():
        return await _whole(request)  # it came together with the head: there is nothing to wait for
    live = request.app[LIVE]
    if live.body_bytes + size_bytes > MAX_BODIES_BYTES:
        raise Overloaded(f"{live.body_bytes} bytes of other requests are being read", _BUSY_S)
    live.body_bytes += size_bytes
    try:
        async with asyncio.timeout(BODY_S):
            return await _whole(request)
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body did not come within {BODY_S:g} s") from None
    finally:
        live.body_bytes -= size_bytes


async def _whole(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise BodyTooLarge(MAX_BODY_BYTES) from None


async def json_body(request: web.Request) -> Any:  # noqa: ANN401 - any JSON value
    """The body as a JSON value.

    Raises:
        BodyTooLarge, WrongMediaType, InvalidJson: it is none.
    """
    return parsed(await raw_body(request), _media_type(request))


async def body(request: web.Request, shape: type[T], what: str) -> T:
    """The body as ``shape``.

    Raises:
        BadInput: it is none; every problem of type is listed.
    """
    return shaped(await raw_body(request), _media_type(request), shape, what)


async def optional_body(request: web.Request, shape: type[T], what: str) -> T:
    """The body as ``shape``; without a body its defaults."""
    raw = await raw_body(request)
    return shaped(raw, _media_type(request), shape, what) if raw.strip() else shape()


def shaped(raw: bytes, media_type: str, shape: type[T], what: str) -> T:
    """``raw`` as ``shape``; see :func:`body`."""
    return schema.read(parsed(raw, media_type), shape, what)


def parsed(raw: bytes, media_type: str) -> Any:  # noqa: ANN401 - any JSON value
    """``raw`` as a JSON value; ``media_type`` is what the caller says it is.

    Raises:
        WrongMediaType: it is said to be something else, and does not look like JSON either.
        InvalidJson: it is not JSON; the error has line and column.
    """
    if media_type not in _LENIENT and media_type != JSON and not media_type.endswith("+json"):
        raise WrongMediaType(media_type)
    if not raw.strip():
        raise InvalidJson("the body is empty; send a JSON object", 1, 1)
    if media_type == "application/x-www-form-urlencoded" and raw.lstrip()[:1] not in b"{[":
        raise WrongMediaType(media_type)
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise _invalid(raw, exc) from exc


def _invalid(raw: bytes, exc: Exception) -> InvalidJson:
    if isinstance(exc, RecursionError):
        return InvalidJson("nested too deeply", 1, 1)
    try:
        json.loads(raw)  # slower, but it knows the place
    except json.JSONDecodeError as told:
        return InvalidJson(told.msg, told.lineno, told.colno)
    except (UnicodeDecodeError, RecursionError, ValueError):
        pass
    match = _BYTE.search(str(exc))
    before = raw[: int(match[1])] if match else b""
    problem = "not UTF-8" if isinstance(exc, UnicodeDecodeError) else str(exc).partition(" (byte")[0]
    return InvalidJson(problem, before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1)


def _media_type(request: web.Request) -> str:
    said = request.headers.get(hdrs.CONTENT_TYPE)
    return JSON if said == JSON else "" if said is None else request.content_type.lower()


def is_batch(value: object) -> bool:
    """Whether the body holds many tasks."""
    return isinstance(value, dict) and "tasks" in value


def read_specs(value: object) -> list[TaskSpec]:
    """The task specs of a body.

    Raises:
        BadInput: anything is wrong with any of them; all problems of all of them are listed.
    """
    if not isinstance(value, dict):
        raise BadInput([Problem("", 'expected a task or {"tasks": [...]}')], "body")
    if not is_batch(value):
        if (plain := schema.read_plain([value])) is not None:
            return plain
        spec, problems = schema.read_spec(value)
        if spec is None:
            raise BadInput(problems, "task")
        return [spec]
    entries = value["tasks"]
    problems = [
        Problem(str(name)[:60], "unknown field beside tasks; put it into each task")
        for name in value
        if name != "tasks"
    ]
    if not isinstance(entries, list):
        problems.append(Problem("tasks", "expected a list of tasks"))
    elif not 1 <= len(entries) <= MAX_BATCH_TASKS:
        problems.append(Problem("tasks", f"{len(entries):,} tasks; from 1 to {MAX_BATCH_TASKS:,} in one batch"))
    if problems:
        raise BadInput(problems, "batch")
    return _read_all(entries)


def _read_all(entries: list[Any]) -> list[TaskSpec]:
    if (plain := schema.read_plain(entries)) is not None:
        return plain
    specs: list[TaskSpec] = []
    problems: list[Problem] = []
    for number, entry in enumerate(entries):
        spec, found = schema.read_spec(entry, f"tasks[{number}]")
        problems.extend(found)
        if spec is not None:
            specs.append(spec)
    if len(problems) > _SHOWN_PROBLEMS:
        more = len(problems) - _SHOWN_PROBLEMS
        problems = [*problems[:_SHOWN_PROBLEMS], Problem("tasks", f"and {more:,} more problems like these")]
    if problems:
        raise BadInput(problems, "batch")
    return specs


def digest_of(value: object) -> bytes:
    """What tells one body from another, however it is written."""
    return hashlib.sha256(_ordered(value)).digest()


def read_key(headers: Mapping[str, str]) -> str | None:
    """The idempotency key, if there is one.

    Raises:
        BadInput: it is empty, too long, or not printable ASCII.
    """
    key = headers.get(KEY_HEADER)
    return None if key is None else checked_key(key)


def checked_key(key: str) -> str:
    """The idempotency key that a caller has named.

    Raises:
        BadInput: it is empty, too long, or not printable ASCII.
    """
    if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY_CHARS or not key.isascii() or not key.isprintable():
        wanted = f"expected 1 to {MAX_IDEMPOTENCY_KEY_CHARS} printable ASCII characters, found {len(key)}"
        raise BadInput([Problem(f"header {KEY_HEADER}", wanted)], "request")
    return key


def task_id(request: web.Request) -> str:
    """The task id in the path.

    Raises:
        NotFound: no task can have it.
    """
    found = request.match_info["id"]
    if not TASK_ID.fullmatch(found):
        raise NotFound("task", found[:100])
    return found


def query(request: web.Request) -> Mapping[str, Any]:
    """The query parameters by name; one that was not sent is not in there.

    As their kinds say: ``text`` and ``one`` str, ``count`` int, ``flag`` bool, ``choice`` a frozenset of str, ``pair``
    two str.

    Raises:
        BadInput: one is not understood; every problem is listed.
    """
    params = {param.name: param for param in request[ROUTE].params if param.where == "query"}
    return read_query(request.query, params)


def read_query(sent: MultiMapping[str], params: Mapping[str, Param]) -> dict[str, Any]:
    """:func:`query` on ``sent`` (a multidict)."""
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    for name in dict.fromkeys(sent):
        param = params.get(name)
        texts = sent.getall(name)
        if param is None:
            problems.append(Problem(f"query {name[:60]}", _unknown(name, params)))
        elif len(texts) > 1 and param.kind != "choice":
            problems.append(Problem(f"query {name}", f"given {len(texts)} times; once is enough"))
        else:
            value = _too_long(param, texts) or _read(param, texts)
            if isinstance(value, Problem):
                problems.append(value)
            else:
                found[name] = value
    if problems:
        raise BadInput(problems, "query")
    return found


def _too_long(param: Param, texts: list[str]) -> Problem | None:
    if param.kind in {"text", "pair"} and len(texts[0]) > param.longest:
        return Problem(f"query {param.name}", f"{len(texts[0]):,} characters; at most {param.longest:,}")
    count = sum(text.count(",") + 1 for text in texts)
    if param.kind == "choice" and count > MOST_CHOICES:
        return Problem(f"query {param.name}", f"{count:,} values; at most {MOST_CHOICES}")
    return None


def _unknown(name: str, params: Mapping[str, Param]) -> str:
    if not params:
        return "unknown parameter; this takes none"
    near = difflib.get_close_matches(name, params, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown parameter; known: {', '.join(sorted(params))}{hint}"


def _read(param: Param, texts: list[str]) -> Any:  # noqa: ANN401, PLR0911 - one return a kind
    text = texts[0]
    where = f"query {param.name}"
    if param.kind == "count":
        number = int(text) if _COUNT.fullmatch(text) else None
        if number is None or not param.least <= number <= param.most:
            return Problem(where, f"expected a whole number from {param.least} to {param.most}, found {text[:60]!r}")
        return number
    if param.kind == "flag":
        if text.lower() not in _TRUE | _FALSE:
            return Problem(where, f"expected true or false, found {text[:60]!r}")
        return text.lower() in _TRUE
    if param.kind == "one":
        return (
            text
            if text in param.choices
            else Problem(where, f"expected {' or '.join(param.choices)}, found {text[:60]!r}")
        )
    if param.kind == "choice":
        chosen = [part.strip() for one in texts for part in one.split(",")]
        bad = [part for part in chosen if part not in param.choices]
        if bad:
            return Problem(where, f"expected {', '.join(param.choices)}, found {bad[0][:60]!r}")
        return frozenset(chosen)
    if param.kind == "pair":
        key, colon, value = text.partition(":")
        if not colon or not key:
            return Problem(where, f"expected key:value, found {text[:60]!r}")
        return key, value
    return text


def moments(asked: Mapping[str, Any], *names: str) -> list[int | None]:
    """Times among the parameters, as Unix seconds; ``None`` for one that was left out.

    Raises:
        BadInput: one is none; every problem is listed.
    """
    problems: list[Problem] = []
    found = [_moment(asked, name, problems) for name in names]
    if problems:
        raise BadInput(problems, "query")
    return found


def _moment(asked: Mapping[str, Any], name: str, problems: list[Problem]) -> int | None:
    """A time as Unix seconds."""
    if (text := asked.get(name)) is None:
        return None
    try:
        return int(datetime.fromisoformat(text.replace(" ", "+")).timestamp())  # a plus in an address is a blank
    except (ValueError, OverflowError):
        problems.append(Problem(f"query {name}", f"expected a time like 2026-01-31T09:00:00Z, found {text[:60]!r}"))
        return None
