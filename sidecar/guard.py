"""Finds and ends process trees, also after the sidecar itself was killed.

Holds the one search for processes (:func:`find`) and the helper that outlives the sidecar (:class:`Guard`). The helper
is this very file, run by a bare interpreter that sees neither our packages nor the environment, so it imports the
standard library alone. It waits on a pipe. An orderly sidecar says ``quit``; if the pipe just ends, the sidecar was
killed, and the helper kills what its attempts left, until a search finds nothing more.

A process belongs to an attempt if one of these holds: it is in a session that the sidecar opened for it; its
environment carries the marks of the attempt (a child that leaves the session keeps them); one of its ancestors belongs.
One that leaves the session, scrubs its environment and outlives its parents is found by the living sidecar, which
adopts it (:mod:`sidecar.process`, the caller of all this), but not by the helper.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

LINUX: Final = sys.platform == "linux"
_PROC: Final = "/proc"
_READ_BYTES: Final = 1 << 16
KILL_LIMIT_S: Final = 30.0
"""How long a search-and-kill goes on: what is left then sits in the kernel and no signal reaches it."""


class Seen(NamedTuple):
    """One live process: its parent, its session and when it started (ticks since boot on Linux, else seconds)."""

    pid: int
    parent: int
    session: int
    started: float


def attempt_mark(attempt: str) -> bytes:
    """The piece of an environment block that every process of ``attempt`` carries."""
    return b"\0AGENTCOM_ATTEMPT=" + attempt.encode() + b"\0"


def run_mark(run: str) -> bytes:
    """The piece that every process of a run carries; a ``run`` that ends in ``.`` stands for all runs of a sidecar."""
    return b"\0AGENTCOM_RUN=" + run.encode() + (b"" if run.endswith(".") else b"\0")


def find(
    *, sessions: Collection[int], marks: Collection[bytes], spare: Collection[int] = (), since: float = 0.0
) -> list[int]:
    """Live processes that belong to something, zombies left out.

    Args:
        sessions: sessions whose members belong.
        marks: a process whose environment holds all of these belongs; none at all matches nothing.
        spare: never in the answer, nor a reason for their children to be (the caller's own processes).
        since: environments of processes that started earlier are not read.
    """
    table = {seen.pid: seen for seen in processes() if seen.pid not in spare and seen.pid != os.getpid()}
    ours = {
        seen.pid
        for seen in table.values()
        if seen.session in sessions or (marks and seen.started >= since and carries(seen.pid, marks))
    }
    if not ours:
        return []
    for pid in table:
        line = [pid]
        while line[-1] in table and line[-1] not in ours and table[line[-1]].parent not in line:
            line.append(table[line[-1]].parent)
        if line[-1] in ours:
            ours.update(line)
    return sorted(ours)


def processes() -> Iterator[Seen]:
    """Every live process that this user can see."""
    return _processes_of_proc() if LINUX else _processes_of_psutil()


def status(pid: int) -> tuple[str, Seen] | None:
    """State letter and identity of a process on Linux, a zombie too; ``None`` if there is none."""
    raw = _content(f"{_PROC}/{pid}/stat")
    if not raw:
        return None
    # The name is in parentheses and may hold anything, so count from its end (proc(5)): state ppid pgrp session ...
    fields = raw[raw.rindex(b")") + 2 :].split()
    return fields[0].decode(), Seen(pid, int(fields[1]), int(fields[3]), float(fields[19]))


def children() -> list[int]:
    """Our own children on Linux, adopted ones too, alive or zombies: a matter of microseconds, unlike a search."""
    found: list[int] = []
    for thread in os.listdir(f"{_PROC}/self/task"):  # noqa: PTH208 - as in processes
        found.extend(map(int, _content(f"{_PROC}/self/task/{thread}/children").split()))
    return found


def send(pid: int, number: int) -> bool:
    """Signal one process; ``False`` if it is gone or not ours to signal."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _processes_of_proc() -> Iterator[Seen]:
    for name in os.listdir(_PROC):  # noqa: PTH208 - Path objects double the cost of a search
        if name.isdigit() and (found := status(int(name))) and found[0] not in "ZX":
            yield found[1]


def _processes_of_psutil() -> Iterator[Seen]:
    import psutil

    for process in psutil.process_iter():
        try:
            with process.oneshot():
                if process.status() != psutil.STATUS_ZOMBIE:
                    yield Seen(process.pid, process.ppid(), os.getsid(process.pid), process.create_time())
        except (psutil.Error, OSError):
            continue  # it ended meanwhile, or belongs to somebody else


def carries(pid: int, marks: Collection[bytes]) -> bool:
    """Whether the environment that the process was started with holds all the marks; ``False`` if it cannot be read."""
    block = _content(f"{_PROC}/{pid}/environ") if LINUX else _environment_of_psutil(pid)
    return bool(block) and all(mark in b"\0" + block + b"\0" for mark in marks)


def _environment_of_psutil(pid: int) -> bytes:
    import psutil

    try:
        return "\0".join(f"{name}={value}" for name, value in psutil.Process(pid).environ().items()).encode()
    except (psutil.Error, OSError):
        return b""


def _content(path: str) -> bytes:
    """The whole of a /proc file; empty if the process is gone or not ours to read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    pieces = []
    try:
        while piece := os.read(fd, _READ_BYTES):
            pieces.append(piece)
    except OSError:
        return b""
    finally:
        os.close(fd)
    return b"".join(pieces)


class Guard:
    """The helper process of one sidecar, made by :meth:`start`; ended by :meth:`stop`, or on its own when we die.

    ``mark`` is this start's own name, random, so that two sidecars of one name never kill one another's work.
    """

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self._sessions: set[int] = set()
        self._helper: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the helper, while it is meant to run."""
        return self._helper.pid if self._helper else None

    def start(self) -> None:
        """Start the helper; about 20 ms.

        Raises:
            OSError: the machine lets us start no process.
        """
        # -S keeps a foreign sitecustomize out; the other systems need psutil, which lives in site-packages.
        flags = ["-I", "-S"] if LINUX else ["-I"]
        self._helper = subprocess.Popen(
            [sys.executable, *flags, str(Path(__file__).resolve()), self.mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,  # a Ctrl-C in our terminal is not for the helper
            bufsize=0,
        )
        assert self._helper.stdin is not None, "stdin was asked for as a pipe"
        os.set_blocking(self._helper.stdin.fileno(), False)  # a stopped helper must not stop us
        for session in self._sessions:
            self._tell(f"+{session}\n")

    def watch(self, session: int) -> None:
        """Have the members of ``session`` killed too, should we die."""
        self._sessions.add(session)
        self._tell(f"+{session}\n")

    def forget(self, session: int) -> None:
        """The session has no member left."""
        self._sessions.discard(session)
        self._tell(f"-{session}\n")

    def stop(self) -> None:
        """Tell the helper that all is well; it exits and kills nothing."""
        if self._helper is None:
            return
        self._tell("quit\n")
        helper, self._helper = self._helper, None
        assert helper.stdin is not None, "stdin was asked for as a pipe"
        try:
            helper.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            helper.kill()  # it is stopped or swapped out; closing the pipe first would let it kill later
            helper.wait()
        helper.stdin.close()

    def _tell(self, line: str) -> None:
        if self._helper is None:
            return
        assert self._helper.stdin is not None, "stdin was asked for as a pipe"
        try:
            os.write(self._helper.stdin.fileno(), line.encode())
        except (BrokenPipeError, BlockingIOError):
            # Somebody ended or stopped the helper. A stopped one must never wake up: it would take us for dead.
            lost, self._helper = self._helper, None
            lost.kill()
            lost.wait()
            assert lost.stdin is not None, "stdin was asked for as a pipe"
            lost.stdin.close()
            if line != "quit\n":
                self.start()


def main(mark: str) -> None:
    """Wait for the sidecar to end; kill what it left unless it said ``quit``. Body of the helper process."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a service stop reaches us too; the pipe alone tells when to go
    sessions: set[int] = set()
    rest = b""
    while piece := os.read(0, _READ_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line == b"quit":
                return
            (sessions.add if line.startswith(b"+") else sessions.discard)(int(line[1:]))
    kill_all(sessions, run_mark(f"{mark}."))


def kill_all(sessions: Collection[int], mark: bytes) -> None:
    """Kill every process of these sessions or with this mark, again and again until a search finds none."""
    until = time.monotonic() + KILL_LIMIT_S
    pause_s = 0.0
    while (left := find(sessions=sessions, marks=(mark,))) and time.monotonic() < until:
        for pid in left:
            send(pid, signal.SIGKILL)
        time.sleep(pause_s)  # the dead need a moment to be gone; at first none, to be faster than a fork bomb
        pause_s = min(pause_s + 0.005, 0.1)


if __name__ == "__main__":
    main(sys.argv[1])
