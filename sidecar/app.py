"""The composition root of the sidecar: the one place that names concrete classes and puts them together.

:func:`start` gives a running sidecar inside this process (tests, ``agentcom up``); :func:`main` is a whole process with
signals: the first SIGTERM or Ctrl-C lets running work end, the second ends it now.
"""

import asyncio
import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import psutil
import structlog

from protocol import logs, names
from protocol.clock import Clock
from protocol.collector import spare_the_collector
from protocol.errors import AgentComError, BadInput, VersionMismatch, WorkFailed
from protocol.ids import NAME
from protocol.log_levels import SIDECAR, LogLevel
from protocol.redaction import Redactor
from protocol.removal import remove_tree
from protocol.telemetry import telemetry
from sidecar.bundled import resolved
from sidecar.cleaning import Cleaner
from sidecar.clock import SystemClock
from sidecar.core.programs import AgentProgram, usual
from sidecar.depot import HubDepot
from sidecar.dial import EVICTED, FINAL, HOPELESS, HubRefused, Pace, dial
from sidecar.environment import minimal_env
from sidecar.executors import executors
from sidecar.folders import write_lasting
from sidecar.forgetting import Forgetting
from sidecar.gate import HubGate
from sidecar.git import Git
from sidecar.guard import Guard
from sidecar.identity import Identity, NameLost, check_not_evicted, instance_of, note_eviction
from sidecar.journal import Journal, StateDirInUse, StateLock, in_state_dir
from sidecar.keys import signer_in
from sidecar.leases import Leases
from sidecar.lifecycle import Lifecycle
from sidecar.link import Link
from sidecar.llm.endpoints import Endpoints
from sidecar.llm.passage import Passages
from sidecar.llm.warmer import Warmer
from sidecar.owner import Owner
from sidecar.parts import Parts
from sidecar.process import Processes, become_subreaper
from sidecar.quota import Quota
from sidecar.room import Room, disk_bytes, watch
from sidecar.runner import Runner
from sidecar.sandbox.cell import Sandbox
from sidecar.sandbox.policy import MOST_FILE_BYTES, Limits, Rules
from sidecar.seen import Seen, capabilities
from sidecar.settings import Settings, secrets_of
from sidecar.shelf import HubShelf
from sidecar.shop import Shop
from sidecar.spans import Recorder
from sidecar.tails import Tails
from sidecar.tasks import together
from sidecar.upgrading import want
from sidecar.vault import HubVault
from sidecar.wip import WipWorkspaces

log = structlog.get_logger(__name__)

SWEEP_S: Final = 3600.0
GOODBYE_S: Final = 5.0
"""How long an ending sidecar waits for the hub to confirm its last reports; the journal keeps them anyway."""

EXIT_OK, EXIT_INPUT, EXIT_REFUSED = 0, 2, 4
_NOT_LET_IN: Final = HOPELESS - FINAL
_PR_SET_DUMPABLE: Final = 4


@dataclass
class Running:
    """A sidecar at work.

    Attributes:
        name, boot: who it is.
        link, runner, lifecycle: its parts, to look at.
    """

    name: str
    boot: int
    link: Link
    runner: Runner
    lifecycle: Lifecycle
    _work: "asyncio.Task[None]"
    _close: Callable[[], Coroutine[Any, Any, None]]
    _stopping: "asyncio.Task[None] | None" = None

    async def ended(self) -> None:
        """Wait until the link gives up.

        Raises:
            HubRefused, VersionMismatch: the hub will never take this sidecar.
        """
        await asyncio.shield(self._work)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, let running work end for at most ``timeout_s``, have its reports confirmed, then stop."""
        if self.lifecycle.may("drain"):
            self.lifecycle.fire("drain")
        self.runner.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.runner.idle()
        await self.stop()

    async def stop(self) -> None:
        """End all work, tell the hub if it listens, and close everything; asked twice, it is done once."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        if self.lifecycle.may("stop"):
            self.lifecycle.fire("stop")
        await self.runner.stop()
        if self.link.online.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self.link.delivered()
        self._work.cancel()
        await asyncio.gather(self._work, return_exceptions=True)
        await self._close()


