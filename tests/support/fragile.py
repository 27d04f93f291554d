"""A hub that may die at any moment, an agent that does not, and a caller who insists: what crash tests are made of."""

import asyncio
import contextlib
import http.client
import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import websockets

from hub.store.redo import REDO_BYTES
from tests.support.bad_disk import BadDisk, Call
from tests.support.foreign_agent import ForeignAgent, Plain
from tests.support.mesh import FINAL, Mesh, Refused

T = TypeVar("T")
Key = tuple[str, int]
PATIENCE_S: Final = 60.0


class FragileHub(Mesh):
    """A hub whose disk may be bad, and a caller who insists: it starts the hub again and asks again."""

    def __init__(self, folder: Path, store: str = "") -> None:
        super().__init__(folder, lease_s=120.0, heartbeat_s=30.0)
        self.timing += ["--store", store] if store else []
        self.disk = BadDisk(folder / "control", "/hub/hub.sqlite")
        self.deaths: list[int] = []
        self.histories = itertools.count(1)
        self.agent = SteadyAgent(self)

    def _spawn(
        self, log: str, *arguments: str, env: dict[str, str] | None = None, under: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        env = {**(env or {}), **(self.disk.env if log == "hub" else {})}
        return super()._spawn(log, *arguments, env=env, under=under)

    def insist(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer, as a program does that wants its work done."""
        deadline = time.monotonic() + PATIENCE_S
        trouble: Exception | None = None
        while time.monotonic() < deadline:
            try:
                return ask()
            except (OSError, http.client.HTTPException) as exc:
                trouble = exc
            except Refused as exc:
                if exc.status < 500:
                    raise
                trouble = exc
            assert self.hub is not None
            if self.hub.poll() is not None:
                self.deaths.append(self.hub.returncode)
                self.disk.mend()
                self.start_hub()
            time.sleep(0.005)
        message = f"no answer: {trouble}\n{self.logs()}"
        raise AssertionError(message)

    def ask(self, method: str, path: str, body: object = None, key: str = "") -> Any:  # noqa: ANN401 - any JSON
        """:meth:`call`, insisting."""
        headers = {"Idempotency_Key": key} if key else {}
        return self.insist(lambda: self.call(method, f"/api/v1{path}", body, **headers))

    def warm(self) -> None:
        """Send lone tasks until the hub knows that its disk is quick, and notes what they write in its redo journal."""
        self.disk.match = "/hub/hub.sqlite"
        self.disk.mend()
        self.disk.forget()
        deadline = time.monotonic() + PATIENCE_S
        while not any(is_noted(call) for call in self.disk.seen()):
            assert time.monotonic() < deadline, f"its disk is not quick\n{self.logs()}"
            self.ask("POST", "/tasks", LONE)


LONE: Final = {"title": "lone", "executor": "noop", "needs": ["nobody-has-this"]}
"""A task that comes alone, and stays."""


def is_noted(call: Call) -> bool:
    """Whether this is how a short batch gets into the redo journal."""
    return call.kind == "write" and call.path.endswith("hub.sqlite-redo") and call.size_bytes < REDO_BYTES


class SteadyAgent:
    """An agent that outlives every hub: it keeps what it has accepted, and reports it until a hub has the report."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self.acknowledged: list[Key] = []
        self._held: dict[Key, tuple[list[Any], str]] = {}
        self._sent: dict[int, Key] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self._on_one_line()
            except (OSError, websockets.WebSocketException):  # a time-out is one of the first
                await asyncio.sleep(0.01)

    async def _on_one_line(self) -> None:
        inventory = [{"attempt": attempt, "state": state, "iteration": 1} for attempt, state in self._held.values()]
        token = self._mesh.token("agent")
        line = await ForeignAgent.join(self._mesh.url, token, name="Steady", slots=8, inventory=inventory)
        try:
            for verdict in line.welcome.get("verdicts", []):
                if verdict["verdict"] != "keep":
                    self._held.pop(_key(verdict["attempt"]), None)
            self._sent.clear()
            for key in list(self._held):
                await self._tell(line, key)
            while True:
                await self._hear(line, await line.next())
        finally:
            await line.leave()

    async def _hear(self, line: ForeignAgent, message: Plain) -> None:
        if message["t"] == "assign":
            attempt = message["attempt"]
            fails = message["spec"]["title"] == "wayward" and attempt[3] == 1
            self._held[_key(attempt)] = (attempt, "failed" if fails else "passed")
            await self._tell(line, _key(attempt))
        elif message["t"] == "ack":
            for number in [n for n in self._sent if n <= message["n"]]:
                self._held.pop(self._sent[number], None)
                self.acknowledged.append(self._sent.pop(number))
        elif message["t"] == "error" and message.get("attempt"):
            self._held.pop(_key(message["attempt"]), None)
        if message.get("n") and message["t"] != "ack":
            await line.acknowledge()

    async def _tell(self, line: ForeignAgent, key: Key) -> None:
        attempt, state = self._held[key]
        await line.tell("accept", attempt)
        await line.tell("log", attempt, offset=0, stream="stdout", text="so far so good")
        number = await line.report(attempt, state, output="done")
        self._sent[number] = key


def _key(attempt: Sequence[Any]) -> Key:
    return attempt[2], attempt[3]


class History:
    """A little history, insisted upon, and what was acknowledged of it.

    A task that passes and one that waits for it, a batch of two, one that fails and is put back, one that is cancelled.
    """

    def __init__(self, mesh: FragileHub) -> None:
        self._mesh, self._name = mesh, f"history-{next(mesh.histories)}"
        self._acknowledged: dict[str, list[str]] = {}

    def happen(self) -> None:
        """Make it happen, whatever the hub does meanwhile."""
        [first] = self._submit("first", {"title": "first"})
        [lost] = self._submit("lost", {"title": "lost", "needs": ["nobody-has-this"]})
        self._submit("batch", {"title": "one of two"}, {"title": "two of two"})
        self._submit("second", {"title": "second", "depends_on": [first]})
        [wayward] = self._submit("wayward", {"title": "wayward", "max_retries": 0})
        self._do(f"/tasks/{lost}/cancel", {"reason": "nobody will"})
        self._until(wayward, "dead")
        self._do(f"/tasks/{wayward}/retry", None)
        for ids in self._acknowledged.values():
            for task in ids:
                self._until(task, "completed" if task != lost else "cancelled")

    def _submit(self, key: str, *specs: Plain) -> list[str]:
        key = f"{self._name}-{key}"
        tasks = [{"executor": "noop", "labels": {"of": self._name}, **spec} for spec in specs]
        answer = self._mesh.ask("POST", "/tasks", tasks[0] if len(tasks) == 1 else {"tasks": tasks}, key)
        ids = [task["id"] for task in answer.get("tasks", [answer])]
        self._acknowledged[key] = ids
        again = self._mesh.ask("POST", "/tasks", tasks[0] if len(tasks) == 1 else {"tasks": tasks}, key)
        assert [task["id"] for task in again.get("tasks", [again])] == ids, "one key, one set of tasks"
        return ids

    def _do(self, path: str, body: object) -> None:
        try:
            self._mesh.ask("POST", path, body)
        except Refused as exc:
            if exc.status != 409:  # it was done, and the answer was lost
                raise

    def _until(self, task: str, state: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (now := self._mesh.ask("GET", f"/tasks/{task}")["state"]) != state:
            assert time.monotonic() < deadline, f"{task} is {now}, not {state}\n{self._mesh.logs()}"
            assert now not in FINAL or (now, state) == ("dead", "completed"), f"{task} is {now}, not {state}"
            time.sleep(0.005)

    def judge(self) -> None:
        """All of it is there, once."""
        found = self._mesh.ask("GET", f"/tasks?label=of:{self._name}&limit=100")["tasks"]
        ids = sorted(itertools.chain.from_iterable(self._acknowledged.values()))
        assert sorted(task["id"] for task in found) == ids
        for task in found:
            whole = self._mesh.ask("GET", f"/tasks/{task['id']}")
            accepted = [attempt["accepted"] for attempt in whole["attempts"]]
            assert sum(accepted) == (whole["state"] == "completed"), whole
            if whole["title"] == "wayward":
                assert [attempt["state"] for attempt in whole["attempts"]][-1] == "passed"


@contextlib.contextmanager
def fragile_hub(folder: Path, store: str = "") -> Iterator[FragileHub]:
    """A hub that may die at any call, with its agent; ``store`` is the address of a database, if it is no file."""
    hub = FragileHub(folder, store)
    hub.start_hub()
    loop = asyncio.new_event_loop()
    agent = loop.create_task(hub.agent.run())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield hub
    finally:
        loop.call_soon_threadsafe(agent.cancel)
        asyncio.run_coroutine_threadsafe(asyncio.wait({agent}), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        hub.stop()
