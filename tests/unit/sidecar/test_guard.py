import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar import guard
from sidecar.guard import Guard, Seen, Watch, attempt_mark, find, run_mark, tag, tagging, tags_of

ROOT = Path(__file__).parents[3]
FOREVER = ["sleep", "600"]


def until(fact: Callable[[], object], limit_s: float = 90) -> None:
    end = time.monotonic() + limit_s
    while not fact():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)  # looking at all processes without a pause takes the core that those need who are to act


def start(env: dict[str, str], argv: list[str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv or FOREVER, env={"PATH": os.environ["PATH"]} | env, start_new_session=True)


@pytest.fixture
def helper() -> Iterator[Guard]:
    made = Guard()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def marked(helper: Guard) -> Iterator[subprocess.Popen[bytes]]:
    child = start({"AGENTCOM_RUN": f"{helper.mark}.1", "AGENTCOM_ATTEMPT": "ship/1/t/1"})
    yield child
    child.kill()
    child.wait()


def test_a_process_is_found_by_all_its_marks_together(helper: Guard, marked: subprocess.Popen[bytes]) -> None:
    ours, every = run_mark(f"{helper.mark}.1"), run_mark(f"{helper.mark}.")
    until(lambda: find(sessions=(), marks=(ours,)))

    assert find(sessions=(), marks=(every,)) == [marked.pid]
    assert find(sessions=(), marks=(every, attempt_mark("ship/1/t/1"))) == [marked.pid]
    assert find(sessions=(), marks=(every, attempt_mark("ship/1/t/2"))) == []
    assert find(sessions=(), marks=(run_mark(f"{helper.mark}.11"),)) == []
    assert find(sessions=(), marks=(run_mark(helper.mark[:4] + "."),)) == []
    assert find(sessions=(), marks=(every,), spare=(marked.pid,)) == []
    assert find(sessions=(), marks=()) == []


def test_a_process_is_found_by_its_session_and_by_its_ancestors(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"setsid sh -c 'sleep 600 & echo $$ $! >{pids}; wait' & wait"
    child = start({}, ["sh", "-c", script])
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    inner = sorted(map(int, pids.read_text().split()))

    found = find(sessions={child.pid}, marks=())
    assert set(inner) < set(found)
    assert child.pid in found
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    child.wait()


def test_the_dead_and_ourselves_are_never_found(monkeypatch: pytest.MonkeyPatch) -> None:
    child = start({}, ["true"])
    until(lambda: (found := guard.status(child.pid)) and found[0] == "Z")

    assert find(sessions={child.pid, os.getsid(0)}, marks=(), spare=(os.getppid(),)).count(child.pid) == 0
    assert os.getpid() not in find(sessions={os.getsid(0)}, marks=())
    child.wait()
    assert guard.status(child.pid) is None
    assert not guard.send(child.pid, signal.SIGTERM)


def test_a_process_whose_name_looks_like_its_status_is_read_right(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to("/bin/sleep")
    child = start({}, [str(odd), "600"])
    until(lambda: Path(f"/proc/{child.pid}/comm").read_text().startswith("a)"))

    found = guard.status(child.pid)
    assert found is not None
    assert found[1][:3] == (child.pid, os.getpid(), child.pid)
    child.kill()
    child.wait()


def test_systems_without_proc_are_searched_through_psutil(marked: subprocess.Popen[bytes], helper: Guard) -> None:
    until(lambda: find(sessions=(), marks=(run_mark(f"{helper.mark}."),)))
    seen = {entry.pid: entry for entry in guard._processes_of_psutil()}
    block = b"\0" + guard._environment_of_psutil(marked.pid) + b"\0"

    assert isinstance(seen[marked.pid], Seen)
    assert seen[marked.pid][1:3] == (os.getpid(), marked.pid)
    assert run_mark(f"{helper.mark}.") in block
    assert guard._environment_of_psutil(2**22 + 1) == b""


def test_an_orderly_stop_kills_nothing(marked: subprocess.Popen[bytes]) -> None:
    other = Guard()
    other.start()
    other.watch(marked.pid)
    other.stop()

    assert marked.poll() is None
    assert other.pid is None
    other.stop()  # once more is no harm


def test_the_helper_ignores_a_service_stop(helper: Guard) -> None:
    pid = helper.pid
    assert pid is not None
    until(lambda: _ignores(pid, signal.SIGHUP))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
    helper.watch(1 << 22)

    assert helper.pid == pid


def test_a_helper_that_was_killed_is_replaced(helper: Guard) -> None:
    pid = helper.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: (found := guard.status(pid)) and found[0] == "Z")
    helper.watch(1 << 22)

    assert helper.pid not in {None, pid}


def test_a_stopped_helper_holds_nobody_up_and_never_wakes(helper: Guard, marked: subprocess.Popen[bytes]) -> None:
    pid = helper.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    until(lambda: (found := guard.status(pid)) and found[0] == "T")
    while helper.pid == pid:
        helper.watch(marked.pid)  # until the pipe is full

    assert guard.status(pid) is None
    assert marked.poll() is None
    replaced = helper.pid
    assert replaced is not None
    os.kill(replaced, signal.SIGSTOP)
    helper.stop()
    assert guard.status(replaced) is None
    assert marked.poll() is None


def test_a_helper_knows_no_variable_of_the_sidecar(helper: Guard) -> None:
    assert helper.pid is not None
    assert b"PATH" not in Path(f"/proc/{helper.pid}/environ").read_bytes()


def _ignores(pid: int, number: int) -> bool:
    mask = next(
        line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn")
    )
    return bool(int(mask, 16) >> (number - 1) & 1)


SIDECAR = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from protocol.model import AttemptId
    from sidecar.guard import Guard
    from sidecar.environment import minimal_env
    from sidecar.process import Processes

    COMMANDS = (
        "sleep 600",
        "exec env -i sleep 600",
        "(setsid sh -c 'trap \\"\\" TERM; (sleep 600 &) ; while :; do sleep 600; done' &) ; sleep 600",
        "f() { while :; do setsid sh -c 'sleep 0.3' & sleep 0.02; done; }; f & f",
    )

    async def main():
        guard = Guard()
        guard.start()
        folder = Path(sys.argv[1])
        processes = Processes(base_env=minimal_env({}, home=folder), guard=guard)
        attempts = (AttemptId("s", 1, str(n), 1) for n in range(len(COMMANDS)))
        runs = [processes.run(command, attempt=a, cwd=folder) for a, command in zip(attempts, COMMANDS)]
        print(guard.mark, guard.pid, flush=True)
        await asyncio.gather(*runs)

    asyncio.run(main())
""")


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program with attempts that try to escape; it never outlives the test."""
    command = [sys.executable, "-c", SIDECAR, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


def test_when_the_sidecar_is_killed_nothing_of_its_attempts_survives(
    marked: subprocess.Popen[bytes], sidecar: subprocess.Popen[str]
) -> None:
    assert sidecar.stdout is not None
    mark, helper = sidecar.stdout.readline().split()

    def sessions_of_runs() -> set[int]:
        return {entry.pid for entry in guard.processes() if entry.parent == sidecar.pid} - {int(helper)}

    until(lambda: len(sessions_of_runs()) == 4 and len(find(sessions=(), marks=(run_mark(f"{mark}."),))) >= 6)
    sessions = sessions_of_runs()
    sidecar.kill()
    sidecar.wait()

    until(lambda: not _exists(int(helper)))
    assert find(sessions=sessions, marks=(run_mark(f"{mark}."),)) == []
    assert marked.poll() is None  # another sidecar's work is not touched


# --- the dead man's switch --------------------------------------------------------------------------------------------


def test_work_is_killed_when_the_sidecar_has_been_silent_for_as_long_as_it_said(
    helper: Guard, marked: subprocess.Popen[bytes]
) -> None:
    helper.watch(marked.pid)
    helper.feed(0.2)

    assert marked.wait(20) == -signal.SIGKILL
    assert helper.pid is not None
    assert _exists(helper.pid)  # it goes on: the sidecar may come back to life


def test_a_sidecar_that_goes_on_speaking_keeps_its_work(helper: Guard, marked: subprocess.Popen[bytes]) -> None:
    other = start({"AGENTCOM_RUN": "somebody-elses.1"})
    helper.watch(other.pid)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        helper.feed(1.0)
        time.sleep(0.05)  # a heartbeat: what is shown is that time passes and nothing happens
    assert other.poll() is None

    helper.feed(0.1)
    assert other.wait(20) == -signal.SIGKILL


def test_what_is_said_in_time_counts_though_it_is_read_late() -> None:
    watch = Watch("0123456789abcdef", os.getppid())
    assert watch.left_s is None
    watch.hear(b"=0.000\n")
    assert watch.left_s == 0.0
    assert not watch.hear(b"=5.0")  # half a line says nothing yet
    assert watch.left_s == 0.0
    watch.hear(b"00\n")

    assert 4.0 < (watch.left_s or 0.0) <= 5.0
    assert watch.hear(b"+7\nquit\n")


def test_a_new_helper_knows_how_long_all_is_well(helper: Guard, marked: subprocess.Popen[bytes]) -> None:
    helper.watch(marked.pid)
    helper.feed(2.0)
    pid = helper.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: (found := guard.status(pid)) and found[0] == "Z")
    helper.watch(1 << 22)
    assert helper.pid != pid

    assert marked.wait(20) == -signal.SIGKILL


def test_the_work_of_a_sidecar_that_is_stopped_is_killed_in_time(tmp_path: Path) -> None:
    script = SIDECAR.replace("print(", "guard.feed(12.0); print(")
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as stopped:
        assert stopped.stdout is not None
        mark, helper_pid = stopped.stdout.readline().split()
        until(lambda: len(find(sessions=(), marks=(run_mark(f"{mark}."),))) >= 6)
        children = {entry.pid for entry in guard.processes() if entry.parent == stopped.pid} - {int(helper_pid)}
        assert len(children) == 4
        os.kill(stopped.pid, signal.SIGSTOP)
        try:
            until(lambda: not find(sessions=children, marks=(run_mark(f"{mark}."),), tags=tags_of(mark)))
            assert _exists(stopped.pid)  # it is the work that is killed, not the sidecar
        finally:
            stopped.kill()


# --- tags -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the limit that nobody uses")
def test_a_tag_is_handed_down_and_needs_neither_name_nor_parent(tmp_path: Path) -> None:
    tags = tags_of("0123456789abcdef")
    with tagging(tags[7]):
        shell = start({}, ["sh", "-c", "(env -i setsid sleep 600 &)"])
    shell.wait()

    until(lambda: len(find(sessions=(), marks=(), tags=tags)) == 1)
    (pid,) = find(sessions=(), marks=(), tags=range(tags[7], tags[8]))
    assert find(sessions=(), marks=(), tags=tags[:7]) == []
    assert find(sessions=(), marks=(), tags=tags_of("1123456789abcdef")) == []
    assert tag(os.getpid()) not in tags
    os.kill(pid, signal.SIGKILL)
    until(lambda: not find(sessions=(), marks=(), tags=tags))
    assert tag(1 << 22) == -1


def _exists(pid: int) -> bool:
    found = guard.status(pid)
    return found is not None and found[0] != "Z"
