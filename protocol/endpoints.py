"""The nouns of LLM endpoints: kinds, models, what a sidecar reports of them, and the states of their health.

Part of the contract like :mod:`protocol.model`, which passes the names on that were there first. The changes of health
that are allowed are ``hub.core.health.ENDPOINT_EDGES``.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from protocol.bounds import Count, Many, Measure, Sentence, Whole, Word


class EndpointKind(StrEnum):
    """Which protocol an LLM endpoint speaks."""

    OLLAMA = "ollama"
    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    GEMINI = "gemini"


class EndpointState(StrEnum):
    """How an LLM endpoint does; the hub keeps it, whoever asked the endpoint has seen it."""

    UNKNOWN = "unknown"
    ONLINE = "online"
    OFFLINE = "offline"
    COOLDOWN = "cooldown"  # it refused work (429, 5xx) and is left alone until `until`
    HALF_OPEN = "half_open"  # one request at a time, until one has succeeded


class Residency(StrEnum):
    """Whether a model is in memory, on its way there, on disk, or not there at all."""

    WARM = "warm"
    LOADING = "loading"
    COLD = "cold"
    ABSENT = "absent"


class ModelReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model on an endpoint; what its server does not tell is ``None``.

    ``size_bytes`` is its size on disk. While it is loaded: ``resident_bytes`` is all the memory that it was measured to
    take, ``vram_bytes`` what of it is on GPUs (0: none), and ``expires_at`` when the server drops it if nobody asks.
    ``context`` is the tokens of context that it was loaded with, or is always served with.
    """

    name: Word
    residency: Residency = Residency.COLD
    size_bytes: Whole | None = None
    vram_bytes: Whole | None = None
    context: Whole | None = None
    tokens_per_s: Measure | None = None
    resident_bytes: Whole | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    max_context: Whole | None = None
    """Tokens it was made for."""
    kv_bytes_per_token: Whole | None = None
    """Memory that a token of context takes beside the weights, from the model's own dimensions."""


class EndpointReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An LLM endpoint that a sidecar can reach.

    ``local`` endpoints serve the strategy ``local_llm``, the others ``cloud_llm``. Keys never travel: a sidecar reports
    an endpoint that needs one only if it holds the key.
    """

    id: Word
    kind: EndpointKind
    url: Word
    local: bool
    models: Many[ModelReport] = ()
    default_model: Word = ""
    parallel: Count = 0
    """Requests that it answers at a time; 0: unknown."""
    remark: Sentence = ""
    """What is odd about its answers, though it can be used; empty: nothing."""
    rpm: Count = 0
    tpm: Count = 0
    """Requests and tokens that it may be asked a minute; 0: as many as one likes."""


class EndpointTrouble(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is wrong with an LLM endpoint now, as a sidecar sees it.

    Without ``refusals`` it does not answer, or not in its protocol. With ``refusals`` it answers, and has refused or
    broken off the work of so many requests in a row (429, 5xx); ``retry_after_s`` is what the last of them asked for.
    """

    endpoint: Word
    kind: EndpointKind
    url: Word
    local: bool
    problem: Sentence
    added: bool = False
    """People have added it at the hub; else it is the sidecar's own."""
    refusals: Count = 0
    retry_after_s: Measure | None = None
