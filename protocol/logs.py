"""How every process of AgentCom logs: one line a fact, JSON for machines, colour for people, never a secret.

The only place that configures structlog; ``hub/app.py`` and ``sidecar/app.py`` call it first. Anything that looks like
one of our tokens, a bearer header or an API key is masked before a line is written, wherever in the line it stands;
so is what a library says through :mod:`logging`, and the trace of what ends the process.

Each module is a component with a level of its own, which may change while the process runs (:func:`set_levels`): that
of the longest name that begins its own and was given one, else the usual one. A line below it costs one comparison.
What a line is about (a request, an attempt) is bound to the running task (:data:`ABOUT`) and stands in every line.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from json import dumps
from types import MappingProxyType, TracebackType
from typing import Any, Final, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from protocol.log_levels import LogLevel, is_of
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
    for redactor in _known.values():
        text = redactor.text(text, shapes=False)
    return text


_known: Final[dict[str, Redactor]] = {}


def hide(redactor: Redactor | None, owner: str) -> None:
    """Mask from now on what ``redactor`` knows, too, in every line of this process.

    Args:
        redactor: knows the secrets; ``None``: there are none any more.
        owner: whose they are; these come in the place of those that it had before.
    """
    _known.pop(owner, None)
    if redactor is not None:
        _known[owner] = redactor


# --- what a line is about ---------------------------------------------------------------------------------------------

ABOUT: Final[ContextVar[Mapping[str, object]]] = ContextVar("about", default=MappingProxyType({}))
"""Facts that stand in every line of the running task, and of those that it starts."""


@contextmanager
def about(**facts: object) -> Iterator[None]:
    """Have these facts in every line that is written inside."""
    told = ABOUT.set({**ABOUT.get(), **facts})
    try:
        yield
    finally:
        ABOUT.reset(told)


# --- levels -----------------------------------------------------------------------------------------------------------

ACCESS: Final = "hub.web.access"
"""The component that has a line for every request."""
NUMBERS: Final[Mapping[LogLevel, int]] = MappingProxyType(
    {LogLevel.DEBUG: 10, LogLevel.INFO: 20, LogLevel.WARNING: 30, LogLevel.ERROR: 40}
)
_DEBUG, _INFO, _WARNING, _ERROR = NUMBERS.values()
_QUIET: Final = MappingProxyType({ACCESS: _WARNING})
"""Components that say more than anybody reads unasked."""


class Channel:
    """Where the lines of a component end, and from which level on there are any.

    Attributes:
        name: of the component.
        level: lines below it are not written.
    """

    __slots__ = ("level", "name")

    def __init__(self, name: str) -> None:
        self.name, self.level = name, _level_of(name)

    def write(self, line: str) -> None:
        """One line, at once: what comes right before a crash matters most.

        Where none can be written (the disk is full, nobody reads the pipe any more) the work goes on without them; the
        first that can be written again says how many there were.
        """
        try:
            _out[0].write(f"{line}\n")
            _out[0].flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            _lost[0] += 1
            return
        if _lost[0]:
            count, _lost[0] = _lost[0], 0
            structlog.get_logger(__name__).warning("lines_lost", count=count)

    debug = info = warning = error = write


class Logger(structlog.BoundLoggerBase):
    """What ``structlog.get_logger(__name__)`` gives: fields, not prose."""

    def debug(self, event: str, **facts: object) -> None:
        """Only somebody who looks for something wants to know."""
        if self._logger.level <= _DEBUG:
            self._proxy_to_logger("debug", event, **facts)

    def info(self, event: str, **facts: object) -> None:
        """A fact that an operator wants."""
        if self._logger.level <= _INFO:
            self._proxy_to_logger("info", event, **facts)

    def warning(self, event: str, **facts: object) -> None:
        """Something went wrong and heals itself."""
        if self._logger.level <= _WARNING:
            self._proxy_to_logger("warning", event, **facts)

    def error(self, event: str, **facts: object) -> None:
        """Somebody has to act."""
        self._proxy_to_logger("error", event, **facts)

    def exception(self, event: str, **facts: object) -> None:
        """An error, with the trace of what is being handled."""
        self._proxy_to_logger("error", event, **{"exc_info": True, **facts})


_out: Final[list[TextIO]] = [sys.stderr]
_lost: Final = [0]
_usual: Final = [_INFO]
_set: Final[dict[str, int]] = {}
_channels: Final[dict[str, Channel]] = {}


def channel(name: str = "") -> Channel:
    """That of a component: whoever logs on a hot path may look at its level before anything is put together."""
    found = _channels.get(name)
    if found is None:
        found = _channels[name] = Channel(name)
    return found


def set_levels(levels: Mapping[str, LogLevel], beneath: str = "") -> None:
    """Log from now on like this; components that are in no level's reach have the usual one again.

    Args:
        beneath: only this component is meant, and what lies beneath it; empty: all.
    """
    for name in [name for name in _set if not beneath or is_of(name, beneath)]:
        del _set[name]
        if _is_library(name):
            logging.getLogger(name).setLevel(logging.NOTSET)
    _set.update({name: NUMBERS[level] for name, level in levels.items()})
    for name in filter(_is_library, _set):
        logging.getLogger(name).setLevel(_set[name])
    for each in _channels.values():
        each.level = _level_of(each.name)


def components() -> tuple[str, ...]:
    """The parts of this process that log, by name; a level may be given to what such a name begins with, too."""
    ours = {name for name, module in sys.modules.items() if not _is_library(name) and hasattr(module, "log")}
    return tuple(sorted(ours | {ACCESS}))


def libraries() -> tuple[str, ...]:
    """Libraries of this process that may have something to say."""
    return tuple(sorted(filter(_is_library, logging.root.manager.loggerDict)))


def _is_library(name: str) -> bool:
    return name.partition(".")[0] not in {"hub", "protocol", "sidecar"}


def _level_of(name: str) -> int:
    # Whoever wants to see everything wants to see that, too.
    quiet = _QUIET if _usual[0] > _DEBUG else {}
    while name:
        number = _set.get(name, quiet.get(name))
        if number is not None:
            return number
        name = name.rpartition(".")[0]
    return _usual[0]


# --- lines ------------------------------------------------------------------------------------------------------------


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


def configure(*, json: bool, stream: TextIO, level: LogLevel = LogLevel.INFO, is_final: bool = True) -> None:
    """Log from now on to ``stream``: JSON lines, or aligned and coloured text.

    Args:
        json: one JSON object a line (for a service manager) instead of text for a terminal.
        stream: where the lines go, usually standard error.
        level: the usual one; lines below it cost next to nothing.
        is_final: nothing in this process will configure it again, so loggers keep what they find at their first line.
    """
    _out[0], _usual[0] = stream, NUMBERS[level]
    for each in _channels.values():
        each.level = _level_of(each.name)
    structlog.configure(
        processors=[*_facts(), *_shape(json=json, colors=stream.isatty())],
        wrapper_class=Logger,
        logger_factory=channel,
        cache_logger_on_first_use=is_final,  # else every line below the level builds a logger to find that out
    )


def take_over() -> None:
    """Write what libraries say, warnings, and the trace of what ends this process as lines like all others.

    Libraries talk a lot: of them, only warnings are written unless somebody gives them a level (:func:`set_levels`).
    """
    logging.root.handlers[:] = [_Library()]
    logging.root.setLevel(max(_usual[0], _WARNING))
    logging.captureWarnings(capture=True)
    sys.excepthook = _crashed


class _Library(logging.Handler):
    """Turns what a library says into a line."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= _ERROR else "warning" if record.levelno >= _WARNING else "info"
        level = "debug" if record.levelno < _INFO else level
        facts = {"exc_info": record.exc_info} if record.exc_info else {}
        try:
            getattr(structlog.get_logger(record.name), level)("library_said", message=_said(record), **facts)
        except Exception:  # noqa: BLE001 - whoever logs a line must not fail because of it, see logging.Handler
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging calls it so
        """Say only where it was: the usual way shows all that is in the line, secrets too."""
        structlog.get_logger(__name__).warning("line_not_written", library=record.name, line=record.lineno)


def _said(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as exc:  # noqa: BLE001 - a text and arguments that do not fit, or one that has no text
        return f"{record.msg!r}, with arguments that do not fit: {type(exc).__name__}"


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger(__name__).error("crashed", error=kind.__name__, exc_info=(kind, error, trace))


def _facts() -> list[Processor]:
    return [_about, structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]


def _about(logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Put what the line is about into it; what it says itself goes before."""
    for key, value in ABOUT.get().items():
        line.setdefault(key, value)
    if logger.name:
        line["component"] = logger.name
    return line


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
