"""Finds and ends process trees, also after the sidecar itself was killed or stopped.

Holds the one search for processes (:func:`find`) and the helper that outlives the sidecar (:class:`Guard`). The helper
is this very file, run by a bare interpreter that sees neither our packages nor the environment, so it imports the
standard library alone. It waits on a pipe. An orderly sidecar says ``quit``; if the pipe just ends, the sidecar was
killed, and the helper kills what its attempts left, until a search finds nothing more. And it is a dead man's switch:
the sidecar tells it again and again how long its leases surely last, and when that is over without another word, the
helper kills the work. So a sidecar that is stopped, swapped out or hung cannot let work go on that somebody else has
got meanwhile. Time asleep counts (``CLOCK_BOOTTIME``).

A process belongs to an attempt if one of these holds: it is in a session that the sidecar opened for it; its
environment carries the marks of the attempt (a child that leaves the session keeps them); it carries the attempt's
*tag*; one of its ancestors belongs. The tag is a number in a resource limit that Linux keeps, hands down to every
child and has not used since 2.4 (``RLIMIT_LOCKS``): it survives a scrubbed environment, another session, another name
and a dead parent. One that takes off even that on purpose is found by the living sidecar, which adopts it
(:mod:`sidecar.process`, the caller of all this), but not by the helper.
"""

import contextlib
import os
import resource
import secrets
import select
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
_TAGGED_LIMIT: Final = 10
"""RLIMIT_LOCKS, which Python does not name."""
_TAG: Final = 1 << 62
_TAG_BITS: Final = 34
"""Of a tag that number the attempts of one sidecar; the bits above them are the sidecar's."""
_SINCE_BOOT: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
KILL_LIMIT_S: Final = 30.0
"""How long a search-and-kill goes on: what is left then sits in the kernel and no signal reaches it."""


LOOK_S: Final = 0.5
"""How often the helper looks at the clock by itself."""

_SHUT: Final = (("pids.max", b"0"), ("cgroup.kill", b"1"))


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


def tags_of(mark: str) -> range:
    """The tags that a sidecar whose guard has this mark gives to its attempts; empty where there are none."""
    first = _TAG | int(mark[:7], 16) << _TAG_BITS
    return range(first, first + (1 << _TAG_BITS)) if LINUX else range(0)


def tag(pid: int) -> int:
    """The tag that a process carries; -1 if it is gone, is not ours to ask, or carries none."""
    try:
        return resource.prlimit(pid, _TAGGED_LIMIT)[0]
    except (OSError, ValueError, AttributeError):
        return -1


