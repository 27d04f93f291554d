"""Keep up how every LLM endpoint does: what sidecars tell, what the hub has seen, how work has fared, and time.

The states are those of ``hub/core/health.py``. What is known lies in the fleet, where the scheduler looks, and in the
store: a hub that starts again knows every endpoint as it was, with its models, and goes on with its cooldowns. Changes
of state are stored and told at once; what is said of models in between is stored every few seconds.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final

import structlog
from msgspec.structs import replace

from hub.core.agent import Agent
from hub.core.fleet import Fleet
from hub.core.health import (
    COOLDOWN,
    OFFLINE,
    ONLINE,
    UNKNOWN,
    Health,
    answered,
    passed,
    refused,
    silent,
    succeeded,
    told,
)
from hub.core.speeds import ServerKey
from hub.store.endpoint_changes import ForgetHealth, HealthRow, PutHealth
from hub.store.store import Start, Store
from protocol.clock import Clock
from protocol.endpoints import EndpointReport, EndpointTrouble
from protocol.events import Event, EventKind
from protocol.messages import Heartbeat
from protocol.model import Usage

log = structlog.get_logger(__name__)

KEEP_S: Final = 15.0
"""How often news that change no state are stored."""
LOST: Final = "its sidecar does not find it any more"
_TOLD: Final = {ONLINE: EventKind.ENDPOINT_UP, OFFLINE: EventKind.ENDPOINT_DOWN, COOLDOWN: EventKind.ENDPOINT_COOLDOWN}


class EndpointHealth:
    """The use cases around what is seen of endpoints; :attr:`on_refusal` hears of each that has refused work."""

    def __init__(self, store: Store, fleet: Fleet, clock: Clock, chance: Random) -> None:
        self._store, self._fleet, self._clock, self._chance = store, fleet, clock, chance
        self._told: dict[str, tuple[int, dict[ServerKey, int]]] = {}  # by agent: its boot, and refusals by endpoint
        self._here: dict[str, dict[str, set[str]]] = {}  # by host and agent: the endpoints that it tells of
        self._unkept: set[ServerKey] = set()
        self._wake = asyncio.Event()
        self.on_refusal: Callable[[ServerKey, EndpointReport], None] = lambda _key, _report: None

    @property
    def sidecars(self) -> frozenset[str]:
        """Those that something is kept of."""
        return frozenset(self._told).union(*self._here.values())

    def restore(self, start: Start) -> None:
        """What a previous hub knew."""
        for row in start.healths:
            key = row.host, row.seen.id
            self._fleet.seen[key], self._fleet.health[key] = row.seen, row.health
            for name, boot, refusals in row.health.told:
                known, counts = self._told.get(name, (boot, {}))
                if boot >= known:
                    self._told[name] = boot, (counts if boot == known else {}) | {key: refusals}

    async def run(self) -> None:
        """Let time do its part, and store what is not stored, until cancelled."""
        while True:
            self._wake.clear()
            self.pass_time()
            self.keep()
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def pass_time(self) -> None:
        """End the cooldowns and trials that are over."""
        now_ms = self._clock.now_ms()
        for key, health in list(self._fleet.health.items()):
            if (after := passed(health, now_ms)) is not health:
                self._set(key, after)

    def _pause_s(self) -> float:
        """Seconds until something is over, at most until it is time to store."""
        ends = [health.until_ms for health in self._fleet.health.values() if health.until_ms is not None]
        left_s = (min(ends, default=1 << 62) - self._clock.now_ms()) / 1000
        return min(KEEP_S, max(0.05, left_s))

    # --- what is seen -------------------------------------------------------------------------------------------------

    def answered(self, key: ServerKey, report: EndpointReport) -> None:
        """The endpoint was asked and answered so."""
        self._see(key, report)
        self._set(key, answered(self._health(key), self._clock.now_ms(), report.remark))

    def silent(self, key: ServerKey, report: EndpointReport, problem: str) -> None:
        """The endpoint was asked and did not answer; ``report`` says which one it is, should it be new."""
        if key not in self._fleet.seen:
            self._see(key, report)
        self._set(key, silent(self._health(key), self._clock.now_ms(), problem))

    def used(self, key: ServerKey | None, usage: Usage) -> None:
        """An attempt that was given this endpoint has ended; it counts for it if a model has answered."""
        health = self._fleet.health.get(key) if key is not None else None
        if health is not None and key is not None and usage.output_tokens and (health.refusals or health.until_ms):
            self._set(key, succeeded(health, self._clock.now_ms()))

    def forget(self, key: ServerKey) -> None:
        """There is no such endpoint any more."""
        self._fleet.seen.pop(key, None)
        self._unkept.discard(key)
        if self._fleet.health.pop(key, None) is not None:
            self._store.post(ForgetHealth(*key))

    def heard(self, agent: Agent, heartbeat: Heartbeat) -> None:
        """A sidecar lives, and perhaps tells something of its endpoints."""
        host = agent.host or agent.name
        boot, refusals = self._told.get(agent.name, (None, {}))
        is_first = boot != agent.boot or agent.name not in self._here.get(host, {})
        if heartbeat.endpoints is None and heartbeat.troubles is None and not is_first:
            return
        if boot != agent.boot:
            refusals = {}
        self._told[agent.name] = agent.boot, refusals
        reports = agent.endpoints if heartbeat.endpoints is None else heartbeat.endpoints
        named = set()
        for report in reports:
            key = self._fleet.server_of(agent, report.id, report.url)
            named.add(key[1])
            self.answered(key, report)
        troubles = None if heartbeat.troubles is None else {self._key(agent, each): each for each in heartbeat.troubles}
        for key, trouble in (troubles or {}).items():
            if key[0] and not trouble.refusals:
                self.silent(key, _named(trouble), trouble.problem)
        self._refusals(agent, troubles, refusals)
        self._find_lost(host, agent.name, named, troubles)

    def _key(self, agent: Agent, trouble: EndpointTrouble) -> ServerKey:
        if trouble.added:
            return "", trouble.endpoint
        return self._fleet.server_of(agent, trouble.endpoint, trouble.url)

    def _refusals(
        self, agent: Agent, troubles: dict[ServerKey, EndpointTrouble] | None, before: dict[ServerKey, int]
    ) -> None:
        """Endpoints that have refused work since they were last told of, and those that have taken it again."""
        if troubles is None:
            return
        now_ms = self._clock.now_ms()
        listed = {key: trouble for key, trouble in troubles.items() if trouble.refusals}
        for key, trouble in listed.items():
            if key not in self._fleet.seen and trouble.added:
                continue  # people have removed it meanwhile
            if trouble.refusals > before.get(key, 0):
                if key not in self._fleet.seen:
                    self._see(key, _named(trouble))
                self.on_refusal(key, self._fleet.seen[key])
                asked_s, chance = trouble.retry_after_s, self._chance.random()
                health = told(self._health(key), agent.name, agent.boot, trouble.refusals)
                self._set(key, refused(health, now_ms, trouble.problem, retry_after_s=asked_s, chance=chance))
            before[key] = trouble.refusals
        gone = troubles.keys() - listed.keys()
        for key in [key for key in before if key not in listed]:
            del before[key]
            if key in self._fleet.health:
                health = told(self._health(key), agent.name, agent.boot, 0)
                self._set(key, health if key in gone else succeeded(health, now_ms))

    def _find_lost(
        self, host: str, agent: str, named: set[str], troubles: dict[ServerKey, EndpointTrouble] | None
    ) -> None:
        """An endpoint of this machine that no sidecar on it tells of any more, neither good nor bad, is gone."""
        here = self._here.setdefault(host, {})
        named |= here.get(agent, set()) if troubles is None else {key[1] for key in troubles if key[0]}
        here[agent] = named
        if troubles is None:
            return  # a sidecar that tells only of what is well, or has not told all yet
        known = {name for one in here.values() for name in one}
        for key in [key for key in self._fleet.health if key[0] == host and key[1] not in known]:
            self._set(key, silent(self._health(key), self._clock.now_ms(), LOST))

    # --- what is known ------------------------------------------------------------------------------------------------

    def _health(self, key: ServerKey) -> Health:
        return self._fleet.health.get(key) or Health(since_ms=self._clock.now_ms())

    def _see(self, key: ServerKey, report: EndpointReport) -> None:
        if self._fleet.seen.get(key) != report:
            self._fleet.seen[key] = report
            self._unkept.add(key)

    def _set(self, key: ServerKey, now: Health) -> None:
        """Note how the endpoint does; a change of state, or of a cooldown, is stored and acted on at once."""
        before = self._fleet.health.get(key)
        self._fleet.health[key] = now
        if before is not None and (before.state, before.until_ms) == (now.state, now.until_ms):
            if (before.problem, before.told) != (now.problem, now.told):
                self._unkept.add(key)
            return
        self._unkept.discard(key)
        self._store.post(PutHealth(self._row(key), _event(key, before, now)))
        self._concerns(key[0])
        self._store.wake()
        self._wake.set()

    def _concerns(self, host: str) -> None:
        """What those can do may have changed that reach the endpoints of a machine; without one: all."""
        if not host:
            self._fleet.changed()
            return
        for agent in self._fleet.agents.values():
            if (agent.host or agent.name) == host:
                self._fleet.changed(agent)

    def _clean(self, hosts: set[str]) -> None:
        """Forget what sidecars have told that nobody knows any more."""
        for name in self._told.keys() - self._fleet.agents.keys():
            boot, refusals = self._told.pop(name)
            for key in refusals.keys() & self._fleet.health.keys():
                self._set(key, told(self._health(key), name, boot, 0))
        for host in list(self._here):
            here = {name: keys for name, keys in self._here[host].items() if self._is_on(name, host)}
            if here and host in hosts:
                self._here[host] = here
            else:
                del self._here[host]

    def _is_on(self, name: str, host: str) -> bool:
        agent = self._fleet.agents.get(name)
        return agent is not None and (agent.host or agent.name) == host

    def keep(self) -> None:
        """Store what has changed since the last time, and forget what was on machines that nobody knows any more."""
        hosts = {agent.host or agent.name for agent in self._fleet.agents.values()}
        self._clean(hosts)
        for key in [key for key in self._fleet.health if key[0] and key[0] not in hosts]:
            self.forget(key)
        unkept, self._unkept = self._unkept, set()
        for key in unkept:
            if key in self._fleet.health and key in self._fleet.seen:
                self._store.post(PutHealth(self._row(key)))

    def _row(self, key: ServerKey) -> HealthRow:
        return HealthRow(host=key[0], seen=replace(self._fleet.seen[key], id=key[1]), health=self._fleet.health[key])


def _named(trouble: EndpointTrouble) -> EndpointReport:
    """The endpoint that is in trouble, as far as its trouble tells."""
    return EndpointReport(id=trouble.endpoint, kind=trouble.kind, url=trouble.url, local=trouble.local)


def _event(key: ServerKey, before: Health | None, now: Health) -> Event | None:
    """What is worth telling of a change; that a new endpoint is well is told by whoever brings it."""
    was = UNKNOWN if before is None else before.state
    kind = _TOLD.get(now.state)
    if kind is None or was is now.state or (was is UNKNOWN and now.state is ONLINE):
        return None
    facts: dict[str, object] = {"endpoint": key[1], "detail": now.problem}
    if key[0]:
        facts["host"] = key[0]
    if now.state is COOLDOWN and now.until_ms is not None:
        facts["for_s"] = round((now.until_ms - now.since_ms) / 1000, 1)
    log.warning(kind.value, **facts)
    return Event(kind=kind, at_ms=now.since_ms, facts=facts)
