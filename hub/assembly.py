"""The parts of a hub put together, without a door: no HTTP, no files, no signals.

What is wired here is the same for every hub: the one that serves a network (``hub/app.py``), and one that lives in
simulated time. Store, clock, chance and the probe of endpoints come from outside; nothing here reads the machine.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from hub.core.advice import Advisor, Bounds
from hub.core.agent import Agent
from hub.core.fleet import Fleet
from hub.core.ladder import ladder_of
from hub.core.recent import Recent
from hub.core.speeds import Speeds
from hub.core.terms import Rates
from hub.core.window import Window
from hub.gateway.connection import Links
from hub.gateway.server import Gateway
from hub.metrics import Metrics
from hub.observing import Observing, led, observing
from hub.services.admission import Admission
from hub.services.answers import Answers
from hub.services.budgets import Budgets
from hub.services.conduct import Conducts
from hub.services.dispatch import Dispatch
from hub.services.feed import Feed
from hub.services.forgetting import Forgetting
from hub.services.health import EndpointHealth
from hub.services.hosts import Hosts
from hub.services.insight import Insight
from hub.services.intake import Intake
from hub.services.keystore import Keystore
from hub.services.learning import Learning
from hub.services.mates import Mates
from hub.services.membership import Membership
from hub.services.pausing import Pausing
from hub.services.presence import Presence
from hub.services.prewarming import Prewarming
from hub.services.progress import Progress
from hub.services.proving import Proofs
from hub.services.reclaiming import Reclaiming
from hub.services.registry import Probe, Registry
from hub.services.results import Results
from hub.services.sweeper import Sweeper
from hub.services.teaching import Teaching, remembered
from hub.services.upgrading import Upgrading
from hub.services.watch import Watch
from hub.settings import Settings
from hub.store.backend import Backend
from hub.store.store import Start
from hub.vault import Vault
from hub.wiring import budgets_of, forgetting_of, proofs_of, resender, teller, users
from protocol.choice import LearningMode
from protocol.clock import Clock
from protocol.ids import IdMaker
from protocol.messages import Heartbeat


@dataclass(frozen=True, slots=True)
class Parts:
    """A hub's parts, wired to one another and to an open store."""

    store: Backend
    fleet: Fleet
    window: Window
    links: Links
    feed: Feed
    metrics: Metrics
    intake: Intake
    keystore: Keystore
    insight: Insight
    presence: Presence
    progress: Progress
    forgetting: Forgetting
    pausing: Pausing
    reclaiming: Reclaiming
    upgrading: Upgrading
    hosts: Hosts
    registry: Registry
    endpoint_health: EndpointHealth
    sweeper: Sweeper
    gateway: Gateway
    dispatch: Dispatch
    membership: Membership
    mates: Mates
    learning: Learning
    prewarming: Prewarming
    budgets: Budgets
    proofs: Proofs
    observing: Observing
    watch: Watch | None
    offered: asyncio.Event
    """Set when work has been pushed that may become a pull request."""

    def check_room(self) -> None:
        """Pass if the machine has room for more.

        Raises:
            StorageFull, Overloaded: it has not.
        """
        if self.watch is not None:
            self.watch.check()

    @property
    def loops(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """What has to run for as long as the hub does; one that ends with an error ends the hub."""
        return (
            self.sweeper.run,
            self.registry.run,
            self.hosts.run,
            self.endpoint_health.run,
            self.membership.run,
            self.mates.run,
            self.learning.run,
            self.prewarming.run,
            self.pausing.run,
            self.reclaiming.run,
            self.budgets.run,
            self.proofs.run,
            *self.observing.loops,
            lambda: self.store.listen(self.mates.listen),
            *((self.watch.run,) if self.watch else ()),
        )


def assemble(  # noqa: PLR0913 - what a hub is made of
    store: Backend,
    start: Start,
    settings: Settings,
    *,
    clock: Clock,
    chance: Random,
    probe: Probe,
    version: str,
    on_failure: Callable[[BaseException], None],
    watch: Watch | None = None,
    node: str = "",
    is_shared: bool = False,
    vault: Vault | None = None,
) -> Parts:
    """A hub that knows what the last one knew, as soon as this returns.

    Args:
        store: open; nobody else has set its callbacks.
        start: what ``store.start`` has told.
        clock, chance: the time, and where ids and jitter come from.
        probe: asks an LLM endpoint what it has.
        version: shown to people.
        watch: looks at the machine under this hub, if it is on one.
        node: names the data directory, over all starts of its hub.
        is_shared: other hubs may have the same store.
        vault: the keys of the keystore; left out: keys that last as long as this hub.
        on_failure: hears that the store can promise nothing any more: the hub has to end.
    """
    fleet, window, feed, links = Fleet(), Window(settings.window), Feed(start.last_event), Links(clock)
    keystore = Keystore(store, fleet, clock, vault := vault or Vault())
    observed, metrics = observing(store, start, fleet, window, links, clock, chance, watch, vault, settings.url)
    for text in start.classes:
        window.open(text)

    sweeper: Sweeper
    membership: Membership
    speeds = Speeds()
    speeds.recall(start.measures)
    learning = Learning(store, fleet, speeds, clock)
    endpoint_health = EndpointHealth(store, fleet, clock, chance)
    endpoint_health.on_refusal = speeds.refused

    budgets, proofs = (
        budgets_of(store, start, settings, fleet, clock),
        proofs_of(store, fleet, window, clock, settings.clean_room, lambda: membership, start.hub_boot, metrics),
    )

    outcomes, offered = remembered(start.measures), asyncio.Event()
    advisor = Advisor(
        fleet,
        outcomes,
        settings.chains,
        now_ms=clock.now_ms,
        mode=settings.learning,
        escalation=settings.escalation,
        bounds=Bounds(settings.explore_share, settings.explore_usd_a_day),
        usd_s=settings.seconds_per_usd,
    )
    rates = Rates(s_per_usd=settings.seconds_per_usd, risk=advisor.risk_s)
    results = Results(
        store,
        fleet,
        window,
        clock,
        chance,
        hub=start.hub_boot,
        on_delayed=lambda at_ms: sweeper.due(at_ms),  # noqa: PLW0108 - the sweeper is made after this
        on_log=feed.logged,
        on_ended=metrics.ended,
        on_used=users(learning, budgets, endpoint_health),
        on_checked=Teaching(store, outcomes, is_on=settings.learning is not LearningMode.OFF).checked,
        on_offered=offered.set,
        ladder=lambda: ladder_of(fleet, settings.chains, settings.escalation),
        rooms=proofs.rooms,
    )
    hub, lease_s = start.hub_boot, settings.lease_s
    sweeper = Sweeper(
        store, fleet, window, links, clock, lose=results.lose, lease_s=lease_s, leads=lambda: membership.leader
    )
    hosts, answers = (
        Hosts(store, fleet, clock, metrics.gauges.heard, workspace_bytes=settings.workspace_mb * 10**6),
        Answers(store, clock),
    )

    def heard(agent: Agent, heartbeat: Heartbeat) -> None:
        hosts.heard(agent, heartbeat)
        answers.heard(agent, heartbeat)
        endpoint_health.heard(agent, heartbeat)

    presence = Presence(
        store,
        fleet,
        clock,
        hub=hub,
        lease_s=lease_s,
        lose=results.lose,
        send=links.send,
        hubs=lambda: membership.urls,
        on_heartbeat=heard,
    )
    progress, pausing = (
        Progress(store, presence.holds),
        Pausing(store, fleet, window, links, clock, on_delayed=sweeper.due),
    )
    mates = Mates(
        store,
        fleet,
        window,
        links,
        feed,
        clock,
        hub=hub,
        newest=start.last_event,
        is_shared=is_shared,
        take=presence.take,
        on_due=sweeper.due,
    )
    membership = Membership(
        store,
        clock,
        mates,
        start.standing,
        boot=hub,
        node=node,
        version=version,
        lease_s=settings.hub_lease_s if is_shared else 0.0,
        on_lead=lambda: sweeper.due(clock.now_ms()),
    )
    dispatch = Dispatch(
        store,
        fleet,
        window,
        links,
        clock,
        hub=hub,
        lease_s=lease_s,
        may_grant=lambda: not membership.trouble,
        speeds=speeds,
        rates=rates,
        advisor=advisor,
        charging=budgets.charging,
        on_routed=metrics.routed,
        on_planned=metrics.planned,
        on_ended=metrics.ended,
    )
    prewarming = Prewarming(store, fleet, window, speeds, links, clock, matcher=dispatch.matcher, rates=rates)
    intake = Intake(
        store,
        fleet,
        window,
        links,
        clock,
        IdMaker(chance.getrandbits, start.last_task),
        chains=settings.chains,
        patience=settings.patience,
        admit=Admission(store, window, [watch.check] if watch else []).check,
        on_delayed=sweeper.due,
        on_explicit=metrics.tiered,
    )
    registry = Registry(
        store,
        fleet,
        clock,
        probe,
        endpoint_health,
        check_s=settings.check_s,
        speeds=speeds,
        is_elsewhere=presence.is_elsewhere,
    )
    gateway = Gateway(
        links,
        presence,
        results,
        clock,
        hub_boot=start.hub_boot,
        heartbeat_s=settings.heartbeat_s,
        lease_s=settings.lease_s,
        resend=resender(store, dispatch),
        # A hub that is alone names nobody: its sidecars stay at the address they were given, a tunnel perhaps, and show
        # their token at no other.
        hubs=lambda: membership.urls.values() if len(membership.urls) > 1 else (),
        artifact_bytes=settings.artifact_max_mb << 20,
        artifacts_bytes=settings.artifacts_of_task_mb << 20,
        conduct=Conducts(store, fleet, clock, metrics.violations),
        secrets=keystore,
    )
    started_at = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
    recent = Recent()
    insight = Insight(
        store,
        fleet,
        clock,
        version=version,
        started_at=started_at,
        recent=recent,
        machine=watch.components if watch else dict,
        trouble=lambda: membership.trouble,
        is_elsewhere=presence.is_elsewhere,
        matcher=dispatch.matcher,
        speeds=speeds,
        rates=rates,
        told=advisor.told,
        waits=budgets.waits,
        saved=progress.view,
        window=window,
    )
    metrics.watch, store.on_failure = watch, on_failure
    mates.on_endpoints, mates.on_budgets = registry.reload, budgets.reload
    store.on_commit = teller(observed.counting, mates, prewarming, recent, feed)
    endpoint_health.restore(start)  # first: what was seen of endpoints tells which servers the attempts use
    presence.restore(start)
    hosts.restore(start)
    registry.restore(start)
    for at_ms in (start.next_ready_ms, start.next_deadline_ms):
        if at_ms is not None:
            sweeper.due(at_ms)
    store.on_seal = dispatch.run
    return Parts(
        store=store,
        fleet=fleet,
        window=window,
        links=links,
        feed=feed,
        metrics=metrics,
        intake=intake,
        keystore=keystore,
        insight=insight,
        presence=presence,
        progress=progress,
        forgetting=forgetting_of(store, fleet, links, clock, presence),
        pausing=pausing,
        reclaiming=Reclaiming(store, fleet, links, clock),
        upgrading=Upgrading(store, fleet, links, clock),
        hosts=hosts,
        registry=registry,
        endpoint_health=endpoint_health,
        sweeper=sweeper,
        gateway=gateway,
        dispatch=dispatch,
        membership=membership,
        mates=mates,
        learning=learning,
        prewarming=prewarming,
        budgets=budgets,
        proofs=proofs,
        observing=led(observed, membership, dispatch.matcher.match, budgets),
        watch=watch,
        offered=offered,
    )