@contextlib.contextmanager
def tagging(tag: int) -> Iterator[None]:
    """What this process starts inside carries the tag from its first moment, and so do all that descend from it."""
    if not LINUX or tag <= 0:
        yield
        return
    before = resource.getrlimit(_TAGGED_LIMIT)
    with contextlib.suppress(OSError, ValueError):  # somebody has forbidden us even this: the other marks remain
        resource.setrlimit(_TAGGED_LIMIT, (tag, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(_TAGGED_LIMIT, before)


def find(
    *,
    sessions: Collection[int],
    marks: Collection[bytes],
    tags: Collection[int] = (),
    spare: Collection[int] = (),
    since: float = 0.0,
) -> list[int]:
    """Live processes that belong to something, zombies left out.

    Args:
        sessions: sessions whose members belong.
        marks: a process whose environment holds all of these belongs; none at all matches nothing.
        tags: a process that carries one of these belongs.
        spare: never in the answer, nor a reason for their children to be (the caller's own processes).
        since: environments and tags of processes that started earlier are not read.
    """
    table = {seen.pid: seen for seen in processes() if seen.pid not in spare and seen.pid != os.getpid()}
    ours = {
        seen.pid
        for seen in table.values()
        if seen.session in sessions
        or (seen.started >= since and ((tags and tag(seen.pid) in tags) or (marks and carries(seen.pid, marks))))
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


def is_wall(pid: int) -> bool:
    """Whether a process is bubblewrap's: it ends by itself with what it holds, which would die with it at once."""
    try:
        return Path(_PROC, str(pid), "comm").read_bytes() == b"bwrap\n"
    except OSError:
        return False


def has_members(session: int) -> bool:
    """Whether a process group that we opened still has a live process; its leader is reaped."""
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_process(pid: int) -> bool:
    """Whether there is a process of that number, a zombie too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def shut(groups: Collection[str]) -> None:
    """Nothing in these control groups may start anything any more; of version 2, all in them is killed."""
    for file, value in ((f"{group}/{name}", value) for group in groups for name, value in _SHUT):
        with contextlib.suppress(OSError), open(file, "wb", buffering=0) as there:  # noqa: PTH123 - as in processes
            there.write(value)  # where it has gone, or has no such file, there is nothing to do


def members(groups: Collection[str]) -> Iterator[int]:
    """What is in these control groups."""
    for group in groups:
        # Of another process table they are 0 there, and nobody that we could end.
        yield from (pid for pid in map(int, _content(f"{group}/cgroup.procs").split()) if pid)


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
        self._until: float | None = None
        self._watched: set[int | str] = set()
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
        for each in self._watched:
            self._tell(f"+{each}\n")
        if self._until is not None:
            self._tell(f"={self._until - now():.3f}\n")

    def feed(self, left_s: float) -> None:
        """All is well for so many seconds more; when they are over, and nothing was heard, all work is killed.

        Seconds, not a moment: the two ends need not read the same clock (a container, a library that shifts time).
        """
        self._until = now() + left_s
        self._tell(f"={left_s:.3f}\n")

    def watch(self, what: int | str) -> None:
        """Have the members of a session, or of a control group (its directory), killed too, should we die."""
        self._watched.add(what)
        self._tell(f"+{what}\n")

    def forget(self, what: int | str) -> None:
        """It has no member left."""
        self._watched.discard(what)
        self._tell(f"-{what}\n")

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


class Watch:
    """What the helper knows: the sessions of the sidecar, and when to kill them unless it hears more."""

    def __init__(self, mark: str, spare: int) -> None:
        self._mark, self._spare = mark, spare
        self._sessions, self._groups = set[bytes](), set[bytes]()
        self._until: float | None = None
        self._rest = b""

    @property
    def left_s(self) -> float | None:
        """Seconds until the work has to be killed; ``None``: nobody has set a time, or it is done."""
        return None if self._until is None else max(0.0, self._until - now())

    def hear(self, piece: bytes) -> bool:
        """Take what the sidecar says; ``True`` if that is goodbye."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if line == b"quit":
                return True
            if line.startswith(b"="):
                self._until = now() + float(line[1:])
            else:
                what = self._groups if line[1:2] == b"/" else self._sessions
                (what.add if line.startswith(b"+") else what.discard)(line[1:])
        return False

    def kill(self) -> None:
        """End all work of the sidecar; once, until it says more."""
        self._until = None
        mark, tags = run_mark(f"{self._mark}."), tags_of(self._mark)
        groups = [os.fsdecode(group) for group in self._groups]
        kill_all({*map(int, self._sessions)}, mark, tags, spare=(self._spare,), groups=groups)


def now() -> float:
    """Seconds since the machine started, time asleep included."""
    return time.clock_gettime(_SINCE_BOOT)


def main(mark: str) -> None:
    """Watch until the sidecar ends; kill what it left unless it said ``quit``. Body of the helper process."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a service stop reaches us too; the pipe alone tells when to go
    watch = Watch(mark, os.getppid())
    while True:
        # What was said comes first: a word that waits while the time runs out still counts. A machine that sleeps does
        # not wake us, so a long wait is cut into pieces.
        left_s = watch.left_s
        if select.select([0], [], [], LOOK_S if left_s is None else min(left_s, LOOK_S))[0]:
            piece = os.read(0, _READ_BYTES)
            if not piece:
                break
            if watch.hear(piece):
                return
        elif watch.left_s == 0.0:
            watch.kill()
    watch.kill()


def kill_all(
    sessions: Collection[int],
    mark: bytes,
    tags: Collection[int] = (),
    *,
    spare: Collection[int] = (),
    groups: Collection[str] = (),
) -> None:
    """Kill every process of these sessions and groups, with this mark or a tag, again and again until none is found.

    What is in a control group starts nothing more from the first moment: so not even what is another process at every
    look gets away.
    """
    until = time.monotonic() + KILL_LIMIT_S
    pause_s = 0.0
    shut(groups)
    while (
        left := {*find(sessions=sessions, marks=(mark,), tags=tags, spare=spare), *members(groups)}
    ) and time.monotonic() < until:
        for pid in left:
            send(pid, signal.SIGKILL)
        time.sleep(pause_s)  # the dead need a moment to be gone; at first none, to be faster than a fork bomb
        pause_s = min(pause_s + 0.005, 0.1)


if __name__ == "__main__":
    main(sys.argv[1])
