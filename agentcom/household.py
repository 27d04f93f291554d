"""A hub and its sidecars as child processes of this one: start them, keep them, end them in order.

A child that crashes, the hub as much as a sidecar, is started again after a growing pause: nothing acknowledged is lost
by it. Only what another start cannot mend (wrong settings, a refusal) ends it. The children hold a pipe of this process
and end when it does, however it dies. What they write goes to files in ``DIR/logs``. Caller: ``agentcom up``.
"""

import asyncio
import functools
import json
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from agentcom import settings
from agentcom.aio import AsyncClient
from agentcom.cli.parent import WITH_PARENT
from protocol import names
from protocol.errors import BadInput, HubUnreachable, Problem, WorkFailed
from protocol.ids import NAME

HUB: Final = "hub"
READY_S: Final = 30.0
_LOOK_S: Final = 0.05
_DRAIN_S: Final = 10.0
_KILL_AFTER_S: Final = 5.0
_FIRST_PAUSE_S, _MAX_PAUSE_S = 1.0, 30.0
_STEADY_S: Final = 60.0
"""A child that lived this long has not crashed at its start: the pause begins anew."""
_MAX_LOG_BYTES: Final = 10 << 20
_HOPELESS: Final = frozenset({2, 4})
"""Exit statuses of a child that another start cannot mend: wrong settings, refused by the hub."""


class Plan(Struct, frozen=True, kw_only=True):
    """What to start: a hub with its data in ``folder`` on ``port`` (0: a free one), and this many sidecars."""

    folder: Path
    port: int
    sidecars: int


