"""The form of the route table.

One list of :class:`Route` is everything that can be asked of a hub over HTTP. The router, the rights check, the OpenAPI
document and the tests of all roles against all routes are made from it, so none of them can forget a route.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiohttp import web

from protocol.bounds import MAX_WORD_CHARS
from protocol.rate_limits import Action

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
JSON: Final = "application/json"
SSE: Final = "text/event-stream"
IF_MATCH: Final = "If-Match"
MAX_PART_CHARS: Final = 512
"""A part of a path, or a parameter that does not say what it may have."""
MAX_LINE_BYTES: Final = 32 << 10
"""The first line of a request: a character takes up to twelve bytes there."""
MOST_CHOICES: Final = 256
"""Values of one parameter that may be told one by one."""


@dataclass(frozen=True, slots=True)
class Param:
    """A query parameter or header that a route understands.

    ``kind``: ``text`` (of at most ``most`` characters), ``count`` (whole number from ``least`` to ``most``), ``flag``
    (true or false), ``one`` (of ``choices``), ``choice`` (of ``choices``; may be repeated or separated by commas), or
    ``pair`` (``key:value``).
    """

    name: str
    about: str
    kind: Literal["text", "count", "flag", "one", "choice", "pair"] = "text"
    least: int = 0
    most: int = 2**63 - 1
    choices: tuple[str, ...] = ()
    where: Literal["query", "header"] = "query"

    @property
    def longest(self) -> int:
        """Characters that a text or a pair may have."""
        return min(self.most, MAX_PART_CHARS) if self.most > MAX_WORD_CHARS else self.most


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked.

    Attributes:
        permission: what the caller must hold, of ``hub.core.access.PERMISSIONS``; ``None``: it needs no token.
        request: type of the JSON body, a union where it may be one of several; ``None``: no body is read.
        response: type of the JSON answer; ``None``: it answers something else (``produces``) or nothing (status 204).
        produces: media types of the answer, the default first.
        consumes: media type of a body that is no JSON and of any size; empty: there is none.
        status: status of the answer when all is well.
        is_listed: whether the OpenAPI document tells of it.
        by_attempt: its callers show the credential of an attempt and no token; the handler looks at it.
        refuses: statuses of refusals that its form does not tell.
        is_heavy: one request costs the hub as much as hundreds of ordinary ones.
    """

    method: str
    path: str
    handler: Handler
    permission: str | None
    summary: str
    request: Any = None
    response: Any = None
    params: tuple[Param, ...] = ()
    produces: tuple[str, ...] = (JSON,)
    status: int = 200
    is_listed: bool = True
    consumes: str = ""
    by_attempt: bool = False
    is_heavy: bool = False
    refuses: tuple[int, ...] = ()

    @property
    def action(self) -> Action:
        """The class of requests whose limit it counts against."""
        if self.is_heavy:
            return Action.HEAVY
        return Action.READ if self.method == "GET" else Action.WRITE
