"""Models at work, as hub and sidecar speak of them: how one is loaded, how its answer comes along, what it does.

Plain immutable data, part of routing decisions, heartbeats and the API.
"""

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.bounds import Few, Many, Measure, Sentence, Word

Tokens = Annotated[int, Meta(ge=0, le=2**53)]


class LoadPlan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the model of an attempt is to be held in memory, as the hub sees the queue."""

    context: Tokens = 0
    """Tokens that prompt and answer will probably need together; 0: the sidecar decides by the prompt alone."""
    keep_alive_s: Measure | None = None
    """How long the model stays in memory after the answer, negative: for ever; ``None``: as long as usual."""
    unload: Many[Word] = ()
    """Models that go before, because there is no room beside them."""
    reason: Sentence = ""


class AnswerPhase(StrEnum):
    """What a model's server is doing for a request, as far as can be seen."""

    LOADING = "loading"  # the model is not in memory yet
    READING = "reading"  # the prompt is being read, or the request waits for its turn
    WRITING = "writing"


class Answering(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A model's answer on its way."""

    phase: AnswerPhase
    endpoint: Word
    model: Word
    tokens: Tokens = 0
    """Pieces that have come; about one a token."""
    read: Measure | None = None
    """Share of the prompt that was read, 0 to 1, where the server tells."""
    seconds: Measure = 0.0
    """Since the request was sent."""
    silent_s: Measure = 0.0
    """Since the last sign of life."""

    @property
    def in_words(self) -> str:
        """The same for a person."""
        part = "" if self.read is None else f", {self.read:.0%} done"
        doing = {
            AnswerPhase.LOADING: f"{self.endpoint} loads {self.model}",
            AnswerPhase.READING: f"{self.model} reads the prompt{part}",
            AnswerPhase.WRITING: f"{self.model} writes, {self.tokens} tokens so far",
        }[self.phase]
        return f"{doing} after {self.seconds:.0f} s, last sign of life {self.silent_s:.0f} s ago"


MAX_CALLS: Final = 8
"""Calls of one turn that are told one by one."""
MAX_TARGET_CHARS: Final = 120


class ToolUse(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A call of a tool that a model has made. ``target`` is what it was about: a path, or the start of a command."""

    tool: Word
    target: Word = ""
    ok: bool = True
    ms: Tokens = 0


class Turn(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a model has done in one turn of its work.

    ``more`` counts the calls that are not told one by one: of this turn, and of turns that were not told.
    """

    number: Tokens
    calls: Few[ToolUse] = ()
    more: Tokens = 0
