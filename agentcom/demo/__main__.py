"""Run the demo: see the package."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agentcom.client import Client
from agentcom.demo import inputs, show
from agentcom.demo.model import Model, find
from agentcom.local_model import NoLocalModel
from protocol.api import TaskView
from protocol.endpoint_views import EndpointBody
from protocol.errors import AgentComError
from protocol.model import EndpointKind

READY_S: Final = 60.0
TASK_S: Final = 900.0
LOOK_S: Final = 0.05
SIDECARS: Final = 2


class DemoFailed(RuntimeError):
    """The demo could not be shown."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The demo; exit status 0 only if every task ended as it should."""
    parser = argparse.ArgumentParser(prog="./run demo", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="stop when the tasks are done (as without a terminal)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with data, logs and repositories")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="agentcom-demo-"))
    try:
        return _demo(folder, stay=sys.stdout.isatty() and not options.exit)
    except KeyboardInterrupt:
        print("\nstopped")
        return 130
    except (DemoFailed, AgentComError, NoLocalModel) as exc:
        print(f"the demo could not go on: {exc}\nlogs: {folder}", file=sys.stderr)
        options.keep = True
        return 1
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


def _demo(folder: Path, *, stay: bool) -> int:
    print("AgentCom demo: a hub, two sidecars, real tasks. Nothing is prepared.\n")
    model = find(os.environ, folder)
    mesh: subprocess.Popen[bytes] | None = None
    try:
        print(f"model      {model.says}")
        mesh = _start(folder)
        hub = _wait_for_hub(mesh, folder)
        token = (folder / "hub" / "admin.token").read_text(encoding="utf-8").strip()
        with Client(hub, token) as client:
            _introduce(client, model, mesh, folder)
            is_good = _show_all(client, folder, model)
            link = hub + client.session_ticket().path
            how = f"Ctrl-C, or: kill {os.getpid()}" if stay else "it stops by itself now (without --exit it stays up)"
            print(f"\nlive page  {link}\nstop       {how}", flush=True)
            if stay:
                _stay(mesh)
        return 0 if is_good else 1
    finally:
        if mesh is not None:
            _end(mesh)
        model.stop()


def _stay(mesh: "subprocess.Popen[bytes]") -> None:
    try:
        mesh.wait()
    except KeyboardInterrupt:
        print("\nstopping")


def _start(folder: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "agentcom", "up", "--data-dir", str(folder / "hub"), "--port", "0"]
    with (folder / "mesh.log").open("wb") as log:
        return subprocess.Popen(
            [*command, "--sidecars", str(SIDECARS), "--no-open"],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us: we end the mesh in order
        )


def _end(mesh: "subprocess.Popen[bytes]") -> None:
    mesh.terminate()
    try:
        mesh.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(mesh.pid, signal.SIGKILL)
        mesh.wait()


def _wait_for_hub(mesh: "subprocess.Popen[bytes]", folder: Path) -> str:
    announced = folder / "hub" / "hub.json"
    deadline = time.monotonic() + READY_S
    while not announced.exists():
        _check(mesh, folder, deadline, "the hub did not start")
        time.sleep(LOOK_S)
    return str(json.loads(announced.read_text(encoding="utf-8"))["url"])


def _check(mesh: "subprocess.Popen[bytes]", folder: Path, deadline: float, what: str) -> None:
    if mesh.poll() is not None or time.monotonic() > deadline:
        tail = (folder / "mesh.log").read_text(encoding="utf-8", errors="replace")[-2_000:]
        message = f"{what}\n{tail}"
        raise DemoFailed(message)


def _introduce(client: Client, model: Model, mesh: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + READY_S
    while len(ready := [a for a in client.agents().agents if a.state.value == "idle"]) < SIDECARS:
        _check(mesh, folder, deadline, "the sidecars did not come up")
        time.sleep(LOOK_S)
    print(f"hub        {client.url}, every acknowledged task synced to disk")
    for agent in ready:
        print(f"sidecar    {agent.name} on {agent.host}, {agent.slots} slot{'s' if agent.slots > 1 else ''}")
    if model.address:
        client.add_endpoint(EndpointBody(kind=EndpointKind.OPENAI, url=model.address, id="demo-model", local=True))


def _show_all(client: Client, folder: Path, model: Model) -> bool:
    is_good = True
    for number, job in enumerate(inputs.jobs(folder, with_agent=model.is_able), 1):
        print(f"\n{number}. {job.title}")
        with _Waiting():
            view = client.wait(client.submit(job.spec).id, timeout_s=TASK_S)
        for line in show.story(view, list(client.events(task=view.id))):
            print(line)
        if not _is_as_it_should_be(view, job):
            is_good = False
            print(f"    this is NOT how it should have ended; logs: {folder}")
        sys.stdout.flush()
    good, bad = (
        "All tasks ended as they should: completed, and verified by their checks.",
        "Not all did.",
    )
    print(f"\n{good if is_good else bad}")
    return is_good


def _is_as_it_should_be(view: TaskView, job: inputs.Job) -> bool:
    rounds = len(view.iterations)
    return view.state.value == "completed" and view.verified is True and job.iterations in {None, rounds}


class _Waiting:
    """Dots on a terminal, so that a slow model does not look like a dead one."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._dots, daemon=True)

    def _dots(self) -> None:
        while not self._done.wait(1.0):
            print(".", end="", flush=True)
        print("\r", end="", flush=True)

    def __enter__(self) -> None:
        if sys.stdout.isatty():
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()


if __name__ == "__main__":
    sys.exit(main())
