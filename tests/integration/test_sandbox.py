"""What a program of work can reach, and what it cannot, tried by real programs on this kernel."""

import asyncio
import errno
import json
import os
import platform
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from protocol.model import AttemptId
from sidecar.cache import make_empty
from sidecar.environment import minimal_env
from sidecar.errors import CannotStart, SandboxFailed
from sidecar.process import Processes, cookie
from sidecar.sandbox.cell import Cell, Level, Sandbox
from sidecar.sandbox.policy import Place, Rules
from sidecar.workplace import Workspace
from tests.support.escapes import EVERYWHERE, ISOLATED, program
from tests.support.ipc import Shared, shared_objects
from tests.support.levels import LEVELS, missing, need

ATTEMPT = AttemptId("box", 1, "01jd0000000000000000000000", 1)
CellAt = Callable[[Path, Rules], Awaitable[Cell]]


@dataclass
class Outside:
    """What lies outside, and listens."""

    folder: Path
    bystander: subprocess.Popen[bytes]
    tcp: socket.socket
    udp: socket.socket
    abstract: str
    shared: Shared

    @property
    def told(self) -> dict[str, str]:
        return {
            "OUTSIDE": str(self.folder),
            "PID": str(self.bystander.pid),
            "TCP": str(self.tcp.getsockname()[1]),
            "UDP": str(self.udp.getsockname()[1]),
            "ABSTRACT": self.abstract,
            "MEMORY": str(self.shared.memory),
            "SEMAPHORE": str(self.shared.semaphore),
            "QUEUE": str(self.shared.queue),
            "NAMED": self.shared.named,
            "USERS": str(next((path for path in Path.home().iterdir() if path.is_file()), "/nowhere")),
        }

    def heard(self) -> bytes:
        try:
            return self.udp.recv(100)
        except BlockingIOError:
            return b""


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").write_text("CANARY")
    name = f"agentcom-{uuid.uuid4()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as door,
        subprocess.Popen(
            ["sleep", "600"], cwd=folder, env={"SECRET": "CANARY", "PATH": os.environ["PATH"]}
        ) as bystander,
    ):
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        abstract.bind(f"\0{name}")
        abstract.listen()
        door.bind(str(folder / "door"))
        door.listen()
        with shared_objects() as shared:
            yield Outside(folder, bystander, tcp, udp, name, shared)
        bystander.kill()


OPEN: list[Sandbox] = []


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """Every attempt is over at the end of its test."""
    yield
    while OPEN:
        await OPEN.pop().close(ATTEMPT)


async def made(folder: Path, level: Level, rules: Rules | None = None, *, read: tuple[Path, ...] = ()) -> Cell:
    """A cell whose sidecar's state is in ``folder``; the test is skipped where there is no such layer."""
    if level is not Level.UNSAFE:
        need(level)
    processes = Processes(base_env=minimal_env(os.environ, home=folder / "nobody"), drain_s=0.2, grace_s=0.5)
    sandbox = Sandbox(processes, folder, rules or Rules())
    assert await sandbox.find(level) is level, sandbox.why
    OPEN.append(sandbox)
    opened = Workspace(folder / "work", "", "branch", False, ATTEMPT, repository(folder), "", claim=-1)
    make_empty(opened.path, opened.git_dir, opened.branch)
    return sandbox.cell(ATTEMPT, replace(opened.place(folder / "scratch" / "one"), read=read))


def repository(state: Path) -> Path:
    """That of the attempt."""
    return state / "alone.git"


NOT_BY_LANDLOCK = {
    *("repoint its repository", "plant a hook", "plant another folder of hooks", "configure its repository"),
    *("configure it for its worktree", "give its files attributes", "find objects elsewhere"),
    "write the shared memory of the host",
    *("change the mode of a file of the host", "change the times of a file of the host"),
}
"""Landlock knows no exception inside what may be written, its refusals need no file of their own to be seen, and it
does not judge attributes of files: the page about the sandbox says so."""


@pytest.fixture(params=LEVELS)
async def cell_at(request: pytest.FixtureRequest) -> CellAt:
    """Makes cells of each layer that this machine has."""
    return lambda folder, rules: made(folder, request.param, rules)


@pytest.fixture
async def cell(cell_at: CellAt, tmp_path: Path) -> Cell:
    return await cell_at(tmp_path, Rules())


