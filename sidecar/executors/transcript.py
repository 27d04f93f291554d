"""A conversation between two turns: all that a loop needs to go on with it, here or on another machine."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sidecar.llm.base import ChatMessage


class Transcript(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was said and done so far. ``turns`` are those that are done; ``said`` is shown as the output of the work."""

    turns: int
    messages: tuple[ChatMessage, ...]
    said: tuple[str, ...] = ()
    in_text: bool = False
    """The model calls its tools in text."""
    last_call: str = ""
    repeats: int = 0
    nudged: bool = False


Turned = Callable[[Transcript], Awaitable[None]]
"""Hears of every turn that is done; may raise what ends the work there."""


async def nobody(_transcript: Transcript) -> None:
    """Nobody wants to know."""


def written(transcript: Transcript) -> dict[str, Any]:
    """As plain values, for a document."""
    plain: dict[str, Any] = msgspec.to_builtins(transcript)
    return plain


def read(plain: dict[str, Any] | None) -> Transcript | None:
    """What :func:`written` wrote; ``None`` if it is no conversation that can be gone on with."""
    try:
        return None if plain is None else msgspec.convert(plain, Transcript)
    except msgspec.ValidationError:
        return None


def with_note(transcript: Transcript, note: str) -> Transcript:
    """The conversation with a word of a person at its end."""
    return replace(transcript, messages=(*transcript.messages, ChatMessage("user", note))) if note else transcript
