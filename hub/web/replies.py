"""Answers in JSON, and which form of an answer the caller wants."""

from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from hub.web.routing import JSON, SSE

_encoder: Final = msgspec.json.Encoder()


def json_reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:  # noqa: ANN401 - any view
    """``value`` as JSON."""
    return web.Response(body=_encoder.encode(value), status=status, content_type=JSON, headers=headers)


def encode(value: Any) -> bytes:  # noqa: ANN401 - any view
    """``value`` as one line of JSON."""
    return _encoder.encode(value)


def wants_stream(request: web.Request, *, unless_asked: bool) -> bool:
    """Whether to answer with a stream of events or with a JSON page; ``unless_asked`` is the answer to ``*/*``."""
    accept = request.headers.get(hdrs.ACCEPT, "")
    if SSE in accept:
        return True
    return False if JSON in accept else unless_asked