async def start(
    settings: Settings, *, clock: Clock | None = None, pace: Pace | None = None, adopts_orphans: bool = False
) -> Running:
    """A running sidecar, which dials its hub from now on.

    Args:
        settings: what ``sidecar/settings.py`` has read.
        clock, pace: the time and the haste of the link; the machine's and the usual one if left out.
        adopts_orphans: this process is the sidecar's alone and has become a subreaper.
    Raises:
        StateDirInUse: another sidecar has the state directory.
        NameLost: another sidecar has taken its name.
        BadInput: the state directory cannot be used, or the endpoints cannot work together.
    """
    endpoints = Endpoints(settings.endpoints or ())
    clock, folder = clock or SystemClock(), settings.folder
    async with contextlib.AsyncExitStack() as stack:
        with in_state_dir(folder):
            stack.callback(StateLock(folder).release)
            room = Room(folder)
            journal = stack.enter_context(Journal(folder / "journal.db", room))
            name = settings.name or _kept_name(folder / "name")
            check_not_evicted(folder, name, journal.last_boot)
            boot, instance = journal.next_boot(clock.now_ms()), instance_of(folder)
            (folder / "home").mkdir(mode=0o700, exist_ok=True)
        stack.push_async_callback(endpoints.close)
        guard = Guard()
        guard.start()
        stack.callback(guard.stop)
        leases = Leases(clock.monotonic)
        leases.on_change = guard.feed
        redactor = _hidden(settings, stack)
        trust = settings.trust()
        depot = HubDepot(lambda: link, settings.read_token, leases.check, redactor=redactor, trust=trust)
        stack.push_async_callback(depot.close)
        shelf = HubShelf(
            lambda: link, settings.read_token, leases.check, patience_s=0.0, redactor=redactor, trust=trust
        )
        stack.push_async_callback(shelf.close)
        gate = HubGate(lambda: link.hub, settings.read_token, leases.check, trust=trust, ca_file=folder / "hub-ca.pem")
        vault = HubVault(lambda message: link.send(message), redactor, leases.check)  # noqa: PLW0108 - as depot
        parts = _parts(
            settings, endpoints, guard, clock, leases, (depot, shelf, vault), gate, adopts_orphans=adopts_orphans
        )
        await parts.sandbox.find(settings.sandbox)
        lifecycle = Lifecycle()
        link = Link(
            settings.hubs,
            settings.read_token,
            Identity(name, boot, settings.host or socket.gethostname(), settings.slots, _version(), instance),
            clock=clock,
            chance=random.random,
            pace=pace,
            dial=partial(dial, trust=trust),
            leases=leases,
            on_event=lambda event: _fire(lifecycle, event),
            signer=partial(signer_in, folder),
        )
        warmer = Warmer(endpoints)
        stack.push_async_callback(warmer.close)
        tails = Tails(folder / "tails", redactor=redactor)
        runner = Runner(name, settings.slots, Shop(parts), journal, link, leases, tails, redactor)
        runner.recorder = _recorder(settings, clock, name, stack)
        forgetting = Forgetting(parts.workspaces, runner.inventory)
        runner.on_prewarm, runner.on_forget, link.on_secrets = warmer.hear, forgetting.hear, vault.heard
        link.tell(capabilities=capabilities(settings, parts, has_gpu=False))
        # Before anybody is told that the work is lost, and may give it away: it is over, even if its guard was killed.
        await parts.processes.end_earlier([entry.attempt for entry in journal.held()])
        runner.recover()
        await asyncio.to_thread(remove_tree, parts.scratch)
        await parts.workspaces.sweep(())  # nothing is in work yet: what is held are reports
        cleaner = Cleaner(folder, Git(parts.processes), settings.cache_mb << 20, settings.salvage_days)
        seen = Seen(link, endpoints, settings, parts)
        owner = Owner(folder, runner, endpoints, seen.tell)
        runner.on_reclaim, runner.on_upgrade, runner.refuses = owner.hear, partial(want, folder), owner.refuses
        stack.callback(seen.probe.close)
        jobs = together(
            _line(link, runner, folder),
            seen.watch_host(),
            seen.watch_endpoints(),
            _sweep(parts, runner, cleaner),
            watch(room, lambda: journal.has_room, link.beat),
            owner.run(),
            parts.quota.run(),
            forgetting.run(),
        )
        work = asyncio.create_task(jobs, name=f"sidecar-{name}")
        log.info("sidecar_started", name=name, boot=link.identity.boot, hub=settings.hub, state_dir=str(folder))
        return Running(name, link.identity.boot, link, runner, lifecycle, work, stack.pop_all().aclose)


