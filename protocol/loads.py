"""Models in memory, as hub and sidecar speak of them: how one is to be loaded, and how its answer comes along.

Plain immutable data, part of routing decisions, heartbeats and the API.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

Tokens = Annotated[int, Meta(ge=0, le=2**53)]


class LoadPlan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the model of an attempt is to be held in memory, as the hub sees the queue."""

    context: Tokens = 0
    """Tokens that prompt and answer will probably need together; 0: the sidecar decides by the prompt alone."""
    keep_alive_s: float | None = None
    """How long the model stays in memory after the answer, negative: for ever; ``None``: as long as usual."""
    unload: tuple[str, ...] = ()
    """Models that go before, because there is no room beside them."""
    reason: str = ""


class AnswerPhase(StrEnum):
    """What a model's server is doing for a request, as far as can be seen."""

    LOADING = "loading"  # the model is not in memory yet
    READING = "reading"  # the prompt is being read, or the request waits for its turn
    WRITING = "writing"


class Answering(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A model's answer on its way."""

    phase: AnswerPhase
    endpoint: str
    model: str
    tokens: Tokens = 0
    """Pieces that have come; about one a token."""
    read: float | None = None
    """Share of the prompt that was read, 0 to 1, where the server tells."""
    seconds: float = 0.0
    """Since the request was sent."""
    silent_s: float = 0.0
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