@pytest.fixture(params=["file", "interpreter"])
def started(request: pytest.FixtureRequest, cell: Cell) -> Cell:
    """A cell whose programs are started in each of the two ways."""
    OPEN[-1].starts_bare &= request.param == "file"
    return cell


async def test_there_is_no_way_out(started: Cell, outside: Outside) -> None:
    cell = started
    isolated = cell.level is Level.BUBBLEWRAP
    ways = {*EVERYWHERE, *ISOLATED} if isolated else {*EVERYWHERE} - NOT_BY_LANDLOCK
    state = cell.workspace.parent
    (state / "agent.token").write_text("CANARY")
    own = {"STATE": str(state), "REPOSITORY": str(repository(state))}
    outcome = await cell.run(program(sorted(ways)), env={**outside.told, **own}, timeout_s=60)
    codes = json.loads(outcome.output.splitlines()[-1])

    assert {way for way, code in codes.items() if code == 0} == set()
    assert {way: code for way, code in codes.items() if code != 1} == {}, outcome.output
    assert set(codes) == ways
    assert outside.heard() == b""
    assert sorted(path.name for path in outside.folder.iterdir()) == ["door", "secret"]
    assert not Path("/dev/shm/agentcom-was-here").exists()


LOADED = """
#include <fcntl.h>
#include <stdlib.h>
__attribute__((constructor)) static void loaded(void) { open(getenv("WRITTEN"), O_CREAT | O_WRONLY, 0600); }
"""
"""Code that runs in whatever process loads it, before that process does anything."""


async def test_what_confines_a_program_obeys_none_of_its_variables(cell: Cell, outside: Outside) -> None:
    workspace = cell.workspace
    (workspace / "loaded.c").write_text(LOADED)
    made = await cell.run("cc -shared -fPIC -o loaded.so loaded.c", timeout_s=60)
    for name in ("bwrap", "python3", Path(sys.executable).resolve().name):
        (workspace / name).write_text('#!/bin/sh\n: >"$WRITTEN"\n')
        (workspace / name).chmod(0o755)
    chosen = {
        "WRITTEN": str(outside.folder / "written"),
        "PATH": f"{workspace}::{os.environ['PATH']}",
        **dict.fromkeys(("LD_PRELOAD", "LD_AUDIT"), str(workspace / "loaded.so")),
    }
    for names in (("PATH",), ("LD_PRELOAD",), ("LD_AUDIT",)):
        outcome = await cell.run(["/bin/sh", "-c", "exit 7"], env={name: chosen[name] for name in ("WRITTEN", *names)})
        assert outcome.exit_code == 7, outcome.output

    assert made.exit_code == 0, made.output
    assert sorted(path.name for path in outside.folder.iterdir()) == ["door", "secret"]


async def test_a_program_gets_the_variables_that_are_given_to_it(started: Cell) -> None:
    cell = started
    told = 'echo "$PATH $HOME $SAID" && echo "$AGENTCOM_ATTEMPT"'
    given = {"PATH": "/usr/bin:/bin", "HOME": "/at home", "SAID": "grüße \udcff", "AGENTCOM_ATTEMPT": "another"}
    said = (await cell.run(told, env=given)).output

    assert said == f"/usr/bin:/bin /at home grüße \ufffd\n{cookie(ATTEMPT)}\n"
    for name, value in (("A", "\0"), ("A", "\ud800"), ("", "a"), ("A=B", "a")):
        with pytest.raises(CannotStart):
            await cell.run("touch ran", env={name: value})
    for word in ("a\0b", "a\ud800"):
        with pytest.raises(CannotStart):
            await cell.run(["touch", "ran", word])
    assert not (cell.workspace / "ran").exists()


async def test_bubblewrap_is_never_taken_from_where_work_writes(tmp_path: Path) -> None:
    need(Level.BUBBLEWRAP)
    work = tmp_path / "work"
    work.mkdir()
    (work / "bwrap").write_text("#!/bin/sh\ntouch ran\n")
    (work / "bwrap").chmod(0o755)
    processes = Processes(base_env=minimal_env({"PATH": f":.:{os.environ['PATH']}"}, home=tmp_path))
    cell = Sandbox(processes, tmp_path, Rules(), Level.BUBBLEWRAP).cell(ATTEMPT, Place(work, tmp_path / "scratch"))

    assert (await cell.run(["/bin/sh", "-c", "exit 7"])).exit_code == 7
    assert not (work / "ran").exists()


