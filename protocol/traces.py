"""Where work stands in a trace, as W3C Trace Context writes it (``traceparent``), and the spans that are told of it.

Pure. A task that is submitted within a trace stays in it; any other one begins its own, whose id is the task's, written
in hexadecimal. Ids of spans that a hub tells are made from what they are about: told twice, or by another hub after the
first has died, they are the same spans. Sent on by ``protocol/telemetry.py``.
"""

import re
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from msgspec import Struct

from protocol import ids

HEADER: Final = "traceparent"
_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 0x01
_VERSION: Final = "00"


class Place(NamedTuple):
    """A span in a trace (both in hexadecimal), and whether what happens beneath it is told."""

    trace: str
    span: str
    is_sampled: bool = True

    def beneath(self, span: str) -> "Place":
        """The place of a span of the same trace."""
        return Place(self.trace, span, self.is_sampled)

    def __str__(self) -> str:
        return f"{_VERSION}-{self.trace}-{self.span}-{_SAMPLED if self.is_sampled else 0:02x}"


class Note(Struct, frozen=True):
    """Something that happened in the course of a span."""

    at_ns: int
    name: str
    facts: dict[str, Any] = {}


class Span(Struct, frozen=True, kw_only=True):
    """Something that took its time: from when until when (Unix nanoseconds), beneath what, and what is known of it.

    ``kind``: ``internal``, ``server``, ``client``, ``producer`` or ``consumer``. ``problem`` says what went wrong.
    """

    place: Place
    name: str
    start_ns: int
    end_ns: int
    parent: str = ""
    kind: str = "internal"
    facts: dict[str, Any] = {}
    notes: tuple[Note, ...] = ()
    problem: str = ""


def read(header: str | None) -> Place | None:
    """What a ``traceparent`` says; ``None`` if it is none, or one that must be left alone."""
    found = _FORM.fullmatch(header or "")
    if found is None or (found[1] == _VERSION and found[5]) or found[1] == "ff":
        return None
    if not int(found[2], 16) or not int(found[3], 16):
        return None
    return Place(found[2], found[3], bool(int(found[4], 16) & _SAMPLED))


def span_id(*about: object) -> str:
    """The id of the span that is about this."""
    return blake2b("/".join(map(str, about)).encode(), digest_size=8).hexdigest()


def of_task(task: str, given: str = "", share: float = 1.0) -> tuple[Place, str]:
    """The place of a task's own span, and the id of the one above it (empty: it begins the trace).

    Args:
        given: the ``traceparent`` with which it was submitted, if any.
        share: of all traces that begin here, how many are told: from 0 to 1.
    """
    place = read(given)
    if place is not None:
        return place.beneath(span_id(task)), place.span
    trace = f"{ids.decode(task):032x}"
    return Place(trace, span_id(task), int(trace[16:], 16) < share * 2**64), ""


def of_attempt(place: Place, task: str, epoch: int) -> Place:
    """The place of an attempt's span, beneath that of its task."""
    return place.beneath(span_id(task, epoch))