class Household:
    """A hub and its sidecars; ``say`` is told what happens, one line each.

    Attributes:
        url: the hub's address, once :meth:`start` has returned.
        agents: names of the sidecars.
    """

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan, self._say = plan, say
        self._logs = plan.folder / "logs"
        self._children: dict[str, Process] = {}  # by the name of their log
        self._keepers: list[asyncio.Task[None]] = []
        self.url = ""
        self.agents: tuple[str, ...] = ()

    async def start(self) -> None:
        """Start the hub, wait until it is ready, and start the sidecars.

        Raises:
            BadInput: the directory cannot be used, or the hub does not like its settings.
            WorkFailed: the hub ended or did not become ready.
        """
        try:
            self._plan.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._logs.mkdir(exist_ok=True)
        except OSError as exc:
            problem = Problem("--data-dir", f"cannot use {self._plan.folder}: {exc.strerror}")
            raise BadInput([problem], "settings") from exc
        hub = await self._start_hub(self._plan.port)
        self.url = await self._until_ready(hub)
        self._keep(HUB, self._restart_hub)
        self.agents = self._names()
        for name in self.agents:
            await self._start_sidecar(name)
            self._keep(f"sidecar-{name}", functools.partial(self._start_sidecar, name))

    async def until_hub_ends(self) -> int:
        """Wait until the hub has ended for good; its exit status."""
        await asyncio.shield(self._keepers[0])
        return self._children[HUB].returncode or 0

    async def stop(self) -> None:
        """End the sidecars, then the hub; what does not listen is killed."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        hub = self._children.pop(HUB, None)
        await self._end(list(self._children.values()), _DRAIN_S + _KILL_AFTER_S)
        if hub is not None:
            await self._end([hub], _KILL_AFTER_S)

    def hurry(self) -> None:
        """Do not wait for running work while stopping."""
        for log, process in self._children.items():
            if log != HUB and process.returncode is None:
                process.terminate()

    # --- the hub --------------------------------------------------------------------------------------------------

    async def _start_hub(self, port: int) -> Process:
        return await self._spawn(
            HUB, "hub", "--data-dir", str(self._plan.folder), "--listen", f"127.0.0.1:{port}", WITH_PARENT
        )

    async def _restart_hub(self) -> Process:
        """On the port that it had: the sidecars, and whoever has a link, look for it there."""
        return await self._start_hub(urlsplit(self.url).port or self._plan.port)

    async def _until_ready(self, hub: Process) -> str:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + READY_S
        while loop.time() < ends_at:
            if hub.returncode is not None:
                raise self._ended(hub.returncode)
            url = self._announced(hub.pid)
            if url:
                async with AsyncClient(url, data_dir=str(self._plan.folder), patience_s=0.0) as client:
                    if await client.is_ready():
                        return url
            await asyncio.sleep(_LOOK_S)
        raise WorkFailed(f"the hub was not ready after {READY_S:g} s; its log: {self._logs / 'hub.log'}")

    def _announced(self, pid: int) -> str:
        """The address that this hub left in its directory; empty as long as the file is an older hub's."""
        try:
            found = json.loads((self._plan.folder / "hub.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        return str(found["url"]) if isinstance(found, dict) and found.get("pid") == pid and "url" in found else ""

    def _ended(self, status: int) -> BadInput | WorkFailed:
        said = self.last_words("hub")
        if status == 2:  # noqa: PLR2004 - exit status of wrong input
            return BadInput([Problem("", said.removeprefix("error: "))], "hub")
        return WorkFailed(f"the hub ended with status {status}: {said}; its log: {self._logs / 'hub.log'}")

    def last_words(self, name: str) -> str:
        """The last error that a child wrote, else its last line, in words if it is a line of the log."""
        text = (self._logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")]
        return in_words((errors or lines or ["it wrote nothing"])[-1])

    # --- sidecars -------------------------------------------------------------------------------------------------

    def _names(self) -> tuple[str, ...]:
        """One name a sidecar: those that have state here already, then new ones."""
        folder = self._plan.folder / "sidecars"
        folder.mkdir(exist_ok=True)
        known = sorted(path.name for path in folder.iterdir() if path.is_dir() and NAME.fullmatch(path.name))
        while len(known) < self._plan.sidecars:
            known.append(names.pick(known, random.SystemRandom()))
        return tuple(known[: self._plan.sidecars])

    async def _start_sidecar(self, name: str) -> Process:
        state = self._plan.folder / "sidecars" / name
        state.mkdir(mode=0o700, exist_ok=True)
        token = self._plan.folder / "agent.token"
        arguments = ["--hub", self.url, "--token-file", str(token), "--state-dir", str(state), "--name", name]
        return await self._spawn(f"sidecar-{name}", "sidecar", *arguments, "--drain-s", f"{_DRAIN_S:g}", WITH_PARENT)

    # --- all of them ----------------------------------------------------------------------------------------------

    def _keep(self, log: str, start: Callable[[], Awaitable[Process]]) -> None:
        self._keepers.append(asyncio.create_task(self._keep_running(log, start), name=f"keep-{log}"))

    async def _keep_running(self, log: str, start: Callable[[], Awaitable[Process]]) -> None:
        loop = asyncio.get_running_loop()
        who = "the hub" if log == HUB else f"agent {log.removeprefix('sidecar-')}"
        pause_s = _FIRST_PAUSE_S
        while True:
            started_at = loop.time()
            status = await self._children[log].wait()
            said = self.last_words(log)
            if status in _HOPELESS:
                self._say(f"{who} ended with status {status} and is not started again: {said}")
                return
            pause_s = _FIRST_PAUSE_S if loop.time() - started_at > _STEADY_S else pause_s
            self._say(f"{who} ended with status {status}, again in {pause_s:g} s: {said}")
            await asyncio.sleep(pause_s)
            pause_s = min(_MAX_PAUSE_S, pause_s * 2)
            await start()

    # --- processes ------------------------------------------------------------------------------------------------

    async def _spawn(self, log: str, *arguments: str) -> Process:
        path = self._logs / f"{log}.log"
        if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as file:
            # A session of their own: Ctrl-C reaches this process alone, which then ends them in order.
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "agentcom",
                *arguments,
                stdin=PIPE,  # never written to: that it closes is how a child learns that we are gone
                stdout=file,
                stderr=file,
                env=settings.sidecar_env(),
                start_new_session=True,
            )
        self._children[log] = child
        return child

    async def _end(self, processes: Sequence[Process], patience_s: float) -> None:
        living = [process for process in processes if process.returncode is None]
        for process in living:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(patience_s):
                await asyncio.gather(*(process.wait() for process in living))
        except TimeoutError:
            for process in living:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


def in_words(line: str) -> str:
    """A line of a log: its event and why, for a person; a line that is no such thing stays as it is."""
    try:
        found = json.loads(line)
    except ValueError:
        return line
    if not isinstance(found, dict) or not isinstance(found.get("event"), str):
        return line
    why = [str(found[name]) for name in ("why", "error") if found.get(name)]
    return ": ".join([found["event"].replace("_", " "), *why])


async def running_hub(folder: Path) -> str:
    """The address of a hub that runs on ``folder`` already; empty if none answers."""
    try:
        found = json.loads((folder / "hub.json").read_text(encoding="utf-8"))
        async with AsyncClient(str(found["url"]), "none", patience_s=0.0) as client:
            await client.server_date()
    except (OSError, ValueError, KeyError, TypeError, BadInput, HubUnreachable):
        return ""
    return str(found["url"])
