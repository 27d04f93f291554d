"""The hub as a program: its store, its doors and its end. What lies between the two is put together in ``assembly.py``.

Start: open the store, learn what the last hub knew, then open the port. Stop: close the door, let what waits be
written, close the store. If the store can no longer promise durability, the hub ends with a non-zero status at once.
"""

import asyncio
import contextlib
import importlib.metadata
import json
import logging
import os
import resource
import secrets
import signal
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import structlog
from aiohttp import web

from hub import recovery
from hub.assembly import assemble
from hub.chance import Chance
from hub.clock import SystemClock
from hub.core.fleet import Fleet
from hub.files import keeper
from hub.gateway.connection import Links
from hub.gateway.socket import Door
from hub.lock import hold
from hub.memory import Memory, spare_the_collector
from hub.probe import probe
from hub.projects import project_parts
from hub.services.access import Access
from hub.services.backups import Backups
from hub.services.retention import Retention, Terms
from hub.services.watch import Watch
from hub.settings import POSTGRES_SCHEMES, Settings, masked
from hub.store.backend import Backend
from hub.store.changes import Record
from hub.store.space import Space
from hub.store.sqlite import SqliteStore
from hub.store.store import ALONE_MS, Start, nothing_known
from hub.web.application import build
from hub.web.porch import Porch, received_bytes
from hub.web.routing import Route
from hub.web.services import PRINCIPAL, Services, WebSettings
from hub.web.sessions import Sessions
from protocol.clock import Clock
from protocol.errors import BadInput, Problem, Refused, StoreDamaged, StoreFailed, Unavailable
from protocol.events import Event, EventKind
from protocol.limits import HANDSHAKE_S
from protocol.logs import configure

log = structlog.get_logger(__name__)
VERSION: Final = importlib.metadata.version("agentcom")
FLUSH_S: Final = 2.0
KEEPALIVE_S: Final = 75.0
"""How long a connection may stay open between two requests."""
MOST_FILES: Final = 65_536
BACKLOG: Final = 1_024
"""Connections that the system holds for us: a whole fleet may come back in the same second."""


@dataclass(slots=True)
class Running:
    """A hub that runs; :meth:`stop` ends it. ``failed`` is done when it has to end by itself."""

    settings: Settings
    url: str
    store: Backend
    fleet: Fleet
    access: Access
    failed: "asyncio.Future[BaseException]"
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
    lock = hold(settings.folder)
    store: Backend | None = None
    try:
        space = _space(settings)
        store = _store(settings, space)
        node = "" if settings.read_only else _node(settings.folder)
        start = await _opened(settings, store, clock, node)
        return await _assemble(settings, clock, store, space, start, node, lock)
    except BaseException:
        if store is not None:
            await store.close()
        lock.close()
        raise


def _space(settings: Settings) -> Space | None:
    """The room on the disk of the data directory; ``None`` if the store is elsewhere, or is only looked at."""
    return None if _is_postgres(settings) or settings.read_only else Space(settings.folder, settings.disk_reserve_mb)


def _is_postgres(settings: Settings) -> bool:
    return settings.store.partition(":")[0] in POSTGRES_SCHEMES


def _watch(settings: Settings, store: Backend, clock: Clock, space: Space | None) -> Watch:
    write_ahead_log = settings.folder / f"{recovery.STORE_FILE}-wal"

    def log_bytes() -> int:
        try:
            return write_ahead_log.stat().st_size
        except OSError:
            return 0  # another store, or nothing written yet

    return Watch(store, clock, Memory(settings.memory_limit_mb), space, log_bytes=log_bytes)


async def _opened(settings: Settings, store: Backend, clock: Clock, node: str) -> Start:
    """Open the store; one that is damaged is not served, unless people only want to look at it."""
    folder = settings.folder
    if settings.read_only:
        await store.open()
        return nothing_known(store.newest_event)
    recovery.check_folder(folder)
    try:
        await store.open()
        lease_ms = int(settings.hub_lease_s * 1000) if _is_postgres(settings) else ALONE_MS
        start = await store.start(clock.now_ms(), node=node, version=VERSION, lease_ms=lease_ms)
    except StoreDamaged as exc:
        raise recovery.note(folder, exc) from exc
    recovery.clear_note(folder)
    return start


