"""Answers in JSON, and which form of an answer the caller wants."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web

from hub.web.routing import JSON, SSE

STALL_S: Final = 60.0
"""A sender, or a reader, that does nothing for so long is gone."""
_encoder: Final = msgspec.json.Encoder()


def json_reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:  # noqa: ANN401 - any view
    """``value`` as JSON."""
    return web.Response(body=_encoder.encode(value), status=status, content_type=JSON, headers=headers)


async def write_piece(response: web.StreamResponse, piece: bytes) -> None:
    """Send a piece of a long answer.

    Raises:
        TimeoutError: the reader takes nothing.
    """
    async with asyncio.timeout(STALL_S):
        await response.write(piece)


def encode(value: Any) -> bytes:  # noqa: ANN401 - any view
    """``value`` as one line of JSON."""
    return _encoder.encode(value)


def encode_each(values: Sequence[Any]) -> list[bytes]:
    """As :func:`encode`, for many at once."""
    return _encoder.encode_lines(values).split(b"\n")[:-1]


def wants_stream(request: web.Request, *, unless_asked: bool) -> bool:
    """Whether to answer with a stream of events or with a JSON page; ``unless_asked`` is the answer to ``*/*``."""
    accept = request.headers.get(hdrs.ACCEPT, "")
    if SSE in accept:
        return True
    return False if JSON in accept else unless_asked
