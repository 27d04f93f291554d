"""LLM endpoints: those that sidecars report by themselves, and those that people have added.

An added endpoint is probed before it is kept and every few seconds after that; a sidecar tells of its own. How each of
them does is kept by ``hub/services/health.py``; here stand the rows that people have added, and what people are shown.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_address
from typing import Final, Protocol
from urllib.parse import urlsplit

from msgspec.structs import asdict, replace

from hub.core.agent import Agent
from hub.core.fleet import Fleet
from hub.core.health import HALF_OPEN, MAX_PROBLEM_CHARS, OFFLINE, ONLINE, UNKNOWN, Health
from hub.core.speeds import ServerKey, Speeds
from hub.store.endpoint_changes import EndpointRow, PutEndpoint, RemoveEndpoint
from hub.store.rows import at
from hub.store.store import Start, Store
from protocol.clock import Clock
from protocol.endpoint_views import (
    EndpointBody,
    EndpointList,
    EndpointModel,
    EndpointPatch,
    EndpointView,
    ModelList,
    ModelView,
)
from protocol.endpoints import EndpointKind, EndpointReport, ModelReport, Residency
from protocol.errors import BadInput, Conflict, EndpointBusy, EndpointDown, NotFound, Problem, StoreFailed
from protocol.events import Event, EventKind
from protocol.ids import NAME
from protocol.limits import CHECK_S
from protocol.listing import Listed
from protocol.model import AgentState

Probe = Callable[[EndpointKind, str], Awaitable[Listed]]


class HealthPort(Protocol):
    """Who keeps up how endpoints do."""

    def answered(self, key: ServerKey, report: EndpointReport) -> None:
        """It was asked and answered so."""

    def silent(self, key: ServerKey, report: EndpointReport, problem: str) -> None:
        """It was asked and did not answer."""

    def forget(self, key: ServerKey) -> None:
        """There is no such endpoint any more."""


class EndpointUnusable(BadInput):
    """The endpoint that a person wants to add does not answer as one of its kind."""

    code = "endpoint_down"

    def __init__(self, url: str, why: str) -> None:
        self.url, self.why = url, why
        super().__init__([Problem("url", f"{why}; start it, or check kind and address")], f"endpoint {url}")


MAX_QUOTA: Final = 10**12


class EndpointExists(Conflict):
    """The id is taken."""

    code = "endpoint_exists"

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        super().__init__(endpoint)

    def __str__(self) -> str:
        return f"there is an endpoint {self.endpoint!r} already; remove it first or give another id"


class Registry:
    """The use cases around endpoints."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        clock: Clock,
        probe: Probe,
        health: HealthPort,
        *,
        check_s: float = CHECK_S,
        speeds: Speeds | None = None,
        is_elsewhere: Callable[[Agent], bool] = lambda _agent: False,
    ) -> None:
        self._check_s, self._speeds, self._is_elsewhere = check_s, speeds or Speeds(), is_elsewhere
        self._store, self._fleet, self._clock, self._probe, self._care = store, fleet, clock, probe, health
        self._added: dict[str, EndpointRow] = {}
        self._look_now = asyncio.Event()
        self._adding: set[str] = set()  # ids whose endpoint is being probed and stored
        self._writing = asyncio.Lock()  # so that what is removed or changed meanwhile is not written back

    def restore(self, start: Start) -> None:
        """What a previous hub knew. What answered it counts as answering until the first round has asked."""
        self._added = {row.id: row for row in start.endpoints}
        self._share()

    async def reload(self) -> None:
        """Read the added endpoints again: another hub has added, changed or removed some. New ones are probed soon."""
        self._added = {row.id: row for row in await self._store.endpoints()}
        self._share()
        self._look_now.set()

    async def run(self) -> None:
        """Probe the added endpoints until cancelled, all at once: one that is slow delays no other."""
        while True:
            self._look_now.clear()
            try:
                await self.look()
            except StoreFailed:
                return  # the hub is ending
            try:
                async with asyncio.timeout(self._check_s):
                    await self._look_now.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Probe the added endpoints once."""
        await asyncio.gather(*(self._check(row) for row in list(self._added.values())))

    async def _check(self, row: EndpointRow) -> None:
        try:
            report = _report(row, await self._probe(EndpointKind(row.kind), row.url))
        except EndpointDown as exc:
            if self._added.get(row.id) is not row:
                return  # it was changed or removed meanwhile
            seen = self._fleet.seen.get(("", row.id))
            if isinstance(exc, EndpointBusy) and seen is not None:  # it is there: what it had stands
                self._care.answered(("", row.id), replace(seen, remark=exc.problem[:MAX_PROBLEM_CHARS]))
            else:
                self._care.silent(("", row.id), _report(row, Listed(())), exc.problem)
            self._share()
            return
        if self._added.get(row.id) is row:
            self._care.answered(("", row.id), report)
            self._share()

    def _share(self) -> None:
        """Tell the scheduler which of the added endpoints there are, and which of them do not answer."""
        up = tuple(self._fleet.seen["", name] for name in sorted(self._added) if self._is_up(name))
        self._fleet.endpoints_down = tuple(sorted(name for name in self._added if not self._is_up(name)))
        if up != self._fleet.endpoints:
            self._fleet.endpoints = up
            self._fleet.changed()
            self._store.wake()

    def _is_up(self, name: str) -> bool:
        health = self._fleet.health.get(("", name))
        return health is not None and health.state not in {OFFLINE, UNKNOWN} and ("", name) in self._fleet.seen

    # --- people -------------------------------------------------------------------------------------------------------

    async def add(self, body: EndpointBody, by: str) -> EndpointView:
        """Probe an endpoint and keep it.

        Raises:
            BadInput: the address or the id cannot be used.
            EndpointExists: the id is taken.
            EndpointUnusable: it does not answer; nothing is kept.
        """
        problems = [*_problems(body.url, body.id), *_quota_problems(body)]
        if problems:
            raise BadInput(problems, "endpoint")
        endpoint = body.id or _name(body.url)
        reported = {report.id for agent in self._fleet.agents.values() for report in agent.endpoints}
        if endpoint in self._added.keys() | self._adding | reported:
            raise EndpointExists(endpoint)
        is_ours = body.kind is EndpointKind.OLLAMA or (body.kind is EndpointKind.OPENAI and _is_near(body.url))
        local = body.local if body.local is not None else is_ours
        row = EndpointRow(
            id=endpoint,
            kind=body.kind.value,
            url=body.url.rstrip("/"),
            local=local,
            default_model=body.default_model,
            rpm=body.rpm or 0,
            tpm=body.tpm or 0,
        )
        self._adding.add(endpoint)
        try:
            return await self._keep(row, None, by)
        finally:
            self._adding.discard(endpoint)

    async def change(self, endpoint: str, body: EndpointPatch, by: str) -> EndpointView:
        """Change an added endpoint; probed like a new one.

        Raises:
            NotFound, BadInput, EndpointUnusable: nothing is changed.
            Conflict: somebody else has changed it while it was probed; nor is it then.
        """
        before = self._own(endpoint)
        wanted = {name: value for name, value in asdict(body).items() if value is not None}
        row = EndpointRow(**asdict(before) | wanted)
        problems = [*_problems(row.url, ""), *_quota_problems(body)]
        if problems:
            raise BadInput(problems, "endpoint")
        return await self._keep(row, before, by)

    async def _keep(self, row: EndpointRow, before: EndpointRow | None, by: str) -> EndpointView:
        """Probe it, and keep it unless it is no longer as it was ``before``."""
        try:
            report = _report(row, await self._probe(EndpointKind(row.kind), row.url))
        except EndpointDown as exc:
            raise EndpointUnusable(row.url, exc.problem) from exc
        async with self._writing:
            if before is not None and self._own(row.id) != before:
                raise Conflict(f"endpoint {row.id} was changed by somebody else meanwhile; look at it and try again")
            event = self._event(EventKind.ENDPOINT_ADDED, row.id, url=row.url, by=by)
            await self._store.commit(PutEndpoint(row, event, is_new=before is None))
            self._added[row.id] = row
        self._care.answered(("", row.id), report)
        self._share()
        return self._view(("", row.id))

    async def remove(self, endpoint: str, by: str) -> None:
        """Forget an endpoint: one that was added, or one that a sidecar has told of and that is gone.

        Raises:
            NotFound: there is no such endpoint, or a sidecar has it and will tell of it again.
        """
        gone = [key for key in self._keys() if key[0] and key[1] == endpoint and not self._view(key).agents]
        if endpoint in self._added:
            async with self._writing:
                event = self._event(EventKind.ENDPOINT_REMOVED, endpoint, by=by)
                await self._store.commit(RemoveEndpoint(endpoint, event))
                self._added.pop(endpoint, None)
            self._care.forget(("", endpoint))
            self._share()
        elif not gone:
            raise NotFound("endpoint that was added by hand, or is gone", endpoint)
        else:
            for key in gone:
                self._care.forget(key)

    def _own(self, endpoint: str) -> EndpointRow:
        if endpoint not in self._added:
            raise NotFound("endpoint that was added by hand", endpoint)
        return self._added[endpoint]

    # --- what people see ----------------------------------------------------------------------------------------------

    def endpoints(self) -> EndpointList:
        """All endpoints, by id."""
        views = [self._view(key) for key in self._keys()]
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

    def models(self, *, absent: bool = False) -> ModelList:
        """All models on all endpoints.

        Args:
            absent: name for every machine also the models that others have and it has not.
        """
        endpoints = self.endpoints().endpoints
        found = [_model(endpoint, model.name, endpoint.models) for endpoint in endpoints for model in endpoint.models]
        if absent:
            local = [endpoint for endpoint in endpoints if endpoint.local]
            names = sorted({model.name for endpoint in local for model in endpoint.models})
            has = {(model.endpoint, model.host, model.name) for model in found}
            found += [
                _model(endpoint, name, ())
                for endpoint in local
                for name in names
                if (endpoint.id, endpoint.host, name) not in has
            ]
        return ModelList(models=tuple(found))

    def _keys(self) -> Iterator[ServerKey]:
        """Every endpoint that is known: added, told of now, or seen before."""
        yield from (("", name) for name in self._added)
        told = {key for agent in self._fleet.agents.values() for key, _ in self._own_of(agent)}
        yield from sorted(told | {key for key in self._fleet.seen if key[0]})

    def _own_of(self, agent: Agent) -> Iterator[tuple[ServerKey, EndpointReport]]:
        """What the agent reports, and which servers that are."""
        return ((self._fleet.server_of(agent, report.id, report.url), report) for report in agent.endpoints)

    def _view(self, key: ServerKey) -> EndpointView:
        host, name = key
        health, seen = self._fleet.health.get(key, Health()), self._fleet.seen.get(key)
        agents = [agent for agent in self._fleet.agents.values() if not host or (agent.host or agent.name) == host]
        if host:  # what its sidecar told last is the newest
            seen = next((report for agent in agents for own, report in self._own_of(agent) if own == key), seen)
        else:
            seen = _report(self._added[name], Listed(seen.models, seen.parallel, seen.remark) if seen else Listed(()))
        assert seen is not None, "a key comes from what was told or seen"
        online = sorted(agent.name for agent in agents if agent.state is not AgentState.OFFLINE)
        users = [
            agent.name
            for agent in agents
            if agent.name in online and (not host or any(own == key for own, _ in self._own_of(agent)))
        ]
        turns = self._speeds.turns(key, seen)
        if (distant := sorted(agent.name for agent in agents if self._is_elsewhere(agent))) and host and not online:
            state, detail = "up", f"its sidecar {', '.join(distant)} is at another hub, which knows its state"
        else:
            state, detail = _shown(health, bool(host), [agent.name for agent in agents], bool(online))
        last_seen_ms = max((agent.last_seen_ms or 0 for agent in agents if host), default=0)
        if host and not online and health.state in {ONLINE, HALF_OPEN}:
            # It may answer still, but nobody is there to say so.
            health = replace(health, state=UNKNOWN, since_ms=max(health.since_ms, last_seen_ms))
        return EndpointView(
            id=name,
            kind=seen.kind,
            url=seen.url,
            host=host or None,
            local=seen.local,
            state=state,
            detail=detail,
            checked_at=at(max(health.checked_ms or 0, last_seen_ms) or None),
            models=tuple(self._seen_model(key, model) for model in seen.models),
            default_model=seen.default_model,
            agents=tuple(sorted(users)) if health.state is not OFFLINE else (),
            health=health.state.value,
            since=at(health.since_ms or None),
            until=at(health.until_ms),
            parallel=seen.parallel,
            turns=1 if health.is_on_trial else turns.most,
            proved=turns.proved if self._speeds.knows_turns(key) else 0,
            rpm=seen.rpm,
            tpm=seen.tpm,
            last_used_at=at(self._speeds.last_use_ms(key)),
        )

    def _seen_model(self, key: ServerKey, model: ModelReport) -> EndpointModel:
        """What its server tells, and what work has seen of it."""
        facts = asdict(model)
        if model.tokens_per_s is None:
            facts["tokens_per_s"] = self._speeds.written_per_s(key, model.name)
        return EndpointModel(**facts, last_used_at=at(self._speeds.last_use_ms(key, model.name)))

    def _event(self, kind: EventKind, endpoint: str, **facts: object) -> Event:
        return Event(kind=kind, at_ms=self._clock.now_ms(), facts={"endpoint": endpoint, **facts})


def _shown(health: Health, is_reported: bool, agents: list[str], is_served: bool) -> tuple[str, str]:  # noqa: FBT001 - a table of cases
    """The state in one word, and what is wrong."""
    if is_reported and not is_served:
        return "down", f"its sidecar {', '.join(agents) or 'is unknown and'} is offline"
    if health.state is OFFLINE:
        return "down", health.problem
    if not health.takes_work or health.state is HALF_OPEN:
        return "degraded", health.problem
    if health.state is UNKNOWN and not is_reported:
        return "down", "not checked yet"
    return "up", health.problem


def _model(endpoint: EndpointView, name: str, among: tuple[EndpointModel, ...]) -> ModelView:
    model = next((model for model in among if model.name == name), EndpointModel(name=name, residency=Residency.ABSENT))
    return ModelView(
        name=name,
        endpoint=endpoint.id,
        host=endpoint.host,
        local=endpoint.local,
        residency=model.residency.value,
        size_bytes=model.size_bytes,
        vram_bytes=model.vram_bytes,
        context=model.context,
        resident_bytes=model.resident_bytes,
        expires_at=model.expires_at,
        max_context=model.max_context,
        health=endpoint.health,
        tokens_per_s=model.tokens_per_s,
        last_used_at=model.last_used_at,
    )


def _report(row: EndpointRow, listed: Listed) -> EndpointReport:
    return EndpointReport(
        id=row.id,
        kind=EndpointKind(row.kind),
        url=row.url,
        local=row.local,
        models=listed.models,
        default_model=row.default_model,
        parallel=listed.parallel,
        remark=listed.remark,
        rpm=row.rpm,
        tpm=row.tpm,
    )


def _quota_problems(body: EndpointBody | EndpointPatch) -> list[Problem]:
    given = {"rpm": body.rpm, "tpm": body.tpm}
    return [
        Problem(name, f"{value}; from 1 to {MAX_QUOTA:,} a minute, or 0 for no quota")
        for name, value in given.items()
        if value is not None and not 0 <= value <= MAX_QUOTA
    ]


def _problems(url: str, endpoint: str) -> list[Problem]:
    problems = []
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
