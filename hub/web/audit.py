"""The audit log: who decided what, look through it, take it away."""

from datetime import datetime
from typing import Final

from aiohttp import web

from hub.core.audit import Head
from hub.store.audit_changes import AuditQuery
from hub.web import requests
from hub.web.replies import json_reply
from hub.web.routing import Param, Route
from hub.web.services import SERVICES
from protocol.api import PREFIX
from protocol.audit import AuditLines, AuditList, AuditVerdict
from protocol.errors import BadInput, Problem

_HASH_CHARS: Final = 64
_MAX_DIGITS: Final = 18


async def index(request: web.Request) -> web.StreamResponse:
    """A page of decisions, the newest first."""
    asked = requests.query(request)
    query = AuditQuery(
        since_ms=_ms(asked.get("since"), "since") or 0,
        until_ms=_ms(asked.get("until"), "until") or 2**62,
        actor=asked.get("actor", ""),
        action=asked.get("action", ""),
        subject=asked.get("subject", ""),
        before=_number(asked.get("cursor"), 2**62),
        limit=asked.get("limit", 100),
    )
    return json_reply(await request.app[SERVICES].audit.list(query))


async def entries(request: web.Request) -> web.StreamResponse:
    """All entries, the oldest first, with the words that their hashes are made of."""
    asked = requests.query(request)
    return json_reply(
        await request.app[SERVICES].audit.lines(_number(asked.get("cursor"), 0), asked.get("limit", 1000))
    )


async def verify(request: web.Request) -> web.StreamResponse:
    """Look through the whole log."""
    asked = requests.query(request)
    return json_reply(await request.app[SERVICES].audit.verify(_anchor(asked.get("seq"), asked.get("hash", ""))))


def _anchor(seq: int | None, text: str) -> Head | None:
    if seq is None and not text:
        return None
    try:
        hash_ = bytes.fromhex(text)
    except ValueError:
        hash_ = b""
    if seq is None or 2 * len(hash_) != _HASH_CHARS:
        raise BadInput([Problem("hash", f"an anchor is a number (seq) and a hash of {_HASH_CHARS} digits")], "query")
    return Head(seq, hash_)


def _number(cursor: str | None, first: int) -> int:
    if not cursor:
        return first
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= _MAX_DIGITS):
        raise BadInput([Problem("cursor", f"{cursor[:40]!r} is not the next_cursor of a page")], "query")
    return int(cursor)


def _ms(text: str | None, name: str) -> int | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput([Problem(name, f"{text[:40]!r} is not a time like 2026-01-31T12:00:00Z")], "query") from None
    if at.tzinfo is None:
        raise BadInput([Problem(name, f"{text[:40]!r} has no time zone; end it with Z")], "query")
    return max(0, int(at.timestamp() * 1000))


_PLACE: Final = f"{PREFIX}/audit"
_LIST: Final = (
    Param("since", "Only decisions from this time on (RFC 3339)"),
    Param("until", "Only decisions before this time (RFC 3339)"),
    Param("actor", "Only those of this token (its id)"),
    Param("action", "Only this action (task.cancel), or all of a kind (task)"),
    Param("subject", "Only those about this task, agent, token, project, endpoint or budget"),
    Param("limit", "Entries on a page", "count", least=1, most=1000),
    Param("cursor", "The next_cursor of the page before"),
)
_ALL: Final = (
    Param("limit", "Entries on a page", "count", least=1, most=5000),
    Param("cursor", "The next_cursor of the page before"),
)
_ANCHOR: Final = (
    Param("seq", "Number of an entry that you have kept", "count", least=1),
    Param("hash", "The hash that it had"),
)
ROUTES: Final = (
    Route("GET", _PLACE, index, "audit:read", "Who decided what, newest first", None, AuditList, _LIST),
    Route("GET", f"{_PLACE}/entries", entries, "audit:read", "The whole audit log, to be kept", None, AuditLines, _ALL),
    Route("GET", f"{_PLACE}/verify", verify, "audit:read", "Look through the audit log", None, AuditVerdict, _ANCHOR),
)
