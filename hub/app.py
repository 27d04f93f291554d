"""The hub as a program: its store, its doors and its end. What lies between the two is put together in ``assembly.py``.

Start: open the store, learn what the last hub knew, then open the port. Stop: close the door, let what waits be
written, close the store. If the store can no longer promise durability, the hub ends with a non-zero status at once.
"""

import asyncio
import contextlib
import importlib.metadata
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import IO, Any, Final

import structlog

from hub import recovery
from hub.assembly import assemble
from hub.chance import Chance
from hub.clock import SystemClock
from hub.core.fleet import Fleet
from hub.doorway import open_port
from hub.files import keeper
from hub.lock import hold
from hub.opening import is_postgres, node_of, opened, space_of, store_of, vault_of, watch_of, written_in
from hub.probe import probe
from hub.projects import project_parts
from hub.services.access import Access
from hub.services.bulk import Bulk
from hub.services.joining import Joining, pin_of
from hub.services.replaying import Replaying
from hub.settings import Settings, secrets_of
from hub.store.backend import Backend
from hub.store.changes import Record
from hub.store.space import Space
from hub.store.sqlite import SqliteStore
from hub.store.store import Start
from hub.tls import Tls
from hub.upkeep import (
    closer,
    drained,
    end_hub,
    ender,
    entrance,
    gone,
    limits_of,
    oversight,
    released,
    revoker,
    tracing_of,
    upkeep,
)
from hub.web.application import build
from hub.web.install import install_line
from hub.web.routes import mesh
from hub.web.services import Services, WebSettings
from hub.web.sessions import Sessions
from protocol.clock import Clock
from protocol.collector import spare_the_collector
from protocol.errors import StoreDamaged, StoreFailed
from protocol.events import Event, EventKind
from protocol.log_levels import LogLevel
from protocol.logs import configure, hide, take_over
from protocol.redaction import Redactor

log = structlog.get_logger(__name__)
VERSION: Final = importlib.metadata.version("agentcom")
FLUSH_S: Final = 2.0
MOST_FILES: Final = 65_536


@dataclass(slots=True)
class Running:
    """A hub that runs; :meth:`stop` ends it. ``failed`` is done when it has to end by itself."""

    settings: Settings
    url: str
    store: Backend
    fleet: Fleet
    access: Access
    failed: "asyncio.Future[BaseException]"
    ca_pem: str = ""
    """The authority by which others know this hub; empty: it speaks no TLS, or a public one has signed."""
    _stop: list[Callable[[], Awaitable[object]]] = field(default_factory=list)

    async def stop(self) -> None:
        """Close the door, write what waits, close the store."""
        while self._stop:
            await self._stop.pop()()


async def start_hub(settings: Settings, clock: Clock | None = None) -> Running:
    """A hub with these settings, in this event loop.

    Raises:
        BadInput: the data directory or the address cannot be used.
        StoreFailed: the store cannot be opened.
        StoreDamaged: it is not what was written; its ``steps`` are the commands that help.
    """
    clock = clock or SystemClock()
    hide(Redactor(secrets_of(settings)), "hub")
    lock = hold(settings.folder)
    store: Backend | None = None
    try:
        space = space_of(settings)
        store = store_of(settings, space)
        node = "" if settings.read_only else node_of(settings.folder)
        start = await opened(settings, store, clock, node=node, version=VERSION)
        return await _assemble(settings, clock, store, space, start, node, lock)
    except BaseException:
        if store is not None:
            await store.close()
        lock.close()
        raise


