"""How every process of AgentCom logs: one line a fact, JSON for machines, colour for people, never a secret.

The only place that configures structlog; ``hub/app.py`` and ``sidecar/app.py`` call it first. Anything that looks like
one of our tokens, a bearer header or an API key is masked before a line is written, wherever in the line it stands.
"""

import re
from collections.abc import Callable
from json import dumps
from typing import Any, Final, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from protocol.redaction import Redactor

_SECRET: Final = re.compile(
    r"""
      \bacm_[A-Za-z0-9_-]{6,}                  # our tokens
    | \bsk-[A-Za-z0-9_-]{8,}                   # keys of LLM providers
    | (?<=earer\ )[A-Za-z0-9._~+/=-]{6,}       # Authorization: Bearer ...
    | (?<=://)[^/\s:@]+:[^/\s@]+(?=@)          # a user and password in a URL
    """,
    re.VERBOSE,
)
_HINTS: Final = ("acm_", "sk-", "earer ", "://")
"""Every secret of the pattern holds one of these; to look for them first costs a tenth of the pattern."""
_SECRET_FIELDS: Final = frozenset({"token", "api_key", "authorization", "password", "secret"})
MASK: Final = "***"


def masked(text: str) -> str:
    """``text`` without the secrets that can be told by their shape."""
    text = _SECRET.sub(MASK, text) if any(hint in text for hint in _HINTS) else text
    return _known[0].text(text, shapes=False)


_known: Final = [Redactor()]


def hide(redactor: Redactor) -> None:
    """Mask from now on what ``redactor`` knows, too, in every line of this process."""
    _known[0] = redactor


def redact(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """The structlog processor that masks secrets in names, values and nested values of a line."""
    for key, value in line.items():
        line[key] = MASK if key.lower() in _SECRET_FIELDS and value else _masked_value(value)
    return line


def _masked_value(value: Any) -> Any:  # noqa: ANN401 - a log line may hold anything
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: MASK if str(key).lower() in _SECRET_FIELDS and inner else _masked_value(inner)
                for key, inner in value.items()}  # fmt: skip
    if isinstance(value, (list, tuple)):
        return [_masked_value(inner) for inner in value]
    if isinstance(value, BaseException):
        return masked(str(value))
    return value


def configure(*, json: bool, stream: TextIO, level: int = 20) -> None:
    """Log from now on to ``stream``: JSON lines, or aligned and coloured text.

    Args:
        json: one JSON object a line (for a service manager) instead of text for a terminal.
        stream: where the lines go, usually standard error.
        level: numeric level of :mod:`logging`; lines below it cost next to nothing.
    """
    structlog.configure(
        processors=[*_facts(), *_shape(json=json, colors=stream.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,  # else every line below the level builds a logger to find that out
    )


def _facts() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _shape(*, json: bool, colors: bool) -> list[Processor]:
    # The trace is text before the mask is put on, so that a secret in it is masked as well.
    trace: Callable[..., Any] = structlog.processors.format_exc_info
    if json:
        return [trace, redact, structlog.processors.JSONRenderer(serializer=_line)]
    return [trace, redact, structlog.dev.ConsoleRenderer(colors=colors)]


def _line(facts: EventDict, **_options: Any) -> str:
    try:
        return msgspec.json.encode(facts, enc_hook=str).decode()
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        # Half a character pair, an odd key: the slower encoder has a way to write most of what the fast one refuses.
        return dumps(facts, default=str, skipkeys=True)
