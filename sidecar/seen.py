"""What this machine has, looked at again and again and told to the hub: resources, endpoints, capabilities.

The caller is :mod:`sidecar.app`, which runs the two loops; what is told goes out with the link's next heartbeat.
"""

import asyncio
import os
import platform
import shutil
from typing import Final

from protocol.checks import GENERATION_2, GENERATION_3, GENERATION_4, JUDGE, OPENS_PORTS, PLUGIN
from protocol.joining import UPGRADE
from protocol.keystore import SECRETS
from protocol.log_levels import LOG_LEVELS
from protocol.machine import GpuCard
from protocol.messages import PREWARM
from protocol.model import EndpointReport
from protocol.progress import FORGET, GPU, PAUSE, RECLAIMED
from protocol.reviews import PROOF
from sidecar import machine
from sidecar.executors.acp import AcpExecutor
from sidecar.gpus.owners import Owners
from sidecar.link import Link
from sidecar.llm.endpoints import Endpoints
from sidecar.llm.passage import NEED
from sidecar.owner import is_reclaimed
from sidecar.parts import Parts
from sidecar.repository import PUSH
from sidecar.resources import HostProbe, drawn_w
from sidecar.sandbox.cell import Level
from sidecar.settings import Settings
from sidecar.upgrading import is_watched

_FOR_DRIVERS: Final = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "WINDIR", "PROGRAMFILES")
"""Of our environment, what a process that reads a GPU's driver gets: where libraries are."""
_NEED_PROGRAMS: Final = frozenset({"executor:shell", "executor:agent", "executor:acp"})
"""What is not offered where no program can be confined."""


class Seen:
    """What the machine has, looked at again and again and told to the link."""

    def __init__(self, link: Link, endpoints: Endpoints, settings: Settings, parts: Parts) -> None:
        self._link, self._endpoints, self._settings, self._parts = link, endpoints, settings, parts
        self._reports: tuple[EndpointReport, ...] = ()
        self._has_gpu = False
        self._cards: tuple[GpuCard, ...] = ()
        self.probe = HostProbe(
            settings.folder,
            workspaces=settings.folder / "work",
            owners=Owners(parts.processes.owns, lambda: [each.url for each in self._reports if each.local]),
            env={name: os.environ[name] for name in _FOR_DRIVERS if name in os.environ},
        )
        self._look_again = asyncio.Event()
        endpoints.on_trouble = self._on_trouble

    async def watch_host(self) -> None:
        """Measure the machine as often as heartbeats go out; a driver that hangs delays nothing."""
        while True:
            reading = await self.probe.read()
            self._has_gpu = bool(reading.gpus)
            self._endpoints.watts = drawn_w(reading, self._cards)
            self._cards = self._cards if reading.cards is None else reading.cards
            self._link.tell(reading=reading)
            self.tell()
            await asyncio.sleep(self._link.heartbeat_s)

    async def watch_endpoints(self) -> None:
        """Ask the LLM endpoints what they have, sooner if work has met trouble: perhaps the server is gone."""
        while True:
            self._look_again.clear()
            self._reports = await self._endpoints.discover()
            self.tell()
            try:
                async with asyncio.timeout(self._settings.check_s):
                    await self._look_again.wait()
            except TimeoutError:
                continue

    def _on_trouble(self) -> None:
        """The hub hears of it at once: other work should not run into the same."""
        self.tell()
        self._look_again.set()

    def tell(self) -> None:
        """Tell the link what there is now."""
        found = capabilities(self._settings, self._parts, has_gpu=self._has_gpu)
        self._link.tell(endpoints=self._reports, capabilities=found, troubles=self._endpoints.troubles)


def capabilities(settings: Settings, parts: Parts, *, has_gpu: bool) -> tuple[str, ...]:
    """What tasks may need and this machine has: executors, tools, its kind, and what settings add.

    Executors that ask models are among them even if no endpoint is up here: people may have added one at the hub.
    """
    sandbox = parts.sandbox
    found = {f"executor:{name}" for name in parts.executors} | {
        GENERATION_2,
        GENERATION_3,
        GENERATION_4,
        PREWARM,
        *settings.capabilities,
    }
    if isinstance(acp := parts.executors.get(AcpExecutor.name), AcpExecutor):
        found |= {program.capability for program in acp.programs} if sandbox.level is not Level.NONE else set()
    found |= {f"sandbox:{sandbox.level}", *(["limits"] if sandbox.has_groups else [])}
    found |= {OPENS_PORTS} if sandbox.opens_ports else set()
    found |= {JUDGE} if settings.judges else set()
    found |= {f"{PLUGIN}{plugin.name}" for plugin in settings.plugins}
    found |= {"egress"} if sandbox.has_egress else set()
    found |= {NEED} if parts.passages.are_open and sandbox.has_doors else set()
    found |= {"network"} if sandbox.level is Level.UNSAFE or settings.sandbox_network else set()
    found -= _NEED_PROGRAMS if sandbox.level is Level.NONE else set()
    found |= {f"os:{platform.system().lower()}", f"arch:{platform.machine().lower()}"}
    found |= {PAUSE, FORGET, LOG_LEVELS, SECRETS, *([UPGRADE] if is_watched(settings.folder) else [])}
    found |= {"artifacts"}  # files that tasks want kept are brought to the hub
    found |= {"git", PUSH} if shutil.which("git") else set()
    found |= {f"executor:{PROOF}"} if "git" in found and sandbox.level is not Level.NONE else set()
    found |= {GPU} if has_gpu else set()
    if is_reclaimed(settings.folder):
        found = found - {GPU} | {RECLAIMED, *(f"{RECLAIMED}:{name}" for name in machine.names())}
    return tuple(sorted(found))