def _store(settings: Settings, space: Space | None) -> Backend:
    if not _is_postgres(settings):
        path, is_noted = settings.folder / recovery.STORE_FILE, recovery.is_noted(settings.folder)
        return SqliteStore(path, space=space, read_only=settings.read_only, deep=is_noted)
    try:
        from hub.store.postgres import PostgresStore
    except ImportError as exc:
        raise _unusable("store", f"{masked(settings.store)} needs a driver: pip install 'agentcom[postgres]'") from exc
    return PostgresStore(settings.store)


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
        watch=_watch(settings, store, clock, space),
        node=node,
        is_shared=_is_postgres(settings),
        on_failure=lambda exc: None if failed.done() else failed.set_result(exc),
    )
    source = store if isinstance(store, SqliteStore) else None
    backups = Backups(
        store,
        source,
        clock,
        settings.folder / recovery.BACKUPS,
        every_s=settings.backup_every_s,
        keep=settings.backup_keep,
    )
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
        ),
        forget_agent=lambda name: hub.presence.remove(name, "retention"),
        log_port=source,
        leads=lambda: hub.membership.leader is not None,
    )
    hub.insight.watch("backups", backups.health)
    hub.mates.on_tokens = access.reload
    bits = Chance().getrandbits
    files = keeper(settings, store, hub.fleet, clock, space, hub=start.hub_boot, random_bits=bits)
    hub.progress.read = files.read
    kept = project_parts(settings, store, hub.fleet, clock, room=hub.check_room, env=os.environ, random_bits=bits)
    hub.mates.on_projects = kept.projects.reload
    await kept.projects.load()
    hub.budgets.knows = {"submitter": access.knows, "project": kept.projects.knows}
    loops = (*hub.loops, access.keep_last_used, backups.run, retention.run, files.run)
    if settings.read_only:
        loops = ()
    else:
        with _written_in(settings.folder):
            await access.ensure_first_tokens(settings.folder)
        event = Event(
            kind=EventKind.HUB_STARTED, at_ms=clock.now_ms(), facts={"version": VERSION, "hub": start.hub_boot}
        )
        await store.commit(Record(event))

    door = Door(
        hub.gateway,
        _token_check(access),
        clock=clock,
        fleet=lambda: len(hub.fleet.agents),
        received_bytes=lambda request: received_bytes(request.transport),
        why_closed=lambda: hub.membership.trouble,
    )
    app = build(
        Services(
            *(hub.intake, hub.insight, hub.presence, hub.hosts, hub.registry, access, hub.feed, backups, files),
            hub.progress,
            hub.pausing,
            hub.reclaiming,
            *(kept.projects, kept.repositories, hub.budgets, kept.gate),
        ),
        sessions=Sessions(clock),
        metrics=hub.metrics.registry,
        settings=WebSettings(
            origins=frozenset(settings.origins),
            version=VERSION,
            read_only=recovery.steps(settings.folder) if settings.read_only else (),
        ),
        more=(Route("GET", "/mesh", door.accept, "mesh:join", "Link of a sidecar (WebSocket)", is_listed=False),),
    )
    running = Running(settings, "", store, hub.fleet, access, failed)
    running._stop.append(_closer(store, lock))  # noqa: SLF001 - its own module fills it
    tasks = [asyncio.create_task(loop()) for loop in loops]
    for task in tasks:
        task.add_done_callback(_end_hub(failed))
    running._stop.extend((files.close, kept.remotes.close))  # noqa: SLF001 - as above
    running._stop.append(hub.membership.leave)  # noqa: SLF001 - as above
    running._stop.append(_ender(tasks, access, hub.learning.keep))  # noqa: SLF001 - as above
    try:
        running.url = hub.membership.url = await _open(app, settings, hub.links, running)
    except BaseException:
        await running.stop()
        raise
    if settings.read_only:
        log.warning(
            "hub_read_only", damage=store.damage or "none found", next="; ".join(recovery.steps(settings.folder))
        )
    log.info("hub_started", url=running.url, version=VERSION, boot=start.hub_boot, held=len(start.standing.held))
    return running


