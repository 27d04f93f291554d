"""How much memory a model takes with its context, and whether a prompt fits into it.

Weights alone say too little: every request keeps a cache of keys and values that grows with its context. What a machine
has for models is ``hub/core/hosts.py``. What was measured counts; before that it is worked out. Pure; caller:
``hub/core/board.py``.
"""

from typing import Final

from hub.core.hosts import rooms_for_models
from hub.core.routing import ANSWER_TOKENS
from protocol.machine import HostReport
from protocol.model import EndpointReport, ModelReport, Residency

GIGA: Final = 1e9
OVERHEAD: Final = 1.15
"""What a model takes in memory over its size on disk, where its cache is not known: weights, buffers, some cache."""
BUFFERS: Final = 1.05
"""The same without any cache."""
KV_PER_GB: Final = 30_000.0
KV_POWER: Final = 0.65
"""Bytes of cache a token, by gigabytes of the model: what models of 1, 8 and 70 billion parameters with grouped
attention have, within a factor of two, where the endpoint does not say."""
SPLIT_BYTES: Final = 0.5 * GIGA
"""What each further GPU costs a model that is spread over several: buffers on each of them."""


def kv_bytes(model: ModelReport, tokens: int, parallel: int = 1) -> float:
    """Bytes of cache for so many requests at a time of so many tokens each."""
    per_token = model.kv_bytes_per_token or KV_PER_GB * ((model.size_bytes or 0) / GIGA) ** KV_POWER
    return per_token * tokens * max(1, parallel)


def needed_bytes(model: ModelReport | None, tokens: int = 0, parallel: int = 1) -> float:
    """Memory that a model takes; 0 if nobody knows.

    Args:
        model: as its endpoint reports it: with what it takes, if that was ever measured.
        tokens: context that the work needs; what was measured is for the context that it was loaded with.
        parallel: requests at a time, each with a context of its own.
    """
    if model is None:
        return 0.0
    if model.vram_bytes:
        more = max(0, tokens - model.context) if model.context else 0
        return model.vram_bytes + kv_bytes(model, more, parallel)
    if not model.size_bytes:
        return 0.0
    whole = BUFFERS * model.size_bytes + kv_bytes(model, tokens, parallel)
    is_told = bool(tokens and model.kv_bytes_per_token)
    return whole if is_told else max(OVERHEAD * model.size_bytes, whole)


def most_tokens(model: ModelReport | None, *, grows: bool) -> int:
    """Tokens that prompt and answer may have together; 0: nobody knows.

    Args:
        grows: the endpoint loads a model anew when more context is wanted (Ollama); others have one for good.
    """
    if model is None:
        return 0
    return model.max_context or (0 if grows else model.context or 0)


def overflow(model: ModelReport | None, bucket: int, *, grows: bool) -> float:
    """The chance that a task of this context bucket has more tokens than the model takes; 1: it certainly has.

    A bucket holds all prompts from half its size on; within it any length is as likely as another.
    """
    most = most_tokens(model, grows=grows)
    if not most or not bucket:
        return 0.0
    least = bucket // 2
    return min(1.0, max(0.0, (bucket + ANSWER_TOKENS - most) / (bucket - least)))


def room(report: EndpointReport, host: HostReport | None) -> tuple[float, ...] | None:
    """Memory for the models of an endpoint, GPU by GPU; ``None``: unknown."""
    if host is None:
        return None
    warm = (model for model in report.models if model.residency is Residency.WARM)
    return rooms_for_models(host, sum(map(needed_bytes, warm)))
