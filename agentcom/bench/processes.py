"""The processes of a measurement: a hub and sidecars of the installed command in a folder, and what they use.

They run with the settings that everybody gets, except where a measurement names another; what the caller's environment
says to AgentCom or to language models does not reach them.
"""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from agentcom.cli.parent import WITH_PARENT
from agentcom.transport import Transport
from protocol.errors import HubUnreachable, Unavailable, WorkFailed

READY_S: Final = 60.0
END_S: Final = 20.0
_LOOK_S: Final = 0.005
_OTHERS: Final = ("AGENTCOM_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "OPENAI_", "OLLAMA_")
_NOWHERE: Final = {"OLLAMA_HOST": "http://127.0.0.1:9"}  # nothing listens there: no model of this machine takes part
_SMAPS: Final = "smaps_rollup"
_KINDS: Final = ("peak_rss_bytes", "pss_bytes", "own_bytes")


class Mesh:
    """A hub and its sidecars under ``folder``; use it in an ``async with`` block.

    Args:
        folder: where the store, the sidecars' state and the logs go.
        store: ``postgresql://...``; empty for SQLite in ``folder``.
        hub_flags: more flags of ``agentcom hub``.
    """

    def __init__(self, folder: Path, *, store: str = "", hub_flags: Sequence[str] = ()) -> None:
        self.folder, self.data_dir = folder, folder / "hub"
        self._flags = [*(("--store", store) if store else ()), *hub_flags]
        self._hub: Process | None = None
        self._sidecars: dict[str, Process] = {}
        self._port = 0
        self.url = ""

    async def __aenter__(self) -> Self:
        try:
            await self.start_hub()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- the hub ------------------------------------------------------------------------------------------------------

    async def start_hub(self) -> float:
        """Start the hub, on the port it had before if it had one; seconds until it said that it is ready.

        Raises:
            WorkFailed: it ended, or was not ready in time.
        """
        said = self.data_dir / "hub.json"
        said.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        began = loop.time()
        listen = f"127.0.0.1:{self._port}"
        self._hub = await self._spawn("hub", "hub", "--data-dir", str(self.data_dir), "--listen", listen, *self._flags)
        while not said.exists() or not await self._is_ready(said):
            self._check(self._hub, "hub")
            if loop.time() - began > READY_S:
                raise WorkFailed(f"the hub was not ready after {READY_S:g} s; {self._last_words('hub')}")
            await asyncio.sleep(_LOOK_S)
        return loop.time() - began

    async def _is_ready(self, said: Path) -> bool:
        self._learn_address(said)
        transport = Transport(self.url, "", patience_s=0.0)
        try:
            await transport.call("GET", "/readyz", dict, patience_s=0.0)
        except (HubUnreachable, Unavailable):
            return False
        finally:
            await transport.close()
        return True

    def _learn_address(self, said: Path) -> None:
        self.url = str(json.loads(said.read_text(encoding="utf-8"))["url"])
        self._port = int(self.url.rsplit(":", 1)[1])

    async def stop_hub(self) -> None:
        """End the hub in order."""
        if self._hub is not None:
            await _end([self._hub])

    def token(self, role: str = "admin") -> str:
        """The hub's first token of that role."""
        return (self.data_dir / f"{role}.token").read_text(encoding="utf-8").strip()

    # --- sidecars -----------------------------------------------------------------------------------------------------

    async def start_sidecars(self, count: int, slots: int, name: str = "bench") -> tuple[str, ...]:
        """Start sidecars with these slots each and wait until they are idle; their names (``bench-1`` and so on)."""
        for each in (f"{name}-{number}" for number in range(1, count + 1)):
            state, token = str(self.folder / each), str(self.data_dir / "agent.token")
            flags = ["--hub", self.url, "--token-file", token, "--state-dir", state, "--name", each]
            self._sidecars[each] = await self._spawn(each, "sidecar", *flags, "--slots", str(slots))
        names = tuple(self._sidecars)
        transport = Transport(self.url, self.token(), patience_s=READY_S)
        try:
            await asyncio.wait_for(self._until_idle(transport, names), READY_S)
        except TimeoutError:
            raise WorkFailed(f"the sidecars did not join within {READY_S:g} s; {self._last_words(names[0])}") from None
        finally:
            await transport.close()
        return names

    async def _until_idle(self, transport: Transport, names: Sequence[str]) -> None:
        while True:
            answer = await transport.call("GET", "/api/v1/agents", dict)
            idle = {agent["name"] for agent in answer["agents"] if agent["state"] == "idle"}
            if idle.issuperset(names):
                return
            for name in names:
                self._check(self._sidecars[name], name)
            await asyncio.sleep(_LOOK_S * 10)

    # --- what they use ------------------------------------------------------------------------------------------------

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds so far, by role: ``hub``, ``sidecars`` (all of them) and ``submitter`` (this process)."""
        mine = os.times()
        return {
            "hub": sum(_cpu_s(process.pid) for process in self._roles()["hub"]),
            "sidecars": sum(_cpu_s(process.pid) for process in self._roles()["sidecars"]),
            "submitter": mine.user + mine.system,
        }

    def memory(self) -> dict[str, dict[str, int]]:
        """Bytes of memory by role: ``peak_rss_bytes`` so far, and two kinds of what there is now.

        ``pss_bytes`` counts shared pages by share; ``own_bytes`` only what the process has written itself, which
        nothing else that runs can change.
        """
        found = {}
        for role, processes in self._roles().items():
            used = [memory_of(process.pid) for process in processes]
            found[role] = {name: sum(each[name] for each in used) for name in _KINDS}
        return found

    def _roles(self) -> Mapping[str, Sequence[Process]]:
        hub = [self._hub] if self._hub is not None and self._hub.returncode is None else []
        return {"hub": hub, "sidecars": [p for p in self._sidecars.values() if p.returncode is None]}

    # --- processes ----------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """End the sidecars, then the hub."""
        await _end(list(self._sidecars.values()))
        await self.stop_hub()

    def check(self) -> None:
        """Pass if everything that was started still runs.

        Raises:
            WorkFailed: one has ended.
        """
        for name, process in (("hub", self._hub), *self._sidecars.items()):
            if process is not None:
                self._check(process, name)

    def _check(self, process: Process, name: str) -> None:
        if process.returncode is not None:
            raise WorkFailed(f"{name} ended with status {process.returncode}; {self._last_words(name)}")

    def _last_words(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        return f"its last words: {lines[-1][:500] if lines else 'none'}"

    async def _spawn(self, log: str, *arguments: str) -> Process:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
        with (self.folder / f"{log}.log").open("ab") as file:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "agentcom",
                *arguments,
                WITH_PARENT,
                stdin=PIPE,  # closes when this process ends, however it does; they end with it
                stdout=file,
                stderr=file,
                env=clean | _NOWHERE,
                start_new_session=True,
            )


async def _end(processes: Sequence[Process]) -> None:
    for process in processes:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            await asyncio.wait_for(process.wait(), END_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def _cpu_s(pid: int) -> float:
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)


def memory_of(pid: int) -> dict[str, int]:
    """The memory of a process, as :meth:`Mesh.memory` names it; where a system does not tell, its resident size now."""
    now = int(psutil.Process(pid).memory_info().rss)
    return {
        "peak_rss_bytes": _kib(Path(f"/proc/{pid}/status"), "VmHWM:") or now,
        "pss_bytes": _kib(Path(f"/proc/{pid}/{_SMAPS}"), "Pss:") or now,
        "own_bytes": _kib(Path(f"/proc/{pid}/{_SMAPS}"), "Anonymous:") or now,
    }


def _kib(path: Path, name: str) -> int:
    """Bytes in a line ``name 12 kB`` of a file of the kernel; 0 if it has none."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