async def _assemble(
    settings: Settings, clock: Clock, store: Backend, space: Space | None, start: Start, node: str, lock: IO[str]
) -> Running:
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    access = await Access.load(store, clock)
    hub = assemble(
        store,
        start,
        settings,
        clock=clock,
        chance=Chance(),
        probe=probe,
        version=VERSION,
        watch=watch_of(settings, store, clock, space),
        node=node,
        is_shared=is_postgres(settings),
        vault=vault_of(settings),
        on_failure=lambda exc: None if failed.done() else failed.set_result(exc),
    )
    tls = Tls(settings) if settings.speaks_tls else None
    source = store if isinstance(store, SqliteStore) else None
    backups, retention = upkeep(settings, store, source, clock, hub)
    audit, readiness = oversight(settings, store, clock, hub, access)
    retention.forget_audit, hub.keystore.on_released = audit.forget, released(audit)
    tracing, told = tracing_of(settings, store, clock, hub, version=VERSION, instance=str(start.hub_boot))
    limits, levels = await limits_of(settings, store, clock, access, hub)
    bits = Chance().getrandbits
    files = keeper(settings, store, hub.fleet, clock, space, hub=start.hub_boot, random_bits=bits)
    hub.progress.read, hub.forgetting.drop = files.read, files.drop
    kept = project_parts(
        settings,
        store,
        hub.fleet,
        clock,
        room=hub.check_room,
        env=os.environ,
        random_bits=bits,
        is_shared=is_postgres(settings),
        offered=hub.offered,
    )
    hub.mates.on_projects, hub.observing.notifying.on_gone = kept.projects.reload, gone(audit)
    await kept.projects.load()
    hub.budgets.knows = {"submitter": access.knows, "project": kept.projects.knows}
    loops = (
        *hub.loops,
        access.keep_last_used,
        backups.run,
        retention.run,
        audit.run,
        files.run,
        hub.forgetting.run,
        kept.pulls.run,
        *([tracing.run] if tracing else []),
    )
    if settings.read_only:
        loops = ()
    else:
        with written_in(settings.folder):
            await access.ensure_first_tokens(settings.folder)
        event = Event(
            kind=EventKind.HUB_STARTED, at_ms=clock.now_ms(), facts={"version": VERSION, "hub": start.hub_boot}
        )
        await store.commit(Record(event))
        await hub.keystore.settle()

    door = entrance(hub, store, access, tls, clock)
    joining = Joining(store, clock, Chance(), version=VERSION, names=lambda: hub.fleet.agents)
    joining.on_change, joining.install_line = access.reload, install_line
    joining.pin = lambda: pin_of(settings.url, tls.authority.ca_pem if tls else None)
    joining.addresses = lambda: tuple(hub.membership.urls.values()) if len(hub.membership.urls) > 1 else ()
    app = build(
        Services(
            *(hub.intake, hub.insight, hub.presence, hub.hosts, hub.registry, access, hub.feed, backups, files),
            hub.progress,
            hub.pausing,
            hub.reclaiming,
            *(kept.projects, kept.repositories, hub.budgets, kept.gate, kept.pulls, Bulk(store, hub.intake)),
            *(hub.observing.recording, hub.observing.alerting, hub.observing.notifying, audit, joining, limits),
            *(Replaying(store, settings.chains), readiness, hub.upgrading, hub.keystore, levels),
            push_key=hub.observing.push_key,
            tracing=tracing,
        ),
        sessions=Sessions(clock, path=settings.folder / "sessions.json"),
        metrics=hub.metrics,
        settings=WebSettings(
            origins=frozenset(settings.origins),
            version=VERSION,
            proxies=settings.proxies,
            ca_pem=lambda: tls.authority.ca_pem if tls else "",
            url=settings.url.rstrip("/"),
            install_dir="" if settings.read_only else str(settings.folder / "install"),
            read_only=recovery.steps(settings.folder) if settings.read_only else (),
        ),
        more=(mesh(door.accept),),
    )
    access.on_revoked = revoker(app, hub.links)
    loops = (*loops, *((tls.run,) if tls else ()))
    running = Running(settings, "", store, hub.fleet, access, failed, tls.authority.ca_pem if tls else "")
    running._stop.append(closer(store, lock))  # noqa: SLF001 - its own module fills it
    tasks = [asyncio.create_task(loop()) for loop in loops]
    for task in tasks:
        task.add_done_callback(end_hub(failed))
    running._stop.extend((files.close, kept.remotes.close, kept.forges.close, told))  # noqa: SLF001 - as above
    running._stop.extend((hub.membership.leave, ender(tasks, access, hub.learning.keep)))  # noqa: SLF001 - as above
    try:
        at_end = running._stop.append  # noqa: SLF001 - as above
        running.url = hub.membership.url = await open_port(app, settings, door.shut, at_end, tls)
    except BaseException:
        await running.stop()
        raise
    running._stop.append(drained(readiness))  # noqa: SLF001 - as above
    if settings.read_only:
        log.warning(
            "hub_read_only", damage=store.damage or "none found", next="; ".join(recovery.steps(settings.folder))
        )
    log.info("hub_started", url=running.url, version=VERSION, boot=start.hub_boot, held=len(start.standing.held))
    return running


def main(settings: Settings) -> int:
    """Run a hub until SIGINT or SIGTERM; the exit status."""
    is_json = settings.log == "json" or (settings.log == "auto" and not sys.stderr.isatty())
    configure(json=is_json, stream=sys.stderr, level=LogLevel(settings.log_level))
    take_over()
    _allow_many_connections()
    with contextlib.suppress(ImportError):
        import uvloop

        return int(uvloop.run(_serve(settings)))
    return asyncio.run(_serve(settings))


def _allow_many_connections() -> None:
    """Use as many files as the system lets us: the usual first limit is below one for each sidecar of a large fleet."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, MOST_FILES)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, max(soft, MOST_FILES)), hard))


async def _serve(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    running = await start_hub(settings)
    spare_the_collector()
    waiting: asyncio.Future[Any] = asyncio.ensure_future(stopped.wait())
    ends: set[asyncio.Future[Any]] = {waiting, running.failed}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if running.failed.done():
        error = running.failed.result()
        if isinstance(error, StoreDamaged):
            error = recovery.note(settings.folder, error)
            log.error("hub_failed", error=str(error), next="; ".join(error.steps))
        else:
            log.error("hub_failed", error=repr(error), next="restart it: nothing acknowledged is lost")
        waiting.cancel()
        with contextlib.suppress(StoreFailed):
            await running.stop()
        return 1
    log.info("hub_stopping")
    await running.stop()
    return 0
