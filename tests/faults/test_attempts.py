"""Thousands of attempts in a row, of every ending, and then nothing of them that nobody owns.

``ATTEMPTS`` says how many the long row makes (10,000): ``ATTEMPTS=2000 ./run soak tests/faults/test_attempts.py``. Each
batch of it is one request; in every tenth one the sidecar is killed in the middle. It prints one line with the figures.

Who owns what is left: a dead letter what its attempts had reached (a person may put it back), the owner of the machine
what lies nowhere else (a kept directory, a branch of a cache). All else has to be gone.
"""

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import psutil
import pytest

from sidecar.cgroups import ROOT, groups_of
from tests.support.mesh import FINAL, Mesh, Refused, until
from tests.support.ollama_server import Reply
from tests.support.repositories import Remote, git, make_remote
from tests.support.turns import Turns

ATTEMPTS: Final = int(os.environ.get("ATTEMPTS", "10000"))
SLOTS: Final = 4
KILLS: Final = 10
"""In one of so many batches the sidecar is killed."""
PATIENCE_S: Final = 600.0
"""A soak of hours beside other work is to break for what is left, not for a machine that was slow for a minute."""
_LOOK_S: Final = 0.2
_LET_ON_S: Final = 12.0
SPARE_FDS: Final = 8
"""Connections that come and go."""
WIP: Final = "refs/agentcom/wip/"
STRAYS: Final = frozenset({"6113", "6114", "6115", "6116"})
STAY, PAUSE, CANCEL = "Stay in turn 2", "Wait for the pause", "Sleep until cancelled"


class Model(Turns):
    """Writes one file and finishes; work that is to stay never gets past turn 2, or waits in turn 1 to be paused."""

    def __enter__(self) -> Self:
        self._paused, self._never = asyncio.Event(), asyncio.Event()
        super().__enter__()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.call_soon_threadsafe(self._never.set)
        super().__exit__()

    def _reply(self, body: dict[str, Any]) -> Reply:
        turn = 1 + sum(message["role"] == "tool" for message in body["messages"])
        told = json.dumps(body["messages"])
        calls = (self.call(turn),) if turn == 1 else (("finish", {"summary": "it is written"}),)
        hold = self._never if turn == 2 and STAY in told else self._paused if PAUSE in told else None
        return Reply(text=f"turn {turn}. ", tool_calls=calls, hold=hold)

    def let_on(self, *, on: bool) -> None:
        """Whether work that is to be paused before its answer comes gets its answer."""
        self._loop.call_soon_threadsafe(self._paused.set if on else self._paused.clear)


@dataclass
class World:
    """What runs, and what is known of it."""

    running: Mesh
    model: Model
    flags: list[str]
    repo: Path
    closed: Path
    env: dict[str, str]
    states: dict[str, str] = field(default_factory=dict)
    delivered: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    """Branches that an attempt names; if a sidecar dies as it pushes one, nobody knows whether it has."""
    pids: list[int] = field(default_factory=list)
    """Of its sidecars, one after the other."""

    @property
    def state(self) -> Path:
        return self.running.folder / "state-Host"

    def start(self) -> None:
        before = self._boot()
        self.running.start_sidecar("Host", *self.flags, env=self.env)
        self.pids.append(self.running.sidecars["Host"].pid)
        until(
            lambda: self._boot() > before, "the sidecar is here", timeout_s=PATIENCE_S
        )  # after a kill it has work at once
        until(
            lambda: self.running.call("GET", "/api/v1/models")["models"], "the model is reported", timeout_s=PATIENCE_S
        )

    def _boot(self) -> int:
        """Start of the sidecar that the hub knows; 0: of none."""
        agents = self.running.call("GET", "/api/v1/agents")["agents"]
        return max((agent["boot_epoch"] for agent in agents if agent["state"] != "offline"), default=0)

    def kill(self) -> None:
        self.running.kill(self.running.sidecars["Host"])
        self.start()


