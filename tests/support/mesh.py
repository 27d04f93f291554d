"""A real mesh for tests: hub and sidecars as processes of the installed command, driven over HTTP.

Nothing of ours is imported for driving it: what these tests see is what any program sees.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

from tests.support.ports import free_port

PATIENCE_S: Final = 60.0
"""How long anything may take that takes a moment: the machine may be busy with something else."""
LOOK_S: Final = 0.02  # the hub is another process: its facts are asked for, not heard
FINAL: Final = frozenset({"completed", "failed", "cancelled", "dead"})


class Refused(Exception):
    """The hub answered with a problem document."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status, self.problem = status, problem
        super().__init__(f"{status}: {problem}")


class Mesh:
    """One hub and its sidecars under ``folder``; :meth:`stop` ends them all.

    Leases are as long as everybody's unless a test is about losing one: a machine that stands still for seconds must
    not look like a sidecar that is gone.
    """

    sandbox = ""
    """How sidecars confine work; empty: as everybody has it."""

    def __init__(
        self,
        folder: Path,
        *,
        lease_s: float = 30.0,
        heartbeat_s: float = 1.0,
        address: str = "127.0.0.1",
        hub_flags: Sequence[str] = (),
        hub_env: dict[str, str] | None = None,
    ) -> None:
        self.folder, self.address, self.hub_flags, self.hub_env = folder, address, hub_flags, hub_env
        self.data_dir = folder / "hub"
        self.timing = ["--lease-s", str(lease_s), "--heartbeat-s", str(heartbeat_s)]
        self.hub: subprocess.Popen[bytes] | None = None
        self.sidecars: dict[str, subprocess.Popen[bytes]] = {}
        self.url = ""
        self._port = free_port()  # also while it is down: others are not to be given it before it is back

    # --- processes ----------------------------------------------------------------------------------------------

    def start_hub(self, *flags: str, is_ready: bool = True) -> float:
        """Start the hub, always on the same port; the seconds until it was ready.

        Args:
            flags: more of the command line.
            is_ready: wait for that; a hub that is read-only never says so.
        """
        began = time.monotonic()
        said = self.data_dir / "hub.json"
        said.unlink(missing_ok=True)
        self.hub = self._spawn(
            "hub",
            "hub",
            "--data-dir",
            str(self.data_dir),
            "--listen",
            f"{self.address}:{self._port}",
            *self.timing,
            *self.hub_flags,
            *flags,
            env=self.hub_env,
        )
        until(said.exists, "the hub says where it is", self.hub)
        self.url = json.loads(said.read_text())["url"]
        if is_ready:
            until(self._is_ready, "the hub is ready", self.hub)
        return time.monotonic() - began

    def start_sidecar(
        self, name: str, *flags: str, hub: str = "", env: dict[str, str] | None = None, under: Sequence[str] = ()
    ) -> None:
        """Start a sidecar; returns at once (see :meth:`wait_agents`).

        Args:
            name: of the agent.
            flags: more of the command line.
            hub: the address to dial, if it is not the hub's own (a proxy).
            env: more of the environment.
            under: a command that becomes the sidecar, with its arguments (``faketime``, ``ip netns exec``).
        """
        self.sidecars[name] = self._spawn(
            f"sidecar-{name}",
            "sidecar",
            "--hub",
            hub or self.url,
            "--token-file",
            str(self.data_dir / "agent.token"),
            "--state-dir",
            str(self.folder / f"state-{name}"),
            "--name",
            name,
            # What these tests and the work tell one another lies there; all else of the sandbox is as everybody has it.
            "--sandbox-write",
            str(self.folder.parent),
            *(("--sandbox", self.sandbox) if self.sandbox else ()),
            *flags,
            env=env,
            under=under,
        )

    def start_command(self, log: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start any other command of ours; it is ended with the mesh.

        Args:
            log: name of the file that it writes to.
            arguments: its command line.
            env: more of the environment.
        """
        process = self._spawn(log, *arguments, env=env)
        self.sidecars[log] = process
        return process

    def _spawn(
        self, log: str, *arguments: str, env: dict[str, str] | None = None, under: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        ours = ("AGENTCOM_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "OPENAI_", "OLLAMA_")
        clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
        # A port that nothing listens on: these tests must not find the Ollama of whoever runs them.
        clean |= {"OLLAMA_HOST": "http://127.0.0.1:9", **(env or {})}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{log}.log").open("ab") as file:
            return subprocess.Popen(
                [*under, sys.executable, "-m", "agentcom", *arguments],
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                env=clean,
                start_new_session=True,
            )

    def kill(self, process: subprocess.Popen[bytes] | None) -> None:
        """kill -9, and nothing else: no goodbye."""
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """End everything, politely first."""
        processes = [p for p in (*self.sidecars.values(), self.hub) if p is not None and p.poll() is None]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def logs(self) -> str:
        """What all processes have written, for a failing test."""
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-6_000:]}" for file in files)

    # --- the API ------------------------------------------------------------------------------------------------

    def token(self, role: str = "admin") -> str:
        """A token of the first start."""
        return (self.data_dir / f"{role}.token").read_text().strip()

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Any:  # noqa: ANN401 - any JSON
        """One request; the decoded answer.

        Raises:
            Refused: the status is not 2xx.
        """
        request = urllib.request.Request(  # noqa: S310 - always http on loopback
            f"{self.url}{path}", method=method, data=None if body is None else json.dumps(body).encode()
        )
        request.add_header("Authorization", f"Bearer {self.token()}")
        request.add_header("Content-Type", "application/json")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 - loopback
                text = answer.read()
        except urllib.error.HTTPError as exc:
            with exc:
                raise Refused(exc.code, json.loads(exc.read() or b"{}")) from None
        return json.loads(text) if text else None

    def submit(self, **spec: Any) -> str:
        """Submit one task; its id."""
        return str(self.call("POST", "/api/v1/tasks", spec)["id"])

    def submit_all(self, specs: Iterable[dict[str, Any]]) -> list[str]:
        """Submit many tasks in one request; their ids."""
        return [task["id"] for task in self.call("POST", "/api/v1/tasks", {"tasks": list(specs)})["tasks"]]

    def task(self, task: str) -> dict[str, Any]:
        """A task, whole."""
        return dict(self.call("GET", f"/api/v1/tasks/{task}"))

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """All events, or those of one kind."""
        found: list[dict[str, Any]] = []
        after = 0
        while True:
            page = self.call("GET", f"/api/v1/events?after={after}&limit=500", Accept="application/json")["events"]
            if not page:
                return [event for event in found if kind in {"", event["kind"]}]
            found += page
            after = page[-1]["seq"]

    def wait(self, *tasks: str, timeout_s: float = PATIENCE_S) -> list[dict[str, Any]]:
        """Wait until all of these have ended; each whole."""
        deadline = time.monotonic() + timeout_s
        ended = []
        for task in tasks:
            while (view := self.task(task))["state"] not in FINAL:
                if time.monotonic() > deadline:
                    message = f"task {task} is still {view['state']}: {view['reason']}\n{self.logs()}"
                    raise AssertionError(message)
                time.sleep(LOOK_S)
            ended.append(view)
        return ended

    def wait_state(self, task: str, *states: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until a task is in one of these states."""
        deadline = time.monotonic() + timeout_s
        while (view := self.task(task))["state"] not in states:
            assert time.monotonic() < deadline, f"task {task} is {view['state']}, not {states}\n{self.logs()}"
            time.sleep(LOOK_S)
        return view

    def wait_agents(self, *names: str, state: str = "idle", timeout_s: float = PATIENCE_S) -> None:
        """Wait until these agents are in ``state``."""
        deadline = time.monotonic() + timeout_s
        while True:
            agents = {agent["name"]: agent["state"] for agent in self.call("GET", "/api/v1/agents")["agents"]}
            if all(agents.get(name) == state for name in names):
                return
            died = [name for name in names if (p := self.sidecars.get(name)) and p.poll() is not None]
            assert state == "offline" or not died, f"{died} ended\n{self.logs()}"
            assert time.monotonic() < deadline, f"{agents}, not {names} {state}\n{self.logs()}"
            time.sleep(LOOK_S)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:  # noqa: S310 - loopback
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


def work_of(task: str, epoch: int = 0) -> list[psutil.Process]:
    """The live processes of a task, or of one attempt at it, as this machine sees them."""
    wanted = {"AGENTCOM_TASK": task} | ({"AGENTCOM_EPOCH": str(epoch)} if epoch else {})
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if wanted.items() <= process.environ().items() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def until(
    fact: Callable[[], object], what: str, process: subprocess.Popen[bytes] | None = None, timeout_s: float = PATIENCE_S
) -> None:
    """Wait for ``fact()``; fails if the time runs out or ``process`` ends."""
    deadline = time.monotonic() + timeout_s
    while not fact():
        assert process is None or process.poll() is None, f"ended with {process and process.returncode} before: {what}"
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(LOOK_S)


@contextlib.contextmanager
def mesh(folder: Path, *names: str, flags: Iterable[str] = (), **more: Any) -> Iterator[Mesh]:
    """A hub with sidecars of these names, all idle; ``more`` as for :class:`Mesh`."""
    running = Mesh(folder, **more)
    try:
        running.start_hub()
        for name in names:
            running.start_sidecar(name, *flags)
        running.wait_agents(*names)
        yield running
    finally:
        running.stop()


@contextlib.contextmanager
def ollama_process(script: Path, replies: Sequence[dict[str, Any]], sizes_gb: Mapping[str, float]) -> Iterator[str]:
    """The address of an Ollama server in a process of its own, with these models, that answers what it is told.

    Args:
        script: file to keep ``replies`` in.
        replies: see :func:`tests.support.ollama_shapes.read_script`.
        sizes_gb: of the models, by name.
    """
    script.write_text(json.dumps(replies))
    models = [part for name, size in sizes_gb.items() for part in ("--model", f"{name}={size}")]
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.ollama_server", "--script", str(script), *models],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().split()[-1]
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()
