"""Spans of the work on this machine, beneath the place in a trace that the hub has told of an attempt.

Where the running task stands is bound to it, so whoever does a part of the work needs no more than :func:`span`; where
nothing is traced that is one look at a variable. Begun by ``sidecar/runner.py``.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

from protocol import traces
from protocol.clock import Clock
from protocol.traces import Place, Span

NS_PER_MS: Final = 1_000_000
Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Here:
    """Where the work stands, what the time is, and who takes spans."""

    place: Place
    clock: Clock
    send: Callable[[Span], None]

    @property
    def now_ns(self) -> int:
        """Unix nanoseconds."""
        return self.clock.now_ms() * NS_PER_MS

    def tell(self, name: str, since_ns: int, facts: Mapping[str, Any], *, kind: str = "internal") -> None:
        """Something beneath this place is over."""
        place = self.place.beneath(secrets.token_hex(8))
        span = Span(
            place=place,
            name=name,
            start_ns=since_ns,
            end_ns=max(since_ns, self.now_ns),
            parent=self.place.span,
            kind=kind,
            facts=dict(facts),
        )
        self.send(span)


_HERE: Final[ContextVar[Here | None]] = ContextVar("here", default=None)


class Recorder:
    """Begins the traces of attempts, if there is anybody to tell."""

    def __init__(self, clock: Clock, send: Callable[[Span], None] | None = None) -> None:
        self._clock, self._send = clock, send

    def begin(self, traceparent: str) -> Here | None:
        """Where an attempt stands whose hub has told this; ``None``: nothing is told of it."""
        place = traces.read(traceparent) if self._send is not None else None
        if place is None or not place.is_sampled or self._send is None:
            return None
        return Here(place, self._clock, self._send)


def here() -> Here | None:
    """Where the running task stands."""
    return _HERE.get()


@contextmanager
def within(place: Here | None) -> Iterator[None]:
    """Have what is done inside stand there."""
    told = _HERE.set(place)
    try:
        yield
    finally:
        _HERE.reset(told)


@contextmanager
def span(name: str, facts: Mapping[str, Any] | None = None, *, kind: str = "internal") -> Iterator[Facts]:
    """Tell of what is done inside, with ``facts`` and those that are put into what this gives."""
    above = _HERE.get()
    known: Facts = dict(facts or {})
    if above is None:
        yield known
        return
    place, since_ns, began_s = above.place.beneath(secrets.token_hex(8)), above.now_ns, above.clock.monotonic()
    told, problem = _HERE.set(replace(above, place=place)), ""
    try:
        yield known
    except BaseException as exc:
        problem = known["error.type"] = str(getattr(exc, "code", "") or type(exc).__name__)
        raise
    finally:
        _HERE.reset(told)
        took_ns = round((above.clock.monotonic() - began_s) * 1e9)
        problem = problem or str(known.pop("problem", ""))
        above.send(
            Span(
                place=place,
                name=name,
                start_ns=since_ns,
                end_ns=since_ns + max(0, took_ns),
                parent=above.place.span,
                kind=kind,
                facts={key: value for key, value in known.items() if value is not None and key != "problem"},
                problem=problem,
            )
        )


def headers() -> dict[str, str]:
    """What a request carries to a server that may tell of its part, too; nothing where nothing is traced."""
    above = _HERE.get()
    return {} if above is None else {traces.HEADER: str(above.place)}