def quick(repo: Path) -> list[dict[str, Any]]:
    """Work that delivers, changes nothing, fails, daemonises, runs out of time, and is cut off by its check."""
    tree = {"repo": str(repo), "branch": "main"}
    changed = {"command": "date > made; echo ok", "context": tree}
    left = "setsid sleep 6113 >/dev/null 2>&1 & mkdir -p deep/er; ln -s / deep/er/root; mkfifo pipe; echo left"
    return [
        {"title": "x", "executor": "noop"},
        {"command": "true"},
        changed,
        {"command": "true", "context": tree},
        {"command": "date > made; exit 3", "context": tree},
        {"command": left},
        {"command": "sleep 6114", "budget": {"seconds": 1, "fix_attempts": 0}},
        {**changed, "verification": [{"type": "command_succeeds", "command": "sleep 6115 & false"}]},
    ]


def slow(repo: Path, closed: Path) -> list[dict[str, Any]]:
    """Work that is cancelled, that a model does, that is paused and goes on, and that nobody takes."""
    tree = {"repo": str(repo), "branch": "main"}
    commit = "git -c user.name=me -c user.email=me@example.org commit --allow-empty -qm mine"
    return [
        {"title": CANCEL, "command": f"{commit}; sleep 6116", "context": tree},
        {"prompt": "Write one part", "executor": "agent", "context": tree},
        {"prompt": "Write one part", "executor": "agent"},
        {"title": CANCEL, "prompt": STAY, "executor": "agent", "context": tree},
        {"title": CANCEL, "prompt": STAY, "executor": "agent"},
        {"title": PAUSE, "prompt": PAUSE, "executor": "agent", "context": tree},
        {"command": "date > made", "context": {"repo": str(closed), "branch": "main"}},
    ]


def batches(world: World, count: int) -> Iterator[list[dict[str, Any]]]:
    """So many tasks, one request each: what is slow once, and the rest quick."""
    few, many = slow(world.repo, world.closed), quick(world.repo)
    while count > 0:
        specs = [*few, *many * 4][:count]
        count -= len(specs)
        yield [{"max_retries": 0, **spec, "budget": {"fix_attempts": 0, **spec.get("budget", {})}} for spec in specs]


def run(world: World, specs: list[dict[str, Any]], *, dies: bool = False) -> None:
    """Have a batch done: pause and cancel what is there for it, and perhaps kill the sidecar in the middle."""
    running = world.running
    world.model.let_on(on=False)
    tasks = dict(zip(running.submit_all(specs), specs, strict=True))
    stay = [task for task, spec in tasks.items() if spec.get("prompt") == STAY]
    while stay:
        task = _one_that_has_begun(world, stay)
        stay.remove(task)
        if dies:
            world.kill()
            dies = False
        _ask(running, task, "cancel")
    for task in [task for task, spec in tasks.items() if spec.get("title") == CANCEL and "prompt" not in spec]:
        running.wait_state(task, "running", *FINAL, timeout_s=PATIENCE_S)
        _ask(running, task, "cancel")
    for task in [task for task, spec in tasks.items() if spec.get("title") == PAUSE]:
        running.wait_state(task, "running", *FINAL, timeout_s=PATIENCE_S)
        _ask(running, task, "pause")
        world.model.let_on(on=True)
        running.wait_state(task, "waiting", *FINAL, timeout_s=PATIENCE_S)
        _ask(running, task, "resume")
    for view in running.wait(*tasks, timeout_s=PATIENCE_S):
        world.states[view["id"]] = view["state"]
        results = [attempt["result"] for attempt in view["attempts"] if attempt["result"]]
        world.named |= {result["branch"] for result in results}
        world.delivered |= {result["branch"] for result in results if result["pushed"]}


def _ask(running: Mesh, task: str, what: str) -> None:
    try:
        running.call("POST", f"/api/v1/tasks/{task}/{what}", {} if what != "resume" else None)
    except Refused as refused:
        if refused.status != 409:  # it has ended, by the death of its sidecar or by itself
            raise


