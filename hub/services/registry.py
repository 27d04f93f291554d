"""LLM endpoints: those that sidecars report by themselves, and those that people have added.

An added endpoint is probed before it is kept and every few seconds after that; while it does not answer, no task is
routed to it. What a sidecar reports lives and dies with the sidecar.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import structlog

from hub.core.fleet import Fleet
from hub.store.changes import EndpointRow, PutEndpoint, Record, RemoveEndpoint
from hub.store.rows import at
from hub.store.store import Start, Store
from protocol.api import EndpointBody, EndpointList, EndpointPatch, EndpointView, ModelList, ModelView
from protocol.clock import Clock
from protocol.errors import BadInput, Conflict, EndpointDown, NotFound, Problem, StoreFailed
from protocol.events import Event, EventKind
from protocol.ids import NAME
from protocol.model import AgentState, EndpointKind, EndpointReport, ModelReport

log = structlog.get_logger(__name__)

Probe = Callable[[EndpointKind, str], Awaitable[tuple[ModelReport, ...]]]
CHECK_S: Final = 15.0


class EndpointUnusable(BadInput):
    """The endpoint that a person wants to add does not answer as one of its kind."""

    code = "endpoint_down"

    def __init__(self, url: str, why: str) -> None:
        self.url, self.why = url, why
        super().__init__([Problem("url", f"{why}; start it, or check kind and address")], f"endpoint {url}")


class EndpointExists(Conflict):
    """The id is taken."""

    code = "endpoint_exists"

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        super().__init__(endpoint)

    def __str__(self) -> str:
        return f"there is an endpoint {self.endpoint!r} already; remove it first or give another id"


@dataclass(frozen=True, slots=True)
class Added:
    """An endpoint that a person has added, and what the last probe saw."""

    row: EndpointRow
    is_up: bool = False
    detail: str = "not checked yet"
    checked_ms: int | None = None
    models: tuple[ModelReport, ...] = ()


class Registry:
    """The use cases around endpoints."""

    def __init__(self, store: Store, fleet: Fleet, clock: Clock, probe: Probe) -> None:
        self._store, self._fleet, self._clock, self._probe = store, fleet, clock, probe
        self._added: dict[str, Added] = {}
        self._look_now = asyncio.Event()
        self._adding: set[str] = set()  # ids whose endpoint is being probed and stored

    def restore(self, start: Start) -> None:
        """What a previous hub knew."""
        self._added = {row.id: Added(row) for row in start.endpoints}

    async def reload(self) -> None:
        """Read the added endpoints again: another hub has added, changed or removed some. New ones are probed soon."""
        rows = {row.id: row for row in await self._store.endpoints()}
        kept = {name: added for name, added in self._added.items() if rows.get(name) == added.row}
        self._added = {name: kept.get(name) or Added(row) for name, row in rows.items()}
        self._share()
        self._look_now.set()

    async def run(self) -> None:
        """Probe the added endpoints until cancelled."""
        while True:
            try:
                await asyncio.gather(*(self._check(endpoint) for endpoint in list(self._added)))
            except StoreFailed:
                return  # the hub is ending
            self._look_now.clear()
            try:
                async with asyncio.timeout(CHECK_S):
                    await self._look_now.wait()
            except TimeoutError:
                continue

    async def _check(self, endpoint: str) -> None:
        before = self._added.get(endpoint)
        if before is None:
            return  # removed since the round began
        now = await self._look(before.row)
        if self._added.get(endpoint) is not before:
            return  # changed or removed meanwhile
        self._added[endpoint] = now
        self._share()
        if before.checked_ms is not None and before.is_up != now.is_up:
            kind = EventKind.ENDPOINT_UP if now.is_up else EventKind.ENDPOINT_DOWN
            log.warning(kind.value, endpoint=endpoint, detail=now.detail)
            self._store.post(Record(self._event(kind, endpoint, detail=now.detail)))

    async def _look(self, row: EndpointRow) -> Added:
        try:
            models = await self._probe(EndpointKind(row.kind), row.url)
        except EndpointDown as exc:
            return Added(row, detail=exc.problem, checked_ms=self._clock.now_ms())
        return Added(row, is_up=True, detail="", checked_ms=self._clock.now_ms(), models=models)

    def _share(self) -> None:
        up = tuple(_report(added) for _, added in sorted(self._added.items()) if added.is_up)
        self._fleet.endpoints_down = tuple(sorted(name for name, added in self._added.items() if not added.is_up))
        if up != self._fleet.endpoints:
            self._fleet.endpoints = up
            self._fleet.changed()
            self._store.wake()

    # --- people -------------------------------------------------------------------------------------------------------

    async def add(self, body: EndpointBody, by: str) -> EndpointView:
        """Probe an endpoint and keep it.

        Raises:
            BadInput: the address or the id cannot be used.
            EndpointExists: the id is taken.
            EndpointUnusable: it does not answer; nothing is kept.
        """
        problems = list(_problems(body.kind, body.url, body.id))
        if problems:
            raise BadInput(problems, "endpoint")
        endpoint = body.id or _name(body.url)
        reported = {report.id for agent in self._fleet.agents.values() for report in agent.endpoints}
        if endpoint in self._added.keys() | self._adding | reported:
            raise EndpointExists(endpoint)
        is_ours = body.kind is EndpointKind.OLLAMA or (body.kind is EndpointKind.OPENAI and _is_near(body.url))
        local = body.local if body.local is not None else is_ours
        row = EndpointRow(
            id=endpoint, kind=body.kind.value, url=body.url.rstrip("/"), local=local, default_model=body.default_model
        )
        self._adding.add(endpoint)
        try:
            return await self._keep(row, EventKind.ENDPOINT_ADDED, by)
        finally:
            self._adding.discard(endpoint)

    async def change(self, endpoint: str, body: EndpointPatch, by: str) -> EndpointView:
        """Change an added endpoint; probed like a new one.

        Raises:
            NotFound, BadInput, EndpointUnusable: nothing is changed.
        """
        row = self._own(endpoint).row
        wanted = {
            name: value for name in ("url", "local", "default_model") if (value := getattr(body, name)) is not None
        }
        row = EndpointRow(**{name: getattr(row, name) for name in EndpointRow.__struct_fields__} | wanted)
        problems = list(_problems(EndpointKind(row.kind), row.url, ""))
        if problems:
            raise BadInput(problems, "endpoint")
        return await self._keep(row, EventKind.ENDPOINT_ADDED, by)

    async def _keep(self, row: EndpointRow, kind: EventKind, by: str) -> EndpointView:
        added = await self._look(row)
        if not added.is_up:
            raise EndpointUnusable(row.url, added.detail)
        await self._store.commit(PutEndpoint(row, self._event(kind, row.id, url=row.url, by=by)))
        self._added[row.id] = added
        self._share()
        return self._view(added)

    async def remove(self, endpoint: str, by: str) -> None:
        """Forget an added endpoint.

        Raises:
            NotFound: nobody has added it.
        """
        self._own(endpoint)
        await self._store.commit(RemoveEndpoint(endpoint, self._event(EventKind.ENDPOINT_REMOVED, endpoint, by=by)))
        self._added.pop(endpoint, None)
        self._share()

    def _own(self, endpoint: str) -> Added:
        if endpoint not in self._added:
            raise NotFound("endpoint that was added by hand", endpoint)
        return self._added[endpoint]

    def endpoints(self) -> EndpointList:
        """All endpoints, by id."""
        views = [*(self._view(added) for added in self._added.values()), *self._reported()]
        return EndpointList(endpoints=tuple(sorted(views, key=lambda view: (view.id, view.host or ""))))

    def endpoint(self, endpoint: str) -> EndpointView:
        """One endpoint.

        Raises:
            NotFound: there is no such endpoint.
        """
        for found in self.endpoints().endpoints:
            if found.id == endpoint:
                return found
        raise NotFound("endpoint", endpoint)

    def models(self) -> ModelList:
        """All models on all endpoints."""
        return ModelList(
            models=tuple(
                ModelView(
                    name=model.name,
                    endpoint=endpoint.id,
                    host=endpoint.host,
                    local=endpoint.local,
                    residency=model.residency.value,
                    size_bytes=model.size_bytes,
                    vram_bytes=model.vram_bytes,
                    context=model.context,
                )
                for endpoint in self.endpoints().endpoints
                for model in endpoint.models
            )
        )

    def _view(self, added: Added) -> EndpointView:
        online = sorted(agent.name for agent in self._fleet.online())
        return EndpointView(
            id=added.row.id,
            kind=EndpointKind(added.row.kind),
            url=added.row.url,
            host=None,
            local=added.row.local,
            state="up" if added.is_up else "down",
            detail=added.detail,
            checked_at=at(added.checked_ms),
            models=added.models,
            default_model=added.row.default_model,
            agents=tuple(online) if added.is_up else (),
        )

    def _reported(self) -> list[EndpointView]:
        found: dict[tuple[str, str], EndpointView] = {}
        for agent in sorted(self._fleet.agents.values(), key=lambda a: a.name):
            is_up = agent.state is not AgentState.OFFLINE
            for report in agent.endpoints:
                key = (report.id, agent.host)
                users = (*found[key].agents, agent.name) if key in found else (agent.name,)
                if key in found and not is_up:
                    continue
                found[key] = EndpointView(
                    id=report.id,
                    kind=report.kind,
                    url=report.url,
                    host=agent.host,
                    local=report.local,
                    state="up" if is_up else "down",
                    detail="" if is_up else f"its sidecar {agent.name} is offline",
                    checked_at=at(agent.last_seen_ms),
                    models=report.models,
                    default_model=report.default_model,
                    agents=users if is_up else (),
                )
        return list(found.values())

    def _event(self, kind: EventKind, endpoint: str, **facts: object) -> Event:
        return Event(kind=kind, at_ms=self._clock.now_ms(), facts={"endpoint": endpoint, **facts})


def _report(added: Added) -> EndpointReport:
    row = added.row
    return EndpointReport(
        id=row.id,
        kind=EndpointKind(row.kind),
        url=row.url,
        local=row.local,
        models=added.models,
        default_model=row.default_model,
    )


def _problems(kind: EndpointKind, url: str, endpoint: str) -> list[Problem]:
    problems = []
    if kind is EndpointKind.GEMINI:
        problems.append(
            Problem(
                "kind", "no sidecar of this version can use gemini; use its OpenAI-compatible address with kind openai"
            )
        )
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        has_secret = bool(parts.username or parts.password)
    except ValueError:  # brackets that do not close, a port that is none
        is_address = has_secret = False
    if not is_address:
        problems.append(Problem("url", f"not an address like http://127.0.0.1:11434: {url[:100]!r}"))
    elif has_secret:
        problems.append(Problem("url", "holds a user name or password; keys belong into the sidecars' settings"))
    if endpoint and not NAME.fullmatch(endpoint):
        problems.append(Problem("id", f"use letters, digits and ._- only, at most 64: {endpoint[:70]!r}"))
    return problems


def _name(url: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", urlsplit(url).netloc).strip("-")[:64] or "endpoint"


def _is_near(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_private
    except ValueError:
        return False
