"""The LLM endpoints that this sidecar can reach: finds them, says what is wrong with them, finds the provider of an id.

An endpoint that does not answer is not reported as one that can be used, but as one in trouble; so is one that refuses
work. Both are what this sidecar has seen: the hub decides what follows from it (``hub/core/health.py``). An address
that nobody has named, where a server might be, is in no trouble as long as nothing was ever found there. Providers are
made when first needed, because their client libraries are heavy.
"""

import asyncio
import dataclasses
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import structlog
from msgspec.structs import replace

from protocol.bounds import MAX_WORD_CHARS
from protocol.endpoints import EndpointKind, EndpointReport, EndpointTrouble, Residency
from protocol.errors import BadInput, EndpointBusy, EndpointDown, EndpointRefused, ModelFailed, Problem, Unpriced
from protocol.listing import Facts, Listed
from protocol.prices import Price
from protocol.redaction import Redactor
from sidecar import machine
from sidecar.llm.base import ChatReply, ChatRequest, Loader, Provider
from sidecar.llm.config import USUAL_MODELS, EndpointSettings
from sidecar.llm.flow import Traffic
from sidecar.llm.genai import answered, asked
from sidecar.llm.looking import look
from sidecar.llm.pricing import billed, listed_price
from sidecar.spans import span

_LIBRARIES: Final = {
    EndpointKind.OLLAMA: "ollama",
    EndpointKind.ANTHROPIC: "anthropic",
    EndpointKind.OPENAI: "openai",
    EndpointKind.GEMINI: "aiohttp",
}

MAX_REPORTED: Final = 2_000
"""Models in all reports together: they have to fit into a heartbeat. What comes later in the settings has none left."""
_MAX_PROBLEM_CHARS: Final = 300

log = structlog.get_logger(__name__)

__all__ = ["EndpointSettings", "Endpoints"]