def _one_that_has_begun(world: World, tasks: list[str]) -> str:
    """One of these of which a turn is kept; a server may be given so few turns that the others have to wait for it."""
    for look in range(int(PATIENCE_S / _LOOK_S)):
        if found := [task for task in tasks if _has_begun(world.running, task)]:
            return found[0]
        if look == int(_LET_ON_S / _LOOK_S):
            world.model.let_on(on=True)  # the only turn is held by what is to be paused: that one is let go
        time.sleep(_LOOK_S)  # the hub is another process: its facts are asked for, not heard
    raise AssertionError("no turn is kept")


def _has_begun(running: Mesh, task: str) -> bool:
    view = running.task(task)
    return view["state"] in FINAL or (view["progress"] is not None and view["progress"]["turn"] == 1)


# --- what is left -----------------------------------------------------------------------------------------------------


def below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def processes(running: Mesh) -> list[list[str]]:
    """What the sidecar has started and is still there."""
    return [each.cmdline() for each in psutil.Process(running.sidecars["Host"].pid).children(recursive=True)]


def strays() -> list[int]:
    """Processes of the work, wherever they are."""
    found = psutil.process_iter(["cmdline"])
    return [each.pid for each in found if (each.info["cmdline"] or [""])[-1] in STRAYS]


def groups(world: World) -> list[str]:
    """Control groups of attempts, also of the sidecars that were killed."""
    folders = groups_of(Path(f"/proc/{world.pids[-1]}/cgroup"), ROOT).values()
    return [path.name for folder in folders for pid in world.pids for path in folder.glob(f"agentcom-{pid}-[0-9]*")]


def descriptors(running: Mesh) -> tuple[int, int]:
    assert running.hub is not None
    return (psutil.Process(running.sidecars["Host"].pid).num_fds(), psutil.Process(running.hub.pid).num_fds())


def refs(repository: Path) -> dict[str, str]:
    """All refs with their commits."""
    listed = git(repository, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.split(" ") for line in listed)


def rows(database: Path, query: str) -> list[Any]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


def for_machines(world: World) -> set[str]:
    """Tasks of whose work in progress the hub keeps something."""
    query = "SELECT DISTINCT task FROM artifacts WHERE path LIKE '.agentcom/%'"
    return {task for (task,) in rows(world.running.data_dir / "hub.sqlite", query)}


def in_progress(world: World, repository: Path) -> set[str]:
    """Tasks whose work in progress lies in a repository."""
    return {ref.removeprefix(WIP).partition("-e")[0] for ref in refs(repository) if ref.startswith(WIP)}


def _nobody_owns_what_is_on_disk(world: World) -> None:
    state = world.state
    here = {name: below(state / name) for name in ("work", "alone", "scratch", "tails")}
    assert here["scratch"] == here["tails"] == [], here
    kept = {name.removesuffix(".kept") for name in here["work"] if name.endswith(".kept")}
    others = {name.partition(".")[0] for name in (*here["work"], *here["alone"])} - kept
    assert others == set(), "what is left is kept on purpose: work that lies nowhere else, for a week"
    assert below(Path(world.env["TMPDIR"])) == []
    assert rows(state / "journal.db", "SELECT task, epoch, state FROM attempts") == []
    known = {*refs(world.repo).values(), *refs(world.closed).values()}
    for cache in state.glob("cache/*.git"):
        assert len(git(cache, "worktree", "list").splitlines()) == 1  # the repository itself
        own = {ref: at for ref, at in refs(cache).items() if not ref.startswith(("refs/remotes/", "refs/tags/"))}
        spare = {ref for ref, at in own.items() if at in known and ref != "refs/agentcom/head"}
        assert spare == set(), "branches of a cache hold what is nowhere else"
        assert [ref for ref in own if ref.startswith(WIP)] == []


