"""What runs beside a hub for as long as it does, and how that ends; ``hub/app.py`` puts it together."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import IO, Any, Final

from aiohttp import web

from hub import recovery
from hub.assembly import Parts
from hub.core.access import Principal, may
from hub.gateway.connection import Links
from hub.gateway.socket import Door
from hub.services.access import Access
from hub.services.audit import Audit
from hub.services.backups import Backups
from hub.services.identities import Identities
from hub.services.log_levels import LogLevels
from hub.services.rate_limits import RateLimits
from hub.services.readiness import Readiness
from hub.services.retention import Retention, Terms
from hub.services.tracing import Tracing
from hub.settings import Settings
from hub.store.backend import Backend
from hub.store.queries import migrations
from hub.store.sqlite import SqliteStore
from hub.tls import Tls
from hub.web.forwarded import is_proxied
from hub.web.services import PRINCIPAL
from hub.web.stream import end_those_of
from protocol import messages
from protocol.alerts import NotifierView
from protocol.clock import Clock
from protocol.errors import Refused, Unavailable
from protocol.log_levels import LOG_LEVELS, LogLevel, of_sidecars
from protocol.model import AttemptId
from protocol.telemetry import telemetry

FLUSH_S: Final = 2.0


def upkeep(
    settings: Settings, store: Backend, source: SqliteStore | None, clock: Clock, hub: Parts
) -> tuple[Backups, Retention]:
    """What keeps backups, and what forgets; ``source``: the store, if it is a file of this machine."""
    backups = Backups(
        store,
        source,
        clock,
        settings.folder / recovery.BACKUPS,
        every_s=settings.backup_every_s,
        keep=settings.backup_keep,
    )
    hub.observing.readings.overdue = backups.overdue
    hub.insight.watch("backups", backups.health)
    retention = Retention(
        store,
        clock,
        Terms(
            tasks_days=settings.keep_tasks_days,
            dead_days=settings.keep_dead_days,
            logs_days=settings.keep_logs_days,
            events_days=settings.keep_events_days,
            events_most=settings.keep_events,
            keys_days=settings.keep_keys_days,
            agents_days=settings.keep_agents_days,
            audit_days=settings.keep_audit_days,
        ),
        forget_agent=lambda name: hub.presence.remove(name, "retention"),
        log_port=source,
        leads=lambda: hub.membership.leader is not None,
    )
    return backups, retention


def released(audit: Audit) -> Callable[[AttemptId, Sequence[str]], None]:
    """Writes down which attempt was given which secrets."""
    return lambda attempt, names: audit.record(
        "secret.release", subject=attempt.task, agent=attempt.sidecar, epoch=attempt.epoch, secrets=list(names)
    )


def gone(audit: Audit) -> Callable[[NotifierView, str], None]:
    """Writes down who is told of alerts no more, as nobody is there."""
    return lambda who, why: audit.record("notifier.gone", subject=who.id, url=who.url, label=who.label, why=why)


def token_check(access: Access) -> Callable[[Principal], bool]:
    """Whether the token of a caller still lets a sidecar in."""

    def is_welcome(who: Principal) -> bool:
        if access.counts(who):  # asked with every frame: nothing is made out anew
            return may(who.role, "mesh:join")
        try:
            access.require(access.principal(who.token), "mesh:join")
        except Refused:
            return False
        return True

    return is_welcome


def entrance(hub: Parts, store: Backend, access: Access, tls: Tls | None, clock: Clock) -> Door:
    """The door for sidecars: by token, and for machines that have joined by their key."""
    hub.gateway.identities = Identities(store, clock)
    return Door(
        hub.gateway,
        token_check(access),
        clock=clock,
        fleet=lambda: len(hub.fleet.agents),
        why_closed=lambda: hub.membership.trouble,
        who=lambda request: request[PRINCIPAL],
        # Where a listed proxy speaks TLS, its callers have seen its certificate, and this hub does not know that.
        channels=lambda request: tls.channels if tls is not None and not is_proxied(request) else frozenset(),
    )


def revoker(app: web.Application, links: Links) -> Callable[[str], None]:
    """Ends what a token has opened, as soon as it is revoked."""

    def revoked(token: str) -> None:
        end_those_of(app, token)
        links.look_again()

    return revoked


async def limits_of(
    settings: Settings, store: Backend, clock: Clock, access: Access, hub: Parts
) -> tuple[RateLimits, LogLevels]:
    """How often who may ask, and who logs what; read again, like the tokens, when another hub has changed it."""
    levels = await LogLevels.load(store, clock, LogLevel(settings.log_level))
    levels.on_change = partial(_tell_sidecars, hub)
    levels.on_change(levels.levels)
    limits = await RateLimits.load(store, clock, lambda token: access.label(token) if access.knows(token) else None)

    async def reload() -> None:
        await access.reload()
        await limits.reload()
        await levels.reload()

    hub.mates.on_tokens, hub.metrics.throttled = reload, limits.refused
    return limits, levels


def _tell_sidecars(hub: Parts, levels: Mapping[str, LogLevel]) -> None:
    """What is set for sidecars: those that are here, at once; the others when they come."""
    wanted = hub.gateway.log_levels = of_sidecars(levels)
    for agent in hub.fleet.online():
        if LOG_LEVELS in agent.capabilities:
            hub.links.send(agent.name, agent.boot, messages.LogLevels(levels=wanted))


def tracing_of(
    settings: Settings, store: Backend, clock: Clock, hub: Parts, *, version: str, instance: str
) -> tuple[Tracing | None, Callable[[], Awaitable[None]]]:
    """What tells traces of tasks, if the settings say where to, and what ends that.

    Raises:
        BadInput: what that needs is not installed.
    """
    if not settings.traces or settings.read_only:
        return None, partial(asyncio.sleep, 0)
    sink = telemetry(settings.traces, service="agentcom-hub", version=version, instance=instance)
    tracing = Tracing(store, hub.feed, clock, sink.send, settings.traces_share)
    tracing.leads = lambda: hub.membership.leader is not None
    hub.dispatch.trace = tracing.of_attempt
    return tracing, partial(asyncio.to_thread, sink.close)


def end_hub(failed: "asyncio.Future[BaseException]") -> Callable[["asyncio.Task[Any]"], None]:
    """A loop of the hub that dies of a bug takes the hub along: half a hub would look healthy."""

    def ended(task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not failed.done():
            failed.set_result(error)

    return ended


def ender(tasks: list["asyncio.Task[None]"], access: Access, keep: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    """Ends the loops and has what they know written."""

    async def end() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        keep()  # the store writes what waits before it closes
        with contextlib.suppress(
            Unavailable, TimeoutError
        ):  # a database that is away must not keep the hub from ending
            await asyncio.wait_for(access.flush(), FLUSH_S)

    return end


def closer(store: Backend, lock: IO[str]) -> Callable[[], Awaitable[None]]:
    """Closes the store, then lets go of the data directory."""

    async def close() -> None:
        await store.close()
        lock.close()

    return close


def drained(readiness: Readiness) -> Callable[[], Awaitable[None]]:
    """Says that nothing new should come: the first step of an end in good order."""

    async def drain() -> None:
        readiness.is_draining = True

    return drain


def oversight(settings: Settings, store: Backend, clock: Clock, hub: Parts, access: Access) -> tuple[Audit, Readiness]:
    """Who decided what, and whether the hub can take work; the health tells of both."""
    audit = Audit(store, clock, settings.folder, access.label)
    readiness = Readiness(
        store,
        clock,
        schema=len(migrations("sqlite")),
        trouble=lambda: hub.membership.trouble,
        silent_s=float if settings.read_only else hub.sweeper.silent_s,
    )
    hub.insight.watch("audit", audit.health)
    hub.insight.watch("sweeper", readiness.sweeper)
    return audit, readiness
