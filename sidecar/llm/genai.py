"""What a span tells of a call of a model, in the words of OpenTelemetry's conventions for generative AI.

Never what was said: prompts and answers are no part of it.
Source: https://github.com/open-telemetry/semantic-conventions-genai (in development).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from protocol.endpoints import EndpointKind
from sidecar.llm.base import ChatReply, ChatRequest
from sidecar.llm.config import EndpointSettings

_PROVIDERS: Final[Mapping[EndpointKind, str]] = MappingProxyType(
    {
        EndpointKind.OLLAMA: "ollama",
        EndpointKind.ANTHROPIC: "anthropic",
        EndpointKind.OPENAI: "openai",
        EndpointKind.GEMINI: "gcp.gemini",
    }
)
_PORTS: Final = MappingProxyType({"http": 80, "https": 443})


def asked(settings: EndpointSettings, request: ChatRequest, model: str) -> dict[str, Any]:
    """What is known before the answer."""
    place = urlsplit(settings.url)
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _PROVIDERS[settings.kind],
        "gen_ai.request.model": model or None,
        "gen_ai.request.max_tokens": request.max_output_tokens,
        "gen_ai.request.temperature": request.temperature,
        "server.address": place.hostname,
        "server.port": place.port or _PORTS.get(place.scheme),
        "agentcom.endpoint": settings.id,
    }


def answered(reply: ChatReply) -> dict[str, Any]:
    """What the answer adds."""
    usage = reply.usage
    return {
        "gen_ai.response.model": usage.model,
        "gen_ai.response.finish_reasons": (reply.finish,),
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens or None,
        "agentcom.cost_usd": usage.cost_usd,
    }