def _hidden(settings: Settings, stack: contextlib.AsyncExitStack) -> Redactor:
    """What takes secrets out; until the stack ends out of the log, too."""
    redactor = Redactor(secrets_of(settings))
    logs.hide(redactor, settings.state_dir)
    stack.callback(logs.hide, None, settings.state_dir)
    return redactor


def _recorder(settings: Settings, clock: Clock, name: str, stack: contextlib.AsyncExitStack) -> Recorder:
    """What tells of the work, if the settings say where to."""
    if not settings.traces:
        return Recorder(clock)
    sink = telemetry(settings.traces, service="agentcom-sidecar", version=_version(), instance=name)
    stack.push_async_callback(asyncio.to_thread, sink.close)
    return Recorder(clock, sink.send)


def _parts(
    settings: Settings,
    endpoints: Endpoints,
    guard: Guard,
    clock: Clock,
    leases: Leases,
    kept: tuple[HubDepot, HubShelf, HubVault],
    gate: HubGate,
    *,
    adopts_orphans: bool,
) -> Parts:
    folder = settings.folder
    processes = Processes(
        base_env=minimal_env(os.environ, home=folder / "home"),
        guard=guard,
        adopts_orphans=adopts_orphans,
        check=leases.check,
    )
    # git that talks to a remote may use the owner's agent and credentials; no process of the work sees these.
    access = {name: os.environ[name] for name in ("HOME", "SSH_AUTH_SOCK") if name in os.environ}
    workspaces = WipWorkspaces(folder, processes, access, gate)
    programs = _programs(settings, processes.path)
    sandbox = Sandbox(processes, folder, _rules(settings, programs))
    passages = Passages(settings.endpoints or (), settings.sandbox_endpoints, leases.check)
    shop, scratch = executors(endpoints, programs), folder / "scratch"
    quota = Quota(processes, folder, sandbox.rules.limits.disk_bytes)
    named = {plugin.name: plugin.command for plugin in settings.plugins}
    parts = processes, sandbox, workspaces, shop, scratch, clock, endpoints, leases, *kept[:2]
    return Parts(*parts, passages=passages, quota=quota, vault=kept[2], judged_by=settings.judges, plugins=named)


def _programs(settings: Settings, path: str) -> list[AgentProgram]:
    """The coding agents whose programs are here."""
    listed = usual() if settings.agents is None else settings.agents
    found = []
    for program in listed:
        here = resolved(program)
        if here is not None and shutil.which(here.command[0], path=path):
            found.append(here)
        elif settings.agents is not None:
            log.warning("agent_not_found", agent=program.name, program=program.command[0], next="it is not offered")
    return found


def _rules(settings: Settings, programs: Sequence[AgentProgram]) -> Rules:
    """What the owner of this host lets work see and use."""
    memory = settings.sandbox_memory_mb << 20 or psutil.virtual_memory().total * 4 // 5
    disk = settings.sandbox_disk_mb << 20 or disk_bytes(settings.folder)[1] // 4
    longest = min(disk, MOST_FILE_BYTES)
    limits = Limits(memory, settings.sandbox_processes, settings.sandbox_cpus, disk, longest)
    plugins = (plugin.command[0] for plugin in settings.plugins)
    seen = (*settings.sandbox_read, *plugins, *(path for program in programs for path in program.reads))
    read, write = tuple(map(Path, seen)), tuple(map(Path, settings.sandbox_write))
    return Rules(read, write, settings.sandbox_network, limits, settings.sandbox_domains)


