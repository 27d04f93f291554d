"""Look at what is about to be sent: what the hub would refuse as malformed is mended, or fails honestly.

The hub acts on no message that breaks a bound of the wire. Where such a message comes from (a model that says it has
read minus five tokens, a plug-in with a name of a megabyte, a file whose name is no text) there is no end of cases, so
every message is looked at before it leaves, and every report before it is written down.

Pure. Callers: ``sidecar/reporting.py`` and ``sidecar/outbox.py``.
"""

import re
from typing import Any, Final, TypeVar, cast

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields, replace

from protocol.codec import flaw_of
from protocol.messages import Heartbeat, HeldAttempt, Hello, Message, Progress, Reject, Report
from protocol.model import AttemptState, FailureClass, TaskResult

M = TypeVar("M", bound=Message)
UNSENDABLE: Final = "report_unsendable"
"""``error_code`` of an attempt whose result cannot be told."""
_WHY_CHARS: Final = 500
_FIELD: Final = re.compile(r"at `\$\.(\w+)")
_KEPT: Final = ("output", "usage", "branch", "commit", "exit_code", "diff")
"""What is told of a result that cannot be told whole, each if it can be told itself."""
_OWN_CODE: Final = frozenset({AttemptState.LOST, AttemptState.CANCELLED})
"""Their ``error_code`` says to the hub what became of the attempt."""


def sendable(message: M) -> tuple[M | None, str]:
    """What to send instead of ``message``, and what is wrong with it.

    Returns:
        ``message`` itself and nothing if the hub can read it; else the same without what is wrong, a report that its
        attempt has failed, or ``None``: nothing is sent, and nobody waits for it.
    """
    if not (why := flaw_of(message)):
        return message, ""
    plain = in_plain_text(message)
    if not (left := flaw_of(plain)):
        return plain, why
    if isinstance(plain, Report):
        told = failed(plain, left)
        return cast("M", told), left
    if isinstance(plain, Reject):
        return replace(plain, code=plain.code[:64], reason=plain.reason[:_WHY_CHARS]), left
    if isinstance(plain, Hello | Heartbeat) or (isinstance(plain, Progress) and plain.turn is None):
        return _without(plain), left
    return None, left


def failed(report: Report, why: str) -> Report:
    """Of an attempt whose result cannot be told: that it has failed, why, and what can be told of it."""
    old, state = report.result, report.state
    keeps_state = state in _OWN_CODE
    result = TaskResult(
        execution_ok=False,
        verified=None,
        error_code=old.error_code[:64] if keeps_state and old.error_code else UNSENDABLE,
        error=f"what came of it cannot be told to the hub: {why[:_WHY_CHARS]}",
    )
    state = state if keeps_state else AttemptState.FAILED
    failure = report.failure if keeps_state else FailureClass.INFRA
    for name in _KEPT:
        tried = replace(result, **{name: getattr(old, name)})
        if not flaw_of(Report(attempt=report.attempt, state=state, result=tried)):
            result = tried
    return Report(attempt=report.attempt, state=state, result=result, failure=failure)


def _without(message: M) -> M | None:
    """A message without those fields that are wrong; ``None``: it is nothing without them."""
    defaults = {field.encode_name: field for field in fields(message)}
    while why := flaw_of(message):
        found = _FIELD.search(why)
        field = defaults.get(found[1]) if found else None
        if field is None or field.default is NODEFAULT:
            return None
        value = getattr(message, field.name)
        message = replace(message, **{field.name: _lighter(value) or field.default})
        if getattr(message, field.name) == value:  # it cannot be mended this way
            return None
    return message


def _lighter(value: object) -> tuple[HeldAttempt, ...]:
    """Attempts without how their models come along: a heartbeat that names none would end their leases."""
    held = [each for each in value if isinstance(each, HeldAttempt)] if isinstance(value, tuple) else []
    return tuple(replace(each, answering=None) for each in held) if any(each.answering for each in held) else ()


def in_plain_text(value: M) -> M:
    """The same with a question mark for every sign that no text on the wire may hold (half a surrogate pair)."""
    clean: M = _plain(value)
    return clean


def _plain(value: Any) -> Any:  # noqa: ANN401 - any part of a message
    if type(value) is str:
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Struct):
        return replace(value, **{name: _plain(getattr(value, name)) for name in value.__struct_fields__})
    if isinstance(value, dict):
        return {_plain(key): _plain(part) for key, part in value.items()}
    if type(value) in {list, tuple}:
        return type(value)(_plain(part) for part in value)
    return value
