"""Results and routings without the fields that hold their usual values: they come back when they are read.

So the two ends tell them, and the store keeps results. What people get has all of its fields (``protocol/model.py``);
read what was encoded as that, never as one of these. Callers: ``sidecar/reporting.py``, ``hub/services/dispatch.py``
and ``protocol/codec.py``.
"""

from operator import attrgetter
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import fields

from protocol.model import Finding, Iteration, Routing, TaskResult, Usage


class LeanFinding(Finding, frozen=True, kw_only=True, omit_defaults=True):
    """A finding."""


class LeanUsage(Usage, frozen=True, kw_only=True, omit_defaults=True):
    """What work cost."""


class LeanIteration(Iteration, frozen=True, kw_only=True, omit_defaults=True):
    """One round."""

    findings: tuple[LeanFinding, ...] = ()
    usage: LeanUsage = LeanUsage()


class LeanResult(TaskResult, frozen=True, kw_only=True, omit_defaults=True):
    """What an attempt delivers."""

    report: tuple[LeanFinding, ...] = ()
    iterations: tuple[LeanIteration, ...] = ()
    usage: LeanUsage = LeanUsage()


class LeanRouting(Routing, frozen=True, kw_only=True, omit_defaults=True):
    """The routing decision of an attempt."""


_KINDS: Final = (LeanFinding, LeanUsage, LeanIteration, LeanResult, LeanRouting)
_LEAN: Final[dict[type, type]] = {kind: lean for lean in _KINDS for kind in (lean, lean.__bases__[0])}


def _parts(kind: type[Struct]) -> tuple[Any, tuple[str, ...], tuple[Any, ...]]:
    named = fields(kind)
    names = tuple(field.name for field in named)
    return attrgetter(*names), names, tuple(field.default for field in named)


_PARTS: Final = {kind: _parts(_LEAN[kind]) for kind in _LEAN}


def lean(result: TaskResult) -> LeanResult:
    """A result whose encoding leaves out every field that holds its usual value.

    Values are not looked at otherwise: one that no result may hold stays.
    """
    slim: LeanResult = _slim(result)
    return slim


def lean_routing(routing: Routing) -> LeanRouting:
    """A routing whose encoding leaves out every field that holds its usual value."""
    slim: LeanRouting = _slim(routing)
    return slim


def _slim(value: Any) -> Any:  # noqa: ANN401 - any part of these
    if type(value) is tuple:
        return tuple(map(_slim, value)) if value else value
    if (parts := _PARTS.get(type(value))) is None:
        return value
    found, names, usual = parts
    # The encoder leaves out what *is* the default: what only equals it is not passed on, so that it becomes it.
    told = {
        name: held
        for name, held, default in zip(names, map(_slim, found(value)), usual, strict=True)
        if held is not default and (held != default or type(held) is not type(default))
    }
    return _LEAN[type(value)](**told)