def _token_check(access: Access) -> Callable[[web.Request], bool]:
    def is_welcome(request: web.Request) -> bool:
        try:
            access.require(access.principal(request[PRINCIPAL].token), "mesh:join")
        except Refused:
            return False
        return True

    return is_welcome


def _end_hub(failed: "asyncio.Future[BaseException]") -> Callable[["asyncio.Task[Any]"], None]:
    """A loop of the hub that dies of a bug takes the hub along: half a hub would look healthy."""

    def ended(task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not failed.done():
            failed.set_result(error)

    return ended


def _ender(
    tasks: list["asyncio.Task[None]"], access: Access, keep: Callable[[], None]
) -> Callable[[], Awaitable[None]]:
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


def _closer(store: Backend, lock: IO[str]) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        await store.close()
        lock.close()

    return close


async def _open(app: web.Application, settings: Settings, links: Links, running: Running) -> str:
    host, port = settings.address
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0, keepalive_timeout=KEEPALIVE_S)
    await runner.setup()
    assert runner.server is not None, "it is set up"
    try:
        listening = await asyncio.get_running_loop().create_server(
            Porch().factory(runner.server),
            host,
            port,
            backlog=BACKLOG,
            ssl=(tls := _tls(settings)),
            ssl_handshake_timeout=HANDSHAKE_S if tls else None,
        )
    except BaseException as exc:
        await runner.cleanup()
        if isinstance(exc, OSError):
            raise _unusable("listen", f"cannot listen on {settings.listen}: {exc.strerror or exc}") from exc
        raise

    async def shut() -> None:
        listening.close()
        links.cut_all()
        await runner.cleanup()

    running._stop.append(shut)  # noqa: SLF001 - as above
    bound = listening.sockets[0].getsockname()
    shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    if shown in {"0.0.0.0", "[::]"}:  # noqa: S104 - compared, not bound
        shown = "127.0.0.1"
    url = f"{'https' if settings.tls_cert else 'http'}://{shown}:{bound[1]}"
    url = settings.url.rstrip("/") or url
    with _written_in(settings.folder):
        _announce(settings.folder, url)
    return url


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as exc:
        raise _unusable("tls_cert", f"cannot use {settings.tls_cert} with {settings.tls_key}: {exc}") from exc
    return context


def _announce(folder: Path, url: str) -> None:
    """Leave the address where commands on this machine look for it."""
    draft = folder / ".hub.json"
    draft.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n", encoding="utf-8")
    draft.replace(folder / "hub.json")


def _node(folder: Path) -> str:
    """The name of this data directory, made up at the first start: what an earlier hub here held is this one's."""
    file = folder / "node.id"
    with _written_in(folder):
        if not file.exists() or not file.read_text(encoding="utf-8").strip():
            _write_lasting(file, secrets.token_hex(8) + "\n")
        return file.read_text(encoding="utf-8").strip()


def _write_lasting(file: Path, text: str) -> None:
    """Write a small file so that a power cut leaves all of it: two hubs without a name would be taken for one."""
    draft = file.with_name(f".{file.name}.new")
    with draft.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _written_in(folder: Path) -> Iterator[None]:
    """What cannot be written at the start is a wrong folder or a full disk, and told in one line."""
    try:
        yield
    except OSError as exc:
        raise _unusable("data_dir", f"cannot write {exc.filename or folder}: {exc.strerror or exc}") from exc


def _unusable(setting: str, why: str) -> BadInput:
    return BadInput([Problem(setting, why)], "settings")


def main(settings: Settings) -> int:
    """Run a hub until SIGINT or SIGTERM; the exit status."""
    is_json = settings.log == "json" or (settings.log == "auto" and not sys.stderr.isatty())
    configure(json=is_json, stream=sys.stderr, level=logging.getLevelNamesMapping()[settings.log_level.upper()])
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