async def test_without_a_sandbox_most_of_them_are_ways_out(tmp_path: Path, outside: Outside) -> None:
    cell = await made(tmp_path, Level.UNSAFE)
    harmless = [way for way in EVERYWHERE if way.startswith(("read ", "list ", "connect ", "send ", "find "))]
    outcome = await cell.run(program(harmless), env=outside.told, timeout_s=60)
    codes = json.loads(outcome.output.splitlines()[-1])

    assert sum(code == 0 for code in codes.values()) >= 6, "the corpus itself works"
    assert codes["read a secret of the host"] == codes["connect to the host by TCP"] == 0
    outside.heard()


async def test_calls_of_another_table_are_the_end(cell: Cell) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("only this machine has other tables")
    source = 'int main(void) { long r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(20)); return r > 0 ? 0 : 1; }'
    outcome = await cell.run(f"echo '{source}' > t.c && cc -o t t.c && ./t", timeout_s=60)

    assert outcome.exit_code in {-31, 159}, outcome.output


async def test_what_work_needs_is_there(cell: Cell) -> None:
    script = """
        set -e
        echo a > "$TMPDIR/a"; echo b > "$HOME/b"; mkdir -p sub/dir; echo c > sub/dir/c
        test "$(cat "$TMPDIR/a" "$HOME/b" sub/dir/c | tr -d '\\n')" = abc
        echo 'int main(void) { return 0; }' > main.c; cc -o main main.c; ./main
        git init -q repo; cd repo; echo x > x; git add x; git commit -qm x; git log --oneline | grep -q x; cd ..
        python3 -c 'import multiprocessing as m, threading; p = m.Process(target=print); p.start(); p.join()'
        python3 -c 'import sqlite3; sqlite3.connect("db").execute("create table t(x)")'
        seq 1000 | sort -R | sort -n | tail -1 | grep -q 1000
        test -w /dev/null; head -c 8 /dev/urandom | wc -c | grep -q 8
        sh -c 'kill -TERM $$' || true; sleep 0.01 & wait
        echo fine
    """
    outcome = await cell.run(script, timeout_s=60)

    assert outcome.output.splitlines()[-1:] == ["fine"], outcome.output
    assert outcome.exit_code == 0


async def test_a_program_may_serve_itself(tmp_path: Path) -> None:
    cell = await made(tmp_path, Level.BUBBLEWRAP)
    script = (
        "python3 -m http.server -b 127.0.0.1 8765 2>/dev/null & for i in $(seq 100); do "
        "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8765\").status)' 2>/dev/null "
        "&& break; sleep 0.1; done"
    )

    assert (await cell.run(script, timeout_s=60)).output == "200\n"