def _nobody_owns_what_is_at_the_hub(world: World, dead: set[str]) -> None:
    folder = world.running.data_dir / "artifacts"
    assert below(folder / "incoming") == []
    named = {digest for (digest,) in rows(world.running.data_dir / "hub.sqlite", "SELECT sha256 FROM artifacts")}
    assert {path.name for path in folder.glob("blobs/*/*")} == named
    assert for_machines(world) <= dead


def nothing_is_left(folder: Path, count: int, *, kills: int) -> None:
    repo, closed = make_remote(folder, {"README": "hello\n"}), make_remote(folder, {"README": "hello\n"}, "closed")
    _refuse(closed)
    (folder / "tmp").mkdir()
    running = Mesh(folder / "mesh", lease_s=30.0)
    with Model() as model:
        try:
            running.start_hub()
            flags = ["--slots", str(SLOTS), "--config", model.config(folder / "sidecar.toml")]
            world = World(running, model, flags, repo.path, closed.path, {"TMPDIR": str(folder / "tmp")})
            world.start()
            _many(world, count, kills)
        finally:
            running.stop()


def _refuse(remote: Remote) -> None:
    """Have a remote that takes nothing."""
    git(remote.path, "config", "receive.denyCurrentBranch", "refuse")
    git(remote.path, "config", "transfer.hideRefs", "refs/heads/agentcom")


def _many(world: World, count: int, kills: int) -> None:
    running = world.running
    run(world, [spec for batch in batches(world, 15) for spec in batch])  # what is made once and kept
    idle, fds = processes(running), descriptors(running)
    for number, batch in enumerate(batches(world, count)):
        run(world, batch, dies=number % KILLS == kills)
    dead = {task for task, state in world.states.items() if state == "dead"}
    until(
        lambda: len(processes(running)) == len(idle), "only the helpers of the sidecar are left", timeout_s=PATIENCE_S
    )
    until(lambda: not groups(world), "no control group is left", timeout_s=PATIENCE_S)
    until(lambda: for_machines(world) <= dead, "the hub has forgotten work in progress", timeout_s=PATIENCE_S)
    until(lambda: in_progress(world, world.repo) <= dead, "so has the repository", timeout_s=PATIENCE_S)
    after = descriptors(running)
    on_purpose = len(list((world.state / "work").glob("*.kept")))
    print(
        f"\n{len(world.states)} attempts, {len(world.pids) - 1} deaths; descriptors {fds} -> {after}; {on_purpose} kept"
    )
    assert set(world.states.values()) <= {"completed", "dead", "failed", "cancelled"}
    assert strays() == []
    assert after[0] <= fds[0] + SPARE_FDS
    assert after[1] <= fds[1] + SPARE_FDS
    there = {ref for ref in refs(world.repo) if not ref.startswith(WIP)}
    delivered, named = (
        {"refs/heads/main", *(f"refs/heads/{b}" for b in found)} for found in (world.delivered, world.named)
    )
    assert delivered <= there <= named
    assert set(refs(world.closed)) == {"refs/heads/main"}
    _nobody_owns_what_is_on_disk(world)
    _nobody_owns_what_is_at_the_hub(world, dead)


@pytest.mark.timeout(900)  # a busy machine takes long for 30 attempts of which half use git
def test_t49_many_attempts_leave_nothing_that_nobody_owns(tmp_path: Path) -> None:
    """No process, control group, descriptor, worktree, scratch file, branch or work in progress, however it ends."""
    nothing_is_left(tmp_path, 15, kills=0)  # the first batch of so many


@pytest.mark.soak
@pytest.mark.timeout(12 * 3600)
def test_t49_soak_ten_thousand_attempts_leave_nothing_that_nobody_owns(tmp_path: Path) -> None:
    """As above, ten thousand or as many as ``ATTEMPTS`` says."""
    nothing_is_left(tmp_path, ATTEMPTS, kills=KILLS - 1)
