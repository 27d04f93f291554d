"""Turn what a hub answers into values and errors.

An error keeps its place in the one tree of :mod:`protocol.errors` across the network: the hub raises ``NotFound``, the
client raises ``NotFound``, with the hub's own words. Called by ``agentcom/transport.py`` and ``brief.py``.
"""

from functools import cache
from typing import Final, TypeVar, cast

import msgspec

from protocol.api import PROBLEM_TYPE, ProblemDocument
from protocol.errors import (
    AgentComError,
    BadInput,
    Conflict,
    HubUnreachable,
    NotFound,
    Problem,
    Refused,
    Unauthenticated,
    Unavailable,
)

T = TypeVar("T")
_BY_STATUS: Final[dict[int, type[AgentComError]]] = {
    400: BadInput,
    401: Unauthenticated,
    403: Refused,
    404: NotFound,
    405: BadInput,
    409: Conflict,
    413: BadInput,
    415: BadInput,
    421: Refused,
    422: BadInput,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: Unavailable,
}
_NO_CONTENT, _MULTIPLE_CHOICES, _BAD_REQUEST = 204, 300, 400
HOW_TO_START: Final = "start one here with 'agentcom up', or say where one is with --hub or AGENTCOM_HUB"


class Answered:
    """What all errors that a hub answered have beside their class.

    ``document`` is the hub's own. ``problems`` and ``what`` are there for :class:`BadInput`, ``why`` and
    ``retry_after_s`` for :class:`Unavailable`; other fields of the classes do not cross the network.
    """

    def __init__(self, document: ProblemDocument, retry_after_s: float | None) -> None:
        self.document = document
        self.code, self.retryable = document.code, document.retryable
        self.problems = list(document.errors) or [Problem("", document.detail)]
        self.what = document.detail.partition(" has ")[0]
        self.why, self.retry_after_s = document.detail, retry_after_s
        Exception.__init__(cast("Exception", self), document.detail)

    def __str__(self) -> str:
        return self.document.detail


class NoHub(HubUnreachable):
    """What answers there is no hub that this client can talk to: asking again does not help."""

    retryable = False


class LostAnswer(HubUnreachable):
    """The connection ended after the request was sent: it may or may not have been done."""


def error_from(document: ProblemDocument, retry_after_s: float | None = None) -> AgentComError:
    """The error that a problem document tells of: the class with its ``code``, else the one that fits its status."""
    kind = _by_code().get(document.code) or _BY_STATUS.get(document.status, AgentComError)
    return _answered(kind)(document, retry_after_s)


@cache
def _by_code() -> dict[str, type[AgentComError]]:
    kinds: list[type[AgentComError]] = [AgentComError]
    for kind in kinds:
        kinds.extend(k for k in kind.__subclasses__() if k.__module__.startswith("protocol."))
    # Sending again is decided by what the client saw, so a hub never answers "the hub is unreachable".
    return {kind.code: kind for kind in kinds if kind is not HubUnreachable}


def _answered(kind: type[AgentComError]) -> type[AgentComError]:
    return type(kind.__name__, (Answered, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__})


def value_from(
    url: str, status: int, media_type: str, body: bytes, shape: type[T], retry_after: str | None = None
) -> T:
    """The body of an answer as ``shape`` (``type(None)`` for an answer without a body).

    Raises:
        AgentComError: the hub answered an error.
        NoHub: what answered is no hub, or one of another kind.
    """
    if status >= _BAD_REQUEST and media_type == PROBLEM_TYPE:
        try:
            document = msgspec.json.decode(body, type=ProblemDocument)
        except msgspec.DecodeError as exc:
            raise NoHub(url, f"its error cannot be read: {exc}") from exc
        raise error_from(document, _seconds(retry_after))
    if status in {429, 502, 503, 504, 507}:
        from http import HTTPStatus  # for its words only

        raise Unavailable(f"{url} answers {status} {HTTPStatus(status).phrase}", _seconds(retry_after))
    if shape is type(None) and status == _NO_CONTENT:
        return None
    if status >= _MULTIPLE_CHOICES or media_type != "application/json":
        found = f"what answers there is no AgentCom hub (status {status}, {media_type})"
        raise NoHub(url, f"{found}; {HOW_TO_START}")
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as exc:
        raise NoHub(url, f"its answer does not fit this client, is it of another version? {exc}") from exc


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdecimal() else None