async def test_the_owner_of_the_host_can_open_directories_and_the_network(
    tmp_path: Path, outside: Outside, cell_at: CellAt
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (state := tmp_path / "state").mkdir()
    cell = await cell_at(state, Rules(read=(outside.folder,), write=(shared,), network=True))
    outcome = await cell.run(
        f"cat {outside.folder}/secret && echo {cell.level} >> {shared}/said && touch {outside.folder}/x"
    )
    codes = json.loads((await cell.run(program(["connect to the host by TCP"]), env=outside.told)).output)

    assert outcome.exit_code != 0
    assert outcome.output.startswith("CANARY")
    assert codes == {"connect to the host by TCP": 0}
    assert (shared / "said").read_text().split() == [cell.level]


@pytest.mark.parametrize("opened", ["read", "write", "link"])
async def test_an_open_directory_does_not_open_the_state_of_the_sidecar_in_it(
    tmp_path: Path, cell_at: CellAt, opened: str
) -> None:
    state = tmp_path / "open" / "state"
    state.mkdir(parents=True)
    (state / "journal.db").write_text("CANARY")
    (tmp_path / "link").symlink_to(state)
    folder = (tmp_path / "open",)
    rules = Rules(write=folder) if opened == "write" else Rules(read=folder)
    cell = await cell_at(tmp_path / "link" if opened == "link" else state, rules)
    outcome = await cell.run(f"cat {state}/journal.db; echo taken > {state}/journal.db")

    assert outcome.exit_code != 0 or cell.level is Level.BUBBLEWRAP  # there it has written into what is not the state
    assert "CANARY" not in outcome.output
    assert (state / "journal.db").read_text() == "CANARY"
    assert (await cell.run("echo still > here && cat here")).output == "still\n"


@pytest.mark.parametrize("level", LEVELS)
async def test_git_finds_the_objects_of_its_base_though_an_open_directory_holds_the_state(
    tmp_path: Path, level: Level
) -> None:
    state = tmp_path / "open" / "state"
    objects = state / "cache" / "one.git" / "objects"
    objects.mkdir(parents=True)
    (objects / "pack").write_text("of the base")
    (state / "journal.db").write_text("CANARY")
    cell = await made(state, level, Rules(read=(tmp_path / "open",)), read=(objects,))
    outcome = await cell.run(f"cat {objects}/pack {state}/journal.db; echo x >{objects}/y")

    assert outcome.output.startswith("of the base")
    assert "CANARY" not in outcome.output
    assert not (objects / "y").exists()


async def gone(command: list[str]) -> None:
    while any(each.info["cmdline"] == command for each in psutil.process_iter(["cmdline"])):  # noqa: ASYNC110 - not ours
        await asyncio.sleep(0.01)


async def test_nothing_outlives_its_program_in_a_namespace(tmp_path: Path) -> None:
    cell = await made(tmp_path, Level.BUBBLEWRAP)
    outcome = await cell.run("setsid env -i sleep 611 >/dev/null 2>&1 & echo up")

    assert outcome.output == "up\n"
    await asyncio.wait_for(gone(["sleep", "611"]), 30)  # the kernel ends them with the first of them, a moment later


async def test_a_program_gets_time_to_end_in_order(cell: Cell) -> None:
    running = asyncio.create_task(
        cell.run(
            "trap 'echo bye > said; exit' TERM; echo up; while :; do sleep 0.05; done", on_output=lambda *_: up.set()
        )
    )
    up = asyncio.Event()
    await asyncio.wait_for(up.wait(), 30)
    running.cancel()
    await asyncio.wait({running})

    assert (cell.workspace / "said").read_text() == "bye\n"


@pytest.mark.parametrize(
    "command, code, said",
    [
        (["no-such-program"], 127, "no-such-program: command not found"),
        (["/etc/passwd"], 126, "/etc/passwd: cannot be executed"),
        ("exit 41", 41, ""),
        ("echo text; false", 1, "text"),
    ],
)
async def test_a_confined_program_ends_as_it_would_without(
    started: Cell, command: list[str], code: int, said: str
) -> None:
    cell = started
    outcome = await cell.run(command)

    assert outcome.exit_code == code
    assert outcome.output.startswith(said)


async def test_what_cannot_be_confined_is_not_run(tmp_path: Path) -> None:
    processes = Processes(base_env=minimal_env({"PATH": "/nowhere"}, home=tmp_path))
    sandbox = Sandbox(processes, tmp_path, Rules(), Level.BUBBLEWRAP)
    place = Place(tmp_path / "work", tmp_path / "scratch")
    place.workspace.mkdir()
    with pytest.raises(SandboxFailed, match="bwrap: command not found"):
        await sandbox.cell(ATTEMPT, place).run("touch ran")

    assert not (place.workspace / "ran").exists()
    assert await sandbox.find("bubblewrap") is Level.NONE
    with pytest.raises(SandboxFailed, match="bubblewrap: bwrap: command not found"):
        await sandbox.cell(ATTEMPT, place).run("touch ran")
    assert not (place.workspace / "ran").exists()


@pytest.mark.parametrize("refused", [errno.EACCES, errno.ENOSYS])
async def test_where_files_in_memory_are_refused_programs_are_confined_by_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    # What a kernel does under vm.memfd_noexec=2; a test cannot set that for the whole machine.
    def kernel(_name: str, _flags: int) -> int:
        raise OSError(refused, os.strerror(refused))

    monkeypatch.setattr(os, "memfd_create", kernel)
    level = next(level for level in LEVELS if not missing(level))
    cell = await made(tmp_path, level)

    assert not OPEN[-1].starts_bare
    assert (await cell.run("grep NoNewPrivs /proc/self/status")).output == "NoNewPrivs:\t1\n"


def test_this_machine_has_a_layer_that_the_tests_above_are_about() -> None:
    """Each says which layer it leaves out; if all were left out, nothing would be known."""
    assert sys.platform == "linux"
    assert any(not missing(level) for level in LEVELS), {level: missing(level) for level in LEVELS}