class Endpoints:
    """Makes, looks at and closes providers.

    Args:
        settings: the endpoints that it has by itself.
    Attributes:
        on_trouble: called when an endpoint comes into trouble, or out of it, through the work that it was given.
        watts: what the GPUs of this machine draw now; ``None``: nobody measures it.
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
        self._providers: dict[str, _Watched] = {}
        self._outdated: list[_Watched] = []  # may still be in use; closed with the rest
        self._traffic = {entry.id: Traffic(entry.id, stall_s=entry.stall_s) for entry in settings}
        self._seen: dict[str, EndpointReport | None] = {}
        self._troubles: dict[str, EndpointTrouble] = {}
        self._known: dict[str, Facts] = {}
        self.on_trouble: Callable[[], None] = lambda: None
        self.watts: float | None = None
        self._answering = 0  # requests of ours at servers of ours

    @property
    def troubles(self) -> tuple[EndpointTrouble, ...]:
        """Every endpoint with which something is wrong now, by id."""
        return tuple(trouble for _, trouble in sorted(self._troubles.items()))

    async def discover(self) -> tuple[EndpointReport, ...]:
        """The endpoints that answer now, with their models, in the order of the settings.

        All are asked at once: one that is slow, or lies, delays no other, and costs a few seconds at most.
        """
        found = await asyncio.gather(*(self._look(entry) for entry in self._settings.values()))
        left, reports = MAX_REPORTED, []
        for report in found:
            if report is not None:
                reports.append(replace(report, models=report.models[:left]))
                left -= len(reports[-1].models)
        return tuple(reports)

    async def _look(self, settings: EndpointSettings) -> EndpointReport | None:
        try:
            if settings.is_hosted and not settings.api_key:
                raise EndpointRefused(settings.id, "it has no API key")
            # In a thread: a client library takes a while to import, and heartbeats must not wait for that.
            await asyncio.to_thread(importlib.import_module, "aiohttp")
            listed = await look(settings, self._known)
            if settings.guessed and settings.kind is EndpointKind.OPENAI and not listed.maker:
                raise EndpointDown(settings.id, f"{settings.url} is no LLM server that we know")
            traffic = self._traffic[settings.id]
            traffic.listed = listed
            report = _report(settings, listed, traffic)
        except EndpointBusy as exc:
            # That no work was refused by: it is there, and what it had stands.
            seen = self._seen.get(settings.id)
            remark = _shown(settings, f"it does not list its models: {exc.problem}")
            still = None if seen is None else replace(seen, remark=remark)
            self._turn(settings, still, exc.problem)
            return still
        except EndpointDown as exc:
            self._turn(settings, None, exc.problem)
            return None
        self._turn(settings, report, "")
        return report

    def _turn(self, settings: EndpointSettings, report: EndpointReport | None, problem: str) -> None:
        """Note what was seen, and log a change between up and down, once."""
        was_seen = settings.id in self._seen
        before = self._seen.get(settings.id)
        if report is None and settings.guessed and not was_seen:
            return  # nobody has said that anything would be there
        self._seen[settings.id] = report
        trouble = self._troubles.get(settings.id)
        if report is None:
            self._troubles[settings.id] = _trouble(settings, problem)
        elif trouble is not None and not trouble.refusals:
            del self._troubles[settings.id]
        if report is None and (before is not None or not was_seen):
            log.warning("endpoint_down", endpoint=settings.id, why=problem)
        elif report is not None and before is None:
            log.info("endpoint_up", endpoint=settings.id, kind=str(settings.kind), url=settings.url)

    # --- how work fares -----------------------------------------------------------------------------------------------

    def _met(self, settings: EndpointSettings, exc: EndpointDown) -> None:
        """Work was refused there, or broke off."""
        before = self._troubles.get(settings.id)
        refusals = (before.refusals if before is not None else 0) + 1
        asked_s = exc.retry_after_s if isinstance(exc, EndpointBusy) else None
        is_added = settings.id not in self._settings
        trouble = _trouble(settings, exc.problem, added=is_added, refusals=refusals, retry_after_s=asked_s)
        self._troubles[settings.id] = trouble
        log.warning("endpoint_refused_work", endpoint=settings.id, why=exc.problem, refusals=refusals)
        self.on_trouble()

    def _did_well(self, settings: EndpointSettings) -> None:
        """Work was done there."""
        if self._troubles.pop(settings.id, None) is not None:
            self.on_trouble()

    def _began(self, settings: EndpointSettings) -> None:
        self._answering += settings.is_local

    def _ended(self, settings: EndpointSettings) -> float | None:
        """What an answer that ends now drew, in watts: those that are on their way at a time share it evenly."""
        if not settings.is_local:
            return None
        share = self._answering
        self._answering -= 1
        return None if self.watts is None else self.watts / max(1, share)

    def adopt(self, report: EndpointReport) -> None:
        """Know an endpoint that people have added at the hub; one of our own of the same id stands.

        It gets a key only if one of ours is at the same address: a key is never sent to a place that a message names.

        Raises:
            BadInput: it cannot be used: its address, or a hosted service without a key for that address.
        """
        if report.id in self._settings:
            return
        place = report.kind, report.url.rstrip("/")
        keys = [own.api_key for own in self._settings.values() if (own.kind, own.url.rstrip("/")) == place]
        wanted = EndpointSettings(
            id=report.id,
            kind=report.kind,
            url=report.url,
            local=report.local,
            api_key=next(filter(None, keys), ""),
            default_model=report.default_model,
        )
        if wanted.is_hosted and not wanted.api_key:
            problem = "this sidecar has no API key for this address"
            raise BadInput([Problem("api_key", problem)], f"endpoint {report.id!r}")
        if self._adopted.get(report.id) != wanted:
            self._adopted[report.id] = wanted
            if (old := self._providers.pop(report.id, None)) is not None:
                self._outdated.append(old)

    def provider(self, endpoint_id: str) -> Provider:
        """The provider of an endpoint.

        Raises:
            EndpointRefused: this sidecar has no such endpoint.
        """
        return self._watched(endpoint_id)

    def is_here(self, endpoint_id: str) -> bool:
        """Whether an endpoint is one of this host, which works with this host's GPU.

        Of those that people have added at the hub, one whose address is this host's.
        """
        if (settings := self._settings.get(endpoint_id)) is not None:
            return settings.is_local
        added = self._adopted.get(endpoint_id)
        return added is not None and added.is_local and machine.is_here(urlsplit(added.url).hostname or "")

    def holds_to_schema(self, endpoint_id: str) -> bool:
        """Whether a server can be held to a JSON schema as it writes: those of models that need it, run near here."""
        settings = self._settings.get(endpoint_id) or self._adopted.get(endpoint_id)
        if settings is None:
            return False
        return settings.kind is EndpointKind.OLLAMA or (settings.kind is EndpointKind.OPENAI and settings.is_local)

    async def unload_ours(self) -> None:
        """Have the models leave this host's memory that were loaded for us.

        Raises:
            EndpointDown: a server does not answer.
        """
        for endpoint_id in [name for name in self._providers if self.is_here(name)]:
            if (loader := await self.loader(endpoint_id)) is not None:
                await loader.unload_ours()

    async def loader(self, endpoint_id: str) -> Loader | None:
        """What loads models at an endpoint; ``None`` where nobody can have that done.

        Raises:
            EndpointRefused: this sidecar has no such endpoint.
        """
        made = await self._watched(endpoint_id).made()
        return made if isinstance(made, Loader) else None

    def _watched(self, endpoint_id: str) -> "_Watched":
        settings = self._settings.get(endpoint_id) or self._adopted.get(endpoint_id)
        if settings is None:
            known = ", ".join((*self._settings, *self._adopted)) or "none"
            raise EndpointRefused(endpoint_id, f"this sidecar has no such endpoint; it has {known}")
        if endpoint_id not in self._providers:
            traffic = self._traffic.get(endpoint_id) or Traffic(endpoint_id, stall_s=settings.stall_s)
            self._providers[endpoint_id] = _Watched(
                settings, traffic, self._met, self._did_well, self._began, self._ended
            )
        return self._providers[endpoint_id]

    async def close(self) -> None:
        """Close all connections."""
        providers, self._providers = [*self._providers.values(), *self._outdated], {}
        self._outdated = []
        for provider in providers:
            await provider.close()


@dataclass(eq=False, slots=True)
class _Watched:
    """A provider that is made when it is first asked, and whose luck is noted."""

    settings: EndpointSettings
    traffic: Traffic
    met: Callable[[EndpointSettings, EndpointDown], None]
    did_well: Callable[[EndpointSettings], None]
    began: Callable[[EndpointSettings], None] = lambda _settings: None
    ended: Callable[[EndpointSettings], float | None] = lambda _settings: None
    _made: Provider | None = None
    _prices: dict[str, Price | None] = field(default_factory=dict)

    async def made(self) -> Provider:
        """The provider itself."""
        if self._made is None:
            # In a thread, as the client libraries take up to two seconds to import.
            await asyncio.to_thread(importlib.import_module, _LIBRARIES[self.settings.kind])
        if self._made is None:  # somebody else may have made it meanwhile
            self._made = _make(self.settings, self.traffic)
        return self._made

    async def chat(self, request: ChatRequest) -> ChatReply:
        """See :class:`sidecar.llm.base.Provider`."""
        model = request.model or self.settings.default_model
        with span(f"chat {model}".rstrip(), asked(self.settings, request, model), kind="client") as facts:
            reply = await self._answer(request)
            facts.update(answered(reply))
            return reply

    async def _answer(self, request: ChatRequest) -> ChatReply:
        provider = await self.made()
        listed = await self._listed(request)
        self.began(self.settings)
        power_w: float | None = None
        try:
            reply = await provider.chat(request)
        except EndpointDown as exc:
            self.met(self.settings, exc)
            raise
        except ModelFailed:
            self.did_well(self.settings)  # the endpoint works
            raise
        finally:
            power_w = self.ended(self.settings)
        self.did_well(self.settings)
        usage = billed(reply.usage, request.price, listed, is_local=self.settings.is_local, power_w=power_w)
        return dataclasses.replace(reply, usage=usage)

    async def _listed(self, request: ChatRequest) -> Price | None:
        """The list price of the model, where that counts.

        Raises:
            Unpriced: a budget in dollars has to be kept, and nobody knows the price.
        """
        settings, told = self.settings, request.price
        if settings.is_local or (told is not None and told.has_tokens):
            return None
        model = request.model or settings.default_model or USUAL_MODELS.get(settings.kind, "")
        if model not in self._prices:
            # In a thread: the table takes a while to load, and heartbeats must not wait for that.
            price = await asyncio.to_thread(listed_price, model, kind=settings.kind, url=settings.url)
            self._prices[model] = price
        if request.is_bounded and self._prices[model] is None:
            raise Unpriced(model, settings.id)
        return self._prices[model]

    async def close(self) -> None:
        """Close its connections."""
        if self._made is not None:
            await self._made.close()


def _make(settings: EndpointSettings, traffic: Traffic) -> Provider:
    match settings.kind:
        case EndpointKind.OLLAMA:
            from sidecar.llm.ollama import OllamaProvider

            return OllamaProvider(settings, traffic)
        case EndpointKind.ANTHROPIC:
            from sidecar.llm.anthropic import AnthropicProvider

            return AnthropicProvider(settings, traffic)
        case EndpointKind.OPENAI:
            from sidecar.llm.openai_compatible import OpenAIProvider

            return OpenAIProvider(settings, traffic)
        case EndpointKind.GEMINI:
            from sidecar.llm.gemini import GeminiProvider

            return GeminiProvider(settings, traffic)


def _report(settings: EndpointSettings, listed: Listed, traffic: Traffic) -> EndpointReport:
    models = tuple(
        replace(model, residency=Residency.LOADING) if traffic.loads(model.name) else model
        for model in listed.models
        if len(model.name) <= MAX_WORD_CHARS  # one that no frame may hold would keep all the others from being told
    )  # servers list a model that is on its way as if it were in memory
    return EndpointReport(
        id=settings.id,
        kind=settings.kind,
        url=settings.url,
        local=settings.is_local,
        models=models,
        default_model=_default_model(settings, listed),
        parallel=listed.parallel,
        remark=listed.remark,
    )


def _trouble(
    settings: EndpointSettings,
    problem: str,
    *,
    added: bool = False,
    refusals: int = 0,
    retry_after_s: float | None = None,
) -> EndpointTrouble:
    return EndpointTrouble(
        endpoint=settings.id,
        kind=settings.kind,
        url=settings.url,
        local=settings.is_local,
        problem=_shown(settings, problem),
        added=added,
        refusals=refusals,
        retry_after_s=retry_after_s,
    )


def _shown(settings: EndpointSettings, problem: str) -> str:
    """What is told of a problem: servers repeat in their errors what they were sent, the key too."""
    return Redactor((settings.api_key,)).text(problem)[:_MAX_PROBLEM_CHARS]


def _default_model(settings: EndpointSettings, listed: Listed) -> str:
    """The configured model; else the usual one of a hosted service, or the first of the list."""
    if named := settings.default_model or USUAL_MODELS.get(settings.kind, ""):
        return named
    return listed.models[0].name if listed.models else ""
