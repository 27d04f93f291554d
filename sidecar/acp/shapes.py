"""What of the protocol's messages we read, as structs: lenient, for agents are of many makers and versions.

A field that is missing or unknown hurts nobody; one of a wrong kind where we need it is told to the agent. Pure.
"""

from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from protocol.model import Usage

VERSION: Final = 1
CLIENT: Final = {"fs": {"readTextFile": True, "writeTextFile": True}, "terminal": True}
"""What we offer to an agent."""
_T = TypeVar("_T")


class _Shape(Struct, frozen=True, kw_only=True, rename="camel"):
    """Names of fields as the protocol writes them."""


class AgentCapabilities(_Shape, frozen=True, kw_only=True):
    """What the agent can do besides."""

    load_session: bool | None = False
    session_capabilities: dict[str, Any] | None = None

    @property
    def resumes(self) -> bool:
        """It goes on with a session without telling all of it again."""
        return (self.session_capabilities or {}).get("resume") is not None


class Initialized(_Shape, frozen=True, kw_only=True):
    """Answer to ``initialize``."""

    protocol_version: int
    agent_capabilities: AgentCapabilities | None = None
    agent_info: dict[str, Any] | None = None


class Option(_Shape, frozen=True, kw_only=True):
    """One way to answer a request for permission, or one value of a setting."""

    option_id: str = ""
    kind: str = ""


class Session(_Shape, frozen=True, kw_only=True):
    """Answer to ``session/new``, ``session/load`` and ``session/resume``; only the first one names it."""

    session_id: str = ""
    config_options: list[dict[str, Any]] | None = None


class Counts(_Shape, frozen=True, kw_only=True):
    """Tokens of one prompt, as an agent counts them."""

    total_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    thought_tokens: int | None = 0
    cached_read_tokens: int | None = 0
    cached_write_tokens: int | None = 0

    @property
    def usage(self) -> Usage:
        """In our words: all that was read, what came from a cache among it, and all that was written.

        Some makers count cached tokens as input and thoughts as output, others count each for itself; the sum tells.
        """
        read, wrote = max(0, self.input_tokens), max(0, self.output_tokens)
        cached, thought = max(0, self.cached_read_tokens or 0), max(0, self.thought_tokens or 0)
        stored = max(0, self.cached_write_tokens or 0)
        if self.total_tokens >= read + wrote + cached + stored + thought:
            read, wrote = read + cached + stored, wrote + thought
        return Usage(input_tokens=read, output_tokens=wrote, cached_input_tokens=min(cached, read), cost_usd=None)


class Prompted(_Shape, frozen=True, kw_only=True):
    """Answer to ``session/prompt``."""

    stop_reason: str
    usage: Counts | None = None


class ToRead(_Shape, frozen=True, kw_only=True):
    """Parameters of ``fs/read_text_file``; lines count from 1."""

    path: str
    line: int | None = None
    limit: int | None = None


class ToWrite(_Shape, frozen=True, kw_only=True):
    """Parameters of ``fs/write_text_file``."""

    path: str
    content: str


class Variable(_Shape, frozen=True, kw_only=True):
    """A variable of a terminal's environment."""

    name: str
    value: str


class ToStart(_Shape, frozen=True, kw_only=True):
    """Parameters of ``terminal/create``."""

    command: str
    args: list[str] | None = None
    env: list[Variable] | None = None
    cwd: str | None = None
    output_byte_limit: int | None = None


class OfTerminal(_Shape, frozen=True, kw_only=True):
    """Parameters of the other methods of terminals."""

    terminal_id: str


class Wanted(_Shape, frozen=True, kw_only=True):
    """What an agent asks permission for."""

    kind: str | None = None
    title: str | None = None


class ToPermit(_Shape, frozen=True, kw_only=True):
    """Parameters of ``session/request_permission``."""

    options: list[Option]
    tool_call: Wanted = Wanted()


def read(found: object, shape: type[_T]) -> _T:
    """``found`` as ``shape``.

    Raises:
        msgspec.ValidationError: it is none; the text says where.
    """
    return msgspec.convert(found, shape, strict=False)


def read_leniently(found: object, shape: type[_T]) -> _T | None:
    """As :func:`read`; ``None`` for what is none."""
    try:
        return read(found, shape)
    except msgspec.ValidationError:
        return None