async def _line(link: Link, runner: Runner, folder: Path) -> None:
    """The line to the hub, until the hub takes the name away: then all work ends at once, and so do later starts."""
    try:
        await link.run(runner)
    except HubRefused as exc:
        if exc.reason == EVICTED:
            runner.hurry()
            note_eviction(folder, link.identity.sidecar, link.identity.boot)
        raise


async def _sweep(parts: Parts, runner: Runner, cleaner: Cleaner) -> None:
    """Remove what was kept long enough, as long as the sidecar runs: one that runs for a year fills no disk."""
    while True:
        try:
            await cleaner.clean()
            await asyncio.sleep(SWEEP_S)
            await parts.workspaces.sweep([held.attempt for held in runner.inventory()])
        except (WorkFailed, OSError) as exc:
            log.warning("sweep_failed", why=str(exc), next=f"again in {SWEEP_S:g} s")
            await asyncio.sleep(SWEEP_S)


def _fire(lifecycle: Lifecycle, event: str) -> None:
    """The link goes on dialling while the sidecar stops; that is no news for its state."""
    if event == "welcome":
        logs.set_levels({}, SIDECAR)  # if this hub wants any, it says so
    if lifecycle.may(event):
        lifecycle.fire(event)


def _kept_name(file: Path) -> str:
    """The name that this state directory has; made up and kept if it has none that can be used."""
    if file.is_file() and NAME.fullmatch(name := file.read_text(encoding="utf-8").strip()):
        return name
    name = names.pick((), random.SystemRandom())
    write_lasting(file, name + "\n")  # another name would be another agent, and the reports in the journal nobody's
    return name


def _version() -> str:
    try:
        return version("agentcom")
    except PackageNotFoundError:
        return "unknown"  # run from a source tree that is not installed


# --- a process of its own ---------------------------------------------------------------------------------------------


def main(settings: Settings) -> int:
    """Run until a signal or the hub's refusal; returns the exit code of the command."""
    as_json = settings.log == "json" or (settings.log == "auto" and not sys.stderr.isatty())
    logs.configure(json=as_json, stream=sys.stderr, level=LogLevel(settings.log_level))
    logs.take_over()
    _hide_memory()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_until_told(settings))
    except HubRefused as exc:
        return _refused(exc, EXIT_REFUSED if exc.reason in _NOT_LET_IN else EXIT_INPUT)
    except (StateDirInUse, NameLost, BadInput, VersionMismatch) as exc:
        return _refused(exc, EXIT_INPUT)
    return EXIT_OK


def _refused(error: AgentComError, code: int) -> int:
    log.error("sidecar_ended", code=error.code, why=str(error))
    return code


async def _until_told(settings: Settings) -> None:
    running = await start(settings, adopts_orphans=become_subreaper())
    spare_the_collector()
    told = asyncio.Event()
    drain: list[asyncio.Task[None]] = []

    def on_signal() -> None:
        if not drain:
            log.info("sidecar_leaving", running=running.runner.busy, at_most_s=settings.drain_s, again="stops at once")
            drain.append(asyncio.create_task(running.drain(settings.drain_s)))
            drain[0].add_done_callback(lambda _task: told.set())
        else:
            drain[0].cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    ended = asyncio.create_task(running.ended())
    waiting = asyncio.create_task(told.wait())
    try:
        await asyncio.wait({ended, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        await running.stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    if ended.done() and not drain:
        ended.result()
    ended.cancel()
    await asyncio.gather(ended, *drain, return_exceptions=True)
    log.info("sidecar_stopped", name=running.name)


def _hide_memory() -> None:
    """Keep other processes of this user from reading our memory and environment, where keys are."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
