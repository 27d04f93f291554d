"""The LLM endpoints that this sidecar can reach: finds them, and finds the provider for an endpoint id.

A dead endpoint is not reported to the hub; that it died or came back is logged once. Providers are made when first
needed, because their client libraries are heavy.
"""

import asyncio
import importlib
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from protocol.errors import BadInput, EndpointRefused, Problem, WorkFailed
from protocol.model import EndpointKind, EndpointReport, ModelReport
from sidecar.llm.base import Provider
from sidecar.llm.config import DEFAULT_CLAUDE_MODEL, EndpointSettings

PROBE_TIMEOUT_S: Final = 3.0

_LIBRARIES: Final = {
    EndpointKind.OLLAMA: "ollama",
    EndpointKind.ANTHROPIC: "anthropic",
    EndpointKind.OPENAI: "openai",
}

log = structlog.get_logger(__name__)

__all__ = ["EndpointSettings", "Endpoints"]


class _Listing(Provider, Protocol):
    """A provider that can also list its models."""

    async def models(self) -> tuple[ModelReport, ...]: ...


class Endpoints:
    """Makes, probes and closes providers.

    Raises:
        BadInput: two endpoints have one id.
    """

    def __init__(self, settings: Sequence[EndpointSettings]) -> None:
        ids = [entry.id for entry in settings]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise BadInput([Problem(name, "two endpoints have this id") for name in twice], "endpoints")
        self._settings = {entry.id: entry for entry in settings}
        self._adopted: dict[str, EndpointSettings] = {}
        self._providers: dict[str, _Listing] = {}
        self._outdated: list[_Listing] = []  # may still be in use; closed with the rest
        self._down: dict[str, bool] = {}

    async def discover(self) -> tuple[EndpointReport, ...]:
        """The endpoints that answer now, with their models, in the order of the settings. A dead one costs 3 s."""
        found = await asyncio.gather(*(self._probe(entry) for entry in self._settings.values()))
        return tuple(report for report in found if report is not None)

    async def _probe(self, settings: EndpointSettings) -> EndpointReport | None:
        try:
            if settings.kind is EndpointKind.ANTHROPIC and not settings.api_key:
                raise EndpointRefused(settings.id, "it has no API key")
            # In a thread: the client libraries take a second or two to import, and heartbeats must not wait for that.
            await asyncio.to_thread(importlib.import_module, _LIBRARIES[settings.kind])
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                models = await self._provider(settings).models()
        except TimeoutError:
            self._turn(settings, down=f"{settings.url} does not answer within {PROBE_TIMEOUT_S:g} s")
            return None
        except WorkFailed as exc:
            self._turn(settings, down=str(exc))
            return None
        self._turn(settings, down="")
        return EndpointReport(
            id=settings.id,
            kind=settings.kind,
            url=settings.url,
            local=settings.is_local,
            models=models,
            default_model=_default_model(settings, models),
        )

    def _turn(self, settings: EndpointSettings, *, down: str) -> None:
        """Log a change between up and down, once."""
        was_down = self._down.get(settings.id)
        self._down[settings.id] = bool(down)
        if down and not was_down:
            log.warning("endpoint_down", endpoint=settings.id, why=down)
        elif not down and was_down is not False:
            log.info("endpoint_up", endpoint=settings.id, kind=str(settings.kind), url=settings.url)

    def adopt(self, report: EndpointReport) -> None:
        """Know an endpoint that people have added at the hub; one of our own of the same id stands.

        It gets a key only if one of ours is at the same address: a key is never sent to a place that a message names.

        Raises:
            BadInput: it cannot be used: its kind, its address, or Claude without a key for that address.
        """
        if report.id in self._settings:
            return
        place = report.kind, report.url.rstrip("/")
        keys = [own.api_key for own in self._settings.values() if (own.kind, own.url.rstrip("/")) == place]
        if report.kind is EndpointKind.ANTHROPIC and not any(keys):
            problem = "this sidecar has no API key for this address"
            raise BadInput([Problem("api_key", problem)], f"endpoint {report.id!r}")
        wanted = EndpointSettings(
            id=report.id,
            kind=report.kind,
            url=report.url,
            local=report.local,
            api_key=next(filter(None, keys), ""),
            default_model=report.default_model,
        )
        if self._adopted.get(report.id) != wanted:
            self._adopted[report.id] = wanted
            if (old := self._providers.pop(report.id, None)) is not None:
                self._outdated.append(old)

    def provider(self, endpoint_id: str) -> Provider:
        """The provider of an endpoint.

        Raises:
            EndpointRefused: this sidecar has no such endpoint.
        """
        settings = self._settings.get(endpoint_id) or self._adopted.get(endpoint_id)
        if settings is None:
            known = ", ".join((*self._settings, *self._adopted)) or "none"
            raise EndpointRefused(endpoint_id, f"this sidecar has no such endpoint; it has {known}")
        return self._provider(settings)

    def _provider(self, settings: EndpointSettings) -> _Listing:
        if settings.id not in self._providers:
            self._providers[settings.id] = _make(settings)
        return self._providers[settings.id]

    async def close(self) -> None:
        """Close all connections."""
        providers, self._providers = [*self._providers.values(), *self._outdated], {}
        self._outdated = []
        for provider in providers:
            await provider.close()


def _make(settings: EndpointSettings) -> _Listing:
    match settings.kind:
        case EndpointKind.OLLAMA:
            from sidecar.llm.ollama import OllamaProvider

            return OllamaProvider(settings)
        case EndpointKind.ANTHROPIC:
            from sidecar.llm.anthropic import AnthropicProvider

            return AnthropicProvider(settings)
        case EndpointKind.OPENAI:
            from sidecar.llm.openai_compatible import OpenAIProvider

            return OpenAIProvider(settings)
        case _:
            raise AssertionError(f"settings refuse this kind: {settings.kind}")


def _default_model(settings: EndpointSettings, models: tuple[ModelReport, ...]) -> str:
    """The configured model; else Claude's usual one, or the first of the list."""
    if settings.default_model:
        return settings.default_model
    if settings.kind is EndpointKind.ANTHROPIC:
        return DEFAULT_CLAUDE_MODEL
    return models[0].name if models else ""
